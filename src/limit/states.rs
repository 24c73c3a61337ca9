//! The states of all levels, and one charge's way through them. It knows no clock and no lock; what it decides is that
//! all of a charge is taken or none of it, and for how long a key is remembered.
//!
//! State is bounded: a million keys, and the idlest are forgotten first. Keys come only from
//! verified identities and are keyed hashes, so nobody can make up keys to push another job's state
//! out; a sender would need 800,000 jobs that the authority knows, all within the life of a budget. Nor
//! would that make its rates any higher (`keyed`).

use std::{sync::Arc, time::Duration};

use crate::{
    config::{self, Config},
    validate::Places,
};

use super::{
    Cost, Entry, Level, Refusal, Subject, Unit,
    keyed::{Account, Keyed},
    listener_key,
    rules::{Inquiry, Limits, Rules, Three, kinds},
    tally::{Counters, Tally, kind},
};

/// Most jobs that state is kept for; a job takes about 55 bytes. At 500 new ones a second, more than come in
/// the time for which a budget is remembered (16 minutes by default).
const MAX_JOBS: usize = 800_000;

/// Most runner tokens that state is kept for; one takes about 47 bytes.
const MAX_RUNNERS: usize = 100_000;

/// Most projects that state is kept for.
const MAX_PROJECTS: usize = 100_000;

/// A job's budget is remembered this long after the last verdict on it has ended at the latest. A longer
/// debt of a bucket than that is forgiven with it.
pub(super) const JOB_IDLE: Duration = Duration::from_mins(10);

/// The state of a runner or a project holds nothing that a few seconds of silence don't undo.
pub(super) const WIDE_IDLE: Duration = Duration::from_mins(10);

#[derive(Debug)]
pub(super) struct States {
    /// Apart from what is kept by key, so that a reload changes rates and forgets nothing.
    pub(super) rules: Arc<Rules>,
    pub(super) tally: Tally,
    /// How often each cost counts.
    pub(super) share: u64,
    pub(super) jobs: Keyed<Job>,
    pub(super) runners: Keyed<Three>,
    pub(super) projects: Keyed<Three>,
    /// As they were at the start: listeners come and go only with a restart.
    pub(super) listeners: Vec<(u64, Three)>,
    pub(super) global: Three,
}

/// The states of a job's buckets, and how many spans of its budget are spent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Job {
    pub(super) states: Three,
    /// Of its budget, as far as all replicas are known to have spent it. Budgets are counted up to 4 billion spans.
    spent: u32,
    /// What this replica spent of that while it was alone: its share is a part of what was left before.
    alone: u32,
}

impl Job {
    /// Spends so many spans, or none if fewer are left of `most`; for a replica that is not alone.
    fn spend_whole(&mut self, spans: u64, most: u64) -> bool {
        let has = u64::from(self.spent).saturating_add(spans) <= most;
        if has {
            self.spend(spans, most, 1);
        }
        has
    }

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

/// What became of a charge.
pub(super) struct Outcome {
    /// Nothing is taken.
    pub(super) refusal: Option<Refusal>,
    /// Which limits let it pass: what they took, if it is taken.
    pub(super) taken: Limits,
    /// How many of its spans the job's budget grants, where it is asked.
    pub(super) granted: u64,
}

impl Account for Job {
    fn states(&mut self) -> &mut Three {
        &mut self.states
    }
}

impl States {
    pub(super) fn new(config: &Config, counters: &Arc<Counters>) -> Self {
        let rules = Arc::new(Rules::new(&config.limits, config.traces.max_spans_per_job));
        let listeners = config.listeners.iter().map(|listener| (listener_key(&listener.name), [0; 3]));
        Self {
            tally: Tally::new(&rules, Arc::clone(counters)),
            rules,
            share: 1,
            jobs: Keyed::new(MAX_JOBS, job_idle(&config.cache)),
            runners: Keyed::new(MAX_RUNNERS, WIDE_IDLE),
            projects: Keyed::new(MAX_PROJECTS, WIDE_IDLE),
            listeners: listeners.collect(),
            global: [0; 3],
        }
    }

    /// Charges a cost the way that nearly all go: every state is there, holds what it costs, and nothing else has to be
    /// told. Returns what was taken; `None`: nothing was, and it must be [charged](Self::charge) the long way.
    pub(super) fn pass(
        &mut self,
        subject: &Subject<'_>,
        cost: Cost,
        budget: bool,
        now: u64,
    ) -> Option<Limits> {
        if self.share != 1 {
            return None;
        }
        let units = three(cost);
        let kinds = kinds(&units, |units| *units > 0);
        let asked = Asked::new(&self.rules, subject, kinds, budget);
        if !self.find(&asked, subject.places, now).pass(&asked, &units, budget, now) {
            return None;
        }
        Some(self.tally.pass(kind(subject, kinds, budget && asked.job.is_some())))
    }

