//! The collectors of a configuration as one service: whose turn it is, the deadline, the one retry. It never sends
//! anything twice: only what was not sent at all goes out again.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Instant, timeout_at};
use tower::Service;

use crate::{
    config::{Collector, Protocol},
    metrics::Metrics,
    otlp::{compression::Encoding, signal::Signal, status::PartialSuccess},
};

use super::{
    Outgoing, Upstream, UpstreamError,
    answer::{self, deepest},
    bound::{Bound, HTTP2_CONNECTIONS, Queue, Turn, kept},
    connect::Connector,
    grpc, http as plain, meaning,
    pieces::Pieces,
};

/// How long an unused connection is kept; the Collector closes them after 60 s.
const POOL_IDLE: Duration = Duration::from_secs(50);
/// HTTP/2 windows for answers. They are small, but peers cut theirs into tiny frames under small windows.
const HTTP2_WINDOW: u32 = 8 << 20;
/// Longest head of an HTTP/1 answer.
const MAX_HEAD: usize = 64 << 10;
/// How long a collector that could not be reached, or did not answer in time, is passed over while there are others.
const REST: Duration = Duration::from_secs(1);

/// Why the configured collectors can't be used; names the option to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamBuildError {
    /// The list is empty.
    #[error("collector.endpoints: none is given")]
    NoEndpoint,
    /// One is no address of a collector. It is not repeated: it could hold a password.
    #[error("collector.endpoints[{index}]: {problem}; write http://host:port or https://host:port")]
    BadEndpoint {
        /// Which one.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Makes a service out of the configured collectors. `tls` is needed for `https` endpoints; its ALPN does not matter.
///
/// A request goes to the collector with the fewest under way, to equals in turn; one that could not be reached or did
/// not answer in time is passed over for a second. When nothing was sent it is tried once more, at the next one. Over HTTP it waits for its turn first, while all of
/// `collector.max_connections` are in use.
///
/// # Errors
/// [`UpstreamBuildError`] names the endpoint to mend.
pub fn pool(
    config: &Collector,
    tls: Option<rustls::ClientConfig>,
    metrics: Arc<Metrics>,
) -> Result<Upstream, UpstreamBuildError> {
    if config.endpoints.is_empty() {
        return Err(UpstreamBuildError::NoEndpoint);
    }
    let has_tls = tls.is_some();
    let bound = Bound::new(config);
    let connector = Connector::new(config.protocol, tls, bound.as_ref().map(Bound::sockets));
    let endpoints = config
        .endpoints
        .iter()
        .enumerate()
        .map(|(index, text)| {
            Endpoint::new(text, has_tls, config, &connector)
                .map_err(|problem| UpstreamBuildError::BadEndpoint { index, problem })
        })
        .collect::<Result<_, _>>()?;
    metrics.collector_connections_limit(bound.as_ref().map_or(0, |_| config.max_connections));
    let queue = bound.as_ref().map(Bound::queue);
    let shared = Shared {
        endpoints,
        protocol: config.protocol,
        timeout: config.timeout,
        metrics,
        turn: AtomicUsize::new(0),
        began: Instant::now(),
    };
    Ok(Upstream::new(Pool { shared: Arc::new(shared), queue }))
}

/// All collectors, for one sender.
#[derive(Clone, Debug)]
struct Pool {
    shared: Arc<Shared>,
    queue: Option<Queue>,
}

#[derive(Debug)]
struct Shared {
    endpoints: Vec<Endpoint>,
    protocol: Protocol,
    timeout: Duration,
    metrics: Arc<Metrics>,
    turn: AtomicUsize,
    began: Instant,
}

/// One collector.
struct Endpoint {
    scheme: Scheme,
    authority: Authority,
    clients: Vec<Client<Connector, Pieces>>,
    /// Until when it is passed over, in milliseconds since the pool began.
    rests: AtomicU64,
    /// Requests that it has not answered yet.
    under_way: AtomicUsize,
}

/// One request under way at an endpoint.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn at(endpoint: &'a Endpoint) -> Self {
        endpoint.under_way.fetch_add(1, Ordering::Relaxed);
        Self(&endpoint.under_way)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that can be sent twice.
struct Parcel {
    signal: Signal,
    pieces: Arc<Vec<Bytes>>,
    length: usize,
    encoding: Encoding,
    headers: HeaderMap,
}

/// Why one try failed, and whether anything went out.
struct Failure {
    error: UpstreamError,
    unsent: bool,
}

impl Service<Outgoing> for Pool {
    type Response = PartialSuccess;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<PartialSuccess, UpstreamError>> + Send>>;

    /// Ready when it is this sender's turn.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        match &mut self.queue {
            Some(queue) => queue.poll(cx, &self.shared.metrics).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, outgoing: Outgoing) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let turn = self.queue.as_mut().and_then(Queue::take);
        Box::pin(async move { shared.send(outgoing, turn).await })
    }
}

