//! Runners whose questions the authority answered with 429: they pause, the others go on. Bounded; it
//! reads no clock and holds keyed hashes only, never a token.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The first pause. Rails asks for up to 60 s, at which an OTLP exporter would drop its batch at once.
const FIRST: Duration = Duration::from_secs(2);
/// The longest pause; each one doubles until a question is answered again.
const LONGEST: Duration = Duration::from_secs(15);
/// Most runners that pause at once. Of more than these the authority is protected by the breaker and the
/// places only.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Pauses(Mutex<HashMap<u64, Pause>>);

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    length: Duration,
}

impl Pauses {
    /// How long this runner's questions still pause.
    pub(super) fn left(&self, runner: u64, now: Instant) -> Option<Duration> {
        let pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = pauses.get(&runner)?.until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// A question of this runner was answered with 429.
    pub(super) fn throttled(&self, runner: u64, now: Instant) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pauses.len() >= MOST && !pauses.contains_key(&runner) {
            pauses.retain(|_, pause| now < pause.until);
            if pauses.len() >= MOST {
                return;
            }
        }
        let length = pauses.get(&runner).map_or(FIRST, |pause| {
            if now < pause.until {
                // One of several that were in flight together: no reason for a longer one.
                pause.length
            } else {
                pause.length.saturating_mul(2).min(LONGEST)
            }
        });
        let until = now.checked_add(length).unwrap_or(now);
        pauses.insert(runner, Pause { until, length });
    }

    /// A question of this runner was answered.
    pub(super) fn answered(&self, runner: u64) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !pauses.is_empty() {
            pauses.remove(&runner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a runner is throttled again and again after each pause, then answered, then throttled; another is not.
    /// Guarantees: its pauses double up to the longest and begin anew after an answer; the other never pauses.
    #[test]
    fn pauses_grow_and_end() {
        let pauses = Pauses::default();
        let mut now = Instant::now();
        let mut lengths = Vec::new();
        for _ in 0..5 {
            pauses.throttled(1, now);
            pauses.throttled(1, now);
            let left = pauses.left(1, now).unwrap();
            lengths.push(left.as_secs());
            now += left;
            assert_eq!(pauses.left(1, now), None);
        }
        assert_eq!(lengths, [2, 4, 8, 15, 15]);
        assert_eq!(pauses.left(2, now), None);
        pauses.answered(1);
        pauses.throttled(1, now);
        assert_eq!(pauses.left(1, now), Some(FIRST));
    }

    /// Scenario: more runners are throttled than there is room for; later the first ones have ended.
    /// Guarantees: the bound holds, nobody else's pause is cut short, and room comes back.
    #[test]
    fn pauses_are_bounded() {
        let pauses = Pauses::default();
        let now = Instant::now();
        for runner in 0..MOST as u64 + 5 {
            pauses.throttled(runner, now);
        }
        assert_eq!(pauses.0.lock().unwrap().len(), MOST);
        assert!(pauses.left(0, now).is_some() && pauses.left(MOST as u64, now).is_none());
        pauses.throttled(MOST as u64, now + FIRST);
        assert_eq!(pauses.0.lock().unwrap().len(), 1);
    }
}
