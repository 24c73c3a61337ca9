//! Connections to collectors: names to addresses, TCP, TLS, all of it within a bounded time. It decides how a
//! connection is made, never when.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
    vec,
};

use http::{Uri, uri::Scheme};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{
        HttpConnector,
        dns::{GaiResolver, Name},
    },
    rt::TokioIo,
};
use tokio::{net::TcpStream, time::timeout};
use tower::Service;

use crate::config::Protocol;

/// Longest time for TCP, over all addresses of a name: two tries fit into the collector's time.
const TCP: Duration = Duration::from_secs(1);
/// Longest time for everything, name and TLS included.
const WHOLE: Duration = Duration::from_millis(1500);
/// When a silent connection is probed for a peer that vanished.
const KEEPALIVE: Duration = Duration::from_mins(1);
/// How long sent bytes may stay unacknowledged: without it a vanished host holds an HTTP/2 connection, and with it all
/// requests, for a quarter of an hour.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Makes connections, clear or with TLS, by the scheme.
#[derive(Clone)]
pub(super) struct Connector {
    http: HttpConnector<Rotating>,
    https: Option<HttpsConnector<HttpConnector<Rotating>>>,
}

impl Connector {
    /// `tls` is needed for `https`; its ALPN is replaced by what `protocol` speaks.
    pub(super) fn new(protocol: Protocol, tls: Option<rustls::ClientConfig>) -> Self {
        let mut http = HttpConnector::new_with_resolver(Rotating::new());
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(TCP));
        http.set_keepalive(Some(KEEPALIVE));
        #[cfg(target_os = "linux")]
        http.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        let https = tls.map(|mut tls| {
            tls.alpn_protocols.clear();
            let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
            match protocol {
                Protocol::Http => builder.enable_http1().wrap_connector(http.clone()),
                Protocol::Grpc => builder.enable_http2().wrap_connector(http.clone()),
            }
        });
        Self { http, https }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response, BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting: Self::Future = match &mut self.https {
            Some(https) if uri.scheme() == Some(&Scheme::HTTPS) => https.call(uri),
            _ => {
                let connecting = self.http.call(uri);
                Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) })
            }
        };
        Box::pin(async move {
            timeout(WHOLE, connecting).await.unwrap_or_else(|_| Err("no connection in time".into()))
        })
    }
}

/// The system's resolver, each time beginning with another address: a name with several addresses is a pool, and the
/// system would sort the same address first for ever.
#[derive(Clone)]
pub(super) struct Rotating {
    system: GaiResolver,
    turn: Arc<AtomicUsize>,
}

impl Rotating {
    fn new() -> Self {
        Self { system: GaiResolver::new(), turn: Arc::default() }
    }
}

impl Service<Name> for Rotating {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.system.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = self.system.call(name);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { Ok(rotated(resolving.await?.collect(), turn).into_iter()) })
    }
}

fn rotated(mut addresses: Vec<SocketAddr>, turn: usize) -> Vec<SocketAddr> {
    if let Some(first) = turn.checked_rem(addresses.len()) {
        addresses.rotate_left(first);
    }
    addresses
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("tls", &self.https.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::rotated;

    /// Scenario: a name with three addresses is resolved again and again; another one has none.
    /// Guarantees: each address is the first in turn, none is lost, and no address is no panic.
    #[test]
    fn addresses_take_turns() {
        let all: Vec<SocketAddr> = (1..=3).map(|port| ([127, 0, 0, 1], port).into()).collect();
        for turn in 0..7 {
            let addresses = rotated(all.clone(), turn);
            assert_eq!(addresses[0], all[turn % 3]);
            assert_eq!(addresses.len(), 3);
        }
        assert_eq!(rotated(Vec::new(), 5), Vec::new());
    }
}
