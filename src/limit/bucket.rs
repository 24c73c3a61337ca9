//! One rate: governor's GCRA over a state that its owner keeps, so that what was taken can be given
//! back, and so that rates can change under a state that stays. It knows no keys and no modes.
//!
//! A state is the nanosecond, counted from the owner's epoch, at which all that was taken will have
//! come back; 0 is a full bucket. Whoever holds a state holds it alone (under a lock of the table).
//!
//! What costs more than the bucket holds passes when it is full, and leaves it in debt by the whole
//! cost: one honest export must never fail for good, and over time the rate still holds.

use std::{
    cell::Cell,
    hash::{Hash, Hasher},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::StateStore,
};

/// governor counts a rate in whole nanoseconds a cell. Past this many cells a second, one cell
/// stands for several units, so that rounding changes no rate by more than 0.05 %; a cost is
/// rounded up to whole cells, at most a microsecond's worth.
const MAX_CELLS_PER_SECOND: u128 = 1_000_000;

/// A burst or a debt in time (73 years) that leaves governor's sums of nanoseconds far from their end.
const MAX_BURST_NANOS: u64 = u64::MAX / 8;

/// What may be taken at a rate, with a burst.
#[derive(Debug)]
pub(super) struct Bucket {
    /// `None` at a rate of zero: nothing ever passes.
    limiter: Option<RateLimiter<State, InPlace, Shown, NoOpMiddleware<Nanos>>>,
    shown: Shown,
    /// Units in a cell.
    cell: u64,
    /// Cells that the full bucket holds.
    burst: u32,
    /// Nanoseconds until one cell has come back.
    interval: u64,
}

/// What a bucket says to a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Taken,
    /// The same cost could pass after this time; at a rate of zero, never.
    Wait(Duration),
}

impl Bucket {
    /// A bucket that `rate` units in each `per` flow back into and that holds `burst` units, at
    /// least one.
    pub(super) fn new(rate: u64, per: Duration, burst: u64) -> Self {
        let (rate, per) = (u128::from(rate), per.as_nanos());
        let a_second = rate.saturating_mul(1_000_000_000).checked_div(per).unwrap_or(0);
        let cell = a_second.div_ceil(MAX_CELLS_PER_SECOND).max(1);
        let interval = per.saturating_mul(cell).saturating_add(rate >> 1).checked_div(rate).unwrap_or(0);
        let (cell, interval) = (narrow(cell), narrow(interval).min(MAX_BURST_NANOS));
        let most = MAX_BURST_NANOS.checked_div(interval).unwrap_or(0);
        let burst = u32::try_from(burst.div_ceil(cell.max(1)).min(most)).unwrap_or(u32::MAX).max(1);
        let shown = Shown::default();
        let limiter = Quota::with_period(Duration::from_nanos(interval)).map(|quota| {
            // The limiter's own epoch is what the clock shows now, and that is 0: the owner's.
            let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
            RateLimiter::new(quota, InPlace, shown.clone())
        });
        Self { limiter, shown, cell, burst, interval }
    }

    /// Takes so many units at `now`, or leaves the state as it is.
    pub(super) fn take(&self, state: &mut u64, units: u64, now: u64) -> Word {
        let cells = units.div_ceil(self.cell.max(1));
        let Some(limiter) = &self.limiter else {
            return Word::Wait(Duration::MAX);
        };
        let fitting = u32::try_from(cells).ok().filter(|cells| *cells <= self.burst);
        let Some(fitting) = fitting else {
            return self.overdraw(state, cells, now);
        };
        let Some(fitting) = NonZeroU32::new(fitting) else {
            return Word::Taken;
        };
        self.shown.0.fetch_max(now, Ordering::Relaxed);
        let held = State(Cell::new(*state));
        match limiter.check_key_n(&held, fitting) {
            Ok(Ok(())) => {
                *state = held.0.get();
                Word::Taken
            }
            Ok(Err(until)) => Word::Wait(until.wait_time_from(self.shown.now())),
            Err(_too_many) => self.overdraw(state, cells, now),
        }
    }

    /// Takes more than the bucket holds, out of the full bucket only: the whole cost comes back at
    /// the rate before anything passes again, which governor has no call for.
    fn overdraw(&self, state: &mut u64, cells: u64, now: u64) -> Word {
        match state.checked_sub(now) {
            None | Some(0) => {
                *state = now.saturating_add(self.time_of(cells));
                Word::Taken
            }
            Some(left) => Word::Wait(Duration::from_nanos(left)),
        }
    }

