//! Failed attempts per client address: the one limit before a sender is known. It charges failures
//! only, and never asks who a sender is: what is known already does not come here.
//!
//! An attempt holds a place while it is under way ([`Attempt`]), because only its end says whether it
//! failed. Places are many (`max_in_flight`) where nothing failed of late, so that a fleet that starts
//! behind one NAT is let through, and as much fewer as failures have used up of the minute's budget. Of
//! those that are under way more may fail than the budget has left: that is owed, and over time no
//! address makes the authority say no more often than `per_minute`.
//!
//! Bounded by forgetting the idlest addresses first. Whoever owns more prefixes than are kept here
//! gains nothing by that: each of them has a budget of its own anyway.

use std::{net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use governor::clock::{Clock, MonotonicClock};
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    cache::table::Table,
    config::{self, Mode},
    metrics::{LimitCounts, Metrics},
};

use super::{
    Limit, Quota, Refusal,
    bucket::{Bucket, Watch, Word},
};

/// Most client prefixes that state is kept for.
const MAX_PREFIXES: usize = 100_000;

/// The longest time for which failures that were under way together can be owed: by default that of all
/// places, 8.5 minutes.
const MAX_DEBT: Duration = Duration::from_mins(10);

/// By then the longest debt is paid and a minute's budget is whole again.
const IDLE: Duration = Duration::from_mins(12);

/// The first hint to a blocked client; it doubles with each refusal. An OTLP exporter drops a batch
/// whose hint passes its own time, so the hints stay within 2 to 15 s.
const FIRST_RETRY: Duration = Duration::from_secs(2);

/// The longest hint.
const MAX_RETRY: Duration = Duration::from_secs(15);

/// Most attempts that are followed to their end after their senders hung up: as many as may wait for the
/// authority by default. Each holds its credentials for what is left of a request's few seconds.
const MAX_FOLLOWED: usize = 1024;

/// How long an answer is held that only says that its client failed too often: a connection over HTTP/1.1 can be refused ten
/// times a second, where a flood of guesses would keep a processor busy.
const HOLD: Duration = Duration::from_millis(100);

/// Most answers that are held at once, of all clients, each on a connection of its own.
const MAX_HELD: usize = 1024;

/// The limiter of failed attempts.
#[derive(Debug)]
pub struct Failures<C: Clock = MonotonicClock> {
    rule: ArcSwap<Rule>,
    clients: Table<Prefix, Client>,
    watch: Watch<C>,
    /// Of [`Limit::ClientFailures`] and [`Limit::ClientInFlight`].
    counts: [LimitCounts; 2],
    followed: Arc<Semaphore>,
    held: Semaphore,
}

#[derive(Debug)]
struct Rule {
    mode: Mode,
    bucket: Bucket,
    max_in_flight: u32,
}

/// What one sender can be assumed to own: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// The whole address.
    V4(u32),
    /// Its first half.
    V6(u64),
}

#[derive(Debug, Default)]
struct Client {
    bucket: u64,
    /// Since the bucket was last full.
    refusals: u32,
    in_flight: u32,
}

/// An attempt under way. Dropped, it gives back its place and costs nothing, whether it succeeded or
/// nobody could tell.
#[derive(Debug)]
#[must_use = "an attempt that is dropped at once was none"]
pub struct Attempt<'a, C: Clock = MonotonicClock> {
    failures: &'a Arc<Failures<C>>,
    /// `None`: the limiter is off.
    prefix: Option<Prefix>,
}

impl<C: Clock> Attempt<'_, C> {
    /// The authority refused it, or nobody had to be asked.
    pub fn fail(self) {
        let Some(prefix) = self.prefix else { return };
        let rule = self.failures.rule.load();
        let now = self.failures.watch.now();
        self.failures.clients.with(prefix, now, |client| {
            rule.bucket.owe(&mut client.bucket, 1, now, MAX_DEBT);
        });
    }

    /// Its sender hung up before its end: it keeps its place until then, and is charged if it `failed`. It is followed
    /// in a task of its own; of more than can be followed each is charged at once.
    pub fn follow(mut self, failed: impl Future<Output = bool> + Send + 'static)
    where
        C: Send + Sync + 'static,
    {
        let place = Arc::clone(&self.failures.followed).try_acquire_owned();
        let (Ok(runtime), Ok(place)) = (Handle::try_current(), place) else { return self.fail() };
        let (failures, prefix) = (Arc::clone(self.failures), self.prefix.take());
        drop(runtime.spawn(async move {
            let attempt = Attempt { failures: &failures, prefix };
            if failed.await {
                attempt.fail();
            }
            drop(place);
        }));
    }
}

impl<C: Clock> Drop for Attempt<'_, C> {
    fn drop(&mut self) {
        let Some(prefix) = self.prefix else { return };
        let now = self.failures.watch.now();
        // Who has nothing under way and nothing to pay is as good as unknown.
        self.failures.clients.retain_existing(&prefix, now, |client| {
            client.in_flight = client.in_flight.saturating_sub(1);
            client.in_flight > 0 || client.bucket > now
        });
    }
}

impl Failures {
    /// A limiter as configured, with empty state.
    #[must_use]
    pub fn new(config: &config::PerClientFailures, metrics: &Metrics) -> Self {
        Self::with_clock(config, metrics, MonotonicClock)
    }
}

