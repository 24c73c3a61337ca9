//! The rates of a configuration as buckets, level by level, and what they say to a cost. It holds no state
//! of a key and decides nothing about modes but what each word counts as.

use std::time::Duration;

use crate::config::{self, Mode, units::ByteSize};

use super::{
    Level, Limit, Refusal,
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
    /// Which of them there are: a bit for each.
    limited: u8,
}

/// Of which limits something is said: a bit for each, `1 << limit`.
pub(super) type Limits = u32;

/// What the limits said to one charge.
#[derive(Debug)]
pub(super) struct Inquiry {
    pub(super) now: u64,
    pub(super) units: Three,
    /// The longest wait that was told.
    pub(super) refusal: Option<Refusal>,
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

/// For which of requests, spans and bytes something holds: a bit for each.
pub(super) fn kinds<T>(three: &[T; 3], holds: impl Fn(&T) -> bool) -> u8 {
    let [requests, spans, bytes] = three.each_ref().map(|one| u8::from(holds(one)));
    requests | (spans << 1) | (bytes << 2)
}

fn rates_of(requests: u32, spans: u32, bytes: ByteSize) -> Three {
    [u64::from(requests), u64::from(spans), bytes.0]
}

impl LevelRules {
    fn new(level: Level, mode: Mode, burst: Duration, rates: Three) -> Self {
        let bucket = |rate: u64| (rate > 0 && mode != Mode::Off).then(|| per_second(rate, burst));
        let buckets = rates.map(bucket);
        let limited = kinds(&buckets, Option::is_some);
        Self { level, mode, buckets, limited }
    }

    /// The limits that hold, with their buckets, in the order of [`Three`].
    pub(super) fn buckets(&self) -> impl Iterator<Item = (Limit, Option<&Bucket>)> {
        Limit::rates_of(self.level).into_iter().zip(self.buckets.iter().map(Option::as_ref))
    }

    /// Whether any of them is asked for units of these kinds: a bit for each.
    pub(super) fn ask_for(&self, kinds: u8) -> bool {
        self.limited & kinds != 0
    }

    /// Takes a cost from what all of them hold, and says whether they held as much. Else it must be [undone](Self::undo),
    /// with what is left in `before`.
    #[inline]
    pub(super) fn take_held(&self, states: &mut Three, units: &Three, now: u64, before: &mut Three) -> bool {
        let mut all = true;
        for (((bucket, state), units), before) in self.buckets.iter().zip(states).zip(units).zip(before) {
            if let (Some(bucket), 1..) = (bucket, *units) {
                *before = *state;
                all &= bucket.take_held(state, *units, now);
            }
        }
        all
    }

    pub(super) fn undo(&self, states: &mut Three, units: &Three, before: &Three) {
        for (((bucket, state), units), before) in self.buckets.iter().zip(states).zip(units).zip(before) {
            if let (Some(_), 1..) = (bucket, *units) {
                *state = *before;
            }
        }
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
        Self { now, units, refusal: None, allowed: 0, refused: 0, would_refuse: 0 }
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
        if self.refusal.is_none_or(|earlier| earlier.retry_after < retry_after) {
            let quota = bucket.quota(*state, self.now);
            self.refusal = Some(Refusal { limit, retry_after, quota });
        }
    }
}
