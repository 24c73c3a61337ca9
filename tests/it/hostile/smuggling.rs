//! Requests that two readers could frame in two ways, each with a second request hidden where one of them would see
//! it. Whatever the gateway makes of the first, it must not serve the second.

use std::time::Duration;

use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    good::{self, Kind},
    scene::Scene,
    wire::{Tally, Target, connect},
};
use crate::support::{client::PATIENCE, job::Job, spans};

/// A request with a head that is good but for `fields` (each line with its end), and a body.
fn request(job: &Job, fields: &str, body: &str) -> Vec<u8> {
    [good::head(&job.runner_token, &job.job_token, fields), body.to_owned()].concat().into_bytes()
}

/// What is ambiguous, and how.
fn shapes(job: &Job) -> Vec<(&'static str, Vec<u8>)> {
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    const END: &str = "0\r\n\r\n";
    let of = |fields: &str, body: &str| request(job, fields, body);
    let good = good::head(&job.runner_token, &job.job_token, "Content-Length: 0\r\n");
    vec![
        ("CL and TE", of(&format!("Content-Length: 5\r\n{CHUNKED}"), END)),
        ("TE and CL", of(&format!("{CHUNKED}Content-Length: 5\r\n"), END)),
        ("CL of 0 and TE", of(&format!("Content-Length: 0\r\n{CHUNKED}"), END)),
        ("two CL", of("Content-Length: 0\r\nContent-Length: 7\r\n", "")),
        ("two CL, the other way", of("Content-Length: 7\r\nContent-Length: 0\r\n", "")),
        ("a list of CL", of("Content-Length: 0, 7\r\n", "")),
        ("a signed CL", of("Content-Length: +0\r\n", "")),
        ("a negative CL", of("Content-Length: -1\r\n", "")),
        ("CL in hex", of("Content-Length: 0x0\r\n", "")),
        ("CL beyond 64 bits", of("Content-Length: 18446744073709551616\r\n", "")),
        ("an empty CL", of("Content-Length: \r\n", "")),
        ("TE that does not end in chunked", of("Transfer-Encoding: chunked, identity\r\n", END)),
        ("TE unknown", of("Transfer-Encoding: xchunked\r\n", END)),
        ("TE twice", of("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", END)),
        ("TE behind a vertical tab", of("Transfer-Encoding: \x0bchunked\r\n", END)),
        ("TE in quotes", of("Transfer-Encoding: \"chunked\"\r\n", END)),
        ("a space before the colon", of("Content-Length : 0\r\n", "")),
        ("a line folded", of("X-Folded: a\r\n b\r\nContent-Length: 0\r\n", "")),
        ("CL folded", of("Content-Length:\r\n 0\r\n", "")),
        ("a space before the first field", good.replacen("Host:", " Host:", 1).into_bytes()),
        ("a bare CR in a value", of("X-Bare: a\rContent-Length: 9\r\nContent-Length: 0\r\n", "")),
        ("NUL in a value", of("X-Nul: a\0b\r\nContent-Length: 0\r\n", "")),
        ("NUL in a name", of("X-\0Nul: a\r\nContent-Length: 0\r\n", "")),
        ("a chunk size in 0x", of(CHUNKED, "0x0\r\n\r\n")),
        ("a negative chunk size", of(CHUNKED, "-1\r\n\r\n")),
        ("a chunk size beyond 64 bits", of(CHUNKED, "10000000000000000\r\n\r\n")),
        ("a chunk without its end", of(CHUNKED, "1\r\na0\r\n\r\n")),
        ("a chunk size behind a space", of(CHUNKED, " 0\r\n\r\n")),
        ("a chunk size with a bare LF", of(CHUNKED, "0\n\n")),
        ("a bare LF in an extension", of(CHUNKED, "0;a\nb\r\n\r\n")),
        ("a bare CR in an extension", of(CHUNKED, "0;a\rb\r\n\r\n")),
        ("a version of tomorrow", good.replacen("HTTP/1.1", "HTTP/1.2", 1).into_bytes()),
        ("TE in HTTP/1.0", {
            let request = String::from_utf8(of(CHUNKED, END)).unwrap();
            request.replacen("HTTP/1.1", "HTTP/1.0", 1).into_bytes()
        }),
        ("CL and TE behind a bare LF", of("Content-Length: 5\nTransfer-Encoding: chunked\r\n", END)),
        ("two CL with a bare LF between", of("Content-Length: 0\nContent-Length: 7\r\n", "")),
        ("CL behind a bare LF in a value", of("X-Bare: a\nContent-Length: 7\r\nContent-Length: 0\r\n", "")),
        ("the end of the head as a bare LF", of("X-Bare: a\n\nContent-Length: 0\r\n", "")),
        ("a space too many in the first line", good.replacen(" HTTP", "  HTTP", 1).into_bytes()),
    ]
}

