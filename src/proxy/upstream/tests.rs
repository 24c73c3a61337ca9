//! The upstream against collectors on real sockets: what goes out, what each answer means, when it is sent again.

#![expect(clippy::arithmetic_side_effects, reason = "no peer has a hand in these sums")]

mod delivery;
mod meaning;
mod turns;

use std::{
    collections::HashSet,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::Service as _;

use crate::{
    config::{Collector, Intake, Protocol},
    metrics::Metrics,
    otlp::{compression::Encoding, signal::Signal, status::PartialSuccess},
    proxy::server::{AnswerBody, Connections, Peer, ServerSettings, serve, tests::tls},
};

use super::{Outgoing, Upstream, UpstreamError, pool, ready};

/// A collector that answers as its script says and remembers what it got.
struct Fake {
    address: SocketAddr,
    got: Arc<Mutex<Vec<(Parts, Bytes)>>>,
    peers: Arc<Mutex<HashSet<SocketAddr>>>,
    _cut: DropGuard,
}

impl Fake {
    async fn start<F>(tls: Option<rustls::ServerConfig>, script: fn() -> F) -> Self
    where
        F: Future<Output = Response<AnswerBody>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = CancellationToken::new();
        let got = Arc::new(Mutex::new(Vec::new()));
        let peers = Arc::new(Mutex::new(HashSet::new()));
        let (requests, connections) = (Arc::clone(&got), Arc::clone(&peers));
        let handler = move |request: Request<Incoming>, peer: Arc<Peer>| {
            connections.lock().unwrap().insert(peer.address);
            let requests: Arc<Mutex<Vec<(Parts, Bytes)>>> = Arc::clone(&requests);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                requests.lock().unwrap().push((parts, body));
                script().await
            }
        };
        let settings = ServerSettings {
            tls: tls.map(|tls| Arc::new(arc_swap::ArcSwap::from_pointee(tls))),
            ..ServerSettings::inner(&Intake::default(), Connections::new(100, 0))
        };
        let metrics = Arc::new(Metrics::new());
        let drain = CancellationToken::new();
        drop(tokio::spawn(serve(listener, "fake".into(), settings, metrics, handler, drain, cut.clone())));
        Self { address, got, peers, _cut: cut.drop_guard() }
    }

    fn requests(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    fn connections(&self) -> usize {
        self.peers.lock().unwrap().len()
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn upstream(protocol: Protocol, endpoints: &[String], timeout: Duration) -> Upstream {
    let config = Collector { endpoints: endpoints.to_vec(), protocol, timeout, ..Collector::default() };
    pool(&config, None, Arc::new(Metrics::new())).unwrap()
}

fn outgoing(pieces: &[&'static [u8]]) -> Outgoing {
    Outgoing {
        signal: Signal::Traces,
        pieces: pieces.iter().map(|piece| Bytes::from_static(piece)).collect(),
        len: pieces.iter().map(|piece| piece.len()).sum(),
        encoding: Encoding::Identity,
        headers: HeaderMap::new(),
        deadline: Instant::now() + Duration::from_secs(10),
    }
}

async fn send(upstream: &Upstream) -> Result<PartialSuccess, UpstreamError> {
    deliver(upstream, outgoing(&[b"one", b"two"])).await
}

/// As the line does.
async fn deliver(upstream: &Upstream, outgoing: Outgoing) -> Result<PartialSuccess, UpstreamError> {
    let mut upstream = upstream.clone();
    ready(&mut upstream, outgoing.deadline).await?;
    upstream.call(outgoing).await
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
