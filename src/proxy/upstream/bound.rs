//! How many connections collectors may take: whose turn it is to send, how many unused connections are kept, and how many
//! sockets that is at most. It never makes a connection.

use std::sync::Arc;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use crate::{
    config::{Collector, Protocol},
    metrics::Metrics,
};

use super::UpstreamError;

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

/// The bound of one pool over HTTP/1.1, where each export needs a connection for itself.
#[derive(Debug)]
pub(super) struct Bound {
    /// One for each export under way, given in the order in which they were asked for.
    turns: Semaphore,
    /// One for each socket, from before its name is resolved until it is closed. Exports have turns, so they find one:
    /// this holds the sockets that the client goes on making when another connection came back first.
    sockets: Arc<Semaphore>,
}

/// Whoever holds it may send; dropped, however the request ends, it is the next one's.
pub(super) type Turn<'a> = SemaphorePermit<'a>;

impl Bound {
    /// `None` over gRPC: many calls share the few connections there.
    pub(super) fn new(config: &Collector) -> Option<Self> {
        let semaphore = |places: usize| Semaphore::new(places.min(Semaphore::MAX_PERMITS));
        (config.protocol == Protocol::Http).then(|| Self {
            turns: semaphore(config.max_connections),
            sockets: Arc::new(semaphore(most_connections(config))),
        })
    }

    pub(super) fn sockets(&self) -> Arc<Semaphore> {
        Arc::clone(&self.sockets)
    }

    /// Waits for a turn, for half of the time until the deadline at most: with a turn that comes at the end of it an export
    /// would be sent, given up and sent again by its sender, and under overload each of them would.
    pub(super) async fn turn(&self, deadline: Instant, metrics: &Metrics) -> Result<Turn<'_>, UpstreamError> {
        // It passes nobody who waits: what comes free is theirs already.
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        metrics.collector_queued();
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout(left.checked_div(2).unwrap_or(left), self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            // Nobody closes it.
            Ok(Err(_)) | Err(_) => Err(UpstreamError::Queue),
        }
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
}
