//! The limits of one process under a clock that the test moves.

mod hierarchy;
mod shared;
mod timed;
mod ways;

use std::time::Duration;

use governor::clock::FakeRelativeClock;

use self::timed::Timed;
use crate::{
    config::{Config, Limits, Mode, PerJob, PerRunner, Traces, units::ByteSize},
    limit::{
        Cost, Decision, Limit, LimitStore as _, Subject,
        keyed::Keyed,
        states::{JOB_IDLE, WIDE_IDLE},
    },
    metrics::Metrics,
};

const SUBJECT: Subject<'static> = subject(1, 2);
const REQUEST: Cost = Cost { requests: 1, spans: 0, bytes: 0 };

/// 100 requests/s per runner; per job 10 requests/s, 100 spans/s and 1,000 bytes/s; bursts of two seconds.
fn limits() -> Limits {
    let burst = Duration::from_secs(2);
    Limits {
        per_runner: PerRunner { requests_per_second: 100, burst, ..PerRunner::default() },
        per_job: PerJob {
            requests_per_second: 10,
            spans_per_second: 100,
            bytes_per_second: ByteSize(1_000),
            burst,
            mode: Mode::Enforce,
        },
        ..Limits::default()
    }
}

/// A job of no project on no listener.
const fn subject(runner: u64, job: u64) -> Subject<'static> {
    Subject { listener: 0, project: None, runner, job: Some(job), places: None }
}

fn config(limits: &Limits, max_spans_per_job: u64) -> Config {
    let traces = Traces { max_spans_per_job, ..Traces::default() };
    Config { limits: limits.clone(), traces, ..Config::default() }
}

fn local(limits: &Limits) -> (Timed, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    (Timed::new(&config(limits, 1_000), &Metrics::new(), clock.clone()), clock)
}

/// `take` is ready at once: the state is in this process.
fn take(local: &Timed, subject: Subject<'_>, cost: Cost) -> Decision {
    futures_util::FutureExt::now_or_never(local.take(subject, cost)).unwrap()
}

fn spans(spans: u64) -> Cost {
    Cost { spans, ..Cost::default() }
}

/// The same without a rate of spans, so that a budget can be spent as fast as a test likes.
fn unhurried(limits: Limits) -> Limits {
    Limits { per_job: PerJob { spans_per_second: 0, ..limits.per_job }, ..limits }
}

/// What is granted, where no rate refuses it.
fn budget(local: &Timed, subject: Subject<'_>, wanted: u64) -> u64 {
    futures_util::FutureExt::now_or_never(local.take_spans(subject, spans(wanted))).unwrap().unwrap()
}

/// Who refuses for how many milliseconds; `None`: nobody.
fn refusal(local: &Timed, subject: Subject<'_>, cost: Cost) -> Option<(Limit, u128)> {
    match take(local, subject, cost) {
        Decision::Taken => None,
        Decision::Refused(refusal) => Some((refusal.limit, refusal.retry_after.as_millis())),
    }
}

/// How often a cost passes at this moment.
fn passes(local: &Timed, subject: Subject<'_>, cost: Cost) -> u64 {
    (0..10_000).take_while(|_| take(local, subject, cost) == Decision::Taken).count() as u64
}

/// Scenario: a job asks as fast as it may for a minute, in requests, in spans and in bytes.
/// Guarantees: its rate and its burst, within 1 %, for each of the three.
#[test]
fn rates_are_right_within_one_percent() {
    let costs = [(REQUEST, 10, 1), (spans(7), 100, 7), (Cost { bytes: 13, ..Cost::default() }, 1_000, 13)];
    for (cost, rate, portion) in costs {
        let (local, clock) = local(&limits());
        let mut taken = 0;
        for _ in 0..6_000 {
            taken += portion * passes(&local, SUBJECT, cost);
            clock.advance(Duration::from_millis(10));
        }
        let ideal = rate * 62;
        assert!(taken.abs_diff(ideal) * 100 <= ideal, "{taken} of {ideal}");
    }
}

/// Scenario: twenty jobs of one runner ask at once.
/// Guarantees: each has its own burst, and the runner's burst holds over all of them.
#[test]
fn a_runner_is_limited_over_its_jobs() {
    let (local, _clock) = local(&limits());
    let taken: Vec<u64> = (0..20).map(|job| passes(&local, subject(1, job), REQUEST)).collect();
    assert_eq!(taken[..10], [20; 10]);
    assert_eq!(taken[10..], [0; 10]);
    assert_eq!(refusal(&local, subject(1, 19), REQUEST), Some((Limit::RunnerRequests, 10)));
    assert_eq!(passes(&local, subject(2, 30), REQUEST), 20);
}

