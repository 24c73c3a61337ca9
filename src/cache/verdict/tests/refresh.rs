//! Hits that cause a question in the background: before a verdict's end, and past it where the authority
//! allows that. No hit ever waits for one.

use std::time::Duration;

use tokio::time::{Instant, advance, sleep};

use super::{
    DENY, DOWN, Script, Step, ask, cached, cached_with, config, good, good_while_revalidating, question,
    seconds, settle,
};
use crate::{
    cache::{
        kept::REFRESH_PAUSE,
        verdict::{MAX_FLIGHT, SECOND_THOUGHT},
    },
    config::{Cache, Outage},
    validate::Validator,
};

/// Scenario: fifty hits in the last part of a verdict's time; the authority takes a second.
/// Guarantees: one question, off the request path, and its answer carries on without a miss.
#[tokio::test(start_paused = true)]
async fn hits_refresh_ahead_once() {
    let script = Script::new([Step::Say(good(Some(100))), Step::SayAfter(seconds(1), good(Some(100)))]);
    let cached = cached(&script);
    ask(&cached, 1).await;
    advance(seconds(44)).await;
    assert_eq!((ask(&cached, 1).await, script.calls()), (("hit", "allow"), 1));
    advance(seconds(16)).await;
    let start = Instant::now();
    for _ in 0..50 {
        assert_eq!(ask(&cached, 1).await, ("hit", "allow"));
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    sleep(seconds(2)).await;
    assert_eq!(script.calls(), 2);
    advance(seconds(42)).await;
    assert_eq!((ask(&cached, 1).await, script.calls()), (("hit", "allow"), 2));
}

/// Scenario: the refresh takes eight seconds, or never ends, while a hit comes every second.
/// Guarantees: no hit waits, and nobody else asks meanwhile; the one that never ends is given up and tried again.
#[tokio::test(start_paused = true)]
async fn a_slow_refresh_delays_no_hit() {
    let slow = Step::SayAfter(seconds(8), good(Some(100)));
    for (step, seconds_of_one_call) in [(slow, 30), (Step::Hang, MAX_FLIGHT.as_secs() + 4)] {
        let script = Script::new([Step::Say(good(Some(100))), step, Step::Say(good(Some(100)))]);
        let cached = cached(&script);
        ask(&cached, 1).await;
        advance(seconds(55)).await;
        for second in 0..seconds_of_one_call {
            let start = Instant::now();
            assert_eq!(ask(&cached, 1).await, ("hit", "allow"));
            assert_eq!(start.elapsed(), Duration::ZERO);
            sleep(seconds(1)).await;
            assert_eq!(script.calls(), 2, "second {second}");
        }
        if seconds_of_one_call < 30 {
            sleep(seconds(2)).await;
            ask(&cached, 1).await;
            settle().await;
            assert_eq!(script.calls(), 3);
        }
    }
}

/// Scenario: the refresh meets an outage, a replica that lags behind and denies once, or a panic; hits go on every second.
/// Guarantees: the good verdict stays until its end; after a pause, and not before it, it is asked about again, and the
/// word that comes then carries on without a miss.
#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_evicts_nothing() {
    let say = Step::Say;
    let failed = REFRESH_PAUSE.as_secs();
    for (steps, first, pause) in [
        (vec![say(DOWN)], 2, failed),
        (vec![say(DENY), say(DOWN)], 3, failed),
        (vec![Step::Panic], 2, MAX_FLIGHT.as_secs()),
    ] {
        let good = || Step::Say(good(Some(100)));
        let script = Script::new(std::iter::once(good()).chain(steps).chain([good()]));
        let cached = cached(&script);
        ask(&cached, 1).await;
        advance(seconds(55)).await;
        for _ in 0..pause {
            assert_eq!(ask(&cached, 1).await, ("hit", "allow"));
            sleep(seconds(1)).await;
            assert_eq!(script.calls(), first);
        }
        sleep(seconds(1)).await;
        assert_eq!(ask(&cached, 1).await, ("hit", "allow"));
        settle().await;
        assert_eq!(script.calls(), first + 1);
        advance(seconds(40)).await;
        assert_eq!(ask(&cached, 1).await, ("hit", "allow"), "past the end of the first verdict");
    }
}

/// Scenario: `stale-while-revalidate=20`; the verdict has ended when fifty hits come; the authority takes a second.
/// Guarantees: all are answered at once from memory, one question is asked, and its word is the next verdict.
#[tokio::test(start_paused = true)]
async fn past_its_end_a_hit_may_revalidate() {
    let again = Step::SayAfter(seconds(1), good(Some(100)));
    let script = Script::new([Step::Say(good_while_revalidating(20)), again]);
    let cached = cached_with(&script, &Cache { refresh_ahead: 0.0, ..config() });
    ask(&cached, 1).await;
    advance(seconds(11)).await;
    let start = Instant::now();
    for _ in 0..50 {
        assert_eq!(ask(&cached, 1).await, ("revalidate", "allow"));
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    sleep(seconds(2)).await;
    assert_eq!((ask(&cached, 1).await, script.calls()), (("hit", "allow"), 2));
}

/// Scenario: the same while the authority is down, until past the 20 s; then under caps of 5 s, of nothing, and under
/// the strict policy.
/// Guarantees: it answers at once for no longer than the authority and the operator both allow; each pause one question.
#[tokio::test(start_paused = true)]
async fn revalidating_is_bounded() {
    let uncapped = Cache { stale_if_error: Duration::ZERO, ..config() };
    let capped = |stale_while_revalidate| Cache { stale_while_revalidate, ..uncapped.clone() };
    let strict = Cache { outage: Outage::Strict, ..config() };
    for (config, allowed) in
        [(uncapped.clone(), 20), (capped(seconds(5)), 5), (capped(Duration::ZERO), 0), (strict, 0)]
    {
        let script = Script::say([good_while_revalidating(20)]);
        let cached = cached_with(&script, &Cache { refresh_ahead: 0.0, ..config });
        ask(&cached, 1).await;
        // The jitter takes off up to a second.
        advance(Duration::from_millis(10_100)).await;
        let mut at_once: u64 = 0;
        while ask(&cached, 1).await == ("revalidate", "allow") {
            at_once += 1;
            sleep(seconds(1)).await;
        }
        assert!((allowed.max(1) - 1..=allowed).contains(&at_once), "{at_once} of {allowed}");
        assert_eq!(ask(&cached, 1).await, ("miss", "undetermined"));
        let questions = script.calls() - 1;
        let in_background = u64::try_from(questions).unwrap() - 2;
        assert_eq!(in_background, at_once.div_ceil(REFRESH_PAUSE.as_secs()), "{at_once}");
    }
}

/// Scenario: a pair is revoked; its refresh, or the question past its end, is denied twice.
/// Guarantees: the denial is believed after the second word, a quarter of a second later, and not before.
#[tokio::test(start_paused = true)]
async fn two_denials_end_a_good_verdict() {
    for (answer, later, source) in
        [(good(Some(100)), 60, "hit"), (good_while_revalidating(20), 11, "revalidate")]
    {
        let script = Script::say([answer, DENY, DENY]);
        let cached = cached(&script);
        ask(&cached, 1).await;
        advance(seconds(later)).await;
        ask(&cached, 1).await;
        settle().await;
        assert_eq!((ask(&cached, 1).await, script.calls()), ((source, "allow"), 2));
        sleep(SECOND_THOUGHT).await;
        assert_eq!((ask(&cached, 1).await, script.calls()), (("hit", "deny"), 3));
        assert!(!cached.known(&question(1).credentials));
    }
}
