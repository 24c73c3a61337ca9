//! Connections: accept, whose they are, TLS, HTTP/1.1 and HTTP/2 on one port, drain. It decides how long a
//! connection may live and how much of a head it may send; it never looks into a request.

mod connections;
mod proxy_header;
mod settings;
mod trouble;
mod watch;
mod wire;

#[cfg(test)]
pub(in crate::proxy) mod tests;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version as HttpVersion, header::CONNECTION};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config::ProxyProtocol, metrics::Metrics, tls::ClientNames};

use self::{
    connections::{Entered, Newcomer, Open, Place},
    trouble::Trouble,
    watch::{Activity, Held, Turn, attend},
    wire::{Version, Wire, detect},
};

pub use self::{connections::Connections, settings::ServerSettings};

/// Longest request head, in bytes: the longest token pair is 4.5 KiB, the rest is for proxies in between.
const MAX_HEAD: usize = 32 << 10;
/// Most header fields of an HTTP/1 request.
const MAX_FIELDS: usize = 64;
/// Largest HTTP/1 read buffer: what one read of a large body may bring.
const MAX_READ: usize = 256 << 10;
/// What one HTTP/2 stream may send before it is read: the longest body in 17 turns, which fit into a request's time even
/// over a slow line. While a stranger waits for a verdict, it counts as held.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;
/// What one HTTP/2 connection may send before it is read. Smaller windows make peers cut bodies into many small
/// frames, which h2 takes for an attack.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// How often an HTTP/2 peer is asked whether it still is there, and how long it has to answer.
const PING: (Duration, Duration) = (Duration::from_mins(1), Duration::from_secs(20));
/// The pause after a failed accept: long enough not to spin while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a drain goes on accepting: one turn of the event loop, to learn of connections that are waiting.
const LAST_CALL: Duration = Duration::from_millis(10);

/// The body of every answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// What is known of a connection before its first request, and whether one was let in.
#[derive(Debug)]
pub struct Peer {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The other end, or the one that a trusted hop's PROXY header names.
    pub address: SocketAddr,
    /// The names that its certificate proved; `None` where no certificate is asked for.
    pub client: Option<Arc<ClientNames>>,
    admitted: AtomicBool,
}

impl Peer {
    /// A request of it was let in: from now on it is no stranger.
    pub fn admit(&self) {
        // Read first: many requests at once must not take the line from each other.
        if !self.is_admitted() {
            self.admitted.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }
}

/// Serves until `drain` is cancelled and the connections that were open have ended; whatever is
/// still open when `cut` is cancelled is closed. Returns when nothing is left.
pub async fn serve<H, F>(
    listener: TcpListener,
    name: Arc<str>,
    settings: ServerSettings,
    metrics: Arc<Metrics>,
    handler: H,
    drain: CancellationToken,
    cut: CancellationToken,
) where
    H: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    let tracker = TaskTracker::new();
    let server = Server { listener: name, settings, metrics, handler, drain, cut, tracker };
    server.serve(listener).await;
}

/// All that a connection needs of its listener.
#[derive(Clone)]
struct Server<H> {
    listener: Arc<str>,
    settings: ServerSettings,
    metrics: Arc<Metrics>,
    handler: H,
    drain: CancellationToken,
    cut: CancellationToken,
    tracker: TaskTracker,
}

