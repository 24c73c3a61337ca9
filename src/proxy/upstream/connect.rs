//! Connections to collectors: names to addresses, TCP, TLS, all of it within a bounded time. It decides how a
//! connection is made, never when.

use std::{
    fmt,
    future::Future,
    io,
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
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{
        Connected, Connection, HttpConnector,
        dns::{GaiResolver, Name},
    },
    rt::TokioIo,
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
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
    sockets: Option<Arc<Semaphore>>,
}

impl Connector {
    /// `tls` is needed for `https`; its ALPN is replaced by what `protocol` speaks. `sockets`: how many there may be at
    /// once, those under way included; the next waits within the time for a connection.
    pub(super) fn new(
        protocol: Protocol,
        tls: Option<rustls::ClientConfig>,
        sockets: Option<Arc<Semaphore>>,
    ) -> Self {
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
        Self { http, https, sockets }
    }
}

impl Service<Uri> for Connector {
    type Response = Socket;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response, BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting: BoxFuture<Stream, BoxError> = match &mut self.https {
            Some(https) if uri.scheme() == Some(&Scheme::HTTPS) => https.call(uri),
            _ => {
                let connecting = self.http.call(uri);
                Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) })
            }
        };
        let sockets = self.sockets.clone();
        let whole = async move {
            let place = match sockets {
                Some(sockets) => Some(sockets.acquire_owned().await?),
                None => None,
            };
            Ok(Socket { stream: connecting.await?, _place: place })
        };
        Box::pin(async move {
            timeout(WHOLE, whole).await.unwrap_or_else(|_| Err("no connection in time".into()))
        })
    }
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connection, and its place among those that there may be.
pub(super) struct Socket {
    stream: Stream,
    /// Below the stream, so that the place is given back when the socket is closed, and not before.
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    // A body is many slices: without these two they would be copied together.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
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
    type Error = io::Error;
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
    use tokio::{net::TcpListener, time::sleep};

    use super::*;

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

    /// Scenario: two connections are wanted where there may be one, which is closed later, or never.
    /// Guarantees: the second one is not made before the first one is closed, and is given up within its time.
    #[tokio::test]
    async fn sockets_are_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let mut connector = Connector::new(Protocol::Http, None, Some(Arc::new(Semaphore::new(1))));
        let first = connector.call(uri.clone()).await.unwrap();
        let second = tokio::spawn(connector.call(uri.clone()));
        drop(listener.accept().await.unwrap());
        assert!(timeout(Duration::from_millis(50), listener.accept()).await.is_err());
        drop(first);
        let second = second.await.unwrap().unwrap();
        let third = tokio::spawn(connector.call(uri));
        sleep(WHOLE).await;
        let Err(error) = third.await.unwrap() else { panic!("a second connection was made") };
        assert_eq!(error.to_string(), "no connection in time");
        drop(second);
    }
}
