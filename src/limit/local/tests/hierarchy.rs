//! All levels together: who shares what, all or nothing, and what cycling through keys gains.

use std::time::Duration;

use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

use super::{REQUEST, SUBJECT, Timed, budget, config, limits, local, passes, refusal, said, spread, take};
use crate::{
    config::{Config, LevelRates, Limits, Listener, Mode, PerJob, PerRunner, units::ByteSize},
    limit::{Cost, Decision, Limit, Refusal, Subject, keyed::Keyed, listener_key},
    metrics::Metrics,
};

/// The five levels with these rates, each as its config has it.
pub(super) fn set(limits: &mut Limits, level: usize, [requests, spans, bytes]: [u32; 3], burst: Duration) {
    let rates = LevelRates {
        requests_per_second: requests,
        spans_per_second: spans,
        bytes_per_second: ByteSize(bytes.into()),
        burst,
        mode: Mode::Enforce,
    };
    let LevelRates { requests_per_second, spans_per_second, bytes_per_second, burst, mode } = rates;
    match level {
        0 => limits.per_job = PerJob { requests_per_second, spans_per_second, bytes_per_second, burst, mode },
        1 => {
            limits.per_runner =
                PerRunner { requests_per_second, spans_per_second, bytes_per_second, burst, mode };
        }
        2 => limits.per_project = rates,
        3 => limits.per_listener = rates,
        _ => limits.global = rates,
    }
}

/// No rate at all.
pub(super) fn none() -> Limits {
    let mut limits = Limits::default();
    (0..5).for_each(|level| set(&mut limits, level, [0; 3], Duration::from_secs(1)));
    limits
}

pub(super) fn with_listeners(limits: &Limits) -> Config {
    let listeners = ["a", "b"].map(|name| Listener { name: name.into(), ..Listener::default() });
    Config { listeners: listeners.into(), ..config(limits, 1_000) }
}

fn hierarchy(limits: &Limits) -> (Timed, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    (Timed::new(&with_listeners(limits), &Metrics::new(), clock.clone()), clock)
}

const UNITS: [Cost; 3] =
    [REQUEST, Cost { requests: 0, spans: 1, bytes: 0 }, Cost { requests: 0, spans: 0, bytes: 1 }];

/// Scenario: on one level at a time five requests, spans or bytes a second; two senders that share no more than that
/// level, and two that share all but that one.
/// Guarantees: the first two have five together, the other two five each; the refusal names the limit, its whole
/// quota, and that nothing is left.
#[test]
fn each_level_is_shared_by_its_own() {
    for level in 0..5 {
        for (unit, cost) in UNITS.into_iter().enumerate() {
            let mut limits = none();
            let mut rates = [0; 3];
            rates[unit] = 5;
            set(&mut limits, level, rates, Duration::from_secs(1));
            let subject = |same: [bool; 4], id: u64| {
                let key = |level: usize| spread(if same[level] { 1 } else { id });
                let listener = if same[3] || id == 1 { "a" } else { "b" };
                Subject {
                    listener: listener_key(listener),
                    project: Some(key(2)),
                    runner: key(1),
                    job: Some(key(0)),
                    places: None,
                }
            };
            let shared = std::array::from_fn(|other| other == level);
            let (local, _clock) = hierarchy(&limits);
            let got = [1, 2].map(|id| passes(&local, subject(shared, id), cost));
            assert_eq!(got, [5, 0], "level {level}, unit {unit}");
            let Decision::Refused(refusal) = take(&local, subject(shared, 2), cost) else {
                panic!("not refused")
            };
            let Refusal { limit, quota, .. } = *refusal;
            assert_eq!(limit, Limit::ALL[level * 3 + unit]);
            assert_eq!((quota.units, quota.left, quota.window), (5, 0, Duration::from_secs(1)));

            let (local, _clock) = hierarchy(&limits);
            let got = [1, 2].map(|id| passes(&local, subject(shared.map(|same| !same), id), cost));
            assert_eq!(got, if level == 4 { [5, 0] } else { [5, 5] }, "level {level}, unit {unit}");
        }
    }
}

