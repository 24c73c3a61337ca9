//! Who shares a question, and what becomes of it when somebody leaves or something breaks.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{Instant, advance, sleep};

use super::{DENY, Script, Step, ask, cached, good, question, seconds, settle};
use crate::{
    cache::verdict::{MAX_FLIGHT, MAX_FLIGHTS},
    validate::{Undetermined, Validator},
};

/// Scenario: 200 callers ask about one pair at once; the authority takes a second, and its verdict may or may not be kept.
/// Guarantees: one call, one miss, 199 shared, all allowed; a later caller hits only what may be kept.
#[tokio::test(start_paused = true)]
async fn many_callers_make_one_call() {
    for (max_age, later) in [(Some(100), "hit"), (None, "miss")] {
        let answer = || Step::SayAfter(seconds(1), good(max_age));
        let script = Script::new([answer(), answer()]);
        let cached = Arc::new(cached(&script));
        let callers: Vec<_> = (0..200)
            .map(|_| {
                let cached = Arc::clone(&cached);
                tokio::spawn(async move { ask(&cached, 1).await })
            })
            .collect();
        let mut count = HashMap::new();
        for caller in callers {
            *count.entry(caller.await.unwrap()).or_insert(0) += 1;
        }
        assert_eq!(count, HashMap::from([(("miss", "allow"), 1), (("shared", "allow"), 199)]));
        assert_eq!(script.calls(), 1);
        assert_eq!(ask(&cached, 1).await, (later, "allow"));
        assert_eq!(cached.shared.flights().open.len(), 0);
    }
}

/// Scenario: the same on eight threads, with a real clock and an authority that answers at once.
/// Guarantees: however they interleave, a verdict that is kept is asked for once.
#[test]
fn many_threads_make_one_call() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(8).enable_time().build().unwrap();
    runtime.block_on(async {
        for _ in 0..50 {
            let script = Script::new([Step::Say(good(Some(100)))]);
            let cached = Arc::new(cached(&script));
            let callers: Vec<_> = (0..64)
                .map(|_| {
                    let cached = Arc::clone(&cached);
                    tokio::spawn(async move { ask(&cached, 1).await })
                })
                .collect();
            for caller in callers {
                assert_eq!(caller.await.unwrap().1, "allow");
            }
            assert_eq!(script.calls(), 1);
        }
    });
}

/// Scenario: the first caller hangs up while the authority thinks; another caller waits, a third comes later.
/// Guarantees: the question goes on, answers the second caller and is kept for the third.
#[tokio::test(start_paused = true)]
async fn a_caller_that_hangs_up_ends_only_its_own_wait() {
    let script = Script::new([Step::SayAfter(seconds(1), good(Some(100)))]);
    let cached = Arc::new(cached(&script));
    let call = || {
        let cached = Arc::clone(&cached);
        tokio::spawn(async move { ask(&cached, 1).await })
    };
    let first = call();
    settle().await;
    let second = call();
    settle().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(second.await.unwrap(), ("shared", "allow"));
    assert_eq!(ask(&cached, 1).await, ("hit", "allow"));
    assert_eq!(script.calls(), 1);
}

/// Scenario: every caller hangs up at once.
/// Guarantees: the verdict is kept all the same.
#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_waits_for_is_kept() {
    let script = Script::new([Step::SayAfter(seconds(1), good(Some(100)))]);
    let cached = Arc::new(cached(&script));
    assert!(tokio::time::timeout(Duration::from_millis(10), ask(&cached, 1)).await.is_err());
    advance(seconds(2)).await;
    settle().await;
    assert_eq!(ask(&cached, 1).await, ("hit", "allow"));
    assert_eq!(script.calls(), 1);
}

/// Scenario: one pair's question takes three seconds, another pair's none.
/// Guarantees: the second does not wait for the first.
#[tokio::test(start_paused = true)]
async fn two_pairs_do_not_wait_for_each_other() {
    let script = Script::new([Step::SayAfter(seconds(3), good(Some(100))), Step::Say(good(Some(100)))]);
    let cached = Arc::new(cached(&script));
    let slow = tokio::spawn({
        let cached = Arc::clone(&cached);
        async move { ask(&cached, 1).await }
    });
    settle().await;
    let start = Instant::now();
    assert_eq!(ask(&cached, 2).await, ("miss", "allow"));
    assert!(start.elapsed() < Duration::from_millis(10));
    assert_eq!(slow.await.unwrap(), ("miss", "allow"));
    assert!(start.elapsed() > seconds(2));
}

