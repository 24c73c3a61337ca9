//! The guard before an authority that behaves as a test wants it, under a paused clock.

#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test, as it should")]

use std::{
    net::IpAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use tokio::time::{advance, sleep};

use super::*;
use crate::validate::{
    Denial,
    credentials::{Digester, test_support},
};

type Answer = Result<Verdict, Undetermined>;

const DENY: Answer = Ok(Verdict::Deny(Denial::Unauthenticated));
const DOWN: Answer = Err(Undetermined::Status(503));

/// Gives the same answer after the same time until it is told another one.
#[derive(Debug)]
struct Rails {
    answer: Mutex<(Duration, Answer)>,
    calls: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Rails {
    fn new(latency: u64, answer: Answer) -> Arc<Self> {
        let answer = Mutex::new((Duration::from_millis(latency), answer));
        Arc::new(Self { answer, calls: 0.into(), open: 0.into(), most: 0.into() })
    }

    fn set(&self, latency: u64, answer: Answer) {
        *self.answer.lock().unwrap() = (Duration::from_millis(latency), answer);
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Validator for Rails {
    fn validate<'a>(&'a self, _: &'a Question) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.most.fetch_max(self.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let (latency, answer) = self.answer.lock().unwrap().clone();
            sleep(latency).await;
            self.open.fetch_sub(1, Ordering::SeqCst);
            answer
        })
    }
}

/// Without a ramp, for tests of something else.
fn config() -> config::Gitlab {
    config::Gitlab { ramp: Duration::ZERO, ..config::Gitlab::default() }
}

fn guard(rails: &Arc<Rails>, config: &config::Gitlab) -> Guard<Arc<Rails>> {
    Guard::new(Arc::clone(rails), config, Arc::default(), Arc::new(Metrics::new()))
}

fn question_of(runner: &str) -> Question {
    Question {
        credentials: Arc::new(test_support::pair(digester(), runner, "j")),
        client: IpAddr::from([127, 0, 0, 1]),
        correlation_id: "test".into(),
        deadline: Instant::now().checked_add(Duration::from_secs(10)).unwrap(),
    }
}

fn question() -> Question {
    question_of("r")
}

fn digester() -> &'static Digester {
    static DIGESTER: std::sync::OnceLock<Digester> = std::sync::OnceLock::new();
    DIGESTER.get_or_init(Digester::random)
}

async fn timed(guard: &Guard<Arc<Rails>>, question: &Question) -> (Answer, Duration) {
    let started = Instant::now();
    (guard.validate(question).await, started.elapsed())
}

/// Scenario: GitLab fails until the breaker opens, stays down for a while, comes back.
/// Guarantees: while it is open questions are refused at once and GitLab hears of probes only; after the first good one
/// all are asked again, and the metric follows.
#[tokio::test(start_paused = true)]
async fn a_gitlab_that_fails_is_left_alone() {
    let rails = Rails::new(10, DOWN);
    let guard = guard(&rails, &config());
    let state = || {
        let text = guard.metrics.render();
        let line = text.lines().find(|line| line.starts_with("spangate_authority_breaker_state "));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    for _ in 0..5 {
        assert_eq!(guard.validate(&question()).await.unwrap_err(), Undetermined::Status(503));
    }
    assert_eq!((rails.calls(), state().as_str()), (5, "2"));
    for _ in 0..600 {
        let (answer, took) = timed(&guard, &question()).await;
        match answer.unwrap_err() {
            Undetermined::BreakerOpen(wait) => {
                assert!(took.is_zero() && wait <= Duration::from_secs(5), "{took:?} {wait:?}");
            }
            other => assert_eq!(other, Undetermined::Status(503)),
        }
        advance(Duration::from_millis(100)).await;
    }
    let probes = rails.calls() - 5;
    assert!((12..=18).contains(&probes), "{probes} probes in a minute");
    rails.set(10, DENY);
    advance(Duration::from_secs(5)).await;
    for _ in 0..20 {
        assert!(guard.validate(&question()).await.is_ok());
    }
    assert_eq!(state(), "0");
    assert!(guard.metrics.render().contains("spangate_authority_shed_total{reason=\"breaker_open\"} 5"));
}

/// Scenario: answers that say nothing about GitLab's health, and words of every kind, a hundred each.
/// Guarantees: none of them opens the breaker: a stranger's odd token must not switch GitLab off for everybody.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_no_fault() {
    for answer in [
        DENY,
        Ok(Verdict::Deny(Denial::Forbidden)),
        Err(Undetermined::Status(400)),
        Err(Undetermined::Status(431)),
        Err(Undetermined::Status(422)),
        Err(Undetermined::ForeignRefusal),
        Err(Undetermined::ClocksApart),
        Err(Undetermined::NoAuthority),
    ] {
        let rails = Rails::new(1, answer);
        let guard = guard(&rails, &config());
        for _ in 0..100 {
            drop(guard.validate(&question()).await);
        }
        assert_eq!(rails.calls(), 100);
    }
}