impl<H, F> Server<H>
where
    H: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    async fn serve(self, listener: TcpListener) {
        let ended = self.drain.clone();
        tokio::select! {
            () = self.accept(&listener) => {}
            () = ended.cancelled() => {}
            () = self.cut.cancelled() => {}
        }
        // What the kernel has taken already would be reset when the listener closes: serve it, its first answer says
        // that it is the last.
        let last_call = after(Instant::now(), LAST_CALL);
        while let Ok(Ok((stream, address))) = timeout_at(last_call, listener.accept()).await {
            let Some(place) = self.settings.connections.try_take() else {
                self.trouble(Trouble::Full, Some(address), &"no place for a connection is left");
                break;
            };
            self.open(stream, address, place);
        }
        drop(listener);
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Accepts for ever. The place is taken after the accept: a listener that waits for a connection must not hold a
    /// place that another listener could use.
    async fn accept(&self, listener: &TcpListener) {
        loop {
            if let Some(overload) = &self.settings.overload {
                overload.accepting().await;
            }
            match listener.accept().await {
                Ok((stream, address)) => {
                    let Some(place) = self.place(address).await else { return };
                    self.open(stream, address, place);
                    if let Some(overload) = &self.settings.overload {
                        overload.look();
                    }
                }
                // The peer was gone before we came; nothing is wrong on our side.
                Err(error) if is_peers_fault(&error) => {}
                // Mostly no descriptor is left. Whoever waits is in the kernel's backlog, and is served once there is one.
                Err(error) => {
                    self.trouble(Trouble::Accept, None, &error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A place, waited for when there is none; `None` when there will be none any more.
    async fn place(&self, address: SocketAddr) -> Option<Place> {
        let connections = &self.settings.connections;
        if let Some(place) = connections.try_take() {
            return Some(place);
        }
        self.trouble(Trouble::Full, Some(address), &"all places for connections are taken");
        connections.take().await
    }

    /// Starts a connection's own task. The tokens are taken here, before the handshake: a drain that begins during the
    /// handshake must not be missed. They are children, so that connections do not wait for one lock on every wake-up.
    fn open(&self, stream: TcpStream, address: SocketAddr, place: Place) {
        let open = Open::new(&self.metrics, &self.listener);
        let server = Self { drain: self.drain.child_token(), cut: self.cut.child_token(), ..self.clone() };
        if self.settings.overload.as_ref().is_some_and(|overload| overload.hurries()) {
            server.drain.cancel();
        }
        drop(self.tracker.spawn(async move {
            let _held = (open, place);
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(listener = %server.listener, %error, "cannot set TCP_NODELAY");
            }
            server.cut.run_until_cancelled(server.converse(stream, address)).await;
        }));
    }

    /// Whose connection it is, and its part in what that client gets; `None` if it is to be closed, before a handshake is
    /// spent on it.
    async fn identify(
        &self,
        stream: &mut TcpStream,
        hop: SocketAddr,
        newcomer: &Newcomer,
    ) -> Option<(SocketAddr, Option<Entered>)> {
        let ServerSettings { hops, proxy_protocol, connections, .. } = &self.settings;
        let mut address = hop;
        if *proxy_protocol != ProxyProtocol::Off && hops.trusts(hop.ip()) {
            match newcomer.step(proxy_header::read(stream, *proxy_protocol)).await {
                Some(Ok(source)) => address = source.unwrap_or(hop),
                Some(Err(proxy_header::ProxyError::Left)) => return None,
                Some(Err(error)) => {
                    self.trouble(Trouble::ProxyHeader, Some(hop), &error);
                    return None;
                }
                None => {
                    self.trouble(
                        Trouble::Timeout,
                        Some(hop),
                        &"no PROXY header came before the time was over or the place was needed",
                    );
                    return None;
                }
            }
        }
        if hops.trusts(address.ip()) {
            return Some((address, None));
        }
        let entered = connections.enter(address.ip());
        if entered.is_none() {
            self.trouble(Trouble::PerClient, Some(address), &"this client has too many connections");
        }
        Some((address, Some(entered?)))
    }

    async fn converse(&self, mut stream: TcpStream, address: SocketAddr) {
        let deadline = after(Instant::now(), self.settings.header_timeout);
        let newcomer = self.settings.connections.arrive(deadline);
        let Some((address, _entered)) = self.identify(&mut stream, address, &newcomer).await else { return };
        let listener = Arc::clone(&self.listener);
        let mut peer = Peer { listener, address, client: None, admitted: AtomicBool::new(false) };
        let Some(tls) = &self.settings.tls else {
            // Boxed, so that a connection's task has not the size of the largest of its kinds; so below.
            return Box::pin(self.detected(stream, peer, newcomer)).await;
        };
        let acceptor = TlsAcceptor::from(tls.load_full());
        let handshake = Box::pin(async move {
            // A probe that only connects has no handshake that could fail.
            match stream.peek(&mut [0]).await {
                // Boxed, because every future that it is handed on to has room for it, at once and for good.
                Ok(1..) => acceptor.accept(stream).await.map(|stream| Some(Box::new(stream))),
                _ => Ok(None),
            }
        });
        let stream = match newcomer.step(handshake).await {
            Some(Ok(Some(stream))) => stream,
            Some(Ok(None)) => return,
            Some(Err(error)) => return self.trouble(Trouble::Tls, Some(address), &error),
            None => {
                return self.trouble(
                    Trouble::Timeout,
                    Some(address),
                    &"no TLS handshake was made before the time was over or the place was needed",
                );
            }
        };
        peer.client = ClientNames::of_peer(stream.get_ref().1).map(Arc::new);
        // What ALPN chose is served and nothing else; only a peer without ALPN is looked at.
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => {
                drop(newcomer);
                Box::pin(self.http2(Bytes::new(), stream, peer)).await;
            }
            Some(_) => {
                drop(newcomer);
                Box::pin(self.http1(Bytes::new(), stream, peer)).await;
            }
            None => Box::pin(self.detected(stream, peer, newcomer)).await,
        }
    }

    /// Tells HTTP/2 with prior knowledge from HTTP/1 by the first bytes.
    async fn detected<T>(&self, mut stream: T, peer: Peer, newcomer: Newcomer)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let found = newcomer.step(detect(&mut stream)).await;
        drop(newcomer);
        match found {
            Some(Ok((Version::Http2, head))) => Box::pin(self.http2(head, stream, peer)).await,
            Some(Ok((Version::Http1, head))) if !head.is_empty() => {
                Box::pin(self.http1(head, stream, peer)).await;
            }
            // It left before it asked anything.
            Some(Ok((Version::Http1, _))) => {}
            Some(Err(error)) => {
                if let Some(trouble) = Trouble::of_quiet_io(&error) {
                    self.trouble(trouble, Some(peer.address), &error);
                }
            }
            None => self.trouble(
                Trouble::Timeout,
                Some(peer.address),
                &"no request came before the time was over or the place was needed",
            ),
        }
    }

    /// hyper's own head timer counts idle time too, so it is off: [`attend`] tells the two apart.
    async fn http1<T>(&self, head: Bytes, stream: T, peer: Peer)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let address = peer.address;
        let bounds = self.settings.bounds();
        let activity = Activity::expecting_heads(Arc::new(peer), bounds);
        let _registered = self.settings.connections.register(&activity, &self.drain);
        let service = self.service(&activity);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_headers(MAX_FIELDS)
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_READ)
            .serve_connection(TokioIo::new(Wire::new(head, stream, Arc::clone(&activity))), service);
        let attended = attend(
            Box::pin(connection),
            http1::Connection::graceful_shutdown,
            &activity,
            bounds,
            &self.drain,
        );
        self.ended(&attended.await, address);
    }

    async fn http2<T>(&self, head: Bytes, stream: T, peer: Peer)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let address = peer.address;
        let bounds = self.settings.bounds();
        let activity = Activity::multiplexed(Arc::new(peer), bounds);
        let _registered = self.settings.connections.register(&activity, &self.drain);
        let service = self.service(&activity);
        let executor = Streams { tracker: self.tracker.clone(), cut: self.cut.clone() };
        let (interval, patience) = PING;
        let connection = http2::Builder::new(executor)
            .timer(TokioTimer::new())
            .keep_alive_interval(interval)
            .keep_alive_timeout(patience)
            .max_concurrent_streams(self.settings.max_streams)
            // An honest peer can give up all its requests at once, but no more.
            .max_pending_accept_reset_streams(usize::try_from(self.settings.max_streams).ok())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .serve_connection(TokioIo::new(Wire::new(head, stream, Arc::clone(&activity))), service);
        let attended = attend(
            Box::pin(connection),
            http2::Connection::graceful_shutdown,
            &activity,
            bounds,
            &self.drain,
        );
        self.ended(&attended.await, address);
    }

    fn service(
        &self,
        activity: &Arc<Activity>,
    ) -> impl hyper::service::Service<
        Request<Incoming>,
        Response = Response<Held>,
        Error = Infallible,
        Future: Send + 'static,
    > + use<H, F> {
        let handler = self.handler.clone();
        let activity = Arc::clone(activity);
        let drain = self.drain.clone();
        service_fn(move |request: Request<Incoming>| {
            let turn = Turn::begin(Arc::clone(&activity));
            let is_late = turn.is_late;
            let drain = (request.version() < HttpVersion::HTTP_2).then(|| drain.clone());
            let answer = handler(request, Arc::clone(&activity.peer));
            async move {
                let mut answer = answer.await.map(|body| Held::new(body, turn));
                // An answer that is ready at once would be written before the connection learns of the drain.
                if drain.is_some_and(|drain| is_late || drain.is_cancelled()) {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok(answer)
            }
        })
    }
}

/// `at` plus `time`; as good as never when the clock can't hold it.
fn after(at: Instant, time: Duration) -> Instant {
    at.checked_add(time).or_else(|| at.checked_add(Duration::from_secs(1 << 30))).unwrap_or(at)
}

fn is_peers_fault(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// The requests of an HTTP/2 connection each have a task: they are waited for and cut like the connection.
#[derive(Clone)]
struct Streams {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let cut = self.cut.clone();
        // Boxed: each future around it would take its 3.6 KB once more.
        let stream = Box::pin(stream);
        drop(self.tracker.spawn(async move { cut.run_until_cancelled(stream).await.map(drop) }));
    }
}