impl Shared {
    /// With a turn for both tries. It began before the time for an answer: the collector is not to blame for the wait.
    async fn send(&self, outgoing: Outgoing, _turn: Option<Turn>) -> Result<PartialSuccess, UpstreamError> {
        let now = Instant::now();
        let deadline =
            now.checked_add(self.timeout).map_or(outgoing.deadline, |own| own.min(outgoing.deadline));
        let parcel = Parcel {
            signal: outgoing.signal,
            pieces: Arc::new(outgoing.pieces),
            length: outgoing.len,
            encoding: outgoing.encoding,
            headers: outgoing.headers,
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = self.least_busy(turn);
        match self.attempt(first, turn, &parcel, deadline).await {
            Err(Failure { unsent: true, error }) if Instant::now() < deadline => {
                tracing::debug!(endpoint = first, %error, "nothing was sent to the collector: trying once more");
                let second = self.first_ready(first.wrapping_add(1));
                self.attempt(second, turn, &parcel, deadline).await
            }
            first => first,
        }
        .map_err(|failure| failure.error)
    }

    /// The index of the collector that has the fewest requests to answer of those that don't rest; of several the first from
    /// `turn` on. One that takes connections and never answers would else hold its part of all exports, and of the turns
    /// to send them.
    fn least_busy(&self, turn: usize) -> usize {
        let busy = |index: &usize| {
            self.endpoints.get(*index).map_or(usize::MAX, |one| one.under_way.load(Ordering::Relaxed))
        };
        self.awake(turn).min_by_key(busy).unwrap_or_else(|| self.whose(turn))
    }

    /// The index of the first collector from `turn` on that does not rest, or of the one whose turn it is.
    fn first_ready(&self, turn: usize) -> usize {
        self.awake(turn).next().unwrap_or_else(|| self.whose(turn))
    }

    /// The collectors that don't rest, from `turn` on.
    fn awake(&self, turn: usize) -> impl Iterator<Item = usize> {
        let (count, now) = (self.endpoints.len(), self.millis());
        (0..count).filter_map(move |ahead| turn.wrapping_add(ahead).checked_rem(count)).filter(move |index| {
            self.endpoints.get(*index).is_some_and(|one| one.rests.load(Ordering::Relaxed) <= now)
        })
    }

    fn whose(&self, turn: usize) -> usize {
        turn.checked_rem(self.endpoints.len()).unwrap_or(0)
    }

    fn let_rest(&self, endpoint: &Endpoint) {
        let until = self.millis().saturating_add(u64::try_from(REST.as_millis()).unwrap_or(0));
        endpoint.rests.store(until, Ordering::Relaxed);
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// One try at one collector, counted.
    async fn attempt(
        &self,
        index: usize,
        turn: usize,
        parcel: &Parcel,
        deadline: Instant,
    ) -> Result<PartialSuccess, Failure> {
        let began = Instant::now();
        let _under_way = self.endpoints.get(index).map(UnderWay::at);
        let result = match self.endpoints.get(index) {
            Some(endpoint) => {
                let asked = timeout_at(deadline, self.ask(endpoint, turn, parcel, deadline)).await;
                // A sender's own short time is no word against the collector.
                if asked.is_err() && began.elapsed() >= self.timeout {
                    self.let_rest(endpoint);
                }
                asked.unwrap_or(Err(Failure { error: UpstreamError::Timeout, unsent: false }))
            }
            None => Err(Failure { error: UpstreamError::Unreachable("no endpoint".into()), unsent: false }),
        };
        let outcome = result.as_ref().map_or_else(|failure| failure.error.label(), |_| "ok");
        self.metrics.collector_request(index, outcome, began.elapsed());
        result
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        turn: usize,
        parcel: &Parcel,
        deadline: Instant,
    ) -> Result<PartialSuccess, Failure> {
        let headers = parcel.headers.clone();
        let request = match self.protocol {
            Protocol::Http => {
                let uri = endpoint.uri(parcel.signal.http_path());
                Ok(plain::request(uri, headers, parcel.encoding, Pieces::new(&parcel.pieces)))
            }
            Protocol::Grpc => {
                let uri = endpoint.uri(parcel.signal.grpc_path());
                grpc::request(uri, headers, parcel.encoding, parcel.length, &parcel.pieces, deadline)
            }
        }
        .map_err(|error| Failure { error, unsent: false })?;
        // One step a round, not a turn: else the turn that chose the collector would choose the same connection always.
        let round = turn.checked_div(self.endpoints.len());
        let client = round
            .and_then(|round| round.checked_rem(endpoint.clients.len()))
            .and_then(|at| endpoint.clients.get(at));
        let Some(client) = client else {
            return Err(Failure { error: UpstreamError::Unreachable("no client".into()), unsent: false });
        };
        let response = client.request(request).await.map_err(|error| {
            if error.is_connect() {
                self.let_rest(endpoint);
            }
            Failure {
                error: UpstreamError::Unreachable(format!("{}: {}", endpoint.authority, deepest(&error))),
                unsent: unsent(&error),
            }
        })?;
        let answer = answer::read(response).await;
        meaning(self.protocol, &answer).map_err(|error| Failure { error, unsent: false })
    }
}

/// Whether a request that failed never left: no connection, or one that was closed before the request was written.
/// (The client itself goes on to another pooled connection in the second case; it hands out what is left of them.)
fn unsent(error: &legacy::Error) -> bool {
    use std::error::Error as _;
    error.is_connect()
        || error
            .source()
            .and_then(|source| source.downcast_ref::<hyper::Error>())
            .is_some_and(hyper::Error::is_canceled)
}

impl Endpoint {
    fn new(
        text: &str,
        has_tls: bool,
        config: &Collector,
        connector: &Connector,
    ) -> Result<Self, &'static str> {
        let parts = text.parse::<Uri>().map_err(|_| "is no URL")?.into_parts();
        let scheme = parts.scheme.ok_or("has no scheme")?;
        let authority = parts.authority.ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err("must not hold a user or a password");
        }
        if authority.host().is_empty() {
            return Err("has no host");
        }
        if parts.path_and_query.is_some_and(|path| path != "/") {
            return Err("must have no path: OTLP's own is added");
        }
        match scheme.as_str() {
            "http" => {}
            "https" if has_tls => {}
            "https" => return Err("needs TLS, which is not set up"),
            _ => return Err("has another scheme than http and https"),
        }
        let count = match config.protocol {
            Protocol::Http => 1,
            Protocol::Grpc => HTTP2_CONNECTIONS,
        };
        let clients = (0..count).map(|_| client(config, connector.clone())).collect();
        Ok(Self { scheme, authority, clients, rests: AtomicU64::new(0), under_way: AtomicUsize::new(0) })
    }

    fn uri(&self, path: &'static str) -> Uri {
        let mut parts = ::http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static(path));
        // All three are there and were parsed on their own; an empty URI would be answered with a clear error.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// No HTTP/2 pings: grpc-go answers them with GOAWAY unless they are more than five minutes apart. A vanished peer is
/// found by TCP instead.
fn client(config: &Collector, connector: Connector) -> Client<Connector, Pieces> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(kept(config))
        .http1_max_buf_size(MAX_HEAD)
        .http2_only(config.protocol == Protocol::Grpc)
        .http2_initial_stream_window_size(HTTP2_WINDOW)
        .http2_initial_connection_window_size(HTTP2_WINDOW)
        .build(connector)
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("scheme", &self.scheme)
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}
