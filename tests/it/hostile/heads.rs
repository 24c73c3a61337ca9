//! Request heads that are larger, or mean more, than they look: HPACK bombs and floods of header fields, over both
//! versions of HTTP. None of them carries a credential that anybody knows.

use super::{
    floods::{BAD, many},
    frames::{Block, CONTINUATION, END_HEADERS, END_STREAM, HEADERS, frame, hello, stream},
    good::{Kind, block, head},
    scene::Scene,
    wire::{Flood, Tally},
};

/// Largest frame that the gateway takes.
const FRAME: usize = 16 << 10;

/// A block in as many frames as it needs.
fn frames(stream: u32, block: &[u8]) -> Vec<u8> {
    let pieces: Vec<&[u8]> = block.chunks(FRAME).collect();
    let mut bytes = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let kind = if n == 0 { HEADERS } else { CONTINUATION };
        let last = if n + 1 == pieces.len() { END_HEADERS } else { 0 };
        let end = if n == 0 { END_STREAM } else { 0 };
        bytes.extend(frame(kind, last | end, stream, piece));
    }
    bytes
}

/// Scenario: a field of 4,000 bytes in the dynamic table, then heads that name it 16,000 times with a byte each; and a
/// table that is emptied and filled again in every head.
/// Guarantees: a head is not made longer than the gateway allows: bounded memory and CPU; good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hpack_bomb() {
    let scene = Scene::start().await;
    let figures = scene
        .measure("HPACK bomb", Kind::Http2, |target| {
            let large = "b".repeat(4_000);
            let opening = move || {
                [hello(), frames(stream(0), &block(BAD.0, BAD.1).insert("x-bomb", &large).0)].concat()
            };
            Flood::USUAL.run(target, opening, |number| {
                // 62 (0x3e) is the first field of the dynamic table.
                let bomb = Block(vec![0x80 | 0x3e; FRAME - 200]);
                (1, frames(stream(number + 1), &[block(BAD.0, BAD.1).0, bomb.0].concat()))
            })
        })
        .await;
    figures.assert_bounded();
    let refill = scene
        .measure("HPACK table refills", Kind::Http2, |target| {
            let entries: Vec<u8> =
                (0..60).flat_map(|n| Block::default().insert(&format!("x-{n}"), &"v".repeat(20)).0).collect();
            Flood::USUAL.run(target, hello, move |number| {
                many(number, |n| {
                    // The size of the table to 0, then to 4,096.
                    let update = [0x20, 0x3f, 0xe1, 0x1f];
                    let block = [update.as_slice(), &block(BAD.0, BAD.1).0, &entries].concat();
                    frames(stream(n), &block)
                })
            })
        })
        .await;
    refill.assert_bounded();
}

/// Scenario: HTTP/2 heads of 60,000 empty fields and of one field of 200 KB.
/// Guarantees: bounded memory and CPU; good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_flood_http2() {
    let scene = Scene::start().await;
    let figures = scene
        .measure("header flood, HTTP/2", Kind::Http2, |target| {
            let fields = [block(BAD.0, BAD.1).0, b"\0\x01a\0".repeat(15_000)].concat();
            let long = block(BAD.0, BAD.1).literal("a", &"v".repeat(60_000)).0;
            Flood::USUAL.run(target, hello, move |number| {
                let block = if number % 2 == 0 { &fields } else { &long };
                (1, frames(stream(number), block))
            })
        })
        .await;
    figures.assert_bounded();
    scene.assert_only_good_arrives().await;
}

/// Scenario: HTTP/1.1 heads with 10,000 fields, with one of 1 MB, and with a target of 1 MB.
/// Guarantees: each ends its connection; bounded memory and CPU; good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_flood_http1() {
    let scene = Scene::start().await;
    let figures = scene
        .measure("header flood, HTTP/1.1", Kind::Http1Fresh, |target| {
            let start = head(BAD.0, BAD.1, "");
            let start = start.trim_end();
            let heads = [
                format!("{start}\r\n{}\r\n", "a:b\r\n".repeat(10_000)),
                format!("{start}\r\nx-long: {}\r\n\r\n", "v".repeat(1 << 20)),
                format!("POST /{} HTTP/1.1\r\n\r\n", "p".repeat(1 << 20)),
            ];
            Flood::USUAL.run(target, Vec::new, move |number| (1, heads[number as usize % 3].clone().into()))
        })
        .await;
    figures.assert_bounded();
    assert!(Tally::get(&figures.tally.ended) > 0, "no connection was ended: {figures:?}");
}