/// Scenario: a sender without a job and a project, where only those two levels are limited.
/// Guarantees: they don't hold for it.
#[test]
fn levels_that_a_sender_is_not_on_do_not_hold() {
    let mut limits = none();
    set(&mut limits, 0, [1; 3], Duration::from_secs(1));
    set(&mut limits, 2, [1; 3], Duration::from_secs(1));
    let (local, _clock) = hierarchy(&limits);
    let nobody = Subject { listener: 0, project: None, runner: 1, job: None, places: None };
    assert_eq!(passes(&local, nobody, Cost { requests: 1, spans: 9, bytes: 9 }), 10_000);
    assert_eq!(budget(&local, nobody, 5_000), 5_000);
}

/// Scenario: for 30 s each level in turn lets as much pass as it may, in each unit, asked every 20 ms.
/// Guarantees: its rate and its burst, within 1 %.
#[test]
fn rates_of_all_levels_are_right_within_one_percent() {
    for level in 0..5 {
        for (unit, rate) in [(0, 37), (1, 1_000), (2, 3_000)] {
            let mut limits = none();
            let mut rates = [0; 3];
            rates[unit] = rate;
            set(&mut limits, level, rates, Duration::from_secs(2));
            let (local, clock) = hierarchy(&limits);
            let subject = Subject { listener: listener_key("a"), project: Some(3), ..SUBJECT };
            let mut taken = 0;
            for _ in 0..1_500 {
                taken += passes(&local, subject, UNITS[unit]);
                clock.advance(Duration::from_millis(20));
            }
            let ideal = u64::from(rate) * 32;
            assert!(taken.abs_diff(ideal) * 100 <= ideal, "{taken} of {ideal}, level {level}, unit {unit}");
        }
    }
}

/// All states that a subject's charge could touch.
pub(super) fn states(local: &Timed, subject: Subject<'_>) -> Vec<u64> {
    let now = local.nanos(local.now());
    let mut states = local.states();
    let job = states.jobs.search(subject.job.unwrap(), now).map(|job| job.states).unwrap_or_default();
    let runner = states.runners.search(subject.runner, now).copied().unwrap_or_default();
    let project = states.projects.search(subject.project.unwrap(), now).copied();
    let own = states.listeners.iter().find(|(key, _)| *key == subject.listener);
    let listener = own.map_or([0; 3], |(_, states)| *states);
    // What lies in the past is as good as a full bucket.
    [job, runner, project.unwrap_or_default(), listener, states.global]
        .concat()
        .iter()
        .map(|state| *state.max(&now))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Scenario: any rates on any levels, and a run of charges of any size by two jobs; some are given back at once.
    /// Guarantees: a charge that is refused and one that is given back leave every state of every level as it was; one
    /// that is taken moves each limit that is set and asked.
    #[test]
    fn all_levels_or_none(
        rates in prop::collection::vec(prop::array::uniform3(0_u32..50), 5),
        charges in prop::collection::vec((0_u64..2, 0_u32..4, 0_u64..60, 0_u64..60, 0_u64..300, any::<bool>()), 1..40),
    ) {
        let mut limits = none();
        for (level, rates) in rates.iter().enumerate() {
            set(&mut limits, level, *rates, Duration::from_secs(1));
        }
        let (local, clock) = hierarchy(&limits);
        for (job, requests, spans, bytes, later, keep) in charges {
            clock.advance(Duration::from_millis(later));
            let subject =
                Subject { listener: listener_key("b"), project: Some(4), runner: 5, job: Some(job), places: None };
            let cost = Cost { requests, spans, bytes };
            let before = states(&local, subject);
            let taken = take(&local, subject, cost) == Decision::Taken;
            let after = states(&local, subject);
            if taken {
                let units = [u64::from(requests), spans, bytes];
                for (place, (before, after)) in before.iter().zip(&after).enumerate() {
                    let moves = rates[place / 3][place % 3] > 0 && units[place % 3] > 0;
                    prop_assert_eq!(after > before, moves, "state {}", place);
                }
                if !keep {
                    local.give_back(subject, cost, 0);
                    prop_assert_eq!(states(&local, subject), before);
                }
            } else {
                prop_assert_eq!(after, before);
            }
        }
    }
}