    /// Gives back what was taken, debts too, at most to the full bucket: a state in the past is a
    /// full one.
    pub(super) fn give_back(&self, state: &mut u64, units: u64) {
        let cells = units.div_ceil(self.cell.max(1));
        *state = state.saturating_sub(self.time_of(cells));
    }

    /// Nanoseconds in which so many cells come back.
    fn time_of(&self, cells: u64) -> u64 {
        cells.saturating_mul(self.interval).min(MAX_BURST_NANOS)
    }
}

fn narrow(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The time that a limiter sees: the present as of the last use, which its owner read once for all
/// limits of one charge. It starts at 0 and never goes back.
#[derive(Clone, Debug, Default)]
struct Shown(Arc<AtomicU64>);

impl Clock for Shown {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

/// The state as governor's key: it asks for one that could be hashed, and never hashes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State(Cell<u64>);

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.get().hash(hasher);
    }
}

/// Keeps nothing: the state stands in the key.
#[derive(Debug)]
struct InPlace;

impl StateStore for InPlace {
    type Key = State;

    fn measure_and_replace<T, F, E>(&self, key: &State, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, next) = measure(Some(key.0.get().into()))?;
        key.0.set(next.into());
        Ok(outcome)
    }
}

/// Reads a clock as nanoseconds since this was made.
#[derive(Debug)]
pub(super) struct Watch<C: Clock> {
    clock: C,
    epoch: C::Instant,
}

