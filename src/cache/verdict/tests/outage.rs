//! The authority errs, stalls or contradicts itself: nobody who was good a moment ago is denied.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use proptest::prelude::*;
use tokio::time::{Instant, advance, sleep};

use super::{Answer, DENY, DOWN, Script, Step, ask, cached, cached_with, config, good, question, seconds};
use crate::{
    cache::verdict::{SECOND_THOUGHT, SECOND_WORD, label},
    config::{Cache, Outage},
    validate::{Undetermined, Validator},
};

/// Scenario: the authority errs in every way it can, again and again.
/// Guarantees: no error is kept: each question is asked anew, and the first word counts at once.
#[tokio::test(start_paused = true)]
async fn errors_are_never_kept() {
    let errors = [
        Undetermined::Timeout,
        Undetermined::Unreachable("refused".into()),
        Undetermined::Throttled,
        Undetermined::Status(404),
        Undetermined::BadAnswer("no trace id"),
        Undetermined::Busy,
    ];
    let script = Script::say(errors.clone().map(Err).into_iter().chain([good(Some(100))]));
    let cached = cached(&script);
    for error in errors {
        assert_eq!(cached.validate(&question(1)).await.unwrap_err(), error);
    }
    assert_eq!(ask(&cached, 1).await, ("miss", "allow"));
    assert_eq!((script.calls(), cached.shared.kept.negative.len()), (7, 0));
}

/// Scenario: a verdict ends during an outage of two minutes.
/// Guarantees: it serves for its stale bound and not longer; every question still asks; the first good word ends it.
#[tokio::test(start_paused = true)]
async fn a_verdict_bridges_an_outage() {
    let outage = std::iter::repeat_with(|| DOWN).take(5);
    let script = Script::say(std::iter::once(good(Some(10))).chain(outage).chain([good(Some(10))]));
    let cached = cached(&script);
    ask(&cached, 1).await;
    advance(seconds(11)).await;
    for _ in 0..4 {
        assert_eq!(ask(&cached, 1).await, ("stale", "allow"));
        advance(seconds(12)).await;
    }
    advance(seconds(12)).await;
    assert_eq!(ask(&cached, 1).await, ("miss", "undetermined"));
    assert_eq!(ask(&cached, 1).await, ("miss", "allow"));
    assert_eq!(script.calls(), 7);
}

/// Scenario: a verdict has ended and the authority hangs.
/// Guarantees: at its deadline the caller gets the old verdict, not an error.
#[tokio::test(start_paused = true)]
async fn a_verdict_bridges_a_stall() {
    let script = Script::new([Step::Say(good(Some(10))), Step::Hang]);
    let cached = cached(&script);
    ask(&cached, 1).await;
    advance(seconds(11)).await;
    let start = Instant::now();
    assert_eq!(ask(&cached, 1).await, ("stale", "allow"));
    assert_eq!(start.elapsed().as_secs(), 4);
}

/// Scenario: an outage meets a verdict past its end, a denial past its end, and a pair that nobody knows, under both policies.
/// Guarantees: only the verdict serves, and only under the resilient policy; nobody is let in or denied for want of a word.
#[tokio::test(start_paused = true)]
async fn the_outage_policy_is_about_known_pairs() {
    for (outage, past_the_end) in
        [(Outage::Resilient, ("stale", "allow")), (Outage::Strict, ("miss", "undetermined"))]
    {
        let script = Script::say([good(Some(10)), DENY]);
        let cached = cached_with(&script, &Cache { outage, ..config() });
        ask(&cached, 1).await;
        ask(&cached, 2).await;
        advance(seconds(8)).await;
        assert_eq!(ask(&cached, 1).await, ("hit", "allow"), "its refresh finds the outage");
        assert_eq!(ask(&cached, 2).await, ("miss", "undetermined"));
        advance(seconds(3)).await;
        assert_eq!(ask(&cached, 1).await, past_the_end);
        assert_eq!(ask(&cached, 3).await, ("miss", "undetermined"));
    }
}

