//! Limits in this process: rates on all levels, and the job's budget of spans. It decides on keys of verified
//! identities only. What other replicas took comes in through [`Local::follow`]; what is taken here goes out
//! through a [`Ledger`].
//!
//! State is bounded: a million keys, and the idlest are forgotten first. Keys come only from
//! verified identities and are keyed hashes, so nobody can make up keys to push another job's state
//! out; a sender would need 800,000 jobs that the authority knows, all within the life of a budget. Nor
//! would that make its rates any higher (`keyed`).

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::{Either, ready};
use governor::clock::{Clock, MonotonicClock};

use crate::{
    config::{self, Config},
    metrics::Metrics,
};

use super::{
    Answer, Cost, Decision, Entry, Ledger, Level, Limit, LimitStore, Subject, Unit,
    bucket::Watch,
    keyed::{Account, Keyed},
    listener_key,
    rules::{Inquiry, LevelRules, Rules, Three, bit},
    tally::{Counters, Tally},
};

/// Most jobs that state is kept for; a job takes about 60 bytes. At 500 new ones a second, more than come in
/// the time for which a budget is remembered (16 minutes by default).
const MAX_JOBS: usize = 800_000;

/// Most runner tokens that state is kept for; one takes about 55 bytes.
const MAX_RUNNERS: usize = 100_000;

/// Most projects that state is kept for.
const MAX_PROJECTS: usize = 100_000;

/// A job's budget is remembered this long after the last verdict on it has ended at the latest. A longer
/// debt of a bucket than that is forgiven with it.
const JOB_IDLE: Duration = Duration::from_mins(10);

/// The state of a runner or a project holds nothing that a few seconds of silence don't undo.
const WIDE_IDLE: Duration = Duration::from_mins(10);

/// The limit store of one process.
#[derive(Debug)]
pub struct Local<C: Clock = MonotonicClock> {
    /// Apart from the state, so that a reload changes rates and forgets nothing.
    terms: ArcSwap<Terms>,
    jobs: Keyed<Job>,
    runners: Keyed<Three>,
    projects: Keyed<Three>,
    widest: Mutex<Widest>,
    /// How often each cost counts.
    share: AtomicU32,
    ledger: Option<Arc<dyn Ledger>>,
    watch: Watch<C>,
    counters: Arc<Counters>,
}

/// What a reload may change.
#[derive(Debug)]
struct Terms {
    rules: Rules,
    tally: Tally,
}

impl Terms {
    fn new(config: &Config, counters: &Arc<Counters>) -> Self {
        let rules = Rules::new(&config.limits, config.traces.max_spans_per_job);
        Self { tally: Tally::new(&rules, Arc::clone(counters)), rules }
    }
}

/// The states of a job's buckets, and how many spans of its budget are spent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Job {
    states: Three,
    /// Of its budget, as far as all replicas are known to have spent it. Budgets are counted up to 4 billion spans.
    spent: u32,
    /// What this replica spent of that while it was alone: its share is a part of what was left before.
    alone: u32,
}

impl Job {
    /// Spends up to `wanted` spans, one part in `share` of what is left of `most`. A share ends without a trace: what was
    /// spent under it counts once, before and after.
    fn spend(&mut self, wanted: u64, most: u64, share: u64) -> u64 {
        if share == 1 {
            self.alone = 0;
        }
        let before = u64::from(self.spent.saturating_sub(self.alone));
        let part = most.saturating_sub(before).checked_div(share).unwrap_or(0);
        let granted = wanted.min(part.saturating_sub(self.alone.into()));
        self.spent = self.spent.saturating_add(narrow(granted));
        if share > 1 {
            self.alone = self.alone.saturating_add(narrow(granted));
        }
        granted
    }
}

fn narrow(spans: u64) -> u32 {
    u32::try_from(spans).unwrap_or(u32::MAX)
}

impl Account for Job {
    fn states(&mut self) -> &mut Three {
        &mut self.states
    }
}

/// The levels that have one state each, under one lock: whoever wants the one wants the other.
#[derive(Debug)]
struct Widest {
    /// As they were at the start: listeners come and go only with a restart.
    listeners: Vec<(u64, Three)>,
    global: Three,
}

impl Widest {
    fn listener(&mut self, key: u64) -> Option<&mut Three> {
        self.listeners.iter_mut().find(|(known, _)| *known == key).map(|(_, states)| states)
    }
}

impl Local {
    /// Limits as configured, with empty state.
    #[must_use]
    pub fn new(config: &Config, metrics: &Metrics) -> Self {
        Self::with_clock(config, metrics, MonotonicClock)
    }
}

impl<C: Clock> Local<C> {
    fn with_clock(config: &Config, metrics: &Metrics, clock: C) -> Self {
        let listeners = config.listeners.iter().map(|listener| (listener_key(&listener.name), [0; 3]));
        let counters = Arc::new(Counters::new(metrics));
        Self {
            terms: ArcSwap::from_pointee(Terms::new(config, &counters)),
            jobs: Keyed::new(MAX_JOBS, job_idle(&config.cache)),
            runners: Keyed::new(MAX_RUNNERS, WIDE_IDLE),
            projects: Keyed::new(MAX_PROJECTS, WIDE_IDLE),
            widest: Mutex::new(Widest { listeners: listeners.collect(), global: [0; 3] }),
            share: AtomicU32::new(1),
            ledger: None,
            watch: Watch::new(clock),
            counters,
        }
    }

