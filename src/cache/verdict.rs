//! The verdict cache, itself a validator: answers from memory, asks the authority once whoever
//! waits, and bridges its silences. It never judges a credential: a denial comes only from the
//! authority's own word, and an error is never kept.
//!
//! Three rules about time, each checked on every hit (`kept`):
//! - A positive verdict answers alone until its end ([`super::freshness`]), for `stale-while-revalidate`
//!   more while a background question is out, and for `stale_if_error` while the authority gives no word.
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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, ready};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    config,
    metrics::Metrics,
    validate::{
        Allowed, Identity, Question, Undetermined, Validator, Verdict,
        cache_control::Stale,
        credentials::{Credentials, Digest},
    },
};

use super::kept::{Kept, Known, Moment, Rules, nanos};

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

type Answer = Result<Verdict, Undetermined>;

/// A validator that remembers what the one inside it said.
pub struct Cached<V> {
    shared: Arc<Shared<V>>,
}

struct Shared<V> {
    settings: ArcSwap<Settings<V>>,
    metrics: Arc<Metrics>,
    kept: Kept,
    flights: Mutex<Flights>,
    /// What the monotonic clock counts from.
    epoch: Instant,
    /// Names of the positive and the negative entries in the metrics.
    kinds: [&'static str; 2],
}

/// What a reload may change.
struct Settings<V> {
    inner: V,
    rules: Rules,
}

impl<V: Validator> Settings<V> {
    fn new(inner: V, config: &config::Cache) -> Self {
        Self { rules: Rules::new(config, inner.grace()), inner }
    }
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
        Self {
            shared: Arc::new(Shared {
                settings: ArcSwap::from_pointee(Settings::new(inner, config)),
                metrics,
                kept: Kept::new(config),
                flights: Mutex::default(),
                epoch: Instant::now(),
                kinds,
            }),
        }
    }

    /// Takes another validator and other times from the next question on; what is kept stays, each
    /// until the end that it was given, but no longer past it than the new bounds allow. `max_entries`
    /// and `max_size` stay what they were at the start. The new validator must ask the same authority.
    pub fn reconfigure(&self, inner: V, config: &config::Cache) {
        self.shared.settings.store(Arc::new(Settings::new(inner, config)));
    }

    /// Writes number and weight of the kept verdicts to the metrics, and forgets those that are long past
    /// their use; for every scrape.
    pub fn record_entries(&self) {
        let Shared { kept, metrics, kinds: [positive, negative], settings, .. } = &*self.shared;
        kept.sweep(self.shared.now());
        metrics.cache_entries(positive, kept.positive.len() as u64);
        metrics.cache_entries(negative, kept.negative.len() as u64);
        metrics.cache_size(positive, kept.positive.weight() as u64);
        settings.load().inner.record_entries();
    }

    /// Answers from memory and says how.
    fn remember(&self, question: &Question) -> Option<(&'static str, Verdict)> {
        match self.shared.look(question.credentials.digest()) {
            Known::Good { identity, refresh, stale } => {
                if refresh {
                    // Whoever flies already, or if too many do: this hit is good all the same.
                    drop(self.shared.board(question, Purpose::Refresh));
                }
                Some((if stale { "revalidate" } else { "hit" }, allow(identity)))
            }
            Known::Denied(denial) => Some(("hit", Verdict::Deny(denial))),
            Known::Nothing => None,
        }
    }

    /// Has the authority asked, and says where the answer is from.
    async fn ask(&self, question: &Question) -> (&'static str, Answer) {
        let key = question.credentials.digest();
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
                Some(identity) => ("stale", Ok(allow(identity))),
                None => (source, Err(undetermined)),
            },
            verdict => (source, verdict),
        }
    }
}

/// A verdict from memory. Its times are the cache's own business: nobody behind it may keep it again.
fn allow(identity: Arc<Identity>) -> Verdict {
    Verdict::Allow(Allowed { identity, max_age: None, stale: Stale::NEVER, expires_at: None })
}

/// What those who wait are told when the validator panicked.
const BROKE_OFF: Undetermined = Undetermined::BadAnswer("judging it broke off");

impl<V: Validator> Validator for Cached<V> {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Answer> {
        if let Some((source, verdict)) = self.remember(question) {
            let answer = Ok(verdict);
            self.shared.metrics.verdict(source, label(&answer));
            return Box::pin(ready(answer));
        }
        Box::pin(async move {
            let (source, answer) = self.ask(question).await;
            self.shared.metrics.verdict(source, label(&answer));
            answer
        })
    }

    fn recall(&self, question: &Question) -> Option<Allowed> {
        match self.remember(question)? {
            (source, Verdict::Allow(allowed)) => {
                self.shared.metrics.verdict(source, ALLOW);
                Some(allowed)
            }
            (_, Verdict::Deny(_)) => None,
        }
    }

    /// Also within the stale bound: such a sender was good a moment ago.
    fn known(&self, credentials: &Credentials) -> bool {
        self.shared.bridge(credentials.digest()).is_some()
    }

    fn record_entries(&self) {
        Cached::record_entries(self);
    }

    /// Questions in flight still answer those who wait, and nobody else.
    fn purge(&self) -> usize {
        // First: a question that begins after the verdicts are gone must not be judged by what made them.
        let behind = self.shared.settings.load().inner.purge();
        // Under this lock every flight lands: none can bring in an older word between the two steps.
        let mut flights = self.shared.flights();
        flights.open.clear();
        self.shared.kept.clear().saturating_add(behind)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Answer,
    Refresh,
}

impl<V: Validator> Shared<V> {
    fn look(&self, key: Digest) -> Known {
        // A refresh comes back within this time, or not at all.
        self.kept.look(key, &self.settings.load().rules, MAX_FLIGHT, self.now())
    }

    fn bridge(&self, key: Digest) -> Option<Arc<Identity>> {
        self.kept.bridge(key, &self.settings.load().rules, self.now())
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
            match self.look(key) {
                Known::Good { identity, .. } => return Boarding::Known(allow(identity)),
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
        let key = question.credentials.digest();
        let first = if self.bridge(key).is_some() {
            settings.inner.validate_anew(question).await
        } else {
            settings.inner.validate(question).await
        };
        let denied = matches!(first, Ok(Verdict::Deny(_)));
        if !denied || self.bridge(key).is_none() {
            return first;
        }
        let mut again = question.clone();
        let end = Instant::now().checked_add(SECOND_WORD);
        again.deadline = end.map_or(question.deadline, |end| end.min(question.deadline));
        let second = async {
            sleep(SECOND_THOUGHT).await;
            settings.inner.validate_anew(&again).await
        };
        timeout_at(again.deadline, second).await.unwrap_or(Err(Undetermined::Timeout))
    }

    fn keep(&self, key: Digest, answer: &Answer) {
        match answer {
            Ok(verdict) => self.kept.keep(key, verdict, &self.settings.load().rules, self.now()),
            Err(_) => self.kept.no_word(key, self.now()),
        }
    }

    fn now(&self) -> Moment {
        Moment {
            nanos: nanos(Instant::now().saturating_duration_since(self.epoch)),
            unix: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
        }
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

const ALLOW: &str = "allow";

/// The metric label `verdict`.
fn label(answer: &Answer) -> &'static str {
    match answer {
        Ok(Verdict::Allow(_)) => ALLOW,
        Ok(Verdict::Deny(_)) => "deny",
        Err(_) => "undetermined",
    }
}

impl<V: Validator> fmt::Debug for Cached<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached")
            .field("inner", &self.shared.settings.load().inner)
            .field("kept", &self.shared.kept)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
