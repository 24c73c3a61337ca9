//! How much a proven sender may send: rates per runner and per job, and the job's budget of spans.
//! All of a charge is taken or none of it, and what a later stage refuses is given back. What costs
//! more than a rate can hold at once passes when nothing is taken, as a debt. It never decides who a
//! sender is and never sees a credential.

mod bucket;
pub mod failures;
pub mod local;
pub mod shared;

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;

use crate::validate::Identity;

/// Where the state of limits lives: in this process, or shared by replicas.
pub trait LimitStore: fmt::Debug + Send + Sync + 'static {
    /// Takes `cost` from every limit that holds for `subject`, or nothing at all. No cost is too high
    /// for good: one that is more than a limit holds at once waits until that limit is wholly unused,
    /// and what it takes must come back at the rate before anything passes again.
    fn take(&self, subject: Subject, cost: Cost) -> BoxFuture<'_, Decision>;

    /// Grants as many of `wanted` spans as the job's budget still has, and takes them from it.
    fn take_budget(&self, subject: Subject, wanted: u64) -> BoxFuture<'_, u64>;

    /// Gives back what a later stage refused: a taken cost and granted spans of the budget.
    fn give_back(&self, subject: Subject, cost: Cost, budget: u64);
}

/// Whose limits are charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// All requests with one runner token.
    pub runner: u64,
    /// All requests of one job; `None`: a sender that is no job, which the limits of jobs do not hold for.
    pub job: Option<u64>,
}

impl From<&Identity> for Subject {
    fn from(identity: &Identity) -> Self {
        Self { runner: identity.runner_key(), job: identity.job_key() }
    }
}

/// What a request costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests, mostly 0 or 1.
    pub requests: u32,
    /// Spans.
    pub spans: u64,
    /// Inflated bytes.
    pub bytes: u64,
}

/// The answer of a limit store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Everything was taken.
    Taken,
    /// Nothing was taken.
    Refused {
        /// Which limit said no.
        limit: Limit,
        /// When a retry of the same cost could pass, if nothing else is taken until then.
        retry_after: Duration,
    },
}

/// The limits by name: the closed set of the metric label `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `limits.per_runner.requests_per_second`
    RunnerRequests,
    /// `limits.per_job.requests_per_second`
    JobRequests,
    /// `limits.per_job.spans_per_second`
    JobSpans,
    /// `limits.per_job.bytes_per_second`
    JobBytes,
    /// `traces.max_spans_per_job`
    JobSpanBudget,
    /// `limits.per_client_failures.per_minute`
    ClientFailures,
}

impl Limit {
    /// Every limit.
    pub const ALL: &'static [Self] = &[
        Self::RunnerRequests,
        Self::JobRequests,
        Self::JobSpans,
        Self::JobBytes,
        Self::JobSpanBudget,
        Self::ClientFailures,
    ];

    /// The value of the metric label `limit`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::RunnerRequests => "runner_requests",
            Self::JobRequests => "job_requests",
            Self::JobSpans => "job_spans",
            Self::JobBytes => "job_bytes",
            Self::JobSpanBudget => "job_span_budget",
            Self::ClientFailures => "client_failures",
        }
    }
}
