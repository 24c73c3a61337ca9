//! How many connections collectors may take: whose turn it is to send, how many unused connections are kept, and how many
//! sockets that is at most. It never makes a connection.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::sync::PollSemaphore;
use tower::ServiceExt as _;

use crate::{
    config::{Collector, Protocol},
    metrics::Metrics,
};

use super::{Upstream, UpstreamError};

/// Most unused connections kept to one collector.
const MOST_KEPT: usize = 1024;

/// HTTP/2 connections to one collector. The client keeps one for each host, and one is served by one core at each end.
pub(super) const HTTP2_CONNECTIONS: usize = 2;

/// Most connections that a pool of these collectors holds open or is making at any time. During a reload two pools live,
/// the older one for as long as its last request.
#[must_use]
pub fn most_connections(config: &Collector) -> usize {
    let endpoints = config.endpoints.len();
    match config.protocol {
        Protocol::Http => config.max_connections.saturating_add(endpoints.saturating_mul(kept(config))),
        Protocol::Grpc => endpoints.saturating_mul(HTTP2_CONNECTIONS),
    }
}

/// How many unused connections are kept to each collector.
pub(super) fn kept(config: &Collector) -> usize {
    config.max_connections.checked_div(config.endpoints.len()).unwrap_or(1).clamp(1, MOST_KEPT)
}

/// How many exports may be under way, of those that a configuration asks for, where there may be only so many connections.
#[must_use]
pub fn bearable_exports(config: &Collector, connections: usize) -> usize {
    let unused = config.endpoints.len().saturating_mul(MOST_KEPT);
    // As many again stand unused, up to a bound.
    let bearable = (connections / 2).max(connections.saturating_sub(unused));
    config.max_connections.min(bearable).max(1)
}

/// The bound of one pool over HTTP/1.1, where each export needs a connection for itself.
#[derive(Debug)]
pub(super) struct Bound {
    /// One for each export under way, given in the order in which they were asked for.
    turns: Arc<Semaphore>,
    /// One for each socket, from before its name is resolved until it is closed. Exports have turns, so they find one:
    /// this holds the sockets that the client goes on making when another connection came back first.
    sockets: Arc<Semaphore>,
}

impl Bound {
    /// `None` over gRPC: many calls share the few connections there.
    pub(super) fn new(config: &Collector) -> Option<Self> {
        let semaphore = |places: usize| Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        (config.protocol == Protocol::Http).then(|| Self {
            turns: semaphore(config.max_connections),
            sockets: semaphore(most_connections(config)),
        })
    }

    pub(super) fn sockets(&self) -> Arc<Semaphore> {
        Arc::clone(&self.sockets)
    }

    pub(super) fn queue(&self) -> Queue {
        Queue { turns: PollSemaphore::new(Arc::clone(&self.turns)), turn: None, waits: false }
    }
}

/// One sender's place in the queue for a turn.
#[derive(Debug)]
pub(super) struct Queue {
    turns: PollSemaphore,
    turn: Option<Turn>,
    waits: bool,
}

/// Whoever holds it may send; dropped, however the request ends, it is the next one's.
pub(super) type Turn = OwnedSemaphorePermit;

impl Queue {
    /// Ready when it is this one's turn. It passes nobody who waits: what comes free is theirs already.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, metrics: &Metrics) -> Poll<()> {
        if self.turn.is_some() {
            return Poll::Ready(());
        }
        match self.turns.poll_acquire(cx) {
            // Nobody closes it.
            Poll::Ready(turn) => {
                self.turn = turn;
                Poll::Ready(())
            }
            Poll::Pending => {
                if !std::mem::replace(&mut self.waits, true) {
                    metrics.collector_queued();
                }
                Poll::Pending
            }
        }
    }

    pub(super) fn take(&mut self) -> Option<Turn> {
        self.waits = false;
        self.turn.take()
    }
}

/// Another sender stands behind.
impl Clone for Queue {
    fn clone(&self) -> Self {
        Self { turns: self.turns.clone(), turn: None, waits: false }
    }
}

/// Waits until a collector may be asked, for half of the time until the deadline at most: with a turn that comes at the end
/// of it an export would be sent, given up and sent again by its sender, and under overload each of them would.
///
/// # Errors
/// [`UpstreamError::Queue`]; nothing was sent to anybody.
pub async fn ready(upstream: &mut Upstream, deadline: Instant) -> Result<(), UpstreamError> {
    if let Some(ready) = upstream.ready().now_or_never() {
        return ready.map(drop);
    }
    let left = deadline.saturating_duration_since(Instant::now());
    match timeout(left.checked_div(2).unwrap_or(left), upstream.ready()).await {
        Ok(ready) => ready.map(drop),
        Err(_) => Err(UpstreamError::Queue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: as many exports at once and collectors as there may be, few and many of both, in both protocols.
    /// Guarantees: over HTTP as many connections again are kept unused, at least one to each collector; over gRPC two to each.
    #[test]
    fn connections_are_reckoned() {
        for (max_connections, endpoints, each, most) in [
            (1024, 1, 1024, 2048),
            (1024, 16, 64, 2048),
            (5000, 2, 1024, 7048),
            (8, 3, 2, 14),
            (1, 1, 1, 2),
            (1, 16, 1, 17),
            (usize::MAX, 16, 1024, usize::MAX),
        ] {
            let config = Collector {
                max_connections,
                endpoints: vec!["http://a:1".into(); endpoints],
                ..Collector::default()
            };
            assert_eq!(
                (kept(&config), most_connections(&config)),
                (each, most),
                "{max_connections}, {endpoints}"
            );
            assert!(Bound::new(&config).is_some());
            let grpc = Collector { protocol: Protocol::Grpc, ..config };
            assert_eq!(most_connections(&grpc), 2 * endpoints);
            assert!(Bound::new(&grpc).is_none());
        }
    }

    /// Scenario: any number of connections that there may be, for few and for many endpoints.
    /// Guarantees: as many exports as they bear with the unused ones, never fewer for a higher key, and one at least.
    #[test]
    fn exports_fit_into_connections() {
        for endpoints in [1, 2, 16] {
            for connections in [0, 1, 2, 100, 896, 2047, 2048, 2049, 9_872, 40_000] {
                let mut before = 0;
                for max_connections in [1, 50, 1023, 1024, 1025, 8_848, 8_849, 30_000] {
                    let endpoints = vec!["http://a:1".into(); endpoints];
                    let config = Collector { endpoints, max_connections, ..Collector::default() };
                    let exports = bearable_exports(&config, connections);
                    assert!(exports >= before && (1..=max_connections).contains(&exports));
                    before = exports;
                    let all =
                        |exports| most_connections(&Collector { max_connections: exports, ..config.clone() });
                    // At least one unused is kept to each endpoint.
                    let least = config.endpoints.len();
                    assert!(all(exports) <= connections.max(1) + least, "{exports} of {connections}");
                    assert!(
                        exports == max_connections || all(exports + 2 + least) > connections,
                        "{exports} of {connections}"
                    );
                }
            }
        }
    }
}
