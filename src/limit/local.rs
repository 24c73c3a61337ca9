//! Limits in this process: rates on all levels, and the job's budget of spans. It decides on keys of verified
//! identities only, and reads no clock. What other replicas took comes in through [`Local::follow`]; what is taken
//! here goes out through a [`Ledger`].

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures_util::future::{BoxFuture, Either, ready};

use crate::{config::Config, metrics::Metrics};

use super::{
    Answer, Cost, Decision, Entry, Ledger, Level, LimitStore, Refusal, Subject, Unit,
    rules::{Limits, Rules, bit},
    states::{Outcome, States, job_idle, three},
    tally::{Counters, Tally},
};

/// The limit store of one process.
#[derive(Debug)]
pub struct Local {
    /// One lock for all levels: a charge asks most of them, holds it for some 50 ns, and a lock for each level would
    /// cost more than it frees.
    states: Mutex<States>,
    ledger: Option<Arc<dyn Ledger>>,
    /// Times are nanoseconds since then.
    epoch: Instant,
    counters: Arc<Counters>,
}

impl Local {
    /// Limits as configured, with empty state.
    #[must_use]
    pub fn new(config: &Config, metrics: &Metrics) -> Self {
        let counters = Arc::new(Counters::new(metrics));
        let states = Mutex::new(States::new(config, &counters));
        Self { states, ledger: None, epoch: Instant::now(), counters }
    }

    /// The same limits, which tell a ledger of all that is taken and given back.
    #[must_use]
    pub fn with_ledger(self, ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger: Some(ledger), ..self }
    }

    /// Takes other rates from the next charge on. What was taken stays taken: a bucket that needs
    /// two seconds to fill up under the old rate needs as long under the new one.
    pub fn reconfigure(&self, config: &Config) {
        let rules = Arc::new(Rules::new(&config.limits, config.traces.max_spans_per_job));
        let tally = Tally::new(&rules, Arc::clone(&self.counters));
        let mut states = self.states();
        states.jobs.set_idle(job_idle(&config.cache));
        (states.rules, states.tally) = (rules, tally);
    }

    /// Brings the state of an entry forward to `ahead` nanoseconds from `now`, or a job's budget to so many spent spans,
    /// if it is kept here and not there already.
    pub fn follow(&self, entry: Entry, ahead: u64, now: Instant) {
        let now = self.nanos(now);
        self.states().follow(entry, ahead, now);
    }

    /// Keeps to the share of one of so many replicas from the next charge on: each cost counts so many times. For
    /// while replicas don't know of each other. What was taken before is given back as often as the share
    /// says by then.
    pub fn set_share(&self, replicas: u32) {
        self.states().share = replicas.max(1).into();
    }

    fn states(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes a cost, its spans as far as the job's budget grants them if `budget` is asked; returns how many that are.
    fn charge(
        &self,
        subject: &Subject<'_>,
        cost: Cost,
        budget: bool,
        now: Instant,
    ) -> Result<u64, Box<Refusal>> {
        let now = self.nanos(now);
        let mut states = self.states();
        match states.pass(subject, cost, budget, now) {
            Some(taken) => self.tell(states, subject, cost, budget, taken),
            None => return self.charge_or_refuse(states, subject, cost, budget, now),
        }
        Ok(cost.spans)
    }

    /// The long way, and seldom.
    #[cold]
    fn charge_or_refuse(
        &self,
        mut states: MutexGuard<'_, States>,
        subject: &Subject<'_>,
        mut cost: Cost,
        budget: bool,
        now: u64,
    ) -> Result<u64, Box<Refusal>> {
        let Outcome { refusal, taken, granted } = states.charge(subject, cost, budget, now);
        if let Some(refusal) = refusal {
            return Err(Box::new(refusal));
        }
        if budget {
            cost.spans = granted;
        }
        self.tell(states, subject, cost, budget, taken);
        Ok(granted)
    }

    /// Tells the ledger, if there is one, what was taken.
    fn tell(
        &self,
        states: MutexGuard<'_, States>,
        subject: &Subject<'_>,
        cost: Cost,
        budget: bool,
        taken: Limits,
    ) {
        let Some(ledger) = &self.ledger else { return };
        let rules = Arc::clone(&states.rules);
        drop(states);
        if budget {
            note_budget(&**ledger, subject, cost.spans, 1);
        }
        note(&**ledger, &rules, subject, cost, taken, 1);
    }

    /// A job that is new here, for those who can ask other replicas; from now on it is kept, so that what they
    /// know can be [followed](Self::follow).
    fn first_sight(&self, subject: &Subject<'_>, now: Instant) -> Option<BoxFuture<'_, ()>> {
        let (ledger, key) = (self.ledger.as_ref()?, subject.job?);
        let now = self.nanos(now);
        let is_new = self.states().meet(key, now);
        is_new.then(|| ledger.first_sight(*subject)).flatten()
    }
}

fn decision(charged: Result<u64, Box<Refusal>>) -> Decision {
    charged.map_or_else(Decision::Refused, |_| Decision::Taken)
}

fn signed(amount: u64, sign: i64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX).saturating_mul(sign)
}

