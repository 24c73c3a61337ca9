//! The verdict cache, itself a validator: answers from memory, asks the authority once whoever
//! waits, and bridges its silences. It never judges a credential: a denial comes only from the
//! authority's own word, and an error is never kept.
//!
//! Three rules about time, each checked on every hit:
//! - A positive verdict answers alone until its end ([`super::freshness`]), and for
//!   `stale_if_error` more while the authority gives no word.
//! - A denial answers for `negative_ttl`, from a table of its own: a flood of bad tokens can't push
//!   out good verdicts.
//! - Two strikes: while a positive verdict is still at hand, a denial is believed only when the
//!   authority says it twice, because it may read the first one from a replica that lags behind.
//!   The price: a revoked pair is refused one question (about [`SECOND_THOUGHT`]) later than it
//!   could be, and never before its cached verdict is asked about again. A second word that takes
//!   longer than [`SECOND_WORD`] is none, and the verdict serves on until its stale bound.
//!
//! A question runs in a task of its own ("flight"): a caller that hangs up ends its own wait, not
//! the flight. How many flights there are is bounded by the authority's own queue, which answers
//! [`Undetermined::Busy`] at once when full, and by [`MAX_FLIGHTS`] whatever the authority does.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    config,
    metrics::Metrics,
    validate::{
        Allowed, Denial, Question, Undetermined, Validator, Verdict,
        credentials::{Credentials, Digest},
    },
};

use super::{
    freshness::{self, Caps, Keep},
    table::Table,
};

/// Pause before a denial of what was good a moment ago is asked about again: long enough for a
/// replica to catch up in the usual case, short against a request's 4 s.
pub const SECOND_THOUGHT: Duration = Duration::from_millis(250);

/// Longest time for that pause and the second question together: with a first question of up to 2 s
/// the caller still has a second of its 4 s left for everything else.
pub const SECOND_WORD: Duration = Duration::from_secs(1);

/// Longest life of a flight. The authority keeps its own, shorter time; this one holds when it does not.
pub const MAX_FLIGHT: Duration = Duration::from_secs(10);

/// Most flights at once. Each holds one token pair (about 1.5 KB, at most 5) and a task.
pub const MAX_FLIGHTS: usize = 8192;

/// Most denials kept. Kept for seconds only, they need no more than the authority can give in that time.
const MAX_DENIALS: usize = 16_384;

type Answer = Result<Verdict, Undetermined>;

/// A validator that remembers what the one inside it said.
pub struct Cached<V> {
    shared: Arc<Shared<V>>,
}

struct Shared<V> {
    settings: ArcSwap<Settings<V>>,
    metrics: Arc<Metrics>,
    positive: Table<Digest, Good>,
    negative: Table<Digest, Denied>,
    flights: Mutex<Flights>,
    /// What the times in the tables count from.
    epoch: Instant,
    jitter: RandomState,
    /// Names of the positive and the negative entries in the metrics.
    kinds: [&'static str; 2],
}

/// What a reload may change.
struct Settings<V> {
    inner: V,
    caps: Caps,
    negative_ttl: Duration,
    refresh_ahead: f64,
}

/// A positive verdict; times in nanoseconds since the epoch.
struct Good {
    allowed: Allowed,
    refresh_from: u64,
    fresh_until: u64,
    stale_until: u64,
}

struct Denied {
    denial: Denial,
    until: u64,
}

#[derive(Default)]
struct Flights {
    next: u64,
    open: HashMap<Digest, Flight>,
}

struct Flight {
    id: u64,
    landing: watch::Receiver<Option<Answer>>,
}

/// What is known of a key at one moment.
enum Known {
    Fresh { allowed: Allowed, refresh: bool },
    Denied(Denial),
    Nothing,
}

/// How a caller gets its answer.
enum Boarding {
    Known(Verdict),
    Waiting { source: &'static str, landing: watch::Receiver<Option<Answer>> },
    Full,
}

impl<V: Validator> Cached<V> {
    /// A cache in front of `inner`.
    #[must_use]
    pub fn new(inner: V, config: &config::Cache, metrics: Arc<Metrics>) -> Self {
        Self::counted_as(["positive", "negative"], inner, config, metrics)
    }