    /// Charges a cost.
    pub(super) fn charge(&mut self, subject: &Subject<'_>, cost: Cost, budget: bool, now: u64) -> Outcome {
        let mut inquiry = Inquiry::new(now, scaled(three(cost), self.share));
        let kinds = kinds(&inquiry.units, |units| *units > 0);
        let asked = Asked::new(&self.rules, subject, kinds, budget);
        let mut accounts = self.find(&asked, subject.places, now);
        if accounts.lack(&asked) {
            self.add(&asked, now);
            accounts = self.find(&asked, subject.places, now);
        }
        let granted = accounts.charge(&mut inquiry, budget, cost.spans);
        self.tally.add(subject, &inquiry);
        Outcome { refusal: inquiry.refusal, taken: inquiry.allowed, granted }
    }

    /// All of them before the first is looked at: in large tables each costs a cache miss or two, and so the processor
    /// waits for all together.
    fn find(&mut self, asked: &Asked, places: Option<&Places>, now: u64) -> Accounts<'_> {
        let nowhere = Places::default();
        let Places([job, runner, project]) = places.unwrap_or(&nowhere);
        let Self { rules, share, jobs, runners, projects, listeners, global, .. } = self;
        Accounts {
            share: *share,
            job: asked.job.and_then(|key| jobs.get_mut(key, job, now)),
            runner: asked.runner.and_then(|key| runners.get_mut(key, runner, now)),
            project: asked.project.and_then(|key| projects.get_mut(key, project, now)),
            listener: listener(listeners, asked.listener),
            global,
            rules,
        }
    }

    fn add(&mut self, asked: &Asked, now: u64) {
        if let Some(key) = asked.job {
            self.jobs.add(key, now, &self.rules.job);
        }
        if let Some(key) = asked.runner {
            self.runners.add(key, now, &self.rules.runner);
        }
        if let Some(key) = asked.project {
            self.projects.add(key, now, &self.rules.project);
        }
    }

    /// Whether a job is new here; from now on it is not.
    pub(super) fn meet(&mut self, key: u64, now: u64) -> bool {
        let is_new = self.jobs.search(key, now).is_none();
        if is_new {
            self.jobs.add(key, now, &self.rules.job);
        }
        is_new
    }

    pub(super) fn follow(&mut self, entry: Entry, ahead: u64, now: u64) {
        let at = now.saturating_add(ahead);
        let raise = |states: &mut Three| {
            if let Some(state) = state_of(states, entry.unit) {
                *state = (*state).max(at);
            }
        };
        let key = entry.key;
        match entry.level {
            Level::Job => drop(self.jobs.search(key, now).map(|job| match entry.unit {
                Unit::Budget => job.spent = job.spent.max(narrow(ahead)),
                Unit::Requests | Unit::Spans | Unit::Bytes => raise(&mut job.states),
            })),
            Level::Runner => drop(self.runners.search(key, now).map(raise)),
            Level::Project => drop(self.projects.search(key, now).map(raise)),
            Level::Listener => drop(listener(&mut self.listeners, key).map(raise)),
            Level::Global => raise(&mut self.global),
        }
    }

    pub(super) fn give_back(&mut self, subject: &Subject<'_>, cost: Cost, budget: u64, now: u64) {
        let units = scaled(three(cost), self.share);
        let asked = Asked::new(&self.rules, subject, kinds(&units, |units| *units > 0), budget > 0);
        let Accounts { rules, job, runner, project, listener, global, .. } =
            self.find(&asked, subject.places, now);
        if let Some(job) = job {
            rules.job.give_back(&mut job.states, &units);
            job.spent = job.spent.saturating_sub(narrow(budget));
            job.alone = job.alone.saturating_sub(narrow(budget));
        }
        let [_, wider @ ..] = rules.levels();
        for (rules, states) in wider.into_iter().zip([runner, project, listener, Some(global)]) {
            if let Some(states) = states {
                rules.give_back(states, &units);
            }
        }
    }
}

/// Whose states a charge asks, of those that are kept by key; `None`: a level that does not hold for it.
struct Asked {
    job: Option<u64>,
    runner: Option<u64>,
    project: Option<u64>,
    listener: u64,
    /// Whether the listener's limits are asked: its states are there from the start or never.
    has_listener: bool,
}

