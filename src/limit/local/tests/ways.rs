//! The short way of a charge and the long one, side by side.

use std::{sync::atomic::Ordering, time::Duration};

use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

use super::{
    Timed,
    hierarchy::{none, set, states, with_listeners},
    said,
};
use crate::{
    config::{Config, Limits, Mode, Traces},
    limit::{Cost, Decision, Limit, Subject, listener_key, states::Job},
    metrics::Metrics,
    validate::Places,
};

/// Limits that know how to go both ways.
struct Way {
    local: Timed,
    metrics: Metrics,
}

impl Way {
    fn new(config: &Config, clock: &FakeRelativeClock) -> Self {
        let metrics = Metrics::new();
        Self { local: Timed::new(config, &metrics, clock.clone()), metrics }
    }

    /// What is granted, or which limit refuses for how long.
    fn usual(&self, subject: Subject<'_>, cost: Cost, budget: bool) -> Result<u64, (Limit, Duration)> {
        let ready = "the state is in this process";
        if budget {
            let taken =
                futures_util::FutureExt::now_or_never(self.local.take_spans(subject, cost)).expect(ready);
            return taken.map_err(|refusal| (refusal.limit, refusal.retry_after));
        }
        match futures_util::FutureExt::now_or_never(self.local.take(subject, cost)).expect(ready) {
            Decision::Taken => Ok(cost.spans),
            Decision::Refused(refusal) => Err((refusal.limit, refusal.retry_after)),
        }
    }

    /// All that is kept of a job; its states in the past are as good as none.
    fn job(&self, job: u64) -> Option<Job> {
        let now = self.local.nanos(self.local.now());
        let mut kept = *self.local.states().jobs.search(job, now)?;
        kept.states = kept.states.map(|state| state.max(now));
        Some(kept)
    }

    fn long(&self, subject: Subject<'_>, cost: Cost, budget: bool) -> Result<u64, (Limit, Duration)> {
        let now = self.local.nanos(self.local.now());
        let taken = self.local.charge_or_refuse(self.local.states(), &subject, cost, budget, now);
        taken.map_err(|refusal| (refusal.limit, refusal.retry_after))
    }
}

fn limits(rates: &[([u32; 3], u8)]) -> Limits {
    let mut limits = none();
    for (level, (rates, mode)) in rates.iter().enumerate() {
        set(&mut limits, level, *rates, Duration::from_secs(1));
        let mode = [Mode::Enforce, Mode::Shadow, Mode::Off][usize::from(*mode)];
        match level {
            0 => limits.per_job.mode = mode,
            1 => limits.per_runner.mode = mode,
            2 => limits.per_project.mode = mode,
            3 => limits.per_listener.mode = mode,
            _ => limits.global.mode = mode,
        }
    }
    limits
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Scenario: any rates in any mode on any levels, a budget, and a run of charges of any size by three jobs and a sender
    /// without one, with hints at places that are right or wrong; on one side all of them go the long way. Halfway the rates
    /// change.
    /// Guarantees: the same is granted and refused for the same time, every state is the same, and so is every count.
    #[test]
    fn both_ways_lead_to_the_same(
        rates in prop::collection::vec((prop::array::uniform3(0_u32..50), 0_u8..3), 10),
        charges in prop::collection::vec(
            (0_u64..4, 0_u32..3, 0_u64..40, 0_u64..60, 0_u64..200, any::<bool>(), 0_u32..5), 1..60,
        ),
    ) {
        let clock = FakeRelativeClock::default();
        let config = |rates| {
            let traces = Traces { max_spans_per_job: 60, ..Traces::default() };
            Config { traces, ..with_listeners(&limits(rates)) }
        };
        let (usual, long) = (Way::new(&config(&rates[..5]), &clock), Way::new(&config(&rates[..5]), &clock));
        let places: Vec<Places> = (0..4).map(|_| Places::default()).collect();
        let half = charges.len() / 2;
        for (turn, (job, requests, spans, bytes, later, budget, hint)) in charges.into_iter().enumerate() {
            if turn == half {
                for way in [&usual, &long] {
                    way.local.reconfigure(&config(&rates[5..]));
                }
            }
            clock.advance(Duration::from_millis(later));
            let subject = Subject {
                listener: listener_key(if job == 2 { "a" } else { "b" }),
                project: (job != 1).then_some(4),
                runner: job / 2,
                job: (job < 3).then_some(job),
                places: None,
            };
            if let (Some(Places(hints)), 0..3) = (places.get(turn % 4), hint) {
                for place in hints {
                    place.store(hint, Ordering::Relaxed);
                }
            }
            let knowing = Subject { places: places.get(usize::try_from(job).unwrap()), ..subject };
            let cost = Cost { requests, spans, bytes };
            prop_assert_eq!(usual.usual(knowing, cost, budget), long.long(subject, cost, budget));
            for job in 0..3 {
                let all = Subject { project: Some(4), job: Some(job), ..subject };
                prop_assert_eq!(states(&usual.local, all), states(&long.local, all));
                prop_assert_eq!(usual.job(job), long.job(job));
            }
        }
        for limit in Limit::ALL {
            let counts = [&usual, &long].map(|way| said(&way.local, &way.metrics, *limit));
            prop_assert_eq!(counts[0], counts[1], "{}", limit.label());
        }
    }
}

/// Scenario: a job's first charge, those after it, with its budget and without, and one that the job does not hold.
/// Guarantees: who is known and within all limits goes the short way, and is counted there; only the others go the long one.
#[test]
fn who_is_known_goes_the_short_way() {
    let clock = FakeRelativeClock::default();
    let way = Way::new(&with_listeners(&limits(&[([40; 3], 0); 5])), &clock);
    let places = Places::default();
    let (project, runner, job) = (Some(4), 5, Some(6));
    let subject = Subject { listener: listener_key("a"), project, runner, job, places: Some(&places) };
    let short = |cost, budget| {
        let now = way.local.nanos(way.local.now());
        way.local.states().pass(&subject, cost, budget, now).is_some()
    };
    let cost = Cost { requests: 1, spans: 10, bytes: 10 };
    assert!(!short(cost, true), "nothing is known of it");
    assert_eq!(way.usual(subject, cost, true), Ok(10));
    assert!(short(cost, true) && short(cost, false));
    assert!(places.0.iter().all(|place| place.load(Ordering::Relaxed) == 0));
    assert!(!short(Cost { spans: 11, ..cost }, true));
    assert_eq!(said(&way.local, &way.metrics, Limit::JobSpans), [3, 0, 0]);
}
