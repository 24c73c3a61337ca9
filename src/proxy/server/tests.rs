//! The server over real sockets: protocols, slow and idle peers, limits.

mod bounds;
mod drain;
mod hops;
mod trouble;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::{config::Intake, metrics::Metrics};

use super::{AnswerBody, Connections, Peer, ServerSettings, serve};

const HEAD: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(5);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A running server whose handler answers `/` with the protocol, hangs on `/hang` until told, and panics on `/panic`.
struct Server {
    address: SocketAddr,
    drain: CancellationToken,
    cut: CancellationToken,
    release: Arc<Notify>,
    hanging: Arc<AtomicUsize>,
    connections: Arc<Connections>,
    metrics: Arc<Metrics>,
    task: JoinHandle<()>,
}

struct Hanging(Arc<AtomicUsize>);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn handle(
    request: Request<Incoming>,
    release: Arc<Notify>,
    hanging: Arc<AtomicUsize>,
    client: SocketAddr,
) -> Response<AnswerBody> {
    match request.uri().path() {
        "/hang" | "/admit-and-hang" => {
            hanging.fetch_add(1, Ordering::SeqCst);
            let _hanging = Hanging(hanging);
            release.notified().await;
        }
        "/panic" => panic!("as asked"),
        "/who" => return Response::new(AnswerBody::new(Full::from(client.to_string()))),
        _ => {}
    }
    Response::new(AnswerBody::new(Full::from(format!("{:?}", request.version()))))
}

impl Server {
    async fn start(tls: Option<rustls::ServerConfig>, places: usize, idle: Duration) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), tls, places, idle)
    }

    fn on(listener: TcpListener, tls: Option<rustls::ServerConfig>, places: usize, idle: Duration) -> Self {
        let settings = ServerSettings {
            tls: tls.map(|tls| Arc::new(arc_swap::ArcSwap::from_pointee(tls))),
            ..settings(places, idle)
        };
        Self::with(listener, settings)
    }

    fn with(listener: TcpListener, settings: ServerSettings) -> Self {
        let address = listener.local_addr().unwrap();
        let (drain, cut) = (CancellationToken::new(), CancellationToken::new());
        let (release, hanging) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let connections = Arc::clone(&settings.connections);
        let metrics = Arc::new(Metrics::new());
        let (wait, count) = (Arc::clone(&release), Arc::clone(&hanging));
        let handler = move |request: Request<Incoming>, peer: Arc<Peer>| {
            assert_eq!(&*peer.listener, "test");
            if request.uri().path().starts_with("/admit") {
                peer.admit();
            }
            handle(request, Arc::clone(&wait), Arc::clone(&count), peer.address)
        };
        let serving = serve(
            listener,
            "test".into(),
            settings,
            Arc::clone(&metrics),
            handler,
            drain.clone(),
            cut.clone(),
        );
        let task = tokio::spawn(serving);
        Self { address, drain, cut, release, hanging, connections, metrics, task }
    }

    async fn plain() -> Self {
        Self::start(None, 100, PATIENCE).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn until_hanging(&self, count: usize) {
        let found = async {
            while self.hanging.load(Ordering::SeqCst) != count {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, found).await.expect("the handler is not in the expected state");
    }

    async fn ended(self) {
        timeout(PATIENCE, self.task).await.expect("the server did not end").unwrap();
    }
}

fn settings(places: usize, idle: Duration) -> ServerSettings {
    let intake = Intake { header_timeout: HEAD, idle_timeout: idle, max_streams: 10, ..Intake::default() };
    ServerSettings::inner(&intake, Connections::new(places, 0))
}

fn get(path: &'static str) -> Request<Full<Bytes>> {
    Request::builder().uri(format!("http://localhost{path}")).body(Full::default()).unwrap()
}

async fn speak_http1<T>(stream: T) -> http1::SendRequest<Full<Bytes>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    drop(tokio::spawn(connection));
    sender
}

async fn speak_http2<T>(stream: T) -> http2::SendRequest<Full<Bytes>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    drop(tokio::spawn(connection));
    sender
}

async fn text(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// Sends raw bytes and reads until the server closes.
async fn until_closed(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).await.unwrap();
    let mut all = Vec::new();
    // A reset is a close too.
    drop(timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("the connection was not closed"));
    all
}

pub(in crate::proxy) fn tls() -> (rustls::ServerConfig, rustls::ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server, client)
}

/// Scenario: clear-text peers that speak HTTP/1.1, and HTTP/2 with prior knowledge; the preface comes byte by byte.
/// Guarantees: both are served on one port, several requests to a connection.
#[tokio::test]
async fn clear_text_takes_both_protocols() {
    let server = Server::plain().await;
    let mut one = speak_http1(server.connect().await).await;
    let mut two = speak_http2(server.connect().await).await;
    for _ in 0..3 {
        assert_eq!(text(one.send_request(get("/")).await.unwrap()).await, "HTTP/1.1");
        assert_eq!(text(two.send_request(get("/")).await.unwrap()).await, "HTTP/2.0");
    }
    let mut slow = server.connect().await;
    slow.set_nodelay(true).unwrap();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" {
        slow.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut frame = [0; 9];
    slow.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "the server's own SETTINGS were expected");
}

