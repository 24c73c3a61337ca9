//! Limits in this process: rates per runner token and per job, and the job's budget of spans. It
//! decides on keys of verified identities only, and shares nothing with other replicas.
//!
//! State is bounded: a million jobs, and the idlest are forgotten first. Keys come only from
//! verified identities and are keyed hashes, so nobody can make up keys to push another job's state
//! out; a sender would need a million jobs that the authority knows.

use std::{fmt::Debug, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use governor::clock::{Clock, MonotonicClock};
use smallvec::SmallVec;

use crate::{
    cache::table::Table,
    config::{self, Mode},
    metrics::Metrics,
};

use super::{
    Cost, Decision, Limit, LimitStore, Subject,
    bucket::{Bucket, Watch, Word},
};

/// Most jobs that state is kept for; a job takes about 59 bytes.
const MAX_JOBS: usize = 1_000_000;

/// Most runner tokens that state is kept for.
const MAX_RUNNERS: usize = 200_000;

/// A job's budget is remembered this long after its last request: a job may say something at its
/// start and its end only, and GitLab's default timeout of a job is one hour. A longer debt of a
/// bucket than that is forgiven with it.
const JOB_IDLE: Duration = Duration::from_hours(1);

/// A runner's state holds nothing that a few seconds of silence don't undo.
const RUNNER_IDLE: Duration = Duration::from_mins(10);

/// The limit store of one process.
#[derive(Debug)]
pub struct Local<C: Clock = MonotonicClock> {
    /// Apart from the state, so that a reload changes rates and forgets nothing.
    rates: ArcSwap<Rates>,
    runners: Table<u64, u64>,
    jobs: Table<u64, Job>,
    watch: Watch<C>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Rates {
    runner_requests: Rule,
    job_requests: Rule,
    job_spans: Rule,
    job_bytes: Rule,
    max_spans_per_job: u64,
}

#[derive(Debug)]
struct Rule {
    limit: Limit,
    mode: Mode,
    bucket: Bucket,
}

/// The states of a job's buckets, and how many spans of its budget are spent.
#[derive(Clone, Copy, Debug, Default)]
struct Job {
    requests: u64,
    spans: u64,
    bytes: u64,
    spent: u64,
}

/// What the limits said to one charge.
struct Inquiry {
    now: u64,
    decision: Decision,
    words: SmallVec<[(Limit, &'static str); 4]>,
}

impl Local {
    /// Limits as configured, with empty state.
    #[must_use]
    pub fn new(limits: &config::Limits, max_spans_per_job: u64, metrics: Arc<Metrics>) -> Self {
        Self::with_clock(limits, max_spans_per_job, metrics, MonotonicClock)
    }
}

impl<C: Clock> Local<C> {
    fn with_clock(limits: &config::Limits, max_spans_per_job: u64, metrics: Arc<Metrics>, clock: C) -> Self {
        Self {
            rates: ArcSwap::from_pointee(Rates::new(limits, max_spans_per_job)),
            runners: Table::new(MAX_RUNNERS, RUNNER_IDLE),
            jobs: Table::new(MAX_JOBS, JOB_IDLE),
            watch: Watch::new(clock),
            metrics,
        }
    }

    /// Takes other rates from the next charge on. What was taken stays taken: a bucket that needs
    /// two seconds to fill up under the old rate needs as long under the new one.
    pub fn reconfigure(&self, limits: &config::Limits, max_spans_per_job: u64) {
        self.rates.store(Arc::new(Rates::new(limits, max_spans_per_job)));
    }

    /// Locks the runner's state, then the job's, never the other way round: with both held, a charge
    /// that is refused leaves no trace that another could stumble on.
    fn charge(&self, subject: Subject, cost: Cost) -> Inquiry {
        let rates = self.rates.load();
        let now = self.watch.now();
        let requests = u64::from(cost.requests);
        let mut inquiry = Inquiry { now, decision: Decision::Taken, words: SmallVec::new() };
        let ask_job = |inquiry: &mut Inquiry| {
            let Some(key) = subject.job else { return };
            self.jobs.with(key, now, |job| {
                let before = *job;
                inquiry.ask(&rates.job_requests, &mut job.requests, requests);
                inquiry.ask(&rates.job_spans, &mut job.spans, cost.spans);
                inquiry.ask(&rates.job_bytes, &mut job.bytes, cost.bytes);
                if inquiry.decision != Decision::Taken {
                    *job = before;
                }
            });
        };
        if requests == 0 {
            ask_job(&mut inquiry);
        } else {
            self.runners.with(subject.runner, now, |runner| {
                let before = *runner;
                inquiry.ask(&rates.runner_requests, runner, requests);
                ask_job(&mut inquiry);
                if inquiry.decision != Decision::Taken {
                    *runner = before;
                }
            });
        }
        inquiry
    }

    fn spend(&self, subject: Subject, wanted: u64) -> u64 {
        let Some(key) = subject.job else { return wanted };
        let most = self.rates.load().max_spans_per_job;
        self.jobs.with(key, self.watch.now(), |job| {
            let granted = wanted.min(most.saturating_sub(job.spent));
            job.spent = job.spent.saturating_add(granted);
            granted
        })
    }
}

impl<C> LimitStore for Local<C>
where
    C: Clock + Debug + Send + Sync + 'static,
    C::Instant: 'static,
{
    fn take(&self, subject: Subject, cost: Cost) -> BoxFuture<'_, Decision> {
        Box::pin(async move {
            let inquiry = self.charge(subject, cost);
            for (limit, word) in inquiry.words {
                self.metrics.limit_decision(limit.label(), word);
            }
            inquiry.decision
        })
    }

    fn take_budget(&self, subject: Subject, wanted: u64) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let granted = self.spend(subject, wanted);
            let word = if granted < wanted { "refused" } else { "allowed" };
            self.metrics.limit_decision(Limit::JobSpanBudget.label(), word);
            granted
        })
    }

    /// In `shadow` mode a charge that would have been refused was not taken either; giving it back
    /// then makes the shadow count a little too mild, never a real limit.
    fn give_back(&self, subject: Subject, cost: Cost, budget: u64) {
        let rates = self.rates.load();
        let now = self.watch.now();
        let requests = u64::from(cost.requests);
        if requests > 0 {
            let rule = &rates.runner_requests;
            self.runners
                .with_existing(&subject.runner, now, |runner| rule.bucket.give_back(runner, requests));
        }
        let Some(key) = subject.job else { return };
        self.jobs.with_existing(&key, now, |job| {
            rates.job_requests.bucket.give_back(&mut job.requests, requests);
            rates.job_spans.bucket.give_back(&mut job.spans, cost.spans);
            rates.job_bytes.bucket.give_back(&mut job.bytes, cost.bytes);
            job.spent = job.spent.saturating_sub(budget);
        });
    }
}