/// What came back.
#[derive(Debug)]
struct Outcome {
    /// The status of each answer.
    answers: Vec<u16>,
    /// Whether the gateway closed.
    is_closed: bool,
}

/// Sends a shape and reads until the gateway closes, or says nothing more.
async fn outcome(to: std::net::SocketAddr, bytes: &[u8]) -> Outcome {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // It may be closed before all is written.
    drop(stream.write_all(bytes).await);
    let mut seen = Vec::new();
    let quiet = Duration::from_millis(1500);
    let is_closed = loop {
        match timeout(quiet, stream.read_buf(&mut seen)).await {
            Ok(Ok(0) | Err(_)) => break true,
            Ok(Ok(_)) => {}
            Err(_) => break false,
        }
    };
    let text = String::from_utf8_lossy(&seen);
    let status = |answer: &str| answer.get(2..5)?.parse().ok();
    let answers = text.split("HTTP/1.").skip(1).filter_map(status).collect();
    Outcome { answers, is_closed }
}

/// Scenario: every shape, with an export hidden behind it.
/// Guarantees: the hidden export is neither answered nor forwarded, and the connection ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_smuggled() {
    let scene = Scene::start().await;
    let to = scene.address();
    let hidden = Job::new(2);
    scene.authority.allow(&hidden);
    let behind = good::http1(&hidden, &spans::export(&hidden, 1).encode_to_vec());
    // The hidden export is good by itself.
    assert_eq!(outcome(to, &behind).await.answers, [200]);
    let shapes = shapes(&scene.job);
    let outcomes = futures_util::future::join_all(shapes.iter().map(|(name, shape)| {
        let bytes = [shape.as_slice(), &behind].concat();
        async move { (*name, outcome(to, &bytes).await) }
    }));
    let mut wrong = Vec::new();
    for (name, outcome) in timeout(PATIENCE, outcomes).await.unwrap() {
        let accepted = outcome.answers.iter().filter(|status| **status != 400).count();
        if !outcome.is_closed || accepted > 1 {
            wrong.push((name, outcome));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let trace = |received: &crate::support::collector::Received| {
        spans::spans(&received.request()).first().is_some_and(|span| span.trace_id == hidden.trace_id)
    };
    assert_eq!(scene.collector.received().iter().filter(|received| trace(received)).count(), 1);
}

/// Scenario: exports with no `Host`, with two, and, in HTTP/1.0, with none.
/// Guarantees: HTTP/1.1 needs exactly one (RFC 9112, section 3.2); what was framed well leaves the connection usable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_host() {
    let scene = Scene::start().await;
    let good = good::head(&scene.job.runner_token, &scene.job.job_token, "Content-Length: 0\r\n");
    let none = good.replacen("Host: gateway\r\n", "", 1);
    for (shape, answers) in [
        (none.clone(), &[400, 200][..]),
        (good.replacen("Host: ", "Host: other\r\nHost: ", 1), &[400, 200]),
        (none.replacen("HTTP/1.1", "HTTP/1.0", 1), &[200]),
        (good.clone(), &[200, 200]),
    ] {
        let outcome = outcome(scene.address(), (shape.clone() + &good).as_bytes()).await;
        assert_eq!(outcome.answers, answers, "{shape}");
    }
}

/// Scenario: the same shapes again and again, each on a connection of its own.
/// Guarantees: bounded memory and CPU; good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smuggling_flood() {
    let scene = Scene::start().await;
    let shapes = shapes(&Job::new(2));
    let figures = scene
        .measure("request smuggling shapes", Kind::Http1Fresh, |target| async move {
            futures_util::future::join_all((0..4).map(|_| send_all(&target, &shapes))).await;
        })
        .await;
    figures.assert_bounded();
    scene.assert_only_good_arrives().await;
}

async fn send_all(target: &Target, shapes: &[(&'static str, Vec<u8>)]) {
    for (_, shape) in shapes.iter().cycle() {
        if target.is_over() {
            return;
        }
        let Some(mut stream) = connect(target).await else { continue };
        target.tally.opened();
        Tally::add(&target.tally.units, 1);
        if stream.write_all(shape).await.is_ok() {
            Tally::add(&target.tally.bytes, shape.len());
        }
        // Those that the gateway waits for more of are left.
        let mut answer = [0; 1024];
        if timeout(Duration::from_millis(20).min(target.left()), stream.read(&mut answer)).await.is_ok() {
            Tally::add(&target.tally.ended, 1);
        }
        target.tally.closed();
        sleep(Duration::from_millis(1)).await;
    }
}
