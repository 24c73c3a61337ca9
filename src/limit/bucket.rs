//! One rate: GCRA over a state that its owner keeps, so that what was taken can be given back, and so
//! that rates can change under a state that stays. It knows no keys and no modes.
//!
//! A state is the nanosecond, counted from the owner's epoch, at which all that was taken will have
//! come back; 0 is a full bucket. Whoever holds a state holds it alone (under a lock of the table).
//!
//! What costs more than the bucket holds passes when it is full, and leaves it in debt by the whole
//! cost: one honest export must never fail for good, and over time the rate still holds.

use std::time::Duration;

use governor::clock::{Clock, Reference};

use super::Quota;

/// Most binary places of a nanosecond: all ones.
const MAX_SHIFT: u32 = 31;

/// A burst or a debt in time (73 years) that leaves sums of nanoseconds far from their end.
const MAX_BURST_NANOS: u64 = u64::MAX / 8;

/// What may be taken at a rate, with a burst.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Nanoseconds until one unit has come back, times `2^shift`: a charge multiplies and never divides. 0 at a
    /// rate of zero: nothing ever passes.
    scaled: u64,
    shift: u32,
    /// Most units that it ever holds; 0 at a rate of zero.
    burst: u64,
    /// Nanoseconds until the empty bucket is full.
    capacity: u64,
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
        let scaled = |shift: u32| {
            let exact = per.checked_shl(shift).filter(|shifted| shifted >> shift == per)?;
            u64::try_from(exact.checked_div(rate)?).ok()
        };
        let burst = burst.max(1);
        // As many binary places as leave the whole burst in 64 bits: with the longest burst that can be configured, five
        // minutes, that are 25, and the error is below a millionth up to ten billion units a second.
        let fits = |scaled: &u64| scaled.checked_mul(burst).is_some();
        let most = |fits: &dyn Fn(&u64) -> bool| {
            (0..=MAX_SHIFT).rev().find_map(|shift| Some((scaled(shift).filter(fits)?, shift)))
        };
        // Bursts of years fit with no places at all: those always go the long way.
        let best = most(&fits).or_else(|| most(&|_| true));
        let (scaled, shift) = best.unwrap_or((if rate == 0 { 0 } else { u64::MAX }, 0));
        // A rate beyond all measure is still none of zero.
        let scaled = if rate == 0 { 0 } else { scaled.max(1) };
        let held = if rate > 0 && fits(&scaled) { burst } else { 0 };
        let bucket = Self { scaled, shift, burst: held, capacity: MAX_BURST_NANOS };
        Self { capacity: bucket.nanos_of(burst).max(1), ..bucket }
    }

    /// Takes so many units at `now` from what it holds, and says whether it held as many: else the state must be put back.
    /// What costs more than it ever holds, it never holds, though [`Self::take`] may make a debt of it.
    ///
    /// On the path of every request, so with as little as it takes: a burst's product fits into 64 bits.
    #[inline]
    pub(super) fn take_held(&self, state: &mut u64, units: u64, now: u64) -> bool {
        // What is no product of a burst's is not looked at.
        let cost = units.wrapping_mul(self.scaled).wrapping_shr(self.shift).max(1);
        let next = (*state).max(now).saturating_add(cost);
        *state = next;
        (units <= self.burst) & (next.saturating_sub(now) <= self.capacity)
    }

    fn after(&self, state: u64, units: u64, now: u64) -> u64 {
        state.max(now).saturating_add(self.nanos_of(units))
    }

    /// Takes so many units at `now`, or leaves the state as it is.
    pub(super) fn take(&self, state: &mut u64, units: u64, now: u64) -> Word {
        if self.scaled == 0 {
            return Word::Wait(Duration::MAX);
        }
        if units == 0 {
            return Word::Taken;
        }
        let cost = self.nanos_of(units);
        let next = self.after(*state, units, now);
        let owed = next.saturating_sub(now);
        let most = if cost > self.capacity {
            // More than it ever holds: out of the full bucket only. The whole cost comes back at the rate
            // before anything passes again.
            cost
        } else {
            self.capacity
        };
        if owed <= most {
            *state = next;
            Word::Taken
        } else {
            Word::Wait(Duration::from_nanos(owed.saturating_sub(most)))
        }
    }

    /// Gives back what was taken, debts too, at most to the full bucket: a state in the past is a
    /// full one.
    pub(super) fn give_back(&self, state: &mut u64, units: u64) {
        *state = state.saturating_sub(self.nanos_of(units));
    }

    /// Takes so many units whatever is left, up to a debt of `most`.
    pub(super) fn owe(&self, state: &mut u64, units: u64, now: u64, most: Duration) {
        let most = narrow(most.as_nanos()).saturating_add(self.capacity);
        let next = self.after(*state, units, now);
        *state = next.min(now.saturating_add(most)).max(*state);
    }

    /// Nanoseconds in which so many units come back. Rounded down, so that a burst passes whole also when it comes
    /// unit by unit; but nothing is free.
    pub(super) fn nanos_of(&self, units: u64) -> u64 {
        // Two factors of 64 bits never overflow 128; a check for it costs more than the product.
        let scaled = u128::from(units).wrapping_mul(u128::from(self.scaled));
        // So does a shift by up to 127.
        let nanos = scaled.wrapping_shr(self.shift & MAX_SHIFT);
        narrow(nanos).clamp(u64::from(units > 0), MAX_BURST_NANOS)
    }

    /// A state that another's advance may bring this one to: at most the empty bucket, never a debt.
    pub(super) fn at_most_empty(&self, state: u64, now: u64) -> u64 {
        state.min(now.saturating_add(self.capacity))
    }

    /// What it holds, in all and left at `now`.
    pub(super) fn quota(&self, state: u64, now: u64) -> Quota {
        let left = self.capacity.saturating_sub(state.saturating_sub(now));
        Quota {
            units: self.units_in(self.capacity),
            window: Duration::from_nanos(self.capacity),
            left: self.units_in(left),
        }
    }

    /// Nanoseconds that the full bucket is worth.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    fn units_in(&self, nanos: u64) -> u64 {
        // A nanosecond more than was rounded away before.
        let nanos = u128::from(nanos).saturating_add(1) << self.shift;
        narrow(nanos.checked_div(u128::from(self.scaled)).unwrap_or(0))
    }
}

fn narrow(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
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
mod tests;
