//! What is counted below requests, and what is not.

use std::{os::fd::OwnedFd, sync::Mutex};

use tracing_subscriber::fmt::MakeWriter;

use crate::{config::Log, telemetry};

use super::*;

const REASONS: [&str; 5] = ["tls", "http", "timeout", "accept", "full"];

/// Closes with a reset, as the system does for a process that is killed with unread bytes.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

impl Server {
    fn troubles(&self) -> [u64; 5] {
        let text = self.metrics.render();
        REASONS.map(|reason| {
            let start = format!("spangate_connection_errors_total{{listener=\"test\",reason=\"{reason}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |count| count.parse().unwrap())
        })
    }

    async fn until_troubles(&self, expected: [u64; 5]) {
        let found = async {
            while self.troubles() != expected {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let found = timeout(PATIENCE, found).await;
        assert!(found.is_ok(), "{REASONS:?}: {:?}, not {expected:?}", self.troubles());
    }

    async fn until_free(&self) {
        let free = async {
            while self.connections.taken() > 0 {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, free).await.expect("a connection did not end");
    }
}

/// Scenario: a TLS listener gets clear text, a handshake that breaks off, and a client that knows no such certificate.
/// Guarantees: each is counted once, as `tls`.
#[tokio::test]
async fn failed_handshakes_are_counted() {
    let (config, _) = tls();
    let server = Server::start(Some(config), 100, PATIENCE).await;
    until_closed(server.connect().await, GET).await;
    server.until_troubles([1, 0, 0, 0, 0]).await;
    let mut broken = server.connect().await;
    broken.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
    drop(broken);
    server.until_troubles([2, 0, 0, 0, 0]).await;
    let (_, stranger) = tls();
    let name = ServerName::try_from("localhost").unwrap();
    assert!(TlsConnector::from(Arc::new(stranger)).connect(name, server.connect().await).await.is_err());
    server.until_troubles([3, 0, 0, 0, 0]).await;
}

/// Scenario: bytes that are no HTTP, a head past the bounds, no HTTP/2 after the preface, and a client that leaves before its answer.
/// Guarantees: the first two get 400 and 431; each is counted once, as `http`.
#[tokio::test]
async fn broken_http_is_counted() {
    let server = Server::plain().await;
    let answer = until_closed(server.connect().await, b"\x01garbage\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    server.until_troubles([0, 1, 0, 0, 0]).await;
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(40 << 10));
    let answer = until_closed(server.connect().await, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{answer:?}");
    server.until_troubles([0, 2, 0, 0, 0]).await;
    until_closed(server.connect().await, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n").await;
    server.until_troubles([0, 3, 0, 0, 0]).await;
    let mut hasty = server.connect().await;
    hasty.write_all(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    server.until_hanging(1).await;
    reset(hasty);
    server.until_troubles([0, 4, 0, 0, 0]).await;
}

/// Scenario: peers that send nothing, half a head, half a head on a used connection, half a TLS handshake.
/// Guarantees: each is counted once, as `timeout`.
#[tokio::test]
async fn slow_peers_are_counted() {
    let server = Server::plain().await;
    until_closed(server.connect().await, b"").await;
    until_closed(server.connect().await, b"GET / HT").await;
    let mut used = server.connect().await;
    used.write_all(GET).await.unwrap();
    assert!(used.read(&mut [0; 512]).await.unwrap() > 0);
    until_closed(used, b"GET / HT").await;
    server.until_troubles([0, 0, 3, 0, 0]).await;
    let (config, _) = tls();
    let secure = Server::start(Some(config), 100, PATIENCE).await;
    until_closed(secure.connect().await, b"\x16\x03\x01").await;
    secure.until_troubles([0, 0, 1, 0, 0]).await;
}

/// Scenario: peers that connect and leave, and that leave a used connection: by closing, by a reset, by being idle for too long.
/// Guarantees: none of it is trouble, in clear text and over TLS, in both protocols.
#[tokio::test]
async fn leaving_is_no_trouble() {
    let (config, client) = tls();
    let plain = Server::start(None, 100, HEAD).await;
    let secure = Server::start(Some(config), 100, HEAD).await;
    for server in [&plain, &secure] {
        drop(server.connect().await);
        reset(server.connect().await);
    }
    for leave in [drop, reset] {
        let mut one = plain.connect().await;
        one.write_all(GET).await.unwrap();
        assert!(one.read(&mut [0; 512]).await.unwrap() > 0);
        leave(one);
        let mut two = plain.connect().await;
        two.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        two.read_exact(&mut [0; 9]).await.unwrap();
        leave(two);
    }
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let mut client = client.clone();
        client.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream =
            TlsConnector::from(Arc::new(client)).connect(name, secure.connect().await).await.unwrap();
        if alpn == b"h2" {
            drop(speak_http2(stream).await.send_request(get("/")).await.unwrap());
        } else {
            stream.write_all(GET).await.unwrap();
            assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
            reset(stream.into_inner().0);
        }
    }
    let mut idle = speak_http2(plain.connect().await).await;
    idle.send_request(get("/")).await.unwrap();
    for server in [&plain, &secure] {
        // Whatever still waits in the backlog is accepted by then.
        sleep(HEAD).await;
        server.until_free().await;
        assert_eq!(server.troubles(), [0; 5], "{REASONS:?}");
    }
}

/// Scenario: one place, and two connections.
/// Guarantees: the second one's wait is counted once, as `full`, while it still lasts.
#[tokio::test]
async fn waiting_for_a_place_is_counted() {
    let server = Server::start(None, 1, PATIENCE).await;
    let mut first = server.connect().await;
    first.write_all(GET).await.unwrap();
    assert!(first.read(&mut [0; 512]).await.unwrap() > 0);
    assert_eq!(server.troubles(), [0; 5]);
    let _second = server.connect().await;
    server.until_troubles([0, 0, 0, 0, 1]).await;
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Scenario: a listening socket that can't accept any more: it was shut down under the server.
/// Guarantees: each failed accept is counted; a line says on which listener, why, and how many lines were left out.
#[tokio::test]
async fn failed_accepts_are_counted_and_told() {
    let lines = Lines::default();
    let (subscriber, _handle) = telemetry::subscriber(&Log::default(), lines.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let socket = std::net::TcpStream::from(OwnedFd::from(listener.try_clone().unwrap()));
    let server = Server::on(TcpListener::from_std(listener).unwrap(), None, 1, PATIENCE);
    socket.shutdown(std::net::Shutdown::Both).unwrap();
    server.until_troubles([0, 0, 0, 2, 0]).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["reason"], "accept", "{line}");
    assert_eq!(line["listener"], "test", "{line}");
    assert_eq!(line["suppressed"], 0, "{line}");
    assert!(line["error_message"].as_str().is_some_and(|text| !text.is_empty()), "{line}");
}
