//! A small HTTP/1.1 server on a free loopback port, under the authority and the collector of the
//! demo. It decides nothing and never listens on another address.

use std::{convert::Infallible, future::Future, io, net::Ipv4Addr, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;

/// An answer of one of the demo's own servers.
pub(super) type Answer = Response<Full<Bytes>>;

/// A server that ends, with its connections, when it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

/// Listens on a free port of 127.0.0.1 and gives every request to `handler`.
///
/// # Errors
/// The operating system's, when no port can be bound.
pub(super) async fn serve<H, F>(handler: H) -> io::Result<Server>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let accepting = tokio::spawn(async move {
        // The set lives inside this task: ending it ends every connection too.
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            while connections.try_join_next().is_some() {}
            let handler = handler.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                // A peer that breaks off is the peer's affair.
                drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    Ok(Server { address, _accepting: AbortOnDropHandle::new(accepting) })
}

/// An answer with a body of the given content type.
pub(super) fn answer(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}
