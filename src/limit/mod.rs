//! How much a proven sender may send: rates of its job, runner, project and listener and of all together,
//! and the job's budget of spans. All of a charge is taken or none of it, and what a later stage refuses is
//! given back. What costs more than a rate can hold at once passes when nothing is taken, as a debt. It
//! never decides who a sender is and never sees a credential.

mod bucket;
pub mod failures;
mod keyed;
pub mod local;
mod names;
mod rules;
pub mod shared;
mod states;
mod tally;

use std::{
    fmt,
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, Either, Ready};

use crate::validate::{Identity, Places};

pub use self::names::{Level, Limit, Unit};

/// An answer that is mostly there at once, and then costs no allocation.
pub type Answer<'a, T> = Either<Ready<T>, BoxFuture<'a, T>>;

/// Where the state of limits lives: in this process, or shared by replicas.
pub trait LimitStore: fmt::Debug + Send + Sync + 'static {
    /// Takes `cost` from every limit that holds for `subject` at the time `now`, or nothing at all. No cost is too high
    /// for good: one that is more than a limit holds at once waits until that limit is wholly unused,
    /// and what it takes must come back at the rate before anything passes again.
    ///
    /// The time is the caller's, who mostly has just read it for another reason: to read it costs as much as ten rates.
    fn take(&self, subject: &Subject<'_>, cost: Cost, now: Instant) -> Answer<'_, Decision>;

    /// Grants as many of the spans in `cost` as the job's budget still has, and takes them from it, and `cost` with
    /// just these spans from every limit; or nothing at all of either.
    fn take_spans(
        &self,
        subject: &Subject<'_>,
        cost: Cost,
        now: Instant,
    ) -> Answer<'_, Result<u64, Box<Refusal>>>;

    /// Gives back what a later stage refused: a taken cost and granted spans of the budget. `now` may be the time when
    /// they were taken.
    fn give_back(&self, subject: &Subject<'_>, cost: Cost, budget: u64, now: Instant);

    /// Brings the counts of decisions up to date; asked at each scrape.
    fn record(&self) {}
}

/// Who hears of all that is taken here, to tell other replicas.
pub trait Ledger: fmt::Debug + Send + Sync + 'static {
    /// The state of `entry` advanced by so many nanoseconds, or went back where they are negative; of a job's budget,
    /// so many spans. It is what the sender used: a [share](local::Local::set_share) does not multiply it. Called
    /// on the request path, with no lock held.
    fn note(&self, entry: Entry, nanos: i64);

    /// A job that this replica has not seen of late: its first charge waits for this, so that what other replicas
    /// know of it can come in through [`follow`](local::Local::follow). Must end by itself within milliseconds.
    fn first_sight(&self, subject: Subject<'_>) -> Option<BoxFuture<'_, ()>> {
        let _ = subject;
        None
    }
}

/// One state that can be followed from replica to replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where in the hierarchy.
    pub level: Level,
    /// Which one of that level: its key in [`Subject`]; 0 for [`Level::Global`].
    pub key: u64,
    /// Of what.
    pub unit: Unit,
}

/// Whose limits are charged. Keys are keyed hashes: nobody outside can choose them.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// All requests on one listener: its [`listener_key`].
    pub listener: u64,
    /// All requests of one project's jobs; `None`: no authority told of one.
    pub project: Option<u64>,
    /// All requests with one runner token.
    pub runner: u64,
    /// All requests of one job; `None`: a sender that is no job, which the limits of jobs do not hold for.
    pub job: Option<u64>,
    /// Where their states were found last; `None`: nobody remembers.
    pub places: Option<&'a Places>,
}

impl<'a> Subject<'a> {
    /// A sender on the listener with this key.
    #[must_use]
    pub fn new(listener: u64, identity: &'a Identity) -> Self {
        Self {
            listener,
            project: identity.project_key(),
            runner: identity.runner_key(),
            job: identity.job_key(),
            places: Some(identity.places()),
        }
    }
}

/// The key of a listener, the same in all replicas (FNV-1a): names come from the configuration, so
/// nobody can aim at a collision.
#[must_use]
pub fn listener_key(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Everything was taken.
    Taken,
    /// Nothing was taken. Apart, because it is seldom and long: the usual answer moves in a register.
    Refused(Box<Refusal>),
}

/// Which limit said no, and what the sender may know of it. Of several, the one with the longest wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The limit.
    pub limit: Limit,
    /// When a retry of the same cost could pass, if nothing else is taken until then.
    pub retry_after: Duration,
    /// How much there is in all, and left.
    pub quota: Quota,
}

/// What a bucket holds, as a sender may be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Units that may come at once.
    pub units: u64,
    /// The time in which so many come back.
    pub window: Duration,
    /// Units that could still pass now.
    pub left: u64,
}