impl<C: Clock> Failures<C> {
    fn with_clock(config: &config::PerClientFailures, metrics: &Metrics, clock: C) -> Self {
        Self {
            rule: ArcSwap::from_pointee(Rule::new(config)),
            clients: Table::new(MAX_PREFIXES, IDLE),
            watch: Watch::new(clock),
            counts: [Limit::ClientFailures, Limit::ClientInFlight]
                .map(|limit| metrics.limit_counts(limit.label())),
            followed: Arc::new(Semaphore::new(MAX_FOLLOWED)),
            held: Semaphore::new(MAX_HELD),
        }
    }

    /// Takes another rate from the next attempt on; what was charged stays charged.
    pub fn reconfigure(&self, config: &config::PerClientFailures) {
        self.rule.store(Arc::new(Rule::new(config)));
    }

    /// Lets a client try with credentials that are not known yet.
    ///
    /// # Errors
    /// When to try again, 2 to 15 s, growing with each refusal, while the client's failures have
    /// used up what a minute allows; 2 s while it has as much under way as it may.
    pub fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Attempt<'_, C>, Refusal> {
        let rule = self.rule.load();
        if rule.mode == Mode::Off {
            return Ok(Attempt { failures: self, prefix: None });
        }
        let (prefix, now) = (Prefix::from(client), self.watch.now());
        let refusal = self.clients.with(prefix, now, |client| {
            let refusal = rule.judge(client, now);
            match &refusal {
                // The growing hint is for those who are refused.
                Some(refusal) if rule.mode == Mode::Enforce => {
                    let blocked = u32::from(refusal.limit == Limit::ClientFailures);
                    client.refusals = client.refusals.saturating_add(blocked);
                }
                _ => client.in_flight = client.in_flight.saturating_add(1),
            }
            refusal
        });
        let [failures, in_flight] = &self.counts;
        let said = if rule.mode == Mode::Enforce { [0, 1, 0] } else { [0, 0, 1] };
        match &refusal {
            Some(Refusal { limit: Limit::ClientFailures, .. }) => failures.add(said),
            Some(_) => in_flight.add(said),
            None => [failures, in_flight].into_iter().for_each(|counts| counts.add([1, 0, 0])),
        }
        match refusal {
            Some(refusal) if rule.mode == Mode::Enforce => Err(refusal),
            _ => Ok(Attempt { failures: self, prefix: Some(prefix) }),
        }
    }

    /// Charges one failed attempt that was none of [`Self::admit`]'s: credentials of no shape, or known ones that
    /// are good no more. An empty budget takes no more, so that no flood of them prolongs a block. Returns whether it was
    /// empty, where that matters.
    pub fn record(&self, client: IpAddr) -> bool {
        let rule = self.rule.load();
        if rule.mode == Mode::Off {
            return false;
        }
        let now = self.watch.now();
        let word = self
            .clients
            .with(Prefix::from(client), now, |client| rule.bucket.take(&mut client.bucket, 1, now));
        word != Word::Taken && rule.mode == Mode::Enforce
    }

    /// Lets the answer to a client that fails too often wait a little, if not too many wait already.
    pub async fn hold(&self) {
        if let Ok(_place) = self.held.try_acquire() {
            tokio::time::sleep(HOLD).await;
        }
    }
}

impl Rule {
    fn new(config: &config::PerClientFailures) -> Self {
        let each_minute = u64::from(config.per_minute);
        Self {
            mode: config.mode,
            bucket: Bucket::new(each_minute, Duration::from_mins(1), each_minute),
            max_in_flight: config.max_in_flight,
        }
    }

    /// Why a client may not try now.
    fn judge(&self, client: &mut Client, now: u64) -> Option<Refusal> {
        let quota = self.bucket.quota(client.bucket, now);
        let mut copy = client.bucket;
        if let Word::Wait(time) = self.bucket.take(&mut copy, 1, now) {
            let grown = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(client.refusals));
            let retry_after = time.max(grown).min(MAX_RETRY);
            return Some(Refusal { limit: Limit::ClientFailures, retry_after, quota });
        }
        if client.bucket <= now {
            client.refusals = 0;
        }
        (client.in_flight >= self.places(client.bucket, now)).then(|| Refusal {
            limit: Limit::ClientInFlight,
            retry_after: FIRST_RETRY,
            quota: Quota { units: u64::from(self.max_in_flight), window: Duration::ZERO, left: 0 },
        })
    }

    /// How many may be under way: of all places the part that failures have left of the budget.
    fn places(&self, bucket: u64, now: u64) -> u32 {
        let capacity = u128::from(self.bucket.capacity());
        let left = capacity.saturating_sub(u128::from(bucket.saturating_sub(now)));
        let places = u128::from(self.max_in_flight).saturating_mul(left).checked_div(capacity);
        places.and_then(|places| u32::try_from(places).ok()).unwrap_or(0).max(1)
    }
}

impl From<IpAddr> for Prefix {
    /// An IPv4 address in its IPv6-mapped form is the IPv4 address.
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d].into_iter().fold(0, |bits, part| (bits << 16) | u64::from(part)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