    /// The same, whose entries are counted under other names: each cache of a process needs its own.
    #[must_use]
    pub fn counted_as(
        kinds: [&'static str; 2],
        inner: V,
        config: &config::Cache,
        metrics: Arc<Metrics>,
    ) -> Self {
        let useful = config.max_ttl.saturating_add(config.stale_if_error);
        let max = usize::try_from(config.max_entries).unwrap_or(usize::MAX);
        Self {
            shared: Arc::new(Shared {
                settings: ArcSwap::from_pointee(Settings::new(inner, config)),
                metrics,
                positive: Table::new(max, useful),
                negative: Table::new(max.min(MAX_DENIALS), config.negative_ttl),
                flights: Mutex::default(),
                epoch: Instant::now(),
                jitter: RandomState::new(),
                kinds,
            }),
        }
    }

    /// Takes another validator and other times from the next question on; what is kept stays, each
    /// until the end that it was given. `max_entries` stays what it was at the start. Where the new
    /// validator asks another authority, [`Self::purge`] must follow.
    pub fn reconfigure(&self, inner: V, config: &config::Cache) {
        self.shared.settings.store(Arc::new(Settings::new(inner, config)));
    }

    /// Forgets every verdict. Questions in flight still answer those who wait, and nobody else.
    pub fn purge(&self) {
        let mut flights = self.shared.flights();
        flights.open.clear();
        self.shared.positive.clear();
        self.shared.negative.clear();
    }

    /// Writes the number of kept verdicts to the metrics, and forgets those that are long past their
    /// use; for every scrape.
    pub fn record_entries(&self) {
        let (shared, now) = (&self.shared, self.shared.now());
        shared.positive.sweep(now);
        shared.negative.sweep(now);
        let [positive, negative] = shared.kinds;
        shared.metrics.cache_entries(positive, shared.positive.len() as u64);
        shared.metrics.cache_entries(negative, shared.negative.len() as u64);
        shared.settings.load().inner.record_entries();
    }

    /// Answers one question and says where from.
    async fn judge(&self, question: &Question) -> (&'static str, Answer) {
        let key = question.credentials.digest();
        match self.shared.look(key, self.shared.now()) {
            Known::Fresh { allowed, refresh } => {
                if refresh {
                    // Whoever flies already, or if too many do: this hit is good all the same.
                    drop(self.shared.board(question, Purpose::Refresh));
                }
                return ("hit", Ok(Verdict::Allow(allowed)));
            }
            Known::Denied(denial) => return ("hit", Ok(Verdict::Deny(denial))),
            Known::Nothing => {}
        }
        let (source, answer) = match self.shared.board(question, Purpose::Answer) {
            Boarding::Known(verdict) => return ("shared", Ok(verdict)),
            Boarding::Full => ("miss", Err(Undetermined::Busy)),
            Boarding::Waiting { source, mut landing } => {
                let landed = timeout_at(question.deadline, landing.wait_for(Option::is_some)).await;
                let answer = match landed {
                    Err(_) => Err(Undetermined::Timeout),
                    Ok(Ok(answer)) => answer.clone().unwrap_or(Err(BROKE_OFF)),
                    Ok(Err(_)) => Err(BROKE_OFF),
                };
                (source, answer)
            }
        };
        match answer {
            Err(undetermined) => match self.shared.bridge(key) {
                Some(allowed) => ("stale", Ok(Verdict::Allow(allowed))),
                None => (source, Err(undetermined)),
            },
            verdict => (source, verdict),
        }
    }
}

/// What those who wait are told when the validator panicked.
const BROKE_OFF: Undetermined = Undetermined::BadAnswer("judging it broke off");

impl<V: Validator> Validator for Cached<V> {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let (source, answer) = self.judge(question).await;
            self.shared.metrics.verdict(source, label(&answer));
            answer
        })
    }