/// Scenario: a charge that one limit refuses and the others would grant; one that two refuse, costs above
/// a burst among them.
/// Guarantees: nothing at all is taken; the longest wait is told, for a cost above the burst the one to a full bucket.
#[test]
fn all_or_nothing() {
    let (local, _clock) = local(&limits());
    assert_eq!(take(&local, SUBJECT, spans(200)), Decision::Taken);
    for _ in 0..500 {
        let cost = Cost { requests: 1, spans: 50, bytes: 100 };
        assert_eq!(refusal(&local, SUBJECT, cost), Some((Limit::JobSpans, 500)));
    }
    assert_eq!(passes(&local, SUBJECT, Cost { requests: 1, spans: 0, bytes: 100 }), 20);
    assert_eq!(passes(&local, subject(1, 3), REQUEST), 20);

    let both = Cost { requests: 1, spans: 100, bytes: 500 };
    assert_eq!(refusal(&local, SUBJECT, both), Some((Limit::JobSpans, 1_000)));
    let both = Cost { requests: 1, spans: 10, bytes: 500 };
    assert_eq!(refusal(&local, SUBJECT, both), Some((Limit::JobBytes, 500)));
    let above = Cost { requests: 0, spans: 100, bytes: 5_000 };
    assert_eq!(refusal(&local, SUBJECT, above), Some((Limit::JobBytes, 2_000)));
    let above = Cost { requests: 0, spans: 201, bytes: 1 };
    assert_eq!(refusal(&local, SUBJECT, above), Some((Limit::JobSpans, 2_000)));
    assert_eq!(take(&local, SUBJECT, Cost::default()), Decision::Taken);
}