/// Scenario: the authority takes three seconds; one caller has one second left, another four.
/// Guarantees: each gives up at its own deadline, and the first one's does not cut the question short.
#[tokio::test(start_paused = true)]
async fn each_waits_until_its_own_deadline() {
    let script = Script::new([Step::SayAfter(seconds(3), good(Some(100)))]);
    let cached = Arc::new(cached(&script));
    let patient = {
        let cached = Arc::clone(&cached);
        async move {
            settle().await;
            ask(&cached, 1).await
        }
    };
    let patient = tokio::spawn(patient);
    let start = Instant::now();
    let mut hasty = question(1);
    hasty.deadline = start + seconds(1);
    let (source, answer) = cached.judge(&hasty).await;
    assert_eq!((source, answer.unwrap_err()), ("miss", Undetermined::Timeout));
    assert_eq!(start.elapsed().as_secs(), 1);
    assert_eq!(patient.await.unwrap(), ("shared", "allow"));
    assert_eq!(script.calls(), 1);
}

/// Scenario: the validator never answers, and one caller would wait for a minute.
/// Guarantees: the flight itself ends, so that the next question gets a new one.
#[tokio::test(start_paused = true)]
async fn a_flight_ends_by_itself() {
    let script = Script::new([Step::Hang, Step::Say(good(Some(100)))]);
    let cached = cached(&script);
    let start = Instant::now();
    let mut patient = question(1);
    patient.deadline = start + seconds(60);
    assert_eq!(cached.judge(&patient).await.1.unwrap_err(), Undetermined::Timeout);
    assert_eq!(start.elapsed().as_secs(), MAX_FLIGHT.as_secs());
    assert_eq!(ask(&cached, 1).await, ("miss", "allow"));
}

/// Scenario: the validator panics while ten callers wait.
/// Guarantees: all of them hear that nothing was decided, and the next question is asked anew.
#[tokio::test(start_paused = true)]
async fn a_panic_is_no_verdict() {
    let script = Script::new([Step::Panic, Step::Say(good(Some(100)))]);
    let cached = Arc::new(cached(&script));
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let cached = Arc::clone(&cached);
            tokio::spawn(async move { cached.validate(&question(1)).await })
        })
        .collect();
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Err(Undetermined::BadAnswer(_))));
    }
    assert_eq!(ask(&cached, 1).await, ("miss", "allow"));
    assert_eq!(script.calls(), 2);
}

/// Scenario: more pairs than there may be flights are asked about while the authority hangs, then the flights end.
/// Guarantees: the surplus hears at once that we are busy, joining is still possible, and the list empties.
#[tokio::test(start_paused = true)]
async fn flights_are_bounded() {
    let script = Script::new(std::iter::repeat_with(|| Step::Hang).take(MAX_FLIGHTS));
    let cached = Arc::new(cached(&script));
    let pairs = u32::try_from(MAX_FLIGHTS).unwrap();
    let callers: Vec<_> = (0..pairs)
        .map(|pair| {
            let cached = Arc::clone(&cached);
            tokio::spawn(async move { ask(&cached, pair).await })
        })
        .collect();
    settle().await;
    assert_eq!(cached.judge(&question(pairs)).await.1.unwrap_err(), Undetermined::Busy);
    assert_eq!(ask(&cached, 7).await, ("shared", "undetermined"));
    for caller in callers {
        assert_eq!(caller.await.unwrap(), ("miss", "undetermined"));
    }
    sleep(MAX_FLIGHT).await;
    assert_eq!(cached.shared.flights().open.len(), 0);
}

/// Scenario: a denial is shared by those who wait for it.
/// Guarantees: one call, and everybody hears it.
#[tokio::test(start_paused = true)]
async fn a_denial_is_shared() {
    let script = Script::new([Step::SayAfter(seconds(1), DENY)]);
    let cached = cached(&script);
    let both = futures_util::future::join(ask(&cached, 1), ask(&cached, 1)).await;
    assert_eq!(both, (("miss", "deny"), ("shared", "deny")));
    assert_eq!(script.calls(), 1);
}
