//! Whose connection it is, where load balancers stand in front: PROXY headers that are believed, and those that are not.

use crate::config::{Network, ProxyProtocol};

use super::*;

const WHO: &[u8] = b"GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 192.0.2.9 10.0.0.1 4711 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\xC0\0\x02\x09\x0A\0\0\x01\x12\x67\x01\xBB";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

async fn behind(hops: &str, proxy_protocol: ProxyProtocol, per_client: usize) -> Server {
    let network: Network = hops.parse().unwrap();
    let settings = ServerSettings {
        hops: (&[network][..]).into(),
        proxy_protocol,
        connections: Connections::new(100, per_client),
        ..settings(100, PATIENCE)
    };
    Server::with(TcpListener::bind("127.0.0.1:0").await.unwrap(), settings)
}

impl Server {
    /// The body of the answer to `WHO` behind these bytes, or all that came instead.
    async fn who(&self, header: &[u8]) -> String {
        let stream = self.connect().await;
        let own = stream.local_addr().unwrap().to_string();
        let answer = until_closed(stream, &[header, WHO].concat()).await;
        let answer = String::from_utf8(answer).unwrap();
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => body.replace(&own, "itself"),
            _ => answer,
        }
    }

    fn count(&self, reason: &str) -> bool {
        self.metrics.render().contains(&format!("reason=\"{reason}\"}} 1\n"))
    }
}

/// Scenario: a trusted hop sends headers of each version, in one write with the request and byte by byte, and speaks for itself.
/// Guarantees: the source in the header is the peer; a hop that speaks for itself is its own.
#[tokio::test]
async fn a_hops_header_is_believed() {
    for (version, header) in
        [(ProxyProtocol::V1, V1), (ProxyProtocol::V2, V2), (ProxyProtocol::Any, V1), (ProxyProtocol::Any, V2)]
    {
        let server = behind("127.0.0.0/8", version, 0).await;
        assert_eq!(server.who(header).await, "192.0.2.9:4711");
        let mut slow = server.connect().await;
        slow.set_nodelay(true).unwrap();
        for byte in header {
            slow.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let answer = until_closed(slow, WHO).await;
        assert!(answer.ends_with(b"192.0.2.9:4711"), "{answer:?}");
    }
    let server = behind("127.0.0.1", ProxyProtocol::Any, 0).await;
    assert_eq!(server.who(LOCAL).await, "itself");
    assert_eq!(server.who(b"PROXY UNKNOWN\r\n").await, "itself");
}

/// Scenario: a peer that is no hop sends a header, good in itself, to listeners with and without PROXY protocol.
/// Guarantees: it is never served as somebody else: its connection ends; without a header it is served as itself.
#[tokio::test]
async fn nobody_elses_header_is_believed() {
    for version in [ProxyProtocol::Off, ProxyProtocol::V1, ProxyProtocol::V2, ProxyProtocol::Any] {
        let server = behind("192.0.2.0/24", version, 0).await;
        for header in [V1, V2, LOCAL] {
            let answer = server.who(header).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
        }
        assert_eq!(server.who(b"").await, "itself");
    }
    let off = behind("127.0.0.0/8", ProxyProtocol::Off, 0).await;
    let answer = off.who(V1).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
}

/// Scenario: a trusted hop sends no header, one of the other version, a broken one, half of one, one that never ends.
/// Guarantees: nothing is answered, each connection is closed and counted; half a header not before the header timeout.
#[tokio::test]
async fn a_hop_without_a_good_header_is_closed() {
    let endless = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
    for bad in [&b""[..], V2, b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", &endless] {
        let server = behind("127.0.0.0/8", ProxyProtocol::V1, 0).await;
        assert_eq!(server.who(bad).await, "", "{bad:x?}");
        assert!(server.count("proxy_header"), "{bad:x?}");
    }
    let server = behind("127.0.0.0/8", ProxyProtocol::V2, 0).await;
    let began = Instant::now();
    assert_eq!(until_closed(server.connect().await, V2.get(..20).unwrap()).await, b"");
    assert!(began.elapsed() > HEAD * 9 / 10);
    assert!(server.count("timeout"));
}

/// Scenario: two clients behind one hop, of which one has its share of connections; the hop's own health checks.
/// Guarantees: the share is the client's and not the hop's, which is never refused for it.
#[tokio::test]
async fn shares_are_of_clients_behind_hops() {
    let server = behind("127.0.0.0/8", ProxyProtocol::V1, 1).await;
    let mut first = server.connect().await;
    first.write_all(&[V1, GET].concat()).await.unwrap();
    assert!(first.read(&mut [0; 512]).await.unwrap() > 0);
    assert_eq!(server.who(V1).await, "");
    assert!(server.count("per_client"));
    let other = b"PROXY TCP4 192.0.2.10 10.0.0.1 4711 443\r\n";
    assert_eq!(server.who(other).await, "192.0.2.10:4711");
    let _checks = [server.connect().await, server.connect().await];
    assert_eq!(server.who(b"PROXY UNKNOWN\r\n").await, "itself");
}

/// Scenario: a PROXY header before a TLS handshake.
/// Guarantees: the handshake is served, and the peer is the one in the header.
#[tokio::test]
async fn tls_comes_behind_the_header() {
    let (tls, client) = tls();
    let network: Network = "127.0.0.0/8".parse().unwrap();
    let settings = ServerSettings {
        hops: (&[network][..]).into(),
        proxy_protocol: ProxyProtocol::V2,
        tls: Some(Arc::new(arc_swap::ArcSwap::from_pointee(tls))),
        ..settings(100, PATIENCE)
    };
    let server = Server::with(TcpListener::bind("127.0.0.1:0").await.unwrap(), settings);
    let mut stream = server.connect().await;
    stream.write_all(V2).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    assert_eq!(
        text(speak_http1(stream).await.send_request(get("/who")).await.unwrap()).await,
        "192.0.2.9:4711"
    );
}

/// Scenario: a hop connects and leaves without a byte, as many checks of health do.
/// Guarantees: its place is free again, and nothing is counted as trouble.
#[tokio::test]
async fn a_hop_may_only_connect() {
    let server = behind("127.0.0.0/8", ProxyProtocol::V1, 0).await;
    drop(server.connect().await);
    // Behind it, so that it has been seen.
    assert_ne!(server.who(b"PROXY UNKNOWN\r\n").await, "");
    while server.connections.taken() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let troubles: Vec<_> =
        ["proxy_header", "timeout", "http"].into_iter().filter(|reason| server.count(reason)).collect();
    assert!(troubles.is_empty(), "{troubles:?}");
}
