//! One small HTTP server for the fakes: real sockets, port 0, HTTP/1.1 or HTTP/2, TLS if asked.
//! It decides nothing about answers; a handler that panics, or a problem that one reports, fails
//! the test when the server is dropped.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// The body of every fake answer.
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// The HTTP version that a server speaks, unless ALPN agrees on HTTP/2; one it does not speak is refused by
/// hyper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 with prior knowledge, or by ALPN under TLS.
    Http2,
}

/// One request, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What a handler does with a request.
pub(crate) enum Reaction {
    /// It answers.
    Answer(Response<AnswerBody>),
    /// The connection is reset (RST), without an answer.
    Reset,
}

/// What went wrong in a fake; shared with its handlers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problems(Arc<Mutex<Vec<String>>>);

impl Problems {
    /// Fails the test at the end, with this sentence.
    pub(crate) fn report(&self, problem: impl Into<String>) {
        self.0.lock().unwrap().push(problem.into());
    }

    /// Reports `problem()` unless `holds`.
    pub(crate) fn check(&self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.report(problem());
        }
    }

    /// Takes the problems away: what is taken no longer fails the test.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A server that lives as long as this value.
#[derive(Debug)]
pub(crate) struct FakeServer {
    address: SocketAddr,
    problems: Problems,
    stop: CancellationToken,
    /// Ends the connections of today; put anew when it was used.
    hang_up: Arc<Mutex<CancellationToken>>,
    open: Arc<Open>,
}

/// Connections that are open, and the most that were.
#[derive(Debug, Default)]
struct Open {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Open {
    /// Counts one for as long as the value lives.
    fn one(self: &Arc<Self>) -> impl Drop + use<> {
        struct One(Arc<Open>);
        impl Drop for One {
            fn drop(&mut self) {
                self.0.now.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.peak.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        One(Arc::clone(self))
    }
}

impl FakeServer {
    /// Binds port 0 on loopback and serves.
    pub(crate) async fn start<H, F>(
        speaks: Speaks,
        tls: Option<Arc<rustls::ServerConfig>>,
        problems: Problems,
        handler: H,
    ) -> Self
    where
        H: Fn(Seen) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Reaction> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let hang_up = Arc::new(Mutex::new(stop.child_token()));
        let open = Arc::default();
        let server = Self {
            address,
            problems: problems.clone(),
            stop: stop.clone(),
            hang_up: Arc::clone(&hang_up),
            open: Arc::clone(&open),
        };
        let acceptor = tls.map(TlsAcceptor::from);
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = stop.cancelled() => return,
                };
                stream.set_nodelay(true).unwrap();
                let (handler, problems, acceptor) = (handler.clone(), problems.clone(), acceptor.clone());
                let ended = hang_up.lock().unwrap().clone();
                let one = open.one();
                tokio::spawn(async move {
                    let _open = one;
                    let reset = Arc::new(AtomicBool::new(false));
                    let line = Line { stream, reset: Arc::clone(&reset) };
                    let connection = async {
                        match acceptor {
                            None => serve(line, speaks, reset, problems, handler).await,
                            // A peer that breaks off the handshake is the other side's business.
                            Some(acceptor) => {
                                if let Ok(line) = acceptor.accept(line).await {
                                    let is_h2 = line.get_ref().1.alpn_protocol() == Some(b"h2");
                                    let speaks = if is_h2 { Speaks::Http2 } else { speaks };
                                    serve(line, speaks, reset, problems, handler).await;
                                }
                            }
                        }
                    };
                    tokio::select! { () = connection => {}, () = ended.cancelled() => {} }
                });
            }
        });
        server
    }

    /// The bound address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The most connections that were open at once.
    pub(crate) fn peak(&self) -> usize {
        self.open.peak.load(Ordering::SeqCst)
    }

    /// What its handlers reported.
    pub(crate) fn problems(&self) -> &Problems {
        &self.problems
    }

    /// Closes every connection now; new ones are served.
    pub(crate) fn hang_up(&self) {
        let mut token = self.hang_up.lock().unwrap();
        token.cancel();
        *token = self.stop.child_token();
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stop.cancel();
        let problems = self.problems.take();
        // A second panic while the first unwinds would abort and hide the first one's message.
        if !std::thread::panicking() {
            assert!(problems.is_empty(), "a fake at {} saw problems: {problems:#?}", self.address);
        }
    }
}

async fn serve<L, H, F>(line: L, speaks: Speaks, reset: Arc<AtomicBool>, problems: Problems, handler: H)
where
    L: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Seen) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reaction> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (handler, problems, reset) = (handler.clone(), problems.clone(), Arc::clone(&reset));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|_| Gone)?.to_bytes();
            let seen = Seen {
                method: parts.method,
                path: parts.uri.path().to_owned(),
                headers: parts.headers,
                body,
            };
            match AssertUnwindSafe(handler(seen)).catch_unwind().await {
                Ok(Reaction::Answer(answer)) => Ok(answer),
                Ok(Reaction::Reset) => {
                    reset.store(true, Ordering::SeqCst);
                    Err(Gone)
                }
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "?".into());
                    problems.report(format!("a handler panicked: {text}"));
                    Err(Gone)
                }
            }
        }
    });
    let io = TokioIo::new(line);
    // How a connection ends is the other side's business; what matters is seen by the handlers.
    match speaks {
        Speaks::Http1 => drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await),
        Speaks::Http2 => drop(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(io, service)
                .await,
        ),
    }
}

/// Ends a connection without an answer.
#[derive(Debug)]
struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fake gives no answer")
    }
}

impl std::error::Error for Gone {}

/// A TCP stream that can end with RST.
struct Line {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.reset.load(Ordering::SeqCst) {
            drop(self.stream.set_zero_linger());
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// An address that refuses connections for as long as this value lives: bound, never listening.
#[derive(Debug)]
pub(crate) struct Refusing {
    _socket: tokio::net::TcpSocket,
    address: SocketAddr,
}

impl Refusing {
    /// Reserves a port.
    pub(crate) fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = socket.local_addr().unwrap();
        Self { _socket: socket, address }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