    /// Also within the stale bound: such a sender was good a moment ago.
    fn known(&self, credentials: &Credentials) -> bool {
        self.shared.bridge(credentials.digest()).is_some()
    }

    fn record_entries(&self) {
        Cached::record_entries(self);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Answer,
    Refresh,
}

impl<V: Validator> Shared<V> {
    fn look(&self, key: Digest, now: u64) -> Known {
        let fresh = self.positive.with_existing(&key, now, |good| {
            (now < good.fresh_until).then(|| {
                let refresh = now >= good.refresh_from;
                // One attempt for each verdict: if it fails, this one still runs to its end.
                good.refresh_from = if refresh { u64::MAX } else { good.refresh_from };
                Known::Fresh { allowed: good.allowed.clone(), refresh }
            })
        });
        fresh.flatten().unwrap_or_else(|| {
            let denied =
                self.negative.with_existing(&key, now, |kept| (now < kept.until).then_some(kept.denial));
            denied.flatten().map_or(Known::Nothing, Known::Denied)
        })
    }

    /// A positive verdict that still serves while the authority gives no word.
    fn bridge(&self, key: Digest) -> Option<Allowed> {
        let now = self.now();
        self.positive
            .with_existing(&key, now, |good| (now < good.stale_until).then(|| good.allowed.clone()))
            .flatten()
    }

    /// Joins the flight for these credentials, or starts it.
    fn board(self: &Arc<Self>, question: &Question, purpose: Purpose) -> Boarding {
        let key = question.credentials.digest();
        let mut flights = self.flights();
        if let Some(flight) = flights.open.get(&key) {
            return Boarding::Waiting { source: "shared", landing: flight.landing.clone() };
        }
        // A flight may have landed between the caller's look and this lock, under which all land.
        if purpose == Purpose::Answer {
            match self.look(key, self.now()) {
                Known::Fresh { allowed, .. } => return Boarding::Known(Verdict::Allow(allowed)),
                Known::Denied(denial) => return Boarding::Known(Verdict::Deny(denial)),
                Known::Nothing => {}
            }
        }
        if flights.open.len() >= MAX_FLIGHTS {
            return Boarding::Full;
        }
        let (announce, landing) = watch::channel(None);
        let id = flights.next;
        flights.next = id.wrapping_add(1);
        flights.open.insert(key, Flight { id, landing: landing.clone() });
        let pilot = Pilot { shared: Arc::clone(self), key, id, announce };
        tokio::spawn(pilot.fly(question.clone(), purpose));
        Boarding::Waiting { source: "miss", landing }
    }

    /// Asks the authority, twice if it denies what is still good here.
    async fn ask(&self, question: &Question) -> Answer {
        let settings = self.settings.load_full();
        let first = settings.inner.validate(question).await;
        let denied = matches!(first, Ok(Verdict::Deny(_)));
        if !denied || self.bridge(question.credentials.digest()).is_none() {
            return first;
        }
        let mut again = question.clone();
        let end = Instant::now().checked_add(SECOND_WORD);
        again.deadline = end.map_or(question.deadline, |end| end.min(question.deadline));
        let second = async {
            sleep(SECOND_THOUGHT).await;
            settings.inner.validate(&again).await
        };
        timeout_at(again.deadline, second).await.unwrap_or(Err(Undetermined::Timeout))
    }

