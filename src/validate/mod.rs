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
pub mod guard;
mod identity;
pub mod job_token;
mod jwks;
pub mod mtls;
pub mod oidc;
#[cfg(test)]
mod openapi;
mod places;
pub(crate) mod probe;
mod refusal_row;
mod remedy;
mod signer;
mod timestamp;
pub mod trusted;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    otlp::{TraceId, rewrite::Stamp},
    telemetry::RateCap,
};

use self::{cache_control::Stale, credentials::Credentials, trusted::Trusted};

pub use self::{
    build_error::BuildError,
    identity::{IdentityPolicy, Shown},
    places::Places,
};

/// An authority on credentials, or a cache in front of one.
pub trait Validator: fmt::Debug + Send + Sync + 'static {
    /// Judges the credentials of one request.
    ///
    /// # Errors
    /// [`Undetermined`] when the authority gave no usable word about exactly these bytes. A caller
    /// must turn that into "try again later", never into a denial.
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>>;

    /// Judges credentials that a positive verdict is still at hand for. Whoever answers for an authority
    /// from what others were told must not answer this: only the authority's own fresh word ends a good verdict.
    ///
    /// # Errors
    /// As [`Self::validate`].
    fn validate_anew<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        self.validate(question)
    }

    /// A positive verdict that is at hand: what [`Self::validate`] would answer at once. A request that is
    /// known needs no more than this look.
    fn recall(&self, _question: &Question) -> Option<Allowed> {
        None
    }

    /// Whether a positive verdict on these credentials is at hand without asking anybody, were it only one that
    /// bridges a silence of the authority. What is
    /// counted against a shared address must not stop a sender that is known.
    fn known(&self, _credentials: &Credentials) -> bool {
        false
    }

    /// How long past its own end a credential is still good, by the authority's word.
    fn grace(&self) -> Duration {
        GRACE
    }

    /// Puts what is kept in memory into the metrics; asked at each scrape.
    fn record_entries(&self) {}

    /// Forgets every verdict that is kept in memory, and makes sure that what they rest on is the authority's present
    /// word; returns how many there were.
    fn purge(&self) -> usize {
        0
    }
}

/// How long the authority goes on answering for a job that is over: Rails accepts a job token for
/// this long past its `exp`, because a runner's last export leaves after the job.
pub const GRACE: Duration = Duration::from_mins(1);

impl<T: Validator + ?Sized> Validator for Arc<T> {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        T::validate(self, question)
    }

    fn validate_anew<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        T::validate_anew(self, question)
    }

    fn recall(&self, question: &Question) -> Option<Allowed> {
        T::recall(self, question)
    }

    fn known(&self, credentials: &Credentials) -> bool {
        T::known(self, credentials)
    }

    fn grace(&self) -> Duration {
        T::grace(self)
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

impl Question {
    /// Tells the operator that it got no verdict, as often as `cap` allows for this kind of trouble. `issuer`: of the
    /// provider that was to judge it, where there is one.
    fn tell(&self, trouble: &Undetermined, issuer: Option<&str>, cap: &RateCap, what: &'static str) {
        if let Some(suppressed) = cap.allow(trouble.label()) {
            tracing::warn!(
                correlation_id = %self.correlation_id,
                credentials = %self.credentials.digest(),
                issuer,
                error_message = %trouble,
                hint = trouble.remedy(self.credentials.kind()),
                suppressed,
                "{what}"
            );
        }
    }
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
    /// The client certificate is good, but none of its names is one that may send (403).
    UnknownClient,
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
    /// A 401 or 403 in another form than that of GitLab's API.
    #[error("something in front of GitLab refused in its place, which says nothing about the credential")]
    ForeignRefusal,
    /// A 401 whose `Date` lies outside the life of our signature, which may be all that it refused.
    #[error("the authority refused (401) while its clock and this machine's are apart")]
    ClocksApart,
    /// Our own cap on questions in flight is reached.
    #[error("too many questions to the authority are already in flight")]
    Busy,
    /// The authority failed of late; it may be asked again after this long at the earliest.
    #[error("the authority fails and is not asked for now")]
    BreakerOpen(Duration),
    /// The authority limited this runner's questions; they go on after this long.
    #[error("the authority limited this runner's questions (429), which pause for now")]
    Paused(Duration),
    /// The keys at hand are too old to say that there is no such key.
    #[error("the token's key is not known, and the provider was asked for its keys a moment ago")]
    UnknownKey,
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
            Self::BadAnswer(_) | Self::ForeignRefusal | Self::ClocksApart => "bad_answer",
            Self::Busy => "busy",
            Self::BreakerOpen(_) => "breaker_open",
            Self::Paused(_) => "paused",
            Self::UnknownKey => "unknown_key",
            Self::NoAuthority => "no_authority",
        }
    }
}

