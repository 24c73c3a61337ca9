//! Connections: accept, TLS, HTTP/1.1 and HTTP/2 on one port, drain. It never looks into a request.

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// The body of every answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// What is known of a connection before its first request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The other end.
    pub address: SocketAddr,
}

/// How connections are served.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Longest time for a TLS handshake and for a request head.
    pub header_timeout: Duration,
    /// Most requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Places for connections, shared by all listeners.
    pub connections: Arc<Semaphore>,
    /// The TLS side that new connections get, looked at once a connection so that a reload takes effect; `None`: clear text.
    pub tls: Option<Arc<arc_swap::ArcSwap<rustls::ServerConfig>>>,
}

/// Serves until `drain` is cancelled and the connections that were open have ended; whatever is
/// still open when `cut` is cancelled is closed. Returns when nothing is left.
pub async fn serve<H, F>(
    _listener: TcpListener,
    _name: Arc<str>,
    _settings: ServerSettings,
    _metrics: Arc<Metrics>,
    _handler: H,
    _drain: CancellationToken,
    _cut: CancellationToken,
) where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    unimplemented!()
}
