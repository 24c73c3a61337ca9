//! Who is asking: credentials in, a [`Verdict`] out. It decides allow or deny, and says plainly
//! when it could not decide ([`Undetermined`]). It never knows HTTP bodies, statuses or limits.

mod answer;
pub mod attributes;
mod build_error;
pub mod by_kind;
pub mod cache_control;
pub mod credentials;
pub mod fixed;
pub mod gitlab;
mod identity;
pub mod job_token;
mod refusal_row;
mod signer;
mod timestamp;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use prost::Message as _;
use tokio::time::Instant;

use crate::otlp::{TraceId, rewrite::Stamp};

use self::{cache_control::Stale, credentials::Credentials};

pub use self::{build_error::BuildError, identity::IdentityPolicy};

/// An authority on credentials, or a cache in front of one.
pub trait Validator: fmt::Debug + Send + Sync + 'static {
    /// Judges the credentials of one request.
    ///
    /// # Errors
    /// [`Undetermined`] when the authority gave no usable word about exactly these bytes. A caller
    /// must turn that into "try again later", never into a denial.
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>>;

    /// Whether a positive verdict on these credentials is at hand without asking anybody. What is
    /// counted against a shared address must not stop a sender that is known.
    fn known(&self, _credentials: &Credentials) -> bool {
        false
    }

    /// Puts what is kept in memory into the metrics; asked at each scrape.
    fn record_entries(&self) {}

    /// Forgets every verdict that is kept in memory; returns how many there were.
    fn purge(&self) -> usize {
        0
    }
}

impl<T: Validator + ?Sized> Validator for Arc<T> {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        T::validate(self, question)
    }

    fn known(&self, credentials: &Credentials) -> bool {
        T::known(self, credentials)
    }

    fn record_entries(&self) {
        T::record_entries(self);
    }

    fn purge(&self) -> usize {
        T::purge(self)
    }
}

/// One question to an authority. Cheap to clone: a cache detaches the call from its first caller.
#[derive(Clone, Debug)]
pub struct Question {
    /// The credentials, parsed and digested.
    pub credentials: Arc<Credentials>,
    /// The sender's address, told to the authority as `X-Forwarded-For`.
    pub client: IpAddr,
    /// Joins our logs with the authority's (`X-Request-Id`).
    pub correlation_id: Arc<str>,
    /// When the request as a whole must be answered; no call may outlive it for this caller.
    pub deadline: Instant,
}

/// The authority's word about one credential.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The sender is who it says, with what was proven of it.
    Allow(Allowed),
    /// The authority said no to exactly these bytes.
    Deny(Denial),
}

/// A positive verdict and how long it may be believed.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// What was proven.
    pub identity: Arc<Identity>,
    /// How long the authority lets us keep it; `None`: not at all.
    pub max_age: Option<Duration>,
    /// What the authority says of the time after that.
    pub stale: Stale,
    /// When the credential itself ends, in Unix seconds: job token `exp` or the authority's
    /// `expires_at`, whichever comes first.
    pub expires_at: Option<u64>,
}

/// Why the authority said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// The credential is not good (401).
    Unauthenticated,
    /// The credential is good, but not for this (403): a runner that is not assigned to the job.
    Forbidden,
}

/// Why no verdict could be had. Never a reason to refuse the sender for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undetermined {
    /// No answer within the budget.
    #[error("the authority did not answer within the time allowed")]
    Timeout,
    /// The connection could not be made or broke.
    #[error("the authority could not be reached: {0}")]
    Unreachable(String),
    /// The authority asked for fewer questions (429).
    #[error("the authority limits our questions (429)")]
    Throttled,
    /// A status that is no word about the credential.
    #[error("the authority answered with HTTP status {0}, which says nothing about the credential")]
    Status(u16),
    /// An answer that breaks the contract.
    #[error("the authority's answer breaks its contract: {0}")]
    BadAnswer(&'static str),
    /// Our own cap on questions in flight is reached.
    #[error("too many questions to the authority are already in flight")]
    Busy,
    /// No authority is there for this kind of credentials.
    #[error("no authority for this kind of credentials is configured")]
    NoAuthority,
}

impl Undetermined {
    /// The closed set of values of the metric label `outcome`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Throttled => "throttled",
            Self::Status(_) => "status",
            Self::BadAnswer(_) => "bad_answer",
            Self::Busy => "busy",
            Self::NoAuthority => "no_authority",
        }
    }
}