/// What an authority proved about a sender. Only this module can make one, so nothing unproven can
/// be stamped on a resource, limited on, or sent upstream.
pub struct Identity {
    trace_id: Option<TraceId>,
    claims: Option<Box<Claims>>,
    job_key: Option<u64>,
    project_key: Option<u64>,
    runner_key: u64,
    /// Beside the keys: a cache line brings both.
    places: Places,
    stamp: Stamp,
    trusted: Option<Box<Trusted>>,
}

/// The facts about a job that an authority may know, each absent when it was not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// CI job (`Ci::Build`) id.
    pub job_id: Option<u64>,
    /// Pipeline id.
    pub pipeline_id: Option<u64>,
    /// What started the pipeline: `push`, `schedule`, ...
    pub pipeline_source: Option<String>,
    /// Root pipeline id.
    pub root_pipeline_id: Option<u64>,
    /// Project id.
    pub project_id: Option<u64>,
    /// Full path of the project.
    pub project_path: Option<String>,
    /// Namespace id.
    pub namespace_id: Option<u64>,
    /// Top-level namespace id.
    pub root_namespace_id: Option<u64>,
    /// Organization id.
    pub organization_id: Option<u64>,
    /// Cell id.
    pub cell_id: Option<u64>,
    /// Runner id.
    pub runner_id: Option<u64>,
    /// `instance_type`, `group_type` or `project_type`.
    pub runner_type: Option<String>,
    /// The runner manager's system id.
    pub runner_manager_system_xid: Option<String>,
}

impl Identity {
    /// The trace that every span of this sender must belong to; `None`: no authority told of one.
    #[must_use]
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace_id
    }

    /// The proven facts, where they are kept: see [`IdentityPolicy::keeping_claims`].
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_deref()
    }

    /// A key that is the same for all requests of one job: its id, or the credential's digest. `None`: the
    /// sender is no job.
    #[must_use]
    pub fn job_key(&self) -> Option<u64> {
        self.job_key
    }

    /// A key that is the same for all requests of one project's jobs. `None`: no authority told of a project.
    #[must_use]
    pub fn project_key(&self) -> Option<u64> {
        self.project_key
    }

    /// A key that is the same for all requests with one runner token, or of one sender without a token.
    #[must_use]
    pub fn runner_key(&self) -> u64 {
        self.runner_key
    }

    /// Where the states that are kept by its keys were found last.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// How much memory it takes, in bytes: itself behind an `Arc`, and what it holds elsewhere. Allocators
    /// round up, and each allocation has a head of its own.
    #[must_use]
    pub fn weight(&self) -> usize {
        const HEAD: usize = 16;
        let claims = self.claims().map_or(0, |claims| {
            let Claims { pipeline_source, project_path, runner_type, runner_manager_system_xid, .. } = claims;
            let texts = [pipeline_source, project_path, runner_type, runner_manager_system_xid];
            let texts = texts.into_iter().flatten().map(|text| text.capacity().saturating_add(HEAD));
            texts.fold(size_of::<Claims>().saturating_add(HEAD), usize::saturating_add)
        });
        let stamp = self.stamp.heap().saturating_add(HEAD);
        // One more head: where its owners are counted.
        size_of::<Self>().saturating_add(2 * HEAD).saturating_add(claims).saturating_add(stamp)
    }

    /// The verified attributes, their values encoded once for all requests of this verdict.
    #[must_use]
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// `Some`: one of GitLab's own services. Its resources stay as they are, if their service names are its own.
    #[must_use]
    pub fn trusted(&self) -> Option<&Trusted> {
        self.trusted.as_deref()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("trace_id", &self.trace_id)
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Arc;

    use super::{Identity, Places};
    use crate::otlp::{TraceId, rewrite::Stamp};

    /// An identity that no authority proved, for the tests of what stands behind `validate`.
    pub(crate) fn identity(trace_id: TraceId, job_key: u64, runner_key: u64) -> Arc<Identity> {
        let (claims, stamp) = (None, Stamp::default());
        Arc::new(Identity {
            trace_id: Some(trace_id),
            claims,
            job_key: Some(job_key),
            project_key: None,
            runner_key,
            places: Places::default(),
            stamp,
            trusted: None,
        })
    }
}