/// Scenario: one runner's questions are answered with 429, another's are not; later one is answered, and then 429 again.
/// Guarantees: the one pauses alone and then asks again; while it pauses it hears how long; an answer ends the growth of its
/// pauses.
#[tokio::test(start_paused = true)]
async fn a_throttled_runner_pauses_alone() {
    let rails = Rails::new(1, Err(Undetermined::Throttled));
    let guard = guard(&rails, &config());
    let (one, other) = (question_of("one"), question_of("other"));
    assert_eq!(guard.validate(&one).await.unwrap_err(), Undetermined::Throttled);
    rails.set(1, DENY);
    assert_eq!(guard.validate(&one).await.unwrap_err(), Undetermined::Paused(Duration::from_secs(2)));
    assert!(guard.validate(&other).await.is_ok());
    assert_eq!(rails.calls(), 2);
    advance(Duration::from_secs(2)).await;
    assert!(guard.validate(&one).await.is_ok());
    assert!(guard.validate(&one).await.is_ok());
    rails.set(1, Err(Undetermined::Throttled));
    assert_eq!(guard.validate(&one).await.unwrap_err(), Undetermined::Throttled);
    assert_eq!(guard.validate(&one).await.unwrap_err(), Undetermined::Paused(Duration::from_secs(2)));
}

/// Scenario: five hundred questions at once, at the start of a ramp to 32 places and after its end.
/// Guarantees: never more in flight than the ramp allows; all that fit into the budget are answered, the rest refused at once.
#[tokio::test(start_paused = true)]
async fn the_ramp_bounds_a_stampede() {
    let rails = Rails::new(20, DENY);
    let ramped = config::Gitlab {
        ramp: Duration::from_secs(4),
        max_concurrency: 32,
        timeout: Duration::from_millis(500),
        ..config::Gitlab::default()
    };
    let guard = guard(&rails, &ramped);
    let stampede = || async {
        rails.most.store(0, Ordering::SeqCst);
        let questions: Vec<_> = (0..500).map(|_| question()).collect();
        let answers = join_all(questions.iter().map(|question| timed(&guard, question))).await;
        let answered = answers.iter().filter(|(answer, _)| answer.is_ok()).count();
        for (answer, took) in &answers {
            assert!(*took <= Duration::from_millis(530), "{took:?}");
            assert!(matches!(answer, Ok(_) | Err(Undetermined::Busy)), "{answer:?}");
        }
        (answered, rails.most.load(Ordering::SeqCst))
    };
    let (answered, most) = stampede().await;
    assert!(most <= 2 && (40..=60).contains(&answered), "{answered} answered, {most} at once");
    advance(Duration::from_secs(5)).await;
    assert!(guard.validate(&question()).await.is_ok());
    let (answered, most) = stampede().await;
    assert!(most <= 32 && answered >= 480, "{answered} answered, {most} at once");
}

/// Scenario: GitLab has failed until it is asked by one probe at a time, and comes back to a hundred questions at once.
/// Guarantees: the ramp begins anew: a few are in flight at first, all of them later.
#[tokio::test(start_paused = true)]
async fn a_recovery_ramps() {
    let rails = Rails::new(20, DOWN);
    let ramped =
        config::Gitlab { ramp: Duration::from_secs(4), max_concurrency: 32, ..config::Gitlab::default() };
    let guard = guard(&rails, &ramped);
    advance(Duration::from_secs(4)).await;
    for _ in 0..5 {
        drop(guard.validate(&question()).await);
    }
    rails.set(20, DENY);
    advance(Duration::from_secs(5)).await;
    assert!(guard.validate(&question()).await.is_ok());
    let most = async || {
        rails.most.store(0, Ordering::SeqCst);
        let questions: Vec<_> = (0..100).map(|_| question()).collect();
        join_all(questions.iter().map(|question| guard.validate(question))).await;
        rails.most.load(Ordering::SeqCst)
    };
    let first = most().await;
    advance(Duration::from_secs(4)).await;
    let later = most().await;
    assert!(first <= 4 && later == 32, "{first} at once, then {later}");
}