fn note_budget(ledger: &dyn Ledger, subject: &Subject<'_>, spans: u64, sign: i64) {
    if let (Some(key), 1..) = (subject.job, spans) {
        ledger.note(Entry { level: Level::Job, key, unit: Unit::Budget }, signed(spans, sign));
    }
}

/// Tells of what the limits in `taken` took of a cost, or gave back.
fn note(ledger: &dyn Ledger, rules: &Rules, subject: &Subject<'_>, cost: Cost, taken: u32, sign: i64) {
    let units = three(cost).into_iter().zip([Unit::Requests, Unit::Spans, Unit::Bytes]);
    for level in rules.levels() {
        let key = match level.level {
            Level::Job => subject.job,
            Level::Runner => Some(subject.runner),
            Level::Project => subject.project,
            Level::Listener => Some(subject.listener),
            Level::Global => Some(0),
        };
        let Some(key) = key else { continue };
        for ((limit, bucket), (amount, unit)) in level.buckets().zip(units.clone()) {
            if let (Some(bucket), 1.., true) = (bucket, amount, taken & bit(limit) != 0) {
                ledger.note(Entry { level: level.level, key, unit }, signed(bucket.nanos_of(amount), sign));
            }
        }
    }
}

impl LimitStore for Local {
    fn take(&self, subject: &Subject<'_>, cost: Cost, now: Instant) -> Answer<'_, Decision> {
        match self.first_sight(subject, now) {
            None => Either::Left(ready(decision(self.charge(subject, cost, false, now)))),
            Some(wait) => {
                // It may outlive the sender's identity.
                let subject = Subject { places: None, ..*subject };
                Either::Right(Box::pin(async move {
                    wait.await;
                    decision(self.charge(&subject, cost, false, now))
                }))
            }
        }
    }

    fn take_spans(
        &self,
        subject: &Subject<'_>,
        cost: Cost,
        now: Instant,
    ) -> Answer<'_, Result<u64, Box<Refusal>>> {
        Either::Left(ready(self.charge(subject, cost, true, now)))
    }

    /// In `shadow` mode a charge that would have been refused was not taken either; giving it back
    /// then makes the shadow count a little too mild, never a real limit.
    fn give_back(&self, subject: &Subject<'_>, cost: Cost, budget: u64, now: Instant) {
        let now = self.nanos(now);
        let mut states = self.states();
        states.give_back(subject, cost, budget, now);
        let told = self.ledger.as_ref().map(|ledger| (ledger, Arc::clone(&states.rules)));
        drop(states);
        if let Some((ledger, rules)) = told {
            note_budget(&**ledger, subject, budget, -1);
            note(&**ledger, &rules, subject, cost, u32::MAX, -1);
        }
    }

    fn record(&self) {
        self.states().tally.settle();
    }
}

#[cfg(test)]
mod tests;