impl<C: Clock> Watch<C> {
    pub(super) fn new(clock: C) -> Self {
        Self { epoch: clock.now(), clock }
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.now().duration_since(self.epoch).into()
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test, as it should")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Bucket, Word};

    const SECOND: u64 = 1_000_000_000;

    fn per_second(rate: u64, burst: u64) -> Bucket {
        Bucket::new(rate, Duration::from_secs(1), burst)
    }

    /// Scenario: rates from 1/s to 4 GiB/s are used up as fast as they allow for a hundred seconds, in portions
    /// of a tenth of the burst.
    /// Guarantees: what passes is the rate times the time, and the burst, within 1 %.
    #[test]
    fn rates_are_right_within_one_percent() {
        for rate in [1, 7, 20, 500, 2_000, 999_983, 1_000_001, 2 << 20, 100 << 20, 4 << 30] {
            let bucket = per_second(rate, rate * 2);
            let portion = (rate / 5).max(1);
            let (mut state, mut taken, mut now) = (0, 0, 0);
            while now < 100 * SECOND {
                match bucket.take(&mut state, portion, now) {
                    Word::Taken => taken += portion,
                    Word::Wait(time) => now += u64::try_from(time.as_nanos()).unwrap(),
                }
            }
            let ideal = rate * 102;
            let off = taken.abs_diff(ideal);
            assert!(off <= portion.max(ideal / 100), "{rate}/s: {taken} of {ideal}");
        }
    }

    /// Scenario: a full bucket, an empty one, and a rate of zero.
    /// Guarantees: the burst passes at once; the wait is exact; a rate of zero passes nothing, ever.
    #[test]
    fn words_are_exact() {
        let bucket = per_second(10, 20);
        let mut state = 0;
        assert_eq!(bucket.take(&mut state, 20, SECOND), Word::Taken);
        assert_eq!(bucket.take(&mut state, 1, SECOND), Word::Wait(Duration::from_millis(100)));
        assert_eq!(bucket.take(&mut state, 5, SECOND), Word::Wait(Duration::from_millis(500)));
        assert_eq!(bucket.take(&mut state, 5, SECOND + SECOND / 2), Word::Taken);
        assert_eq!(bucket.take(&mut state, 0, SECOND), Word::Taken);
        assert_eq!(per_second(0, 0).take(&mut 0, 1, SECOND), Word::Wait(Duration::MAX));
        assert_eq!(per_second(0, 0).take(&mut 0, u64::MAX, SECOND), Word::Wait(Duration::MAX));
    }

    /// Scenario: a cost above the burst meets a full bucket, its own debt, and a bucket that is not quite full; it is
    /// given back.
    /// Guarantees: it passes out of a full bucket only, all of it has to come back first, the waits are exact to the
    /// nanosecond, and giving it back ends the debt.
    #[test]
    fn a_cost_above_the_burst_makes_a_debt() {
        let bucket = per_second(10, 20);
        let mut state = 0;
        assert_eq!(bucket.take(&mut state, 50, 100 * SECOND), Word::Taken);
        assert_eq!(bucket.take(&mut state, 50, 100 * SECOND), Word::Wait(Duration::from_secs(5)));
        assert_eq!(bucket.take(&mut state, 1, 100 * SECOND), Word::Wait(Duration::from_millis(3_100)));
        assert_eq!(bucket.take(&mut state, 1, 103 * SECOND + SECOND / 10), Word::Taken);
        assert_eq!(bucket.take(&mut state, 21, 105 * SECOND), Word::Wait(Duration::from_millis(100)));
        let last = 105 * SECOND + SECOND / 10;
        assert_eq!(bucket.take(&mut state, 21, last - 1), Word::Wait(Duration::from_nanos(1)));
        assert_eq!(bucket.take(&mut state, 21, last), Word::Taken);
        bucket.give_back(&mut state, 21);
        assert_eq!(bucket.take(&mut state, u64::MAX, last), Word::Taken);
        bucket.give_back(&mut state, u64::MAX);
        assert_eq!(bucket.take(&mut state, 20, last), Word::Taken);
    }

    /// Scenario: costs of half to eight times the burst, in turn, each as soon as it may pass, for a thousand seconds.
    /// Guarantees: what passes is the rate times the time, and no more than the largest cost above it.
    #[test]
    fn debts_keep_the_rate() {
        for rate in [7, 500, 2 << 20] {
            let bucket = per_second(rate, rate * 2);
            let (mut state, mut taken, mut now) = (0, 0, 0);
            for cost in [rate, rate * 16, rate * 3].into_iter().cycle() {
                while let Word::Wait(time) = bucket.take(&mut state, cost, now) {
                    now += u64::try_from(time.as_nanos()).unwrap();
                }
                if now >= 1_000 * SECOND {
                    break;
                }
                taken += cost;
            }
            let ideal = rate * 1_000;
            assert!((ideal * 99 / 100..=ideal + rate * 16).contains(&taken), "{rate}/s: {taken} of {ideal}");
        }
    }

    /// Scenario: a minute's budget of sixty.
    /// Guarantees: sixty at once, then one a second.
    #[test]
    fn a_rate_may_be_per_minute() {
        let bucket = Bucket::new(60, Duration::from_mins(1), 60);
        let mut state = 0;
        assert_eq!(bucket.take(&mut state, 60, 0), Word::Taken);
        assert_eq!(bucket.take(&mut state, 1, 0), Word::Wait(Duration::from_secs(1)));
        assert_eq!(bucket.take(&mut state, 1, SECOND), Word::Taken);
    }

    /// Scenario: the largest numbers that a configuration and a peer can bring.
    /// Guarantees: no overflow, whatever the answer.
    #[test]
    fn extremes_do_not_overflow() {
        for rate in [1, u64::MAX] {
            for per in [Duration::from_nanos(1), Duration::from_mins(1), Duration::MAX] {
                for burst in [0, 1, u64::MAX] {
                    let bucket = Bucket::new(rate, per, burst);
                    for units in [0, 1, u64::from(u32::MAX), u64::MAX] {
                        for now in [0, u64::MAX / 4] {
                            let mut state = now;
                            let _word = bucket.take(&mut state, units, now);
                            bucket.give_back(&mut state, units);
                        }
                    }
                }
            }
        }
    }

    proptest! {
        /// Scenario: any rate takes any costs at any times, and one charge is given back at once.
        /// Guarantees: the state is exactly as if that charge had not been.
        #[test]
        fn giving_back_undoes_a_charge(
            rate in 1_u64..10_000_000, costs in prop::collection::vec((0_u64..50_000, 0_u64..SECOND), 1..20),
            cost in 1_u64..500_000,
        ) {
            let bucket = per_second(rate, 100_000);
            let (mut state, mut now) = (0, 0);
            for (units, later) in costs {
                now += later;
                let _word = bucket.take(&mut state, units, now);
            }
            let before = state.max(now);
            if bucket.take(&mut state, cost, now) == Word::Taken {
                prop_assert!(state > before);
                bucket.give_back(&mut state, cost);
            }
            prop_assert_eq!(state.max(now), before);
        }
    }
}
