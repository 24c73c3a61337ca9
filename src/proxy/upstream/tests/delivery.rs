//! How requests travel: their form, connections, turns, deadlines, and when one is sent again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Response, Version};
use http_body_util::{Empty, Full};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tower::ServiceExt as _;

use crate::{
    config::{Collector, Protocol},
    metrics::Metrics,
    otlp::{compression::Encoding, status::PartialSuccess},
};

use super::{
    super::{UpstreamBuildError, UpstreamError, pool},
    AnswerBody, Fake, nobody, outgoing, send, tls, upstream,
};

const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn fine() -> Response<AnswerBody> {
    Response::new(AnswerBody::new(Empty::new()))
}

async fn fine_grpc() -> Response<AnswerBody> {
    let body = AnswerBody::new(Full::from(Bytes::from_static(&[0; 5])));
    Response::builder().header("grpc-status", "0").body(body).unwrap()
}

/// Scenario: a compressed request in several pieces, with a header of the gateway's own, over OTLP/HTTP.
/// Guarantees: path, headers and length are OTLP's, the pieces arrive joined and in order.
#[tokio::test]
async fn http_requests_have_their_form() {
    let fake = Fake::start(None, fine).await;
    let mut request = outgoing(&[b"a", b"", b"bc", b"def"]);
    request.encoding = Encoding::Gzip;
    request.headers.insert("x-request-id", "r1".parse().unwrap());
    request.headers.insert("content-type", "text/plain".parse().unwrap());
    let upstream = upstream(Protocol::Http, &[format!("{}/", fake.url())], PATIENCE);
    assert_eq!(upstream.oneshot(request).await, Ok(PartialSuccess::default()));
    let got = fake.got.lock().unwrap();
    let (head, body) = &got[0];
    assert_eq!(body, "abcdef");
    assert_eq!(
        (head.method.as_str(), head.uri.path(), head.version),
        ("POST", "/v1/traces", Version::HTTP_11)
    );
    for (name, value) in [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "gzip"),
        ("content-length", "6"),
        ("x-request-id", "r1"),
    ] {
        assert_eq!(head.headers[name], value);
    }
    assert_eq!(head.headers["host"], fake.address.to_string());
    assert!(head.headers["user-agent"].to_str().unwrap().starts_with("spangate/"));
}

/// Scenario: the same over OTLP/gRPC, compressed and not, with pieces longer than a frame.
/// Guarantees: one framed message with the right flag and length, and the metadata that gRPC asks for.
#[tokio::test]
async fn grpc_calls_have_their_form() {
    let fake = Fake::start(None, fine_grpc).await;
    let upstream = upstream(Protocol::Grpc, &[fake.url()], PATIENCE);
    let large: &'static [u8] = vec![7; 40_000].leak();
    for (encoding, flag) in [(Encoding::Identity, 0), (Encoding::Zstd, 1)] {
        let mut request = outgoing(&[b"head", large, b"x", b"y"]);
        request.encoding = encoding;
        assert_eq!(upstream.clone().oneshot(request).await, Ok(PartialSuccess::default()));
        let (head, body) = fake.got.lock().unwrap().pop().unwrap();
        assert_eq!(body[..5], [flag, 0, 0, 0x9C, 0x46]);
        assert_eq!(body[5..], [b"head", large, b"xy"].concat());
        assert_eq!(head.uri.path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        assert_eq!(head.version, Version::HTTP_2);
        assert_eq!(head.headers["te"], "trailers");
        assert_eq!(head.headers["content-type"], "application/grpc");
        assert_eq!(head.headers["content-length"], "40011");
        assert_eq!(head.headers.get("grpc-encoding").is_some(), flag == 1);
        let timeout = head.headers["grpc-timeout"].to_str().unwrap().strip_suffix('m').unwrap();
        assert!((1..=5000).contains(&timeout.parse::<u32>().unwrap()), "{timeout}");
    }
}

/// Scenario: an `https` collector, in both protocols; and one whose certificate nobody signed.
/// Guarantees: ALPN fits the protocol; a certificate that can't be checked is `Unreachable`, not a success.
#[tokio::test]
async fn https_is_spoken() {
    let (server, client) = tls();
    let plain = Fake::start(Some(server.clone()), fine).await;
    let grpc = Fake::start(Some(server), fine_grpc).await;
    let (_, stranger) = tls();
    for (protocol, fake) in [(Protocol::Http, &plain), (Protocol::Grpc, &grpc)] {
        let endpoints = vec![format!("https://localhost:{}", fake.address.port())];
        let config = Collector { endpoints, protocol, ..Collector::default() };
        let metrics = || Arc::new(Metrics::new());
        let upstream = pool(&config, Some(client.clone()), metrics()).unwrap();
        assert_eq!(send(&upstream).await, Ok(PartialSuccess::default()), "{protocol:?}");
        let upstream = pool(&config, Some(stranger.clone()), metrics()).unwrap();
        assert!(matches!(send(&upstream).await, Err(UpstreamError::Unreachable(_))));
    }
}

/// Scenario: requests one after the other to one collector, and to two.
/// Guarantees: a connection is kept and used again; two collectors take turns.
#[tokio::test]
async fn connections_are_kept_and_turns_taken() {
    let (a, b) = (Fake::start(None, fine).await, Fake::start(None, fine).await);
    let one = upstream(Protocol::Http, &[a.url()], PATIENCE);
    for _ in 0..5 {
        send(&one).await.unwrap();
    }
    assert_eq!((a.requests(), a.connections()), (5, 1));
    let two = upstream(Protocol::Http, &[a.url(), b.url()], PATIENCE);
    for _ in 0..6 {
        send(&two).await.unwrap();
    }
    assert_eq!((a.requests(), b.requests()), (8, 3));
}

/// Scenario: calls one after the other to two gRPC collectors.
/// Guarantees: each keeps two connections, both are used, and no call opens another one.
#[tokio::test]
async fn grpc_connections_take_turns() {
    let (a, b) = (Fake::start(None, fine_grpc).await, Fake::start(None, fine_grpc).await);
    let upstream = upstream(Protocol::Grpc, &[a.url(), b.url()], PATIENCE);
    for _ in 0..12 {
        send(&upstream).await.unwrap();
    }
    assert_eq!((a.requests(), b.requests()), (6, 6));
    assert_eq!((a.connections(), b.connections()), (2, 2));
}

/// Scenario: the first collector refuses connections, the second one is well; then both refuse.
/// Guarantees: every request is answered by the second one, exactly once; with none left it is `Unreachable`.
#[tokio::test]
async fn a_dead_collector_is_passed_over() {
    for (protocol, script) in [(Protocol::Http, true), (Protocol::Grpc, false)] {
        let fake = if script { Fake::start(None, fine).await } else { Fake::start(None, fine_grpc).await };
        let half = upstream(protocol, &[nobody().await, fake.url()], PATIENCE);
        for count in 1..=4 {
            assert_eq!(send(&half).await, Ok(PartialSuccess::default()));
            assert_eq!(fake.requests(), count);
        }
        let none = upstream(protocol, &[nobody().await, nobody().await], PATIENCE);
        let Err(UpstreamError::Unreachable(text)) = send(&none).await else { panic!("nobody was reached") };
        assert!(text.starts_with("127.0.0.1:") && text.contains("refused"), "{text}");
    }
}

/// A collector that reads some of a request on each connection, then does as `then` says; the count of its connections.
async fn rude(read: usize, then: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    drop(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::SeqCst);
            let mut buffer = vec![0; read];
            drop(stream.read(&mut buffer).await);
            drop(stream.write_all(then).await);
            sleep(Duration::from_millis(20)).await;
        }
    }));
    (url, count)
}