/// Scenario: GitLab fails for a while, short of what opens the breaker; then a hundred questions come at once, with the
/// adaptive limit switched on and off.
/// Guarantees: on, a few are in flight; off, as many as there are places.
#[tokio::test(start_paused = true)]
async fn the_adaptive_limit_has_a_switch() {
    for (adaptive_concurrency, few) in [(true, true), (false, false)] {
        let rails = Rails::new(20, DOWN);
        let breaker = config::Breaker { faults: u32::MAX, ..config::Breaker::default() };
        let config = config::Gitlab { adaptive_concurrency, breaker, max_concurrency: 32, ..config() };
        let guard = guard(&rails, &config);
        for _ in 0..8 {
            drop(guard.validate(&question()).await);
            advance(Duration::from_secs(1)).await;
        }
        let questions: Vec<_> = (0..100).map(|_| question()).collect();
        join_all(questions.iter().map(|question| guard.validate(question))).await;
        let most = rails.most.load(Ordering::SeqCst);
        assert_eq!((most <= 4, most == 32), (few, !few), "{most} at once");
    }
}

/// Scenario: questions without an answer, which had half of their time left when they were asked, or a little less.
/// Guarantees: what was spent in the queue is no fault of GitLab's: only the former open the breaker.
#[tokio::test(start_paused = true)]
async fn time_spent_in_the_queue_is_no_fault() {
    for (left, phase) in [(1_000, Phase::Open), (999, Phase::Closed)] {
        let rails = Rails::new(left, Err(Undetermined::Timeout));
        let guard = guard(&rails, &config());
        for _ in 0..10 {
            drop(guard.validate(&question()).await);
        }
        assert_eq!(guard.state.breaker.phase(), phase, "{left} ms");
    }
}

/// Scenario: the breaker is open, and the only place is still held by a question from before.
/// Guarantees: nobody waits in the queue for a refusal.
#[tokio::test(start_paused = true)]
async fn nobody_waits_before_an_open_breaker() {
    let rails = Rails::new(60_000, DOWN);
    let state = Arc::new(State::new());
    let with = |max_concurrency| {
        let config = config::Gitlab { max_concurrency, ..config() };
        Guard::new(Arc::clone(&rails), &config, Arc::clone(&state), Arc::new(Metrics::new()))
    };
    let (two, one) = (with(2), with(1));
    let before = question();
    let held = tokio::time::timeout(Duration::from_secs(1), two.validate(&before));
    let opened = async {
        tokio::task::yield_now().await;
        rails.set(1, DOWN);
        for _ in 0..5 {
            drop(two.validate(&question()).await);
        }
        timed(&one, &question()).await
    };
    let (_, (answer, took)) = tokio::join!(held, opened);
    assert!(matches!(answer, Err(Undetermined::BreakerOpen(_))) && took.is_zero(), "{answer:?} {took:?}");
}

/// Scenario: questions wait in the queue behind slow ones when the breaker opens.
/// Guarantees: none of them reaches GitLab, all are undetermined.
#[tokio::test(start_paused = true)]
async fn who_waits_when_it_opens_is_not_asked() {
    let rails = Rails::new(100, DOWN);
    let few = config::Gitlab { max_concurrency: 5, ..config() };
    let guard = guard(&rails, &few);
    let questions: Vec<_> = (0..9).map(|_| question()).collect();
    let answers = join_all(questions.iter().map(|question| guard.validate(question))).await;
    assert_eq!(rails.calls(), 5);
    for answer in answers.into_iter().skip(5) {
        assert!(matches!(answer, Err(Undetermined::BreakerOpen(_))), "{answer:?}");
    }
}

/// Scenario: the breaker is open; the settings change, as on a reload, with and without what is known of GitLab.
/// Guarantees: what is known outlives new settings.
#[tokio::test(start_paused = true)]
async fn what_is_known_outlives_new_settings() {
    let rails = Rails::new(1, DOWN);
    let state = Arc::new(State::new());
    let metrics = Arc::new(Metrics::new());
    let make = |state| Guard::new(Arc::clone(&rails), &config(), state, Arc::clone(&metrics));
    let first = make(Arc::clone(&state));
    for _ in 0..5 {
        drop(first.validate(&question()).await);
    }
    let second = make(state);
    assert!(matches!(second.validate(&question()).await, Err(Undetermined::BreakerOpen(_))));
    let fresh = make(Arc::default());
    assert_eq!(fresh.validate(&question()).await.unwrap_err(), Undetermined::Status(503));
}

/// Scenario: a caller goes away while its probe is on its way.
/// Guarantees: the next question is the next probe; nothing stays locked.
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_makes_room() {
    let rails = Rails::new(1, DOWN);
    let guard = guard(&rails, &config());
    for _ in 0..5 {
        drop(guard.validate(&question()).await);
    }
    rails.set(60_000, DENY);
    advance(Duration::from_secs(5)).await;
    let probe = question();
    assert!(tokio::time::timeout(Duration::from_millis(10), guard.validate(&probe)).await.is_err());
    rails.set(1, DENY);
    assert!(guard.validate(&question()).await.is_ok());
}
