//! The collector, as a `tower::Service`: pool, protocol, deadline, one retry when nothing was sent.
//! It decides how a request goes out and what the collector's answer means, never who may send.

pub mod answer;
mod bound;
mod connect;
mod grpc;
mod http;
mod pieces;
mod pool;

#[cfg(test)]
mod tests;

use std::time::Duration;

use ::http::HeaderMap;
use bytes::Bytes;
use tokio::time::Instant;
use tower::util::BoxCloneSyncService;

use crate::{
    config::Protocol,
    otlp::{compression::Encoding, signal::Signal, status::PartialSuccess},
};

use self::answer::Answer;

pub use self::{
    bound::{bearable_exports, most_connections, ready},
    pool::{UpstreamBuildError, pool},
};

/// A request on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Which route or method.
    pub signal: Signal,
    /// The body in pieces, already in `encoding`.
    pub pieces: Vec<Bytes>,
    /// The length of all pieces.
    pub len: usize,
    /// How the pieces are compressed.
    pub encoding: Encoding,
    /// Further headers (or gRPC metadata): correlation id, and the identity in `transparent` mode.
    pub headers: HeaderMap,
    /// When the whole request must be answered.
    pub deadline: Instant,
}

/// Why the collector did not take a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// No connection could be made, or it broke.
    #[error("the collector cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("the collector did not answer in time")]
    Timeout,
    /// No connection came free in time. The collector was not asked.
    #[error(
        "all connections to collectors (collector.max_connections, or as many of it as file descriptors bear) were in use \
         for as long as the export could wait"
    )]
    Queue,
    /// It asks for fewer requests (429, `RESOURCE_EXHAUSTED` with `RetryInfo`).
    #[error("the collector asks for fewer requests")]
    Throttled(Option<Duration>),
    /// It can't take it now (503, UNAVAILABLE).
    #[error("the collector is not available")]
    Unavailable(Option<Duration>),
    /// It says that the payload is bad (400, `INVALID_ARGUMENT`): a retry can't help.
    #[error("the collector refused the payload")]
    Refused,
    /// It says that the payload is too long (413, `RESOURCE_EXHAUSTED` without `RetryInfo`).
    #[error("the collector finds the payload too long")]
    TooLarge,
    /// An answer that makes no sense from a collector (a 401 to us, a 404, HTML): a mistake in our or its set-up.
    #[error("the collector's answer makes no sense: {0}")]
    BadAnswer(String),
}

impl UpstreamError {
    /// The closed set of values of the metric label `outcome`, and `queue`, for which no collector was asked.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Queue => "queue",
            Self::Throttled(_) => "throttled",
            Self::Unavailable(_) => "unavailable",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::BadAnswer(_) => "bad_answer",
        }
    }
}

/// What an answer of the collector means.
///
/// # Errors
/// [`UpstreamError`] for whatever is not a success, and for a success that can't be read.
pub fn meaning(protocol: Protocol, answer: &Answer) -> Result<PartialSuccess, UpstreamError> {
    match protocol {
        Protocol::Http => http::judge(answer),
        Protocol::Grpc => grpc::judge(answer),
    }
}

/// Any collector: a pool of real ones, or a closure in a test.
pub type Upstream = BoxCloneSyncService<Outgoing, PartialSuccess, UpstreamError>;
