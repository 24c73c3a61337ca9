//! The circuit breaker: whether the authority is worth asking at all. Closed, it counts faults in the
//! last seconds; open, nobody asks; half open, one question at a time finds out. It reads no clock,
//! keeps no question and never turns a fault into a denial.
//!
//! Faults are what the authority did not get done: no answer, no connection, a 5xx, no endpoint (404, a
//! redirect), an answer that breaks the contract. Any other 4xx is none: a stranger can provoke one with
//! a token of its own choosing, and must not be able to switch the authority off for everybody.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Half of the time over which faults are counted.
const HALF_WINDOW: Duration = Duration::from_secs(5);
/// How long it stays open the first time; half as long again with each probe that fails.
const FIRST_OPEN: Duration = Duration::from_secs(1);

/// When it opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rules {
    /// Least number of faults.
    pub(super) faults: u32,
    /// Least part of the questions that are faults, 0 to 1.
    pub(super) ratio: f64,
    /// Longest time that it stays open before it probes.
    pub(super) max_open: Duration,
}

/// How a question ended, as far as the authority's health is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The authority gave its word, whatever it was.
    Word,
    /// It could not.
    Fault,
    /// Neither: the question was not its business, or was given up on our side.
    Neither,
}

/// What an outcome made of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It opened out of the closed state.
    Opened,
    /// It closed.
    Closed,
}

/// The state by its name, and by its number in the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

#[derive(Debug)]
pub(super) struct Breaker(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    state: State,
    /// Goes up with each change: an answer to a question of an earlier time says nothing about now.
    era: u64,
}

#[derive(Debug)]
enum State {
    Closed(Window),
    Open { until: Instant, round: u32 },
    HalfOpen { round: u32, probing: bool },
}

/// Counts over the last [`HALF_WINDOW`] and as much of the one before.
#[derive(Debug)]
struct Window {
    since: Instant,
    now: Counts,
    before: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    faults: u32,
    all: u32,
}

/// Leave to ask once. Dropped without an outcome, a probe makes room for the next one.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    era: u64,
    ended: bool,
}

impl Breaker {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Inner { state: State::Closed(Window::new(now)), era: 0 }))
    }

    /// Leave to ask, or how long to wait at least.
    pub(super) fn pass(&self, now: Instant) -> Result<Pass<'_>, Duration> {
        let mut inner = self.inner();
        inner.refusal(now).map_or(Ok(()), Err)?;
        if let State::Open { round, .. } | State::HalfOpen { round, .. } = inner.state {
            inner.change(State::HalfOpen { round, probing: true });
        }
        Ok(Pass { breaker: self, era: inner.era, ended: false })
    }

    /// Whether [`Self::pass`] would refuse now, and for how long at least.
    pub(super) fn refusal(&self, now: Instant) -> Option<Duration> {
        self.inner().refusal(now)
    }

    pub(super) fn phase(&self) -> Phase {
        match self.inner().state {
            State::Closed(_) => Phase::Closed,
            State::HalfOpen { .. } => Phase::HalfOpen,
            State::Open { .. } => Phase::Open,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The question ended. `jitter` is 0 to 1 and takes up to a fifth off the time that the breaker stays
    /// open, so that replicas do not all probe at once.
    pub(super) fn ended(
        mut self,
        outcome: Outcome,
        rules: &Rules,
        now: Instant,
        jitter: f64,
    ) -> Option<Change> {
        if outcome == Outcome::Neither {
            return None;
        }
        self.ended = true;
        let mut inner = self.breaker.inner();
        if inner.era != self.era {
            return None;
        }
        let opened =
            |round| State::Open { until: after(now, open_for(round, rules.max_open, jitter)), round };
        match (&mut inner.state, outcome) {
            (State::Closed(window), outcome) => {
                if !window.count(outcome == Outcome::Fault, rules, now) {
                    return None;
                }
                inner.change(opened(0));
                Some(Change::Opened)
            }
            (State::HalfOpen { round, .. } | State::Open { round, .. }, Outcome::Fault) => {
                let round = round.saturating_add(1);
                inner.change(opened(round));
                None
            }
            _ => {
                inner.change(State::Closed(Window::new(now)));
                Some(Change::Closed)
            }
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut inner = self.breaker.inner();
        if let State::HalfOpen { round, .. } = inner.state
            && inner.era == self.era
        {
            inner.change(State::HalfOpen { round, probing: false });
        }
    }
}

impl Inner {
    fn change(&mut self, state: State) {
        self.state = state;
        self.era = self.era.wrapping_add(1);
    }

    fn refusal(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until, .. } if now < until => Some(until.saturating_duration_since(now)),
            State::HalfOpen { probing: true, .. } => Some(FIRST_OPEN),
            _ => None,
        }
    }
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { since: now, now: Counts::default(), before: Counts::default() }
    }

    /// Counts one question; whether the breaker has to open.
    fn count(&mut self, is_fault: bool, rules: &Rules, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.since);
        if age >= HALF_WINDOW {
            let recent = age < HALF_WINDOW.saturating_mul(2);
            self.before = if recent { self.now } else { Counts::default() };
            self.now = Counts::default();
            self.since = now;
        }
        self.now.all = self.now.all.saturating_add(1);
        self.now.faults = self.now.faults.saturating_add(u32::from(is_fault));
        let faults = self.now.faults.saturating_add(self.before.faults);
        let all = self.now.all.saturating_add(self.before.all);
        is_fault && faults >= rules.faults.max(1) && f64::from(faults) >= rules.ratio * f64::from(all)
    }
}