    /// The same limits, which tell a ledger of all that is taken and given back.
    #[must_use]
    pub fn with_ledger(self, ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger: Some(ledger), ..self }
    }

    /// Takes other rates from the next charge on. What was taken stays taken: a bucket that needs
    /// two seconds to fill up under the old rate needs as long under the new one.
    pub fn reconfigure(&self, config: &Config) {
        self.jobs.set_idle(job_idle(&config.cache));
        self.terms.store(Arc::new(Terms::new(config, &self.counters)));
    }

    /// Brings the state of an entry forward to `ahead` nanoseconds from now, or a job's budget to so many spent spans,
    /// if it is kept here and not there already.
    pub fn follow(&self, entry: Entry, ahead: u64) {
        let now = self.watch.now();
        let at = now.saturating_add(ahead);
        let raise = |states: &mut Three| {
            if let Some(state) = state_of(states, entry.unit) {
                *state = (*state).max(at);
            }
        };
        let key = entry.key;
        match entry.level {
            Level::Job => drop(self.jobs.with_existing(key, now, |job| match entry.unit {
                Unit::Budget => job.spent = job.spent.max(narrow(ahead)),
                Unit::Requests | Unit::Spans | Unit::Bytes => raise(&mut job.states),
            })),
            Level::Runner => drop(self.runners.with_existing(key, now, raise)),
            Level::Project => drop(self.projects.with_existing(key, now, raise)),
            Level::Listener => drop(self.widest().listener(key).map(raise)),
            Level::Global => raise(&mut self.widest().global),
        }
    }

    /// Keeps to the share of one of so many replicas from the next charge on: each cost counts so many times. For
    /// while replicas don't know of each other. What was taken before is given back as often as the share
    /// says by then.
    pub fn set_share(&self, replicas: u32) {
        self.share.store(replicas.max(1), Ordering::Relaxed);
    }

    fn share(&self) -> u64 {
        u64::from(self.share.load(Ordering::Relaxed))
    }

    fn widest(&self) -> MutexGuard<'_, Widest> {
        self.widest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the states of the job, then of the runner, the project, and the widest, never the other way round: with
    /// all held, a charge that is refused leaves no trace that another could stumble on. The lock that
    /// everybody wants is held the shortest.
    fn charge(&self, subject: &Subject, cost: Cost) -> Decision {
        let terms = self.terms.load();
        let units = scaled(three(cost), self.share());
        let mut inquiry = Inquiry::new(self.watch.now(), units);
        self.ask_job(&terms.rules, subject, &mut inquiry);
        terms.tally.add(subject, &inquiry);
        if let (Decision::Taken, Some(ledger)) = (inquiry.decision, &self.ledger) {
            note(&**ledger, &terms.rules, subject, cost, inquiry.allowed, 1);
        }
        inquiry.decision
    }

    fn ask_job(&self, rules: &Rules, subject: &Subject, inquiry: &mut Inquiry) {
        let next = |inquiry: &mut Inquiry| self.ask_runner(rules, subject, inquiry);
        match subject.job {
            Some(key) if rules.job.ask_for(&inquiry.units) => {
                let now = inquiry.now;
                let work = |job: &mut Job| inquiry.ask(&rules.job, &mut job.states, next);
                self.jobs.with(key, now, &rules.job, work);
            }
            _ => next(inquiry),
        }
    }

    fn ask_runner(&self, rules: &Rules, subject: &Subject, inquiry: &mut Inquiry) {
        let next = |inquiry: &mut Inquiry| self.ask_project(rules, subject, inquiry);
        if rules.runner.ask_for(&inquiry.units) {
            let now = inquiry.now;
            let work = |states: &mut Three| inquiry.ask(&rules.runner, states, next);
            self.runners.with(subject.runner, now, &rules.runner, work);
        } else {
            next(inquiry);
        }
    }

    fn ask_project(&self, rules: &Rules, subject: &Subject, inquiry: &mut Inquiry) {
        let next = |inquiry: &mut Inquiry| self.ask_widest(rules, subject, inquiry);
        match subject.project {
            Some(key) if rules.project.ask_for(&inquiry.units) => {
                let now = inquiry.now;
                let work = |states: &mut Three| inquiry.ask(&rules.project, states, next);
                self.projects.with(key, now, &rules.project, work);
            }
            _ => next(inquiry),
        }
    }

    fn ask_widest(&self, rules: &Rules, subject: &Subject, inquiry: &mut Inquiry) {
        let (listener, global) = (&rules.listener, &rules.global);
        if !listener.ask_for(&inquiry.units) && !global.ask_for(&inquiry.units) {
            return;
        }
        let mut widest = self.widest();
        let Widest { listeners, global: states } = &mut *widest;
        let own = listeners.iter_mut().find(|(key, _)| *key == subject.listener);
        let mut last = |inquiry: &mut Inquiry| inquiry.ask(global, states, |_| ());
        match own {
            Some((_, own)) => inquiry.ask(listener, own, last),
            None => last(inquiry),
        }
    }

    fn spend(&self, subject: &Subject, wanted: u64) -> u64 {
        let Some(key) = subject.job else { return wanted };
        let (terms, share) = (self.terms.load(), self.share());
        let most = terms.rules.max_spans_per_job;
        let granted =
            self.jobs.with(key, self.watch.now(), &terms.rules.job, |job| job.spend(wanted, most, share));
        if let Some(counts) = self.counters.of(Limit::JobSpanBudget) {
            counts.add([u64::from(granted >= wanted), u64::from(granted < wanted), 0]);
        }
        self.note_budget(key, granted, 1);
        granted
    }

    fn note_budget(&self, key: u64, spans: u64, sign: i64) {
        if let (Some(ledger), 1..) = (&self.ledger, spans) {
            ledger.note(Entry { level: Level::Job, key, unit: Unit::Budget }, signed(spans, sign));
        }
    }

    /// A job that is new here, for those who can ask other replicas; from now on it is kept, so that what they
    /// know can be [followed](Self::follow).
    fn first_sight(&self, subject: &Subject) -> Option<futures_util::future::BoxFuture<'_, ()>> {
        let (ledger, key) = (self.ledger.as_ref()?, subject.job?);
        let now = self.watch.now();
        if self.jobs.with_existing(key, now, |_| ()).is_some() {
            return None;
        }
        self.jobs.with(key, now, &self.terms.load().rules.job, |_| ());
        ledger.first_sight(*subject)
    }
}

