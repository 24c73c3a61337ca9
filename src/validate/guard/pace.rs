//! How many questions may be in flight at this moment: the start ramp, and on demand a limit that
//! follows the authority's answers (additive increase, multiplicative decrease). It decides a number
//! and nothing else.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::breaker::Outcome;

/// A ramp begins with one in so many of all places, so that the first moment is no stampede either.
const FIRST_PART: usize = 16;
/// What an adaptive limit never falls below: one in so many of all places.
const FLOOR_PART: usize = 16;
/// Least time between two decreases: about that long the answers to what was asked before one still come in.
const DECREASE_PAUSE: Duration = Duration::from_millis(500);
/// What is left of an adaptive limit after a decrease.
const DECREASE: f64 = 0.7;

/// The number of questions that may be in flight.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// When the ramp began.
    since: Instant,
    /// The adaptive limit; `None` until there is one.
    limit: Option<f64>,
    decreased: Option<Instant>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Inner { since: now, limit: None, decreased: None }))
    }

    /// Begins the ramp anew.
    pub(super) fn restart(&self, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).since = now;
    }

    /// How many of `max` places there are, 1 at least. `ramp`: how long it takes from a few to all.
    pub(super) fn places(&self, max: usize, ramp: Duration, adaptive: bool, now: Instant) -> usize {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = inner.limit.filter(|_| adaptive).map_or(max, whole);
        let since = now.saturating_duration_since(inner.since);
        if since >= ramp {
            return max.min(limit).max(1);
        }
        let first = max.div_ceil(FIRST_PART);
        let more = max.saturating_sub(first) as u128;
        let risen = more.saturating_mul(since.as_nanos()).checked_div(ramp.as_nanos()).unwrap_or(more);
        first.saturating_add(usize::try_from(risen).unwrap_or(usize::MAX)).min(max).min(limit).max(1)
    }

    /// Learns from one answer that took `latency` of the `budget` that it had.
    pub(super) fn learn(
        &self,
        outcome: Outcome,
        (latency, budget): (Duration, Duration),
        max: usize,
        now: Instant,
    ) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let most = count(max);
        let floor = count(max.div_ceil(FLOOR_PART)).max(1.0);
        let limit = inner.limit.unwrap_or(most).clamp(floor, most.max(floor));
        // An answer that took half of its budget is a sign that the next ones will take more.
        let is_slow = latency.saturating_mul(2) >= budget;
        inner.limit = Some(match outcome {
            Outcome::Neither => limit,
            Outcome::Word if !is_slow => (limit + 1.0 / limit).min(most.max(floor)),
            Outcome::Word | Outcome::Fault => {
                let pausing =
                    inner.decreased.is_some_and(|at| now.saturating_duration_since(at) < DECREASE_PAUSE);
                if pausing {
                    limit
                } else {
                    inner.decreased = Some(now);
                    (limit * DECREASE).max(floor)
                }
            }
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of questions in flight are far below 2^52")]
fn count(places: usize) -> f64 {
    places as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a limit lies between 1 and a number of places"
)]
fn whole(limit: f64) -> usize {
    limit as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAMP: Duration = Duration::from_secs(4);

    /// Scenario: a ramp of four seconds to 64 places, from its beginning past its end; then it begins anew; no ramp.
    /// Guarantees: it begins with a few, rises steadily, never passes the maximum, and is 1 at the very least.
    #[test]
    fn the_ramp_rises_to_all_places() {
        let start = Instant::now();
        let pace = Pace::new(start);
        let at = |millis| pace.places(64, RAMP, false, start + Duration::from_millis(millis));
        assert_eq!([0, 1_000, 2_000, 3_000, 3_999, 4_000, 60_000].map(at), [4, 19, 34, 49, 63, 64, 64]);
        pace.restart(start + RAMP);
        assert_eq!(at(4_000), 4);
        assert_eq!(pace.places(1, RAMP, false, start), 1);
        assert_eq!(pace.places(64, Duration::ZERO, false, start + RAMP), 64);
    }

    /// Scenario: an adaptive limit sees faults, then slow answers, then quick ones.
    /// Guarantees: it falls once in a while and not with each fault, never below its floor, and comes back to the maximum;
    /// switched off it is not looked at.
    #[test]
    fn the_adaptive_limit_follows_the_answers() {
        let start = Instant::now();
        let pace = Pace::new(start);
        let now = |second: u64| start + RAMP + Duration::from_secs(second);
        let places = |second| pace.places(64, RAMP, true, now(second));
        let budget = Duration::from_secs(2);
        assert_eq!(places(0), 64);
        for _ in 0..10 {
            pace.learn(Outcome::Fault, (budget, budget), 64, now(0));
        }
        assert_eq!(places(0), 44);
        for second in 1..20 {
            pace.learn(Outcome::Word, (budget * 3 / 4, budget), 64, now(second));
        }
        assert_eq!(places(20), 4);
        assert_eq!(pace.places(64, RAMP, false, now(20)), 64);
        for _ in 0..3_000 {
            pace.learn(Outcome::Word, (budget / 100, budget), 64, now(20));
            pace.learn(Outcome::Neither, (budget, budget), 64, now(20));
        }
        assert_eq!(places(20), 64);
    }
}
