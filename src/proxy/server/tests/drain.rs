//! How a server ends: open requests, idle and new connections, the backlog, deaf peers, the cut.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::Response;
use http_body_util::Full;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

use super::{
    super::{AnswerBody, LAST_CALL, ServerSettings, serve},
    GET, HEAD, PATIENCE, Server, get, settings, speak_http1, speak_http2, text, tls,
};

/// Scenario: a request is open, another connection is idle, when the drain begins.
/// Guarantees: the idle one is closed at once, the open request is answered with `Connection: close`, no connection is
/// taken any more, and the server returns.
#[tokio::test]
async fn drain_lets_open_requests_end() {
    let server = Server::plain().await;
    let mut idle = speak_http1(server.connect().await).await;
    idle.send_request(get("/")).await.unwrap();
    let mut busy = speak_http1(server.connect().await).await;
    let open = tokio::spawn(busy.send_request(get("/hang")));
    server.until_hanging(1).await;
    server.drain.cancel();
    let closed = async {
        while idle.ready().await.is_ok() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("an idle connection outlived the drain");
    assert!(!server.task.is_finished());
    sleep(LAST_CALL * 3).await;
    assert!(TcpStream::connect(server.address).await.is_err());
    server.release.notify_one();
    let answer = open.await.unwrap().unwrap();
    assert_eq!(answer.headers()["connection"], "close");
    assert_eq!(text(answer).await, "HTTP/1.1");
    server.ended().await;
}

/// Scenario: an HTTP/2 stream is open when the drain begins; the peer opens another one afterwards.
/// Guarantees: the open one is answered, the connection ends although the peer keeps it, and the server returns.
#[tokio::test]
async fn drain_says_goaway() {
    let server = Server::plain().await;
    let mut sender = speak_http2(server.connect().await).await;
    let open = tokio::spawn(sender.send_request(get("/hang")));
    server.until_hanging(1).await;
    server.drain.cancel();
    sleep(Duration::from_millis(50)).await;
    assert!(sender.send_request(get("/")).await.is_err());
    server.release.notify_one();
    assert_eq!(text(open.await.unwrap().unwrap()).await, "HTTP/2.0");
    server.ended().await;
}

/// Scenario: a request has been written to a new connection, and nobody has accepted it yet, when the drain begins.
/// Guarantees: it is answered: what the kernel took for us is not reset.
#[tokio::test]
async fn drain_serves_the_backlog() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(GET).await.unwrap();
    let drain = CancellationToken::new();
    drain.cancel();
    let settings = ServerSettings { header_timeout: PATIENCE, ..settings(1, PATIENCE) };
    let handler = |_, _| async { Response::new(AnswerBody::new(Full::from("served"))) };
    let metrics = Arc::new(Metrics::new());
    serve(listener, "a".into(), settings, metrics, handler, drain, CancellationToken::new()).await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("served"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

/// Scenario: the drain begins right after a TLS handshake, in both protocols, before the first request is on its way.
/// Guarantees: a new connection's first request is answered; one that never sends any ends with the header timeout.
#[tokio::test]
async fn drain_awaits_a_first_request() {
    let (server, client) = tls();
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let server = Server::start(Some(server.clone()), 100, PATIENCE).await;
        let dial = async || {
            let mut client = client.clone();
            client.alpn_protocols = vec![alpn.to_vec()];
            let name = ServerName::try_from("localhost").unwrap();
            TlsConnector::from(Arc::new(client)).connect(name, server.connect().await).await.unwrap()
        };
        let (late, silent) = (dial().await, dial().await);
        server.drain.cancel();
        sleep(HEAD / 6).await;
        let answer = match alpn {
            b"h2" => speak_http2(late).await.send_request(get("/")).await,
            _ => speak_http1(late).await.send_request(get("/")).await,
        };
        assert_eq!(answer.unwrap().status(), 200);
        let began = Instant::now();
        server.ended().await;
        assert!(began.elapsed() < HEAD * 12);
        drop(silent);
    }
}

/// Scenario: requests of both protocols hang for ever; the drain begins, then the cut.
/// Guarantees: the server waits for the cut and not longer; the handlers are dropped, all places are free.
#[tokio::test]
async fn cut_ends_everything() {
    let server = Server::plain().await;
    let mut one = speak_http1(server.connect().await).await;
    let mut two = speak_http2(server.connect().await).await;
    let open = (tokio::spawn(one.send_request(get("/hang"))), tokio::spawn(two.send_request(get("/hang"))));
    server.until_hanging(2).await;
    server.drain.cancel();
    sleep(Duration::from_millis(50)).await;
    assert!(!server.task.is_finished());
    server.cut.cancel();
    assert!(open.0.await.unwrap().is_err());
    assert!(open.1.await.unwrap().is_err());
    let (hanging, connections) = (Arc::clone(&server.hanging), Arc::clone(&server.connections));
    server.ended().await;
    assert_eq!(hanging.load(Ordering::SeqCst), 0);
    assert_eq!(connections.taken(), 0);
}

/// Scenario: a peer asks and never reads its answers, when the drain begins.
/// Guarantees: the drain does not hang on it.
#[tokio::test]
async fn a_deaf_peer_does_not_hold_the_drain() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (drain, cut) = (CancellationToken::new(), CancellationToken::new());
    let handler = |_, _| async { Response::new(AnswerBody::new(Full::from(vec![0; 32 << 20]))) };
    let metrics = Arc::new(Metrics::new());
    let task = tokio::spawn(serve(
        listener,
        "test".into(),
        settings(1, HEAD * 2),
        metrics,
        handler,
        drain.clone(),
        cut,
    ));
    let mut deaf = TcpStream::connect(address).await.unwrap();
    deaf.write_all(GET).await.unwrap();
    sleep(Duration::from_millis(30)).await;
    drain.cancel();
    timeout(PATIENCE, task).await.expect("the drain hangs on a deaf peer").unwrap();
    drop(deaf);
}