/// Scenario: one sender goes round and round through four times as many jobs and runners as are kept, much faster than
/// a bucket fills up, and takes all that each gives; beside it the same with room for all.
/// Guarantees: it gets no more than with room for all, which is the burst of each key once; after the time of one burst a
/// new honest job has all of its own.
#[test]
fn cycling_through_keys_gains_nothing() {
    let mut tight = limits();
    tight.per_runner.requests_per_second = 10;
    let round_trip = |room: usize| {
        let (local, clock) = local(&tight);
        let idle = Duration::from_mins(10);
        {
            let mut states = local.states();
            (states.jobs, states.runners) = (Keyed::new(room, idle), Keyed::new(room, idle));
        }
        let mut taken = 0;
        for visit in 0..40_000_u64 {
            let key = spread(visit % 8_000 + 1);
            taken += passes(&local, super::subject(key, key), REQUEST);
            clock.advance(Duration::from_micros(10));
        }
        assert!(local.states().jobs.len() <= room);
        assert!(local.states().runners.len() <= room);
        clock.advance(Duration::from_secs(2));
        assert_eq!(passes(&local, super::subject(spread(90_000), spread(90_000)), REQUEST), 20);
        taken
    };
    let (bounded, unbounded) = (round_trip(2_000), round_trip(1_000_000));
    assert!(unbounded >= 8_000 * 20, "{unbounded}");
    assert!(bounded <= unbounded, "{bounded} with forgetting, {unbounded} without");
}

/// Scenario: a job that has spent its budget is silent until its last verdict could have ended and almost ten minutes
/// more; another one for much longer, while new jobs come.
/// Guarantees: the first still has nothing left, the second is forgotten.
#[test]
fn a_budget_outlives_its_verdict_by_ten_minutes() {
    let (local, clock) = local(&limits());
    let verdict = Duration::from_mins(5 + 1);
    assert_eq!(budget(&local, SUBJECT, 1_000), 1_000);
    clock.advance(verdict + Duration::from_secs(599));
    for job in 0..1_000 {
        take(&local, super::subject(1, spread(job)), REQUEST);
    }
    assert_eq!(budget(&local, SUBJECT, 1), 0);
    clock.advance(2 * (verdict + Duration::from_mins(10)));
    for job in 1_000..2_000 {
        take(&local, super::subject(1, spread(job)), REQUEST);
    }
    assert_eq!(local.states().jobs.len(), 1_000);
    assert_eq!(budget(&local, SUBJECT, 1), 1);
}

/// Scenario: charges on all levels before and after a reload that takes one limit away, and one that is refused.
/// Guarantees: every word of every limit is counted once, also what nobody had looked at when the reload came.
#[test]
fn every_word_is_counted() {
    let mut limits = none();
    (0..5).for_each(|level| set(&mut limits, level, [10; 3], Duration::from_secs(1)));
    let (clock, metrics) = (FakeRelativeClock::default(), Metrics::new());
    let local = Timed::new(&with_listeners(&limits), &metrics, clock);
    let subject = Subject { listener: listener_key("a"), project: Some(3), ..SUBJECT };
    for _ in 0..5 {
        take(&local, subject, Cost { requests: 1, spans: 1, bytes: 1 });
    }
    take(&local, Subject { job: None, project: None, ..subject }, REQUEST);
    limits.global.requests_per_second = 0;
    local.reconfigure(&with_listeners(&limits));
    for _ in 0..2 {
        take(&local, subject, REQUEST);
    }
    assert!(refusal(&local, subject, Cost { requests: 1, spans: 9, bytes: 0 }).is_some());
    for (limit, words) in [
        (Limit::JobRequests, [5 + 2 + 1, 0, 0]),
        (Limit::RunnerRequests, [5 + 1 + 2 + 1, 0, 0]),
        (Limit::ListenerRequests, [5 + 1 + 2 + 1, 0, 0]),
        (Limit::GlobalRequests, [5 + 1, 0, 0]),
        (Limit::ProjectSpans, [5, 1, 0]),
        (Limit::GlobalBytes, [5, 0, 0]),
    ] {
        assert_eq!(said(&local, &metrics, limit), words, "{}", limit.label());
    }
}