/// Scenario: a job that sends one export far above its bursts, whose bytes a later stage gives back; then again as
/// soon as it may, for ten minutes.
/// Guarantees: the export passes, others of the job wait for its debt and other jobs do not, what is given back is no
/// debt, and over time the rate holds.
#[test]
fn a_huge_export_passes_and_pays() {
    let (local, clock) = local(&limits());
    let huge = Cost { requests: 1, spans: 1_500, bytes: 64_000 };
    assert_eq!(take(&local, SUBJECT, huge), Decision::Taken);
    assert_eq!(refusal(&local, SUBJECT, huge), Some((Limit::JobBytes, 64_000)));
    assert_eq!(refusal(&local, SUBJECT, spans(1)), Some((Limit::JobSpans, 13_010)));
    assert_eq!(take(&local, subject(1, 3), huge), Decision::Taken);
    local.give_back(SUBJECT, Cost { bytes: 64_000, ..Cost::default() }, 0);
    assert_eq!(refusal(&local, SUBJECT, huge), Some((Limit::JobSpans, 15_000)));
    clock.advance(Duration::from_secs(15));
    let mut passed = 0;
    for _ in 0..600 {
        passed += passes(&local, SUBJECT, huge);
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(passed, 600 / 64 + 1);
}

/// Scenario: a charge is given back, whole and in part; then more than was ever taken, and to keys that are not there.
/// Guarantees: what is given back can be taken again, never more than a full bucket, and nothing appears.
#[test]
fn what_is_given_back_can_be_taken_again() {
    let (local, clock) = local(&limits());
    clock.advance(Duration::from_secs(1_000));
    let cost = Cost { requests: 20, spans: 200, bytes: 2_000 };
    for _ in 0..10 {
        assert_eq!(take(&local, SUBJECT, cost), Decision::Taken);
        assert_eq!(refusal(&local, SUBJECT, REQUEST), Some((Limit::JobRequests, 100)));
        local.give_back(SUBJECT, cost, 0);
    }
    assert_eq!(take(&local, SUBJECT, cost), Decision::Taken);
    local.give_back(SUBJECT, Cost { requests: 0, spans: 30, bytes: 0 }, 0);
    assert_eq!(passes(&local, SUBJECT, spans(1)), 30);
    for _ in 0..100 {
        local.give_back(SUBJECT, cost, 5_000);
    }
    assert_eq!(passes(&local, SUBJECT, spans(1)), 200);
    local.give_back(subject(8, 9), cost, 1);
    let states = local.states();
    assert_eq!((states.runners.len(), states.jobs.len()), (1, 1));
}

/// What a limit said so far: allowed, refused, would have refused.
fn said(local: &Timed, metrics: &Metrics, limit: Limit) -> [u64; 3] {
    local.record();
    let text = metrics.render();
    ["allowed", "refused", "would_refuse"].map(|decision| {
        let labels = format!("{{limit=\"{}\",decision=\"{decision}\"}} ", limit.label());
        text.lines().find_map(|line| line.split_once(&labels)?.1.parse().ok()).unwrap()
    })
}

/// Scenario: the same flood in shadow mode and in off mode, one group of limits at a time.
/// Guarantees: shadow takes what enforce would take, refuses nothing and says what it would have refused; off is silent.
#[test]
fn shadow_only_counts() {
    let mut shadow = limits();
    shadow.per_job.mode = Mode::Shadow;
    let (clock, metrics) = (FakeRelativeClock::default(), Metrics::new());
    let both = Timed::new(&config(&shadow, 1_000), &metrics, clock.clone());
    assert_eq!(passes(&both, SUBJECT, REQUEST), 200);
    assert_eq!(said(&both, &metrics, Limit::RunnerRequests), [200, 1, 0]);
    // The runner's refusal left the job's shadow as it was, too.
    assert_eq!(said(&both, &metrics, Limit::JobRequests), [20, 0, 181]);
    assert_eq!(take(&both, SUBJECT, spans(1_000_000)), Decision::Taken);
    clock.advance(Duration::from_millis(100));
    assert_eq!(passes(&both, SUBJECT, REQUEST), 10);
    assert_eq!(said(&both, &metrics, Limit::JobRequests), [21, 0, 181 + 10]);

    shadow.per_job.mode = Mode::Off;
    let metrics = Metrics::new();
    let off = Timed::new(&config(&shadow, 1_000), &metrics, clock);
    let cost = Cost { requests: 1, spans: 1_000_000, bytes: 1_000_000 };
    assert_eq!(take(&off, SUBJECT, cost), Decision::Taken);
    assert_eq!(said(&off, &metrics, Limit::RunnerRequests), [1, 0, 0]);
    assert_eq!(said(&off, &metrics, Limit::JobBytes), [0; 3]);
}

/// Scenario: a job asks for its budget of 1,000 spans in portions, gives some back, and another job asks too.
/// Guarantees: a partial grant at the end, nothing after it, what is given back is granted again, jobs apart.
#[test]
fn a_budget_is_granted_in_part() {
    let (local, clock) = local(&unhurried(limits()));
    let granted = |wanted| budget(&local, SUBJECT, wanted);
    assert_eq!([600, 600, 1].map(granted), [600, 400, 0]);
    clock.advance(Duration::from_mins(30));
    assert_eq!(granted(1), 0);
    local.give_back(SUBJECT, Cost::default(), 30);
    assert_eq!([10, 100].map(granted), [10, 20]);
    assert_eq!(budget(&local, subject(1, 3), u64::MAX), 1_000);
}

/// Scenario: a reload halves a rate, raises the budget and turns a shadow limit on.
/// Guarantees: the new rates hold at once, and what was taken before stays taken.
#[test]
fn a_reload_forgets_nothing() {
    let (local, clock) = local(&unhurried(limits()));
    clock.advance(Duration::from_secs(500));
    assert_eq!(passes(&local, SUBJECT, REQUEST), 20);
    assert_eq!(budget(&local, SUBJECT, 5_000), 1_000);
    let mut slower = unhurried(limits());
    slower.per_job.requests_per_second = 5;
    local.reconfigure(&config(&slower, 1_500));
    assert_eq!(refusal(&local, SUBJECT, REQUEST), Some((Limit::JobRequests, 200)));
    clock.advance(Duration::from_secs(2));
    assert_eq!(passes(&local, SUBJECT, REQUEST), 10);
    assert_eq!(budget(&local, SUBJECT, 5_000), 500);
}

/// Scenario: the defaults of the configuration, and rates of zero.
/// Guarantees: a usual export passes; a rate of zero is no limit.
#[test]
fn defaults_and_zero() {
    let (local, _clock) = local(&Limits::default());
    let export = Cost { requests: 1, spans: 1_000, bytes: 4 << 20 };
    assert_eq!(take(&local, SUBJECT, export), Decision::Taken);
    let mut zero = limits();
    zero.per_job.requests_per_second = 0;
    local.reconfigure(&config(&zero, 0));
    assert_eq!(passes(&local, SUBJECT, REQUEST), 199);
    assert_eq!(budget(&local, SUBJECT, 1), 0);
}

/// Scenario: eight threads take and give back for four jobs of one runner, on a clock that stands still.
/// Guarantees: never more than the burst is out for a job or the runner, and all of it can be had at the end.
#[test]
fn threads_never_take_too_much() {
    let mut tight = limits();
    tight.per_runner.requests_per_second = 30;
    let (local, _clock) = local(&tight);
    let taken: Vec<[u64; 4]> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u64)
            .map(|thread| {
                let local = &local;
                scope.spawn(move || {
                    let mut taken = [0; 4];
                    for round in 0..2_000_u64 {
                        let job = (round + thread) % 4;
                        let subject = subject(1, job);
                        if take(local, subject, REQUEST) == Decision::Taken {
                            if round % 3 == 0 && round < 1_900 {
                                local.give_back(subject, REQUEST, 0);
                            } else {
                                taken[usize::try_from(job).unwrap()] += 1;
                            }
                        }
                    }
                    taken
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let of_job = |job: usize| taken.iter().map(|thread| thread[job]).sum::<u64>();
    assert!((0..4).all(|job| of_job(job) <= 20));
    assert_eq!((0..4).map(of_job).sum::<u64>(), 60);
}

/// Scenario: eight threads want more of one job's budget than there is.
/// Guarantees: the grants add up to the budget exactly.
#[test]
fn threads_share_a_budget_exactly() {
    let (local, _clock) = local(&unhurried(limits()));
    let granted: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..100).map(|_| budget(&local, SUBJECT, 7)).sum::<u64>()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(granted, 1_000);
}

/// Scenario: a charge of spans and bytes meets a budget with less left than it wants, a rate of bytes or of spans that is
/// used up, and a spent budget.
/// Guarantees: rates are charged for what the budget grants only; a rate that refuses leaves the budget as it was; a spent
/// budget refuses nothing, and the bytes are charged all the same; each word is counted.
#[test]
fn spans_are_taken_from_budget_and_rates_at_once() {
    let metrics = Metrics::new();
    let local = Timed::new(&config(&limits(), 150), &metrics, FakeRelativeClock::default());
    let take = |spans, bytes| {
        let cost = Cost { requests: 0, spans, bytes };
        let answer = futures_util::FutureExt::now_or_never(local.take_spans(SUBJECT, cost)).unwrap();
        answer.map_err(|refusal| refusal.limit)
    };
    assert_eq!(take(100, 1_500), Ok(100));
    assert_eq!(take(20, 501), Err(Limit::JobBytes));
    assert_eq!(take(90, 400), Ok(50));
    assert_eq!(take(10, 101), Err(Limit::JobBytes));
    assert_eq!(take(10, 60), Ok(0));
    assert_eq!(refusal(&local, SUBJECT, spans(51)), Some((Limit::JobSpans, 10)));
    assert_eq!(refusal(&local, SUBJECT, Cost { bytes: 41, ..Cost::default() }), Some((Limit::JobBytes, 1)));
    local.give_back(SUBJECT, spans(50), 50);
    assert_eq!(take(200, 0), Ok(50));
    assert_eq!(said(&local, &metrics, Limit::JobSpanBudget), [2, 4, 0]);
    assert_eq!(said(&local, &metrics, Limit::JobBytes), [3, 3, 0]);
}

/// Keys as they come: spread evenly.
fn spread(key: u64) -> u64 {
    key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Scenario: one job in use beside many times more one-time jobs and runners than state is kept for (here: 20,000 jobs
/// and 5,000 runners).
/// Guarantees: both tables stay within their bounds, and the job in use keeps its spent budget.
#[test]
fn state_is_bounded_and_the_busy_stay() {
    let (local, clock) = local(&unhurried(limits()));
    {
        let mut states = local.states();
        states.jobs = Keyed::new(20_000, JOB_IDLE);
        states.runners = Keyed::new(5_000, WIDE_IDLE);
    }
    assert_eq!(budget(&local, SUBJECT, 1_000), 1_000);
    for key in 0..100_000 {
        if key % 1_000 == 0 {
            clock.advance(Duration::from_secs(1));
            assert_eq!(budget(&local, SUBJECT, 1), 0);
        }
        take(&local, subject(spread(key + 1_000), spread(key + 1_000)), REQUEST);
    }
    assert!((18_000..=20_000).contains(&local.states().jobs.len()));
    assert!((4_500..=5_000).contains(&local.states().runners.len()));
    assert_eq!(budget(&local, SUBJECT, 1), 0);
}