fn open_for(round: u32, max: Duration, jitter: f64) -> Duration {
    // Past this many rounds every sensible maximum is reached.
    let grown = FIRST_OPEN.mul_f64(1.5_f64.powi(i32::try_from(round.min(16)).unwrap_or(16)));
    grown.min(max).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 5.0)
}

fn after(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or(now)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test, as it should")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { faults: 5, ratio: 0.5, max_open: Duration::from_secs(5) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ask(breaker: &Breaker, outcome: Outcome, now: Instant) -> Result<Option<Change>, Duration> {
        breaker.pass(now).map(|pass| pass.ended(outcome, &RULES, now, 0.0))
    }

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::new(now);
        for _ in 0..4 {
            assert_eq!(ask(&breaker, Outcome::Fault, now), Ok(None));
        }
        assert_eq!(ask(&breaker, Outcome::Fault, now), Ok(Some(Change::Opened)));
        breaker
    }

    /// Scenario: faults among words: too few, too small a part, too long ago; then enough.
    /// Guarantees: only enough faults, as a large enough part, within the window open it; neither of both counts.
    #[test]
    fn it_opens_for_a_part_of_recent_questions() {
        let start = Instant::now();
        let breaker = Breaker::new(start);
        for _ in 0..20 {
            assert_eq!(ask(&breaker, Outcome::Word, start), Ok(None));
            assert_eq!(ask(&breaker, Outcome::Neither, start), Ok(None));
        }
        for _ in 0..19 {
            assert_eq!(ask(&breaker, Outcome::Fault, start), Ok(None));
        }
        assert_eq!(ask(&breaker, Outcome::Fault, start), Ok(Some(Change::Opened)));
        assert_eq!(breaker.phase(), Phase::Open);

        let breaker = Breaker::new(start);
        for second in 0..60 {
            assert_eq!(ask(&breaker, Outcome::Fault, start + seconds(second * 3)), Ok(None), "{second}");
        }
    }

    /// Scenario: an open breaker before and after its time, a probe that fails, one that is given up, one that succeeds.
    /// Guarantees: nobody asks while it is open; one probe at a time; a failed one opens it for longer, up to the maximum;
    /// a good one closes it, and what was asked before all that says nothing any more.
    #[test]
    fn one_probe_decides() {
        let start = Instant::now();
        let breaker = Breaker::new(start);
        let late = breaker.pass(start).unwrap();
        for _ in 0..5 {
            ask(&breaker, Outcome::Fault, start).unwrap();
        }
        assert_eq!(breaker.pass(start + FIRST_OPEN / 2).unwrap_err(), FIRST_OPEN / 2);
        assert_eq!(late.ended(Outcome::Word, &RULES, start, 0.0), None);
        assert_eq!(breaker.phase(), Phase::Open);

        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..6 {
            now += breaker.refusal(now).unwrap();
            let probe = breaker.pass(now).unwrap();
            assert_eq!(breaker.phase(), Phase::HalfOpen);
            assert!(breaker.pass(now).is_err() && breaker.refusal(now).is_some());
            assert_eq!(probe.ended(Outcome::Fault, &RULES, now, 0.0), None);
            waits.push(breaker.refusal(now).unwrap().as_millis());
        }
        assert_eq!(waits, [1_500, 2_250, 3_375, 5_000, 5_000, 5_000]);

        now += seconds(5);
        drop(breaker.pass(now).unwrap());
        assert_eq!(ask(&breaker, Outcome::Neither, now), Ok(None));
        assert_eq!(ask(&breaker, Outcome::Word, now), Ok(Some(Change::Closed)));
        assert_eq!(breaker.phase(), Phase::Closed);
    }

    /// Scenario: the same opening with no and with full jitter.
    /// Guarantees: jitter only shortens, by a fifth at most.
    #[test]
    fn jitter_shortens() {
        assert_eq!(open_for(0, seconds(5), 0.0), seconds(1));
        assert_eq!(open_for(0, seconds(5), 1.0), Duration::from_millis(800));
        assert_eq!(open_for(u32::MAX, seconds(5), 1.0), seconds(4));
    }

    proptest! {
        /// Scenario: any order of askings, endings in any order and pauses.
        /// Guarantees: never two probes at once, no leave while it is open, and a breaker can always close again.
        #[test]
        fn never_two_probes(steps in prop::collection::vec((0..4_u8, 0_u64..3_000, any::<prop::sample::Index>()), 1..200)) {
            let mut now = Instant::now();
            let breaker = opened(now);
            let mut out: Vec<(Pass<'_>, bool)> = Vec::new();
            for (step, millis, which) in steps {
                now += Duration::from_millis(millis);
                if step == 0 || out.is_empty() {
                    let refused = breaker.refusal(now).is_some();
                    match breaker.pass(now) {
                        Ok(pass) => {
                            prop_assert!(!refused);
                            prop_assert!(breaker.phase() != Phase::Open);
                            let era = breaker.inner().era;
                            let probes = out.iter().filter(|(pass, probe)| *probe && pass.era == era).count();
                            prop_assert_eq!(probes, 0);
                            out.push((pass, breaker.phase() == Phase::HalfOpen));
                        }
                        Err(wait) => prop_assert!(refused && wait <= RULES.max_open),
                    }
                } else {
                    let (pass, _) = out.swap_remove(which.index(out.len()));
                    let outcome = [Outcome::Word, Outcome::Fault, Outcome::Neither][usize::from(step) - 1];
                    pass.ended(outcome, &RULES, now, 0.5);
                }
            }
            drop(out);
            now += seconds(6);
            prop_assert!(ask(&breaker, Outcome::Word, now).is_ok());
            prop_assert_eq!(breaker.phase(), Phase::Closed);
        }
    }
}
