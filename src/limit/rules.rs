//! The rates of a configuration as buckets, level by level, and what they say to a cost. It holds no state
//! of a key and decides nothing about modes but what each word counts as.

use std::time::Duration;

use crate::config::{self, Mode, units::ByteSize};

use super::{
    Decision, Level, Limit, Refusal,
    bucket::{Bucket, Word},
};

/// Of requests, spans and bytes: the states of one key's buckets, or the units of one cost.
pub(super) type Three = [u64; 3];

/// What a configuration allows.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) job: LevelRules,
    pub(super) runner: LevelRules,
    pub(super) project: LevelRules,
    pub(super) listener: LevelRules,
    pub(super) global: LevelRules,
    pub(super) max_spans_per_job: u64,
}

/// The rates of one level.
#[derive(Debug)]
pub(super) struct LevelRules {
    pub(super) level: Level,
    mode: Mode,
    /// `None`: not limited.
    buckets: [Option<Bucket>; 3],
}

/// Of which limits something is said: a bit for each, `1 << limit`.
pub(super) type Limits = u32;

/// What the limits said to one charge.
#[derive(Debug)]
pub(super) struct Inquiry {
    pub(super) now: u64,
    pub(super) units: Three,
    pub(super) decision: Decision,
    pub(super) allowed: Limits,
    pub(super) refused: Limits,
    pub(super) would_refuse: Limits,
}

pub(super) fn bit(limit: Limit) -> Limits {
    1_u32.wrapping_shl(limit as u32)
}

impl Rules {
    pub(super) fn new(limits: &config::Limits, max_spans_per_job: u64) -> Self {
        let config::Limits { global, per_listener, per_project, per_runner, per_job, .. } = limits;
        let of = |level, rates: &config::LevelRates| {
            let config::LevelRates { requests_per_second, spans_per_second, bytes_per_second, .. } = *rates;
            let rates_of = rates_of(requests_per_second, spans_per_second, bytes_per_second);
            LevelRules::new(level, rates.mode, rates.burst, rates_of)
        };
        let of_runner = rates_of(
            per_runner.requests_per_second,
            per_runner.spans_per_second,
            per_runner.bytes_per_second,
        );
        let of_job =
            rates_of(per_job.requests_per_second, per_job.spans_per_second, per_job.bytes_per_second);
        Self {
            job: LevelRules::new(Level::Job, per_job.mode, per_job.burst, of_job),
            runner: LevelRules::new(Level::Runner, per_runner.mode, per_runner.burst, of_runner),
            project: of(Level::Project, per_project),
            listener: of(Level::Listener, per_listener),
            global: of(Level::Global, global),
            max_spans_per_job,
        }
    }

    pub(super) fn levels(&self) -> [&LevelRules; 5] {
        [&self.job, &self.runner, &self.project, &self.listener, &self.global]
    }
}

fn rates_of(requests: u32, spans: u32, bytes: ByteSize) -> Three {
    [u64::from(requests), u64::from(spans), bytes.0]
}

impl LevelRules {
    fn new(level: Level, mode: Mode, burst: Duration, rates: Three) -> Self {
        let bucket = |rate: u64| (rate > 0 && mode != Mode::Off).then(|| per_second(rate, burst));
        Self { level, mode, buckets: rates.map(bucket) }
    }

    /// The limits that hold, with their buckets, in the order of [`Three`].
    pub(super) fn buckets(&self) -> impl Iterator<Item = (Limit, Option<&Bucket>)> {
        Limit::rates_of(self.level).into_iter().zip(self.buckets.iter().map(Option::as_ref))
    }

    /// Whether any of them is asked for these units.
    pub(super) fn ask_for(&self, units: &Three) -> bool {
        self.buckets.iter().zip(units).any(|(bucket, units)| bucket.is_some() && *units > 0)
    }

    /// Keeps the states from being fuller than `floors`, which are no debts.
    pub(super) fn raise(&self, states: &mut Three, floors: &Three, now: u64) {
        for ((bucket, state), floor) in self.buckets.iter().zip(states).zip(floors) {
            if let Some(bucket) = bucket {
                *state = (*state).max(bucket.at_most_empty(*floor, now));
            }
        }
    }

    pub(super) fn give_back(&self, states: &mut Three, units: &Three) {
        for ((bucket, state), units) in self.buckets.iter().zip(states).zip(units) {
            if let Some(bucket) = bucket {
                bucket.give_back(state, *units);
            }
        }
    }
}

fn per_second(rate: u64, burst: Duration) -> Bucket {
    let units = u128::from(rate).saturating_mul(burst.as_nanos()).div_ceil(1_000_000_000);
    Bucket::new(rate, Duration::from_secs(1), u64::try_from(units).unwrap_or(u64::MAX))
}

impl Inquiry {
    pub(super) fn new(now: u64, units: Three) -> Self {
        Self { now, units, decision: Decision::Taken, allowed: 0, refused: 0, would_refuse: 0 }
    }

    /// The cost in spans from here on, and whether that is all that were wanted of the job's budget.
    pub(super) fn grant(&mut self, spans: u64, is_whole: bool) {
        let [_, units, _] = &mut self.units;
        *units = spans;
        *(if is_whole { &mut self.allowed } else { &mut self.refused }) |= bit(Limit::JobSpanBudget);
    }

    /// Asks the limits of one level, and takes from those that don't refuse.
    pub(super) fn ask(&mut self, rules: &LevelRules, states: &mut Three) {
        for (((bucket, state), units), limit) in
            rules.buckets.iter().zip(states.iter_mut()).zip(self.units).zip(Limit::rates_of(rules.level))
        {
            if let (Some(bucket), 1..) = (bucket, units) {
                self.judge(limit, rules.mode, bucket, state, units);
            }
        }
    }

    /// Every limit is asked even after one refused: the sender hears the longest wait.
    fn judge(&mut self, limit: Limit, mode: Mode, bucket: &Bucket, state: &mut u64, units: u64) {
        let Word::Wait(retry_after) = bucket.take(state, units, self.now) else {
            self.allowed |= bit(limit);
            return;
        };
        if mode != Mode::Enforce {
            self.would_refuse |= bit(limit);
            return;
        }
        self.refused |= bit(limit);
        match self.decision {
            Decision::Refused(earlier) if earlier.retry_after >= retry_after => {}
            _ => {
                let quota = bucket.quota(*state, self.now);
                self.decision = Decision::Refused(Refusal { limit, retry_after, quota });
            }
        }
    }
}