/// A verdict may be served until its longest time and both grace periods are over.
fn job_idle(cache: &config::Cache) -> Duration {
    [cache.max_ttl, cache.stale_if_error.max(cache.stale_while_revalidate)]
        .into_iter()
        .fold(JOB_IDLE, Duration::saturating_add)
}

fn three(cost: Cost) -> Three {
    [u64::from(cost.requests), cost.spans, cost.bytes]
}

fn scaled(units: Three, share: u64) -> Three {
    if share == 1 { units } else { units.map(|units| units.saturating_mul(share)) }
}

fn state_of(states: &mut Three, unit: Unit) -> Option<&mut u64> {
    let [requests, spans, bytes] = states;
    match unit {
        Unit::Requests => Some(requests),
        Unit::Spans => Some(spans),
        Unit::Bytes => Some(bytes),
        Unit::Budget => None,
    }
}

fn signed(amount: u64, sign: i64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX).saturating_mul(sign)
}

/// Tells of what the limits in `taken` took of a cost, or gave back.
fn note(ledger: &dyn Ledger, rules: &Rules, subject: &Subject, cost: Cost, taken: u32, sign: i64) {
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

impl<C> LimitStore for Local<C>
where
    C: Clock + Debug + Send + Sync + 'static,
    C::Instant: 'static,
{
    fn take(&self, subject: Subject, cost: Cost) -> Answer<'_, Decision> {
        match self.first_sight(&subject) {
            None => Either::Left(ready(self.charge(&subject, cost))),
            Some(wait) => Either::Right(Box::pin(async move {
                wait.await;
                self.charge(&subject, cost)
            })),
        }
    }

    fn take_budget(&self, subject: Subject, wanted: u64) -> Answer<'_, u64> {
        Either::Left(ready(self.spend(&subject, wanted)))
    }

    /// In `shadow` mode a charge that would have been refused was not taken either; giving it back
    /// then makes the shadow count a little too mild, never a real limit.
    fn give_back(&self, subject: Subject, cost: Cost, budget: u64) {
        let terms = self.terms.load();
        let (rules, now, share) = (&terms.rules, self.watch.now(), self.share());
        let units = scaled(three(cost), share);
        let of = |level: &LevelRules, states: &mut Three| level.give_back(states, &units);
        if let Some(key) = subject.job
            && (budget > 0 || rules.job.ask_for(&units))
        {
            self.jobs.with_existing(key, now, |job| {
                of(&rules.job, &mut job.states);
                job.spent = job.spent.saturating_sub(narrow(budget));
                job.alone = job.alone.saturating_sub(narrow(budget));
            });
            self.note_budget(key, budget, -1);
        }
        if rules.runner.ask_for(&units) {
            self.runners.with_existing(subject.runner, now, |states| of(&rules.runner, states));
        }
        if let Some(key) = subject.project
            && rules.project.ask_for(&units)
        {
            self.projects.with_existing(key, now, |states| of(&rules.project, states));
        }
        if rules.listener.ask_for(&units) || rules.global.ask_for(&units) {
            let mut widest = self.widest();
            if let Some(states) = widest.listener(subject.listener) {
                of(&rules.listener, states);
            }
            of(&rules.global, &mut widest.global);
        }
        if let Some(ledger) = &self.ledger {
            note(&**ledger, rules, &subject, cost, u32::MAX, -1);
        }
    }

    fn record(&self) {
        self.terms.load().tally.settle();
    }
}

#[cfg(test)]
mod tests;