impl Asked {
    fn new(rules: &Rules, subject: &Subject<'_>, kinds: u8, budget: bool) -> Self {
        Self {
            job: subject.job.filter(|_| budget || rules.job.ask_for(kinds)),
            runner: Some(subject.runner).filter(|_| rules.runner.ask_for(kinds)),
            project: subject.project.filter(|_| rules.project.ask_for(kinds)),
            listener: subject.listener,
            has_listener: rules.listener.ask_for(kinds),
        }
    }
}

/// What one charge asks. One that was forgotten in the moment when it was added, in a table full of keys in use, is not
/// asked.
struct Accounts<'a> {
    rules: &'a Rules,
    share: u64,
    job: Option<&'a mut Job>,
    runner: Option<&'a mut Three>,
    project: Option<&'a mut Three>,
    listener: Option<&'a mut Three>,
    global: &'a mut Three,
}

impl Accounts<'_> {
    fn lack(&self, asked: &Asked) -> bool {
        self.job.is_some() != asked.job.is_some()
            || self.runner.is_some() != asked.runner.is_some()
            || self.project.is_some() != asked.project.is_some()
    }

    /// Takes a cost if all levels hold it; `false`: nothing was touched.
    ///
    /// Each state is written once and kept apart once, number by number: copies of whole states in between would be read in
    /// larger pieces than they were just written, and would have to wait for that.
    fn pass(self, asked: &Asked, units: &Three, budget: bool, now: u64) -> bool {
        if self.lack(asked) || (self.listener.is_none() && asked.has_listener) {
            return false;
        }
        let Self { rules, mut job, mut runner, mut project, mut listener, global, .. } = self;
        let mut before = [[0; 3]; 5];
        let [of_job, of_runner, of_project, of_listener, of_global] = &mut before;
        let mut all = rules.global.take_held(global, units, now, of_global);
        if let Some(listener) = &mut listener {
            all &= rules.listener.take_held(listener, units, now, of_listener);
        }
        if let Some(project) = &mut project {
            all &= rules.project.take_held(project, units, now, of_project);
        }
        if let Some(runner) = &mut runner {
            all &= rules.runner.take_held(runner, units, now, of_runner);
        }
        if let Some(job) = &mut job {
            all &= rules.job.take_held(&mut job.states, units, now, of_job);
            let [_, spans, _] = *units;
            if all && budget {
                all = job.spend_whole(spans, rules.max_spans_per_job);
            }
        }
        if !all {
            let states = [job.map(|job| &mut job.states), runner, project, listener, Some(global)];
            for ((rules, states), before) in rules.levels().into_iter().zip(states).zip(&before) {
                if let Some(states) = states {
                    rules.undo(states, units, before);
                }
            }
        }
        all
    }

    /// Every level is asked, also after one refused: the sender hears the longest wait. A refused charge leaves no trace; a
    /// budget that grants less than all that is wanted refuses nothing.
    fn charge(self, inquiry: &mut Inquiry, budget: bool, wanted: u64) -> u64 {
        let Self { rules, share, mut job, runner, project, listener, global } = self;
        let job_before = job.as_deref().copied();
        let mut granted = wanted;
        if let Some(job) = &mut job {
            if budget {
                granted = job.spend(wanted, rules.max_spans_per_job, share);
                inquiry.grant(granted.saturating_mul(share), granted >= wanted);
            }
            inquiry.ask(&rules.job, &mut job.states);
        }
        let mut wider = [runner, project, listener, Some(global)];
        let before = wider.each_ref().map(|states| states.as_deref().copied());
        let [_, wider_rules @ ..] = rules.levels();
        for (rules, states) in wider_rules.into_iter().zip(&mut wider) {
            if let Some(states) = states {
                inquiry.ask(rules, states);
            }
        }
        if inquiry.refusal.is_some() {
            if let (Some(job), Some(before)) = (job, job_before) {
                *job = before;
            }
            for (states, before) in wider.into_iter().zip(before) {
                if let (Some(states), Some(before)) = (states, before) {
                    *states = before;
                }
            }
        }
        granted
    }
}

fn listener(listeners: &mut [(u64, Three)], key: u64) -> Option<&mut Three> {
    listeners.iter_mut().find(|(known, _)| *known == key).map(|(_, states)| states)
}

/// A verdict may be served until its longest time and both grace periods are over.
pub(super) fn job_idle(cache: &config::Cache) -> Duration {
    [cache.max_ttl, cache.stale_if_error.max(cache.stale_while_revalidate)]
        .into_iter()
        .fold(JOB_IDLE, Duration::saturating_add)
}

pub(super) fn three(cost: Cost) -> Three {
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