/// Scenario: a verdict has ended but is within its stale bound when the authority denies twice; another was never good.
/// Guarantees: the caller waits for both words; without a good verdict at hand one word is enough.
#[tokio::test(start_paused = true)]
async fn a_denial_is_asked_twice_only_for_what_was_good() {
    let script = Script::say([good(Some(10)), DENY, DENY, DENY]);
    let cached = cached(&script);
    ask(&cached, 1).await;
    advance(seconds(11)).await;
    let start = Instant::now();
    assert_eq!(ask(&cached, 1).await, ("miss", "deny"));
    assert_eq!((start.elapsed() >= SECOND_THOUGHT, script.calls()), (true, 3));
    assert_eq!(ask(&cached, 2).await, ("miss", "deny"));
    assert_eq!(script.calls(), 4);
}

/// Scenario: an ended verdict is denied once, then the authority errs, or stalls.
/// Guarantees: that is no denial: the old verdict serves.
#[tokio::test(start_paused = true)]
async fn one_denial_and_an_error_are_no_denial() {
    for second in [Step::Say(DOWN), Step::Hang] {
        let script = Script::new([Step::Say(good(Some(10))), Step::Say(DENY), second]);
        let cached = cached(&script);
        ask(&cached, 1).await;
        advance(seconds(11)).await;
        assert_eq!(ask(&cached, 1).await, ("stale", "allow"));
        assert_eq!(script.calls(), 3);
    }
}

/// Scenario: an ended verdict is denied after two seconds, and the second word comes late, or just in time.
/// Guarantees: a late one is not waited for: the old verdict serves a second before the caller's deadline; one in time
/// is believed.
#[tokio::test(start_paused = true)]
async fn the_second_word_has_a_second() {
    let in_time = SECOND_WORD.saturating_sub(SECOND_THOUGHT).saturating_sub(Duration::from_millis(10));
    for (time, expected) in [(seconds(2), ("stale", "allow")), (in_time, ("miss", "deny"))] {
        let first = Step::SayAfter(seconds(2), DENY);
        let script = Script::new([Step::Say(good(Some(10))), first, Step::SayAfter(time, DENY)]);
        let cached = cached(&script);
        ask(&cached, 1).await;
        advance(seconds(11)).await;
        let start = Instant::now();
        assert_eq!(ask(&cached, 1).await, expected);
        assert!(start.elapsed() <= seconds(3) + Duration::from_millis(5), "{:?}", start.elapsed());
        assert_eq!(script.calls(), 3);
    }
}

/// Scenario: the authority's words flip: good, error, good, deny, good; each after the last verdict ended.
/// Guarantees: the sender is never denied and never without an answer.
#[tokio::test(start_paused = true)]
async fn a_flapping_authority_denies_nobody() {
    let script = Script::say([good(Some(10)), DOWN, good(Some(10)), DENY, good(Some(10))]);
    let cached = cached(&script);
    for source in ["miss", "stale", "miss", "miss"] {
        assert_eq!(ask(&cached, 1).await, (source, "allow"));
        advance(seconds(11)).await;
    }
    assert_eq!(script.calls(), 5);
}

/// One word of a random authority, by number.
fn word(number: u8) -> Answer {
    match number {
        0 => good(Some(10)),
        1 => good(None),
        2 => DENY,
        _ => DOWN,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Scenario: a random authority, asked at random times.
    /// Guarantees: a denial is given only on the authority's last word, and on its last two where a good verdict was
    /// at hand; "undetermined" only where none was.
    #[test]
    fn denials_are_the_authoritys_own(words in prop::collection::vec(0_u8..4, 60), pauses in prop::collection::vec(0_u64..30, 25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let wrong: Mutex<VecDeque<String>> = Mutex::default();
        runtime.block_on(async {
            let script = Script::say(words.iter().map(|number| word(*number)));
            let cached = cached(&script);
            for pause in pauses {
                let known = cached.known(&question(1).credentials);
                let answer = label(&cached.validate(&question(1)).await);
                let said = &words[..script.calls().min(words.len())];
                let due = if known { 2 } else { 1 };
                let right = match answer {
                    "deny" => said.iter().rev().take(due).all(|number| *number == 2) && said.len() >= due,
                    "undetermined" => !known,
                    _ => true,
                };
                if !right {
                    wrong.lock().unwrap().push_back(format!("{answer} after {said:?}, known: {known}"));
                }
                sleep(seconds(pause)).await;
            }
        });
        prop_assert_eq!(wrong.into_inner().unwrap(), VecDeque::<String>::new());
    }
}
