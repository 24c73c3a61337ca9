//! Bodies over a real HTTP/1 connection in memory, and one over a real socket.

#![expect(clippy::arithmetic_side_effects, reason = "no peer has a hand in these sums")]

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{BodyError, Collected, InFlight, collect, gather, read_on};

const SECOND: Duration = Duration::from_secs(1);

/// Sends `parts` as an HTTP/1 request, one write each, and leaves the connection open or closes it.
async fn deliver(
    parts: &[&[u8]],
    close: bool,
    max: usize,
    wait: Duration,
    budget: &InFlight,
) -> Result<Collected, BodyError> {
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let (results, mut result) = mpsc::unbounded_channel();
    let budget = budget.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (results, budget) = (results.clone(), budget.clone());
        async move {
            let collected = collect(request.body_mut(), max, Instant::now() + wait, &budget, &mut 0).await;
            results.send(collected).unwrap();
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let serving = tokio::spawn(connection);
    for part in parts {
        client.write_all(part).await.unwrap();
        tokio::task::yield_now().await;
    }
    if close {
        client.shutdown().await.unwrap();
    }
    let collected = timeout(5 * SECOND, result.recv()).await.unwrap().unwrap();
    serving.abort();
    collected
}

/// Scenario: a body in one piece, a body in many, a chunked one with a trailer, and none at all.
/// Guarantees: the bytes are whole and in order, the budget is held while they live and given back afterwards.
#[tokio::test]
async fn bodies_are_collected_under_the_budget() {
    let budget = InFlight::new(100);
    let fixed = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases: [(&[&[u8]], &[u8]); 4] = [
        (&[fixed, b"0123456789"], b"0123456789"),
        (&[fixed, b"01", b"234567", b"8", b"9"], b"0123456789"),
        (&[chunked, b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\nx-t: 1\r\n\r\n"], b"abcde"),
        (&[b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"], b""),
    ];
    for (parts, expected) in cases {
        let collected = deliver(parts, false, 10, SECOND, &budget).await.unwrap();
        assert_eq!(collected.bytes, expected);
        assert_eq!(budget.left(), 100 - expected.len() as u64);
        drop(collected);
        assert_eq!(budget.left(), 100);
    }
}

/// Scenario: a body that came in one piece.
/// Guarantees: it is passed on as it is, not copied.
#[tokio::test]
async fn one_piece_is_not_copied() {
    let piece = Bytes::from(vec![1; 4096]);
    let mut body = Full::new(piece.clone());
    let collected = gather(&mut body, 4096, Some(4096), &InFlight::new(4096), &mut 0).await.unwrap();
    assert_eq!(collected.bytes.as_ptr(), piece.as_ptr());
}

/// Scenario: a `Content-Length` over the cap with no byte behind it, a chunked body over the cap, one exactly at it.
/// Guarantees: the first is refused without waiting for a byte, the second as soon as it is over, the third is taken.
#[tokio::test]
async fn the_cap_holds() {
    let budget = InFlight::new(1000);
    let announced = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n";
    let began = Instant::now();
    let error = deliver(&[announced], false, 10, 5 * SECOND, &budget).await.unwrap_err();
    assert_eq!(error, BodyError::TooLarge);
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let over =
        deliver(&[chunked, b"6\r\nabcdef\r\n", b"5\r\nabcde\r\n"], false, 10, 5 * SECOND, &budget).await;
    assert_eq!(over.unwrap_err(), BodyError::TooLarge);
    assert!(began.elapsed() < 4 * SECOND);
    let exact =
        deliver(&[chunked, b"5\r\nabcde\r\n", b"5\r\nabcde\r\n0\r\n\r\n"], false, 10, SECOND, &budget).await;
    assert_eq!(exact.unwrap().bytes.len(), 10);
    assert_eq!(budget.left(), 1000);
}

/// Scenario: a sender promises ten bytes and sends three, once leaving and once staying silent.
/// Guarantees: leaving is `Broken`, silence is `Timeout` at the deadline, and both give the budget back.
#[tokio::test]
async fn a_broken_promise_is_noticed() {
    let budget = InFlight::new(100);
    let parts: [&[u8]; 2] = [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", b"abc"];
    let left = deliver(&parts, true, 10, 5 * SECOND, &budget).await;
    assert_eq!(left.unwrap_err(), BodyError::Broken);
    let silent = deliver(&parts, false, 10, Duration::from_millis(50), &budget).await;
    assert_eq!(silent.unwrap_err(), BodyError::Timeout);
    assert_eq!(budget.left(), 100);
}

/// Scenario: more bytes arrive than the whole process may hold; later an inflated body grows its permit.
/// Guarantees: `Overload` comes at once, promises alone cost nothing, a permit grows and shrinks exactly.
#[tokio::test]
async fn a_used_up_budget_is_an_answer() {
    let budget = InFlight::new(8);
    let parts: [&[u8]; 2] = [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", b"0123456789"];
    let over = deliver(&parts, false, 10, 5 * SECOND, &budget).await;
    assert_eq!(over.unwrap_err(), BodyError::Overload);
    assert_eq!(budget.left(), 8);
    let mut permit = budget.permit();
    permit.grow(5).unwrap();
    assert_eq!(permit.grow(4), Err(BodyError::Overload));
    permit.grow(3).unwrap();
    assert_eq!(budget.left(), 0);
    drop(permit);
    assert_eq!(budget.left(), 8);
}

/// Scenario: ten HTTP/1 clients each upload 8 MB and read only afterwards; they are refused at the head.
/// Guarantees: each of them finds the answer, because the rest of the upload is read on.
#[tokio::test]
async fn a_refused_upload_still_reads_its_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: Request<Incoming>| async move {
                read_on(request.into_body(), 16 << 20, 5 * SECOND);
                let answer = Response::builder().status(401).body(Empty::<Bytes>::new());
                Ok::<_, Infallible>(answer.unwrap())
            });
            drop(tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service)));
        }
    });
    let upload: Arc<[u8]> = vec![7; 8 << 20].into();
    for _ in 0..10 {
        let mut client = TcpStream::connect(address).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", upload.len());
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&upload).await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401");
    }
    server.abort();
}

/// Scenario: a refused upload goes on past the bytes, and another past the time, that are granted.
/// Guarantees: reading on stops, and the connection is closed.
#[tokio::test]
async fn reading_on_is_bounded() {
    for (max, time) in [(1000, 5 * SECOND), (usize::MAX, Duration::from_millis(50))] {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let service = service_fn(move |request: Request<Incoming>| async move {
            read_on(request.into_body(), max, time);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        drop(tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service)));
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n").await.unwrap();
        let endless = async { while client.write_all(&[0; 100]).await.is_ok() {} };
        timeout(3 * SECOND, endless).await.expect("the upload was read for ever");
    }
}
