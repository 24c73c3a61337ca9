//! Bodies that lie: bombs in both encodings, chunks that are all extension, gRPC messages of another length than they
//! say. The sender is proven: without good tokens none of these bodies is looked at.

use std::io::Write as _;

use super::{
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, frame, hello, stream},
    good::{self, Kind},
    scene::Scene,
    wire::{Flood, Tally},
};
use crate::support::{job::Job, spans};

/// A whole export over HTTP/1.1 whose body is in this encoding.
fn encoded(job: &Job, encoding: &str, body: &[u8]) -> Vec<u8> {
    let more = format!("Content-Encoding: {encoding}\r\nContent-Length: {}\r\n", body.len());
    [good::head(&job.runner_token, &job.job_token, &more).as_bytes(), body].concat()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(body).unwrap();
    writer.finish().unwrap()
}

/// A request that is read to its end and refused there: one long text, `random` bytes of which do not compress.
fn dull(length: usize, random: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut text: Vec<u8> = (0..random)
        .map(|_| {
            // Knuth's constants (MMIX); the upper bits are the good ones.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b'0' + u8::try_from(state >> 58).unwrap()
        })
        .collect();
    text.resize(length, b'a');
    // `resource_spans`, in it `scope_spans`, in it `schema_url`; then a tag that is none.
    let nested = spans::raw_field(1, &spans::raw_field(2, &spans::raw_field(3, &text)));
    [nested.as_slice(), b"\xff\xff"].concat()
}

/// Scenario: bodies that inflate to 64 MB, and others that stay just within the allowed size and ratio.
/// Guarantees: memory and CPU bounded by what came; good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs() {
    let scene = Scene::start().await;
    let (huge, within) = (dull(64 << 20, 0), dull(12 << 20, 90_000));
    for (name, encoding, body) in [
        ("gzip bomb", "gzip", gzip(&huge)),
        ("gzip bomb within bounds", "gzip", gzip(&within)),
        ("zstd bomb", "zstd", zstd::encode_all(&*huge, 1).unwrap()),
        ("zstd bomb within bounds", "zstd", zstd::encode_all(&*within, 1).unwrap()),
    ] {
        let request = encoded(&scene.job, encoding, &body);
        let figures = scene
            .measure(name, Kind::Http1, move |target| {
                let flood = Flood { rate: 1_000_000, ..Flood::USUAL };
                flood.run(target, Vec::new, move |_| (1, request.clone()))
            })
            .await;
        figures.assert_within(INFLATED);
    }
}

/// What a proven sender's connection may take while a body of its is inflated: the largest body, and the room that a
/// buffer takes while it grows.
const INFLATED: u64 = 2 * (16 << 20);

/// Scenario: chunks of a byte behind 4 KB of extension each; and chunks of a byte, bare.
/// Guarantees: the first kind ends its connection; bounded memory and CPU; good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunk_extensions() {
    const EXTENSIONS: &str = "chunk extensions";
    let scene = Scene::start().await;
    let head = good::head(&scene.job.runner_token, &scene.job.job_token, "Transfer-Encoding: chunked\r\n");
    let extended = format!("1;{}\r\n\n\r\n", "e=".repeat(2_000)).into_bytes();
    for (name, chunk) in [(EXTENSIONS, extended), ("chunks of one byte", b"1\r\n\n\r\n".repeat(500))] {
        let head = head.clone().into_bytes();
        let figures = scene
            .measure(name, Kind::Http1Fresh, move |target| {
                Flood::USUAL.run(target, move || head.clone(), move |_| (1, chunk.clone()))
            })
            .await;
        figures.assert_bounded();
        // A body of small chunks is a body like any other, up to the bounds on its length and its time.
        let is_ended = Tally::get(&figures.tally.ended) > 0;
        assert!(is_ended || name != EXTENSIONS, "no connection was ended: {figures:?}");
    }
}

/// Scenario: gRPC messages that say 4 GiB and bring 5 bytes, that say less than they bring, that are compressed by nothing,
/// that come twice, that have no head.
/// Guarantees: none is accepted; bounded memory and CPU; good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_lies() {
    let scene = Scene::start().await;
    let job = scene.job.clone();
    let figures = scene
        .measure("gRPC length lies", Kind::Http2, move |target| {
            let lies: [&[u8]; 6] = [
                b"\0\xff\xff\xff\xff\x0a\0\x0a\0\x0a",
                b"\0\0\0\0\x02\x0a\0\x0a\0\x0a\0",
                b"\x01\0\0\0\x02\x0a\0",
                b"\0\0\0\0\x02\x0a\0\0\0\0\0\x02\x0a\0",
                b"\0\0\0",
                b"\xff\0\0\0\0",
            ];
            let block =
                super::frames::Block::post("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
                    .literal("content-type", "application/grpc")
                    .literal("te", "trailers")
                    .literal("runner-token", &job.runner_token)
                    .literal("job-token", &job.job_token);
            let flood = Flood { rate: 300_000, ..Flood::USUAL };
            flood.run(target, hello, move |number| {
                let stream = stream(number);
                let head = frame(HEADERS, END_HEADERS, stream, &block.0);
                (1, [head, frame(DATA, END_STREAM, stream, lies[number as usize % lies.len()])].concat())
            })
        })
        .await;
    figures.assert_bounded();
    scene.assert_only_good_arrives().await;
}