/// What an authority proved about a sender. Only this module can make one, so nothing unproven can
/// be stamped on a resource, limited on, or sent upstream.
///
/// A hundred thousand of them may be kept. Hence it holds the facts as [`Claims`] encoded, a third of
/// their size in memory, and no stamp, which repeats them between keys that are the same for all.
pub struct Identity {
    trace_id: Option<TraceId>,
    claims: Box<[u8]>,
    job_key: Option<u64>,
    runner_key: u64,
    policy: Arc<IdentityPolicy>,
}

/// The facts about a job that an authority may know, each absent when it was not told. A protobuf
/// message, because an [`Identity`] holds it so; nobody else reads that form.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Claims {
    /// CI job (`Ci::Build`) id.
    #[prost(uint64, optional, tag = "1")]
    pub job_id: Option<u64>,
    /// Pipeline id.
    #[prost(uint64, optional, tag = "2")]
    pub pipeline_id: Option<u64>,
    /// What started the pipeline: `push`, `schedule`, ...
    #[prost(string, optional, tag = "3")]
    pub pipeline_source: Option<String>,
    /// Root pipeline id.
    #[prost(uint64, optional, tag = "4")]
    pub root_pipeline_id: Option<u64>,
    /// Project id.
    #[prost(uint64, optional, tag = "5")]
    pub project_id: Option<u64>,
    /// Full path of the project.
    #[prost(string, optional, tag = "6")]
    pub project_path: Option<String>,
    /// Namespace id.
    #[prost(uint64, optional, tag = "7")]
    pub namespace_id: Option<u64>,
    /// Top-level namespace id.
    #[prost(uint64, optional, tag = "8")]
    pub root_namespace_id: Option<u64>,
    /// Organization id.
    #[prost(uint64, optional, tag = "9")]
    pub organization_id: Option<u64>,
    /// Cell id.
    #[prost(uint64, optional, tag = "10")]
    pub cell_id: Option<u64>,
    /// Runner id.
    #[prost(uint64, optional, tag = "11")]
    pub runner_id: Option<u64>,
    /// `instance_type`, `group_type` or `project_type`.
    #[prost(string, optional, tag = "12")]
    pub runner_type: Option<String>,
    /// The runner manager's system id.
    #[prost(string, optional, tag = "13")]
    pub runner_manager_system_xid: Option<String>,
}

impl Identity {
    /// The trace that every span of this sender must belong to; `None`: no authority told of one.
    #[must_use]
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace_id
    }

    /// The proven facts, for headers and for an operator's eyes.
    #[must_use]
    pub fn claims(&self) -> Claims {
        // We wrote it ourselves: there is nothing to go wrong, and no facts are safe facts.
        Claims::decode(&*self.claims).unwrap_or_default()
    }

    /// A key that is the same for all requests of one job: its id, or the credential's digest. `None`: the
    /// sender is no job.
    #[must_use]
    pub fn job_key(&self) -> Option<u64> {
        self.job_key
    }

    /// A key that is the same for all requests with one runner token.
    #[must_use]
    pub fn runner_key(&self) -> u64 {
        self.runner_key
    }

    /// The verified attributes, encoded anew at each call.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.policy.stamp(&self.claims())
    }

    /// What it takes in memory, in bytes: itself, counted references around it, its facts, and for both
    /// what an allocator adds.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// At most a header of a word and the way to the next multiple of two words.
        const ALLOCATION: usize = 3 * size_of::<usize>();
        const ITSELF: usize = size_of::<Identity>() + 2 * size_of::<usize>() + 2 * ALLOCATION;

        ITSELF.saturating_add(self.claims.len())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("trace_id", &self.trace_id)
            .field("claims", &self.claims())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Arc;

    use super::{Identity, IdentityPolicy};
    use crate::otlp::TraceId;

    /// An identity that no authority proved, for the tests of what stands behind `validate`.
    pub(crate) fn identity(trace_id: TraceId, job_key: u64, runner_key: u64) -> Arc<Identity> {
        let (trace_id, job_key) = (Some(trace_id), Some(job_key));
        let policy = Arc::new(IdentityPolicy::new("gitlab-ci-runner"));
        Arc::new(Identity { trace_id, claims: Box::default(), job_key, runner_key, policy })
    }
}