impl Inquiry {
    /// Every limit is asked even after one refused: the sender hears the longest wait.
    fn ask(&mut self, rule: &Rule, state: &mut u64, units: u64) {
        if units == 0 || rule.mode == Mode::Off {
            return;
        }
        let word = rule.bucket.take(state, units, self.now);
        self.words.push((
            rule.limit,
            match (word, rule.mode) {
                (Word::Taken, _) => "allowed",
                (_, Mode::Enforce) => "refused",
                (_, Mode::Shadow | Mode::Off) => "would_refuse",
            },
        ));
        if rule.mode != Mode::Enforce {
            return;
        }
        let limit = rule.limit;
        self.decision = match (word, self.decision) {
            (Word::Taken, earlier) => earlier,
            (Word::Wait(time), Decision::Refused { retry_after, .. }) if retry_after >= time => self.decision,
            (Word::Wait(retry_after), _) => Decision::Refused { limit, retry_after },
        };
    }
}

impl Rates {
    fn new(limits: &config::Limits, max_spans_per_job: u64) -> Self {
        let (runner, job) = (&limits.per_runner, &limits.per_job);
        let rule = |limit, mode, rate, burst| Rule { limit, mode, bucket: per_second(rate, burst) };
        let runner_rule = |limit, rate: u32| rule(limit, runner.mode, u64::from(rate), runner.burst);
        let job_rule = |limit, rate| rule(limit, job.mode, rate, job.burst);
        Self {
            runner_requests: runner_rule(Limit::RunnerRequests, runner.requests_per_second),
            job_requests: job_rule(Limit::JobRequests, u64::from(job.requests_per_second)),
            job_spans: job_rule(Limit::JobSpans, u64::from(job.spans_per_second)),
            job_bytes: job_rule(Limit::JobBytes, job.bytes_per_second.0),
            max_spans_per_job,
        }
    }
}

fn per_second(rate: u64, burst: Duration) -> Bucket {
    let units = u128::from(rate).saturating_mul(burst.as_nanos()).div_ceil(1_000_000_000);
    Bucket::new(rate, Duration::from_secs(1), u64::try_from(units).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