/// Scenario: a collector takes a request, or the beginning of it, and hangs up without an answer or within one.
/// Guarantees: the request is not sent a second time, to it or to another one: it could have been taken.
#[tokio::test]
async fn what_was_sent_is_not_sent_again() {
    let other = Fake::start(None, fine).await;
    for (read, then) in [
        (1000, &b""[..]),
        (10, b""),
        (1000, b"HTTP/1.1 2"),
        (1000, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
    ] {
        let (url, count) = rude(read, then).await;
        let result = send(&upstream(Protocol::Http, &[url, other.url()], PATIENCE)).await;
        assert!(matches!(result, Err(UpstreamError::Unreachable(_))), "{result:?}");
        assert_eq!((count.load(Ordering::SeqCst), other.requests()), (1, 0), "{read} {then:?}");
    }
}

/// Scenario: a collector closes each connection after its answer, without having said so.
/// Guarantees: a pooled connection that has been closed costs no request.
#[tokio::test]
async fn closed_connections_cost_nothing() {
    let (url, count) = rude(1000, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let upstream = upstream(Protocol::Http, &[url], PATIENCE);
    for turn in 1..=5 {
        assert_eq!(send(&upstream).await, Ok(PartialSuccess::default()));
        assert_eq!(count.load(Ordering::SeqCst), turn);
        sleep(Duration::from_millis(50)).await;
    }
}

/// Scenario: a collector that never answers, one that never accepts; the request's or the pool's time is short.
/// Guarantees: `Timeout` comes when the shorter of both times is over, in both protocols.
#[tokio::test]
async fn deadlines_hold() {
    let fake = Fake::start(None, || async {
        sleep(Duration::from_mins(1)).await;
        fine().await
    })
    .await;
    let short = Duration::from_millis(100);
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let began = Instant::now();
        assert_eq!(send(&upstream(protocol, &[fake.url()], short)).await, Err(UpstreamError::Timeout));
        let mut request = outgoing(&[b"x"]);
        request.deadline = Instant::now() + short;
        let patient = upstream(protocol, &[fake.url()], PATIENCE);
        assert_eq!(patient.oneshot(request).await, Err(UpstreamError::Timeout));
        let lasted = began.elapsed();
        assert!((short * 2..short * 40).contains(&lasted), "{lasted:?}");
    }
    let full = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", full.local_addr().unwrap());
    drop(TcpStream::connect(full.local_addr().unwrap()).await);
    assert_eq!(send(&upstream(Protocol::Http, &[url], short)).await, Err(UpstreamError::Timeout));
}

/// Scenario: lists of endpoints that can't work.
/// Guarantees: each is refused at the start with its place in the list, and a password in one is not repeated.
#[test]
fn bad_endpoints_are_refused() {
    let build = |endpoints: &[&str]| {
        let endpoints = endpoints.iter().map(|&text| text.into()).collect();
        let config = Collector { endpoints, ..Collector::default() };
        pool(&config, None, Arc::new(Metrics::new())).map(drop)
    };
    assert_eq!(build(&[]), Err(UpstreamBuildError::NoEndpoint));
    for bad in [
        "",
        "127.0.0.1:4318",
        "/v1/traces",
        "http://",
        "ftp://a:1",
        "https://a:1",
        "http://a:1/v1/traces",
        "http://a:1/?x=1",
        "http://user:pass@a:1",
    ] {
        let error = build(&["http://a:1", bad]).unwrap_err();
        assert!(matches!(error, UpstreamBuildError::BadEndpoint { index: 1, .. }), "{bad}: {error}");
        assert!(!error.to_string().contains("pass@"), "{error}");
    }
    assert_eq!(build(&["http://a:1", "http://[::1]:4318/"]), Ok(()));
}