    fn keep(&self, key: Digest, answer: &Answer) {
        let (settings, now) = (self.settings.load(), self.now());
        match answer {
            Ok(Verdict::Allow(allowed)) => {
                self.negative.remove(&key);
                // The newest word holds: what may no longer be kept takes the old verdict with it.
                match settings.time_to_keep(allowed, self.jitter.hash_one((key, now))) {
                    Some(keep) => self.positive.insert(key, now, settings.good(allowed, keep, now)),
                    None => self.positive.remove(&key),
                }
            }
            Ok(Verdict::Deny(denial)) => {
                self.positive.remove(&key);
                if !settings.negative_ttl.is_zero() {
                    let until = now.saturating_add(nanos(settings.negative_ttl));
                    self.negative.insert(key, now, Denied { denial: *denial, until });
                }
            }
            Err(_) => {}
        }
    }

    fn now(&self) -> u64 {
        nanos(Instant::now().saturating_duration_since(self.epoch))
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries one question to its answer, and leaves no open flight behind if the validator panics.
struct Pilot<V: Validator> {
    shared: Arc<Shared<V>>,
    key: Digest,
    id: u64,
    /// Dropped after `Pilot::drop` ran: whoever sees it closed and asks again starts a new flight.
    announce: watch::Sender<Option<Answer>>,
}

impl<V: Validator> Pilot<V> {
    async fn fly(self, mut question: Question, purpose: Purpose) {
        // The first caller's deadline is its own: others may wait longer for the same answer.
        question.deadline = Instant::now().checked_add(MAX_FLIGHT).unwrap_or(question.deadline);
        let answer = timeout_at(question.deadline, self.shared.ask(&question)).await;
        let answer = answer.unwrap_or(Err(Undetermined::Timeout));
        if purpose == Purpose::Refresh {
            self.shared.metrics.verdict("refresh", label(&answer));
        }
        let mut flights = self.shared.flights();
        // Gone after a purge: the answer is from before it, and only for those who wait.
        if flights.open.get(&self.key).is_some_and(|flight| flight.id == self.id) {
            self.shared.keep(self.key, &answer);
            flights.open.remove(&self.key);
        }
        drop(flights);
        self.announce.send_replace(Some(answer));
    }
}

impl<V: Validator> Drop for Pilot<V> {
    fn drop(&mut self) {
        let mut flights = self.shared.flights();
        if flights.open.get(&self.key).is_some_and(|flight| flight.id == self.id) {
            flights.open.remove(&self.key);
        }
    }
}

impl<V: Validator> Settings<V> {
    fn new(inner: V, config: &config::Cache) -> Self {
        Self {
            caps: Caps {
                max_ttl: config.max_ttl,
                stale_if_error: config.stale_if_error,
                grace: inner.grace(),
            },
            inner,
            negative_ttl: config.negative_ttl,
            refresh_ahead: if config.refresh_ahead > 0.0 { config.refresh_ahead.min(1.0) } else { 0.0 },
        }
    }

    fn time_to_keep(&self, allowed: &Allowed, random: u64) -> Option<Keep> {
        let unix = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        let [high, low, ..] = random.to_le_bytes();
        let jitter = u16::from_le_bytes([high, low]);
        freshness::keep(allowed.max_age, allowed.expires_at, self.caps, jitter, unix)
    }

    fn good(&self, allowed: &Allowed, keep: Keep, now: u64) -> Good {
        let fresh_until = now.saturating_add(nanos(keep.ttl));
        let last_part = nanos(keep.ttl.mul_f64(self.refresh_ahead));
        Good {
            allowed: allowed.clone(),
            refresh_from: fresh_until.saturating_sub(last_part),
            fresh_until,
            stale_until: fresh_until.saturating_add(nanos(keep.stale)),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The metric label `verdict`.
fn label(answer: &Answer) -> &'static str {
    match answer {
        Ok(Verdict::Allow(_)) => "allow",
        Ok(Verdict::Deny(_)) => "deny",
        Err(_) => "undetermined",
    }
}

impl<V: Validator> fmt::Debug for Cached<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached")
            .field("inner", &self.shared.settings.load().inner)
            .field("positive", &self.shared.positive)
            .field("negative", &self.shared.negative)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