/// Scenario: TLS peers that choose h2, http/1.1 or nothing through ALPN; one that chose h2 speaks HTTP/1.1.
/// Guarantees: what ALPN chose is served and nothing else; without ALPN the first bytes decide.
#[tokio::test]
async fn tls_follows_alpn() {
    let (server, client) = tls();
    let server = Server::start(Some(server), 100, PATIENCE).await;
    let dial = async |alpn: &[&[u8]]| {
        let mut client = client.clone();
        client.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(client)).connect(name, server.connect().await).await.unwrap()
    };
    let mut two = speak_http2(dial(&[b"h2"]).await).await;
    assert_eq!(two.send_request(get("/")).await.unwrap().version(), Version::HTTP_2);
    let mut one = speak_http1(dial(&[b"http/1.1"]).await).await;
    assert_eq!(one.send_request(get("/")).await.unwrap().version(), Version::HTTP_11);
    let mut none = speak_http1(dial(&[]).await).await;
    assert_eq!(text(none.send_request(get("/")).await.unwrap()).await, "HTTP/1.1");
    let mut none = speak_http2(dial(&[]).await).await;
    assert_eq!(text(none.send_request(get("/")).await.unwrap()).await, "HTTP/2.0");
    let mut liar = speak_http1(dial(&[b"h2"]).await).await;
    assert!(liar.send_request(get("/")).await.is_err());
}

/// Scenario: peers that send nothing, half a preface, half a head, or no whole TLS handshake.
/// Guarantees: each is closed after the header timeout, and not before it.
#[tokio::test]
async fn slow_heads_are_cut() {
    let server = Server::plain().await;
    let (config, _) = tls();
    let secure = Server::start(Some(config), 100, PATIENCE).await;
    for (server, bytes) in [
        (&server, &b""[..]),
        (&server, b"PRI * HT"),
        (&server, b"POST /v1/traces HTTP/1.1\r\nHost: a"),
        (&secure, b""),
        (&secure, b"\x16\x03\x01"),
    ] {
        let began = Instant::now();
        until_closed(server.connect().await, bytes).await;
        let lasted = began.elapsed();
        assert!((HEAD * 9 / 10..HEAD * 12).contains(&lasted), "{lasted:?} for {bytes:?}");
    }
}

/// Scenario: a keep-alive connection is silent for much longer than the header timeout, then sends half a head.
/// Guarantees: silence between requests is no slow head, but the half head is.
#[tokio::test]
async fn idle_is_not_slow() {
    let server = Server::plain().await;
    let mut stream = server.connect().await;
    let mut answer = [0; 512];
    for _ in 0..2 {
        stream.write_all(GET).await.unwrap();
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
        sleep(HEAD * 2).await;
    }
    let began = Instant::now();
    assert_eq!(until_closed(stream, b"GET / HT").await, b"");
    assert!(began.elapsed() > HEAD * 9 / 10);
}

/// Scenario: connections of both protocols on which nothing more happens.
/// Guarantees: they are closed after the idle time, without an error, and give their places back.
#[tokio::test]
async fn idle_connections_end() {
    let server = Server::start(None, 3, HEAD).await;
    let mut one = speak_http1(server.connect().await).await;
    let mut two = speak_http2(server.connect().await).await;
    one.send_request(get("/")).await.unwrap();
    two.send_request(get("/")).await.unwrap();
    let given_back = async {
        while server.connections.taken() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, given_back).await.expect("idle connections hold their places");
    assert!(one.ready().await.is_err());
}

/// Scenario: one place, and two connections that both send a request.
/// Guarantees: the second one is served when, and only when, the first one has ended.
#[tokio::test]
async fn places_are_limited() {
    let server = Server::start(None, 1, PATIENCE).await;
    let mut first = server.connect().await;
    first.write_all(GET).await.unwrap();
    let mut answer = [0; 512];
    assert!(first.read(&mut answer).await.unwrap() > 0);
    let mut second = server.connect().await;
    second.write_all(GET).await.unwrap();
    assert!(timeout(Duration::from_millis(100), second.read(&mut answer)).await.is_err());
    drop(first);
    let length = timeout(PATIENCE, second.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
}

/// Scenario: a handler panics over HTTP/1, and over HTTP/2 beside another stream.
/// Guarantees: only that request dies: the other stream and new connections are served, places are given back.
#[tokio::test]
async fn a_panic_ends_one_request() {
    let server = Server::start(None, 2, PATIENCE).await;
    let mut one = speak_http1(server.connect().await).await;
    assert!(one.send_request(get("/panic")).await.is_err());
    let mut two = speak_http2(server.connect().await).await;
    assert!(two.send_request(get("/panic")).await.is_err());
    assert_eq!(text(two.send_request(get("/")).await.unwrap()).await, "HTTP/2.0");
    let mut next = speak_http1(server.connect().await).await;
    assert_eq!(text(next.send_request(get("/")).await.unwrap()).await, "HTTP/1.1");
}

/// Scenario: heads with the longest token pair, and heads beyond every bound, in both protocols.
/// Guarantees: the first are served, the others are refused with 431 and never reach the handler.
#[tokio::test]
async fn heads_are_bounded() {
    let server = Server::plain().await;
    let with = |length: usize| {
        let mut request = get("/");
        request.headers_mut().insert("job-token", "j".repeat(length).parse().unwrap());
        request.headers_mut().insert("runner-token", "r".repeat(512).parse().unwrap());
        request
    };
    for (length, expected) in [(4096, 200), (40 << 10, 431)] {
        let mut one = speak_http1(server.connect().await).await;
        assert_eq!(one.send_request(with(length)).await.unwrap().status(), expected);
        let mut two = speak_http2(server.connect().await).await;
        match two.send_request(with(length)).await {
            Ok(answer) => assert_eq!(answer.status(), expected),
            Err(_) => assert_eq!(expected, 431, "an honest head was refused over HTTP/2"),
        }
    }
}
