//! The verdict cache against an authority that says what the test wrote down, under a paused clock.

mod guarded;
mod hearsay;
mod outage;
mod refresh;
mod sharing;

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, advance, sleep};

use super::{Answer, Cached};
use crate::{
    config,
    metrics::Metrics,
    otlp::TraceId,
    validate::{
        Allowed, Denial, Question, Undetermined, Validator, Verdict, cache_control::Stale,
        credentials::Credentials, testing::identity,
    },
};

const DENY: Answer = Ok(Verdict::Deny(Denial::Unauthenticated));
const DOWN: Answer = Err(Undetermined::Status(502));

/// What the authority does when it is asked.
enum Step {
    Say(Answer),
    SayAfter(Duration, Answer),
    Panic,
    Hang,
}

/// An authority that follows a script, then says [`DOWN`].
#[derive(Default)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    calls: AtomicUsize,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        Arc::new(Self { steps: Mutex::new(steps.into_iter().collect()), calls: AtomicUsize::new(0) })
    }

    fn say(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Self::new(answers.into_iter().map(Step::Say))
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Validator for Script {
    fn validate<'a>(&'a self, _question: &'a Question) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let step = self.steps.lock().unwrap().pop_front();
            match step {
                None => DOWN,
                Some(Step::Say(answer)) => answer,
                Some(Step::SayAfter(time, answer)) => {
                    sleep(time).await;
                    answer
                }
                Some(Step::Panic) => panic!("as the test wants it"),
                Some(Step::Hang) => std::future::pending().await,
            }
        })
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A positive answer for so many seconds; `None`: not to be kept.
#[expect(clippy::unnecessary_wraps, reason = "one of the answers that a script is made of")]
fn good(max_age: Option<u64>) -> Answer {
    let trace_id = TraceId::from_lower_hex("000000000000000000000000001e240a").unwrap();
    let identity = identity(trace_id, 1, 2);
    let (max_age, stale) = (max_age.map(seconds), Stale::default());
    Ok(Verdict::Allow(Allowed { identity, max_age, stale, expires_at: None }))
}

/// A positive answer for 10 s, and for so many more while it is asked for anew.
fn good_while_revalidating(while_revalidate: u64) -> Answer {
    let stale = Stale { while_revalidate: seconds(while_revalidate), if_error: None };
    match good(Some(10)) {
        Ok(Verdict::Allow(allowed)) => Ok(Verdict::Allow(Allowed { stale, ..allowed })),
        other => other,
    }
}

/// Times that are easy to reason about: refresh in the second half, whatever the jitter.
fn config() -> config::Cache {
    config::Cache { refresh_ahead: 0.5, ..config::Cache::default() }
}

fn cached(script: &Arc<Script>) -> Cached<Arc<Script>> {
    cached_with(script, &config())
}

fn cached_with(script: &Arc<Script>, config: &config::Cache) -> Cached<Arc<Script>> {
    Cached::new(Arc::clone(script), config, Arc::new(Metrics::new()))
}

/// A question about the pair with this number, to be answered within 4 s.
fn question(pair: u32) -> Question {
    Question {
        credentials: Arc::new(Credentials::for_test(pair)),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        correlation_id: "test".into(),
        deadline: Instant::now().checked_add(seconds(4)).unwrap(),
    }
}

impl Cached<Arc<Script>> {
    /// What `validate` does, and where the answer is from.
    async fn judge(&self, question: &Question) -> (&'static str, Answer) {
        match self.remember(question) {
            Some((source, verdict)) => (source, Ok(verdict)),
            None => self.ask(question).await,
        }
    }
}

/// Asks about a pair and puts the answer in few words: where from, and what.
async fn ask(cached: &Cached<Arc<Script>>, pair: u32) -> (&'static str, &'static str) {
    let (source, answer) = cached.judge(&question(pair)).await;
    (source, super::label(&answer))
}

/// Lets tasks that are ready run, without moving the clock by more than a millisecond.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Scenario: a verdict for 100 s, asked for until it ends; another for 900 s, past the operator's 300 s.
/// Guarantees: hits until its (jittered) end and none after it; the operator's bound holds.
#[tokio::test(start_paused = true)]
async fn a_verdict_ends_in_time() {
    let script = Script::say([good(Some(100)), good(Some(900)), good(None)]);
    let config = config::Cache { refresh_ahead: 0.0, ..config() };
    let cached = Cached::new(Arc::clone(&script), &config, Arc::new(Metrics::new()));
    assert_eq!(ask(&cached, 1).await, ("miss", "allow"));
    for _ in 0..89 {
        advance(seconds(1)).await;
        assert_eq!(ask(&cached, 1).await, ("hit", "allow"));
    }
    advance(seconds(11)).await;
    assert_eq!(ask(&cached, 1).await, ("miss", "allow"));
    advance(seconds(269)).await;
    assert_eq!(ask(&cached, 1).await, ("hit", "allow"));
    advance(seconds(31)).await;
    assert_eq!(ask(&cached, 1).await, ("miss", "allow"));
    assert_eq!(script.calls(), 3);
}

/// Scenario: verdicts without a max-age, with a zero one, and for a credential past its grace.
/// Guarantees: none of them is kept, and the newest word takes an older verdict with it.
#[tokio::test(start_paused = true)]
async fn what_may_not_be_kept_is_asked_again() {
    let dead = match good(Some(100)) {
        Ok(Verdict::Allow(allowed)) => Allowed { expires_at: Some(1_000_000), ..allowed },
        other => panic!("{other:?}"),
    };
    let script =
        Script::say([good(None), good(Some(0)), Ok(Verdict::Allow(dead)), good(Some(10)), good(None)]);
    let cached = cached(&script);
    for _ in 0..4 {
        assert_eq!(ask(&cached, 1).await, ("miss", "allow"));
    }
    advance(seconds(11)).await;
    assert_eq!(ask(&cached, 1).await, ("miss", "allow"));
    assert_eq!(ask(&cached, 1).await, ("miss", "undetermined"));
}

/// Scenario: a denial is asked for again and again, while another pair is good.
/// Guarantees: it is kept for `negative_ttl` and not longer, with its reason; the good pair is untouched.
#[tokio::test(start_paused = true)]
async fn denials_are_kept_for_seconds() {
    let script = Script::say([good(Some(100)), Ok(Verdict::Deny(Denial::Forbidden)), good(Some(100))]);
    let cached = cached(&script);
    assert_eq!(ask(&cached, 1).await, ("miss", "allow"));
    assert_eq!(ask(&cached, 2).await, ("miss", "deny"));
    advance(Duration::from_millis(4900)).await;
    let (source, answer) = cached.judge(&question(2)).await;
    assert!(matches!(answer, Ok(Verdict::Deny(Denial::Forbidden))) && source == "hit");
    advance(Duration::from_millis(200)).await;
    assert_eq!(ask(&cached, 2).await, ("miss", "allow"));
    assert_eq!(ask(&cached, 2).await, ("hit", "allow"));
    assert_eq!(ask(&cached, 1).await, ("hit", "allow"));
    assert_eq!(script.calls(), 3);
}

/// Scenario: 20,000 pairs are denied within the time that denials are kept, and a small cache of 100 gets 1,000 good ones.
/// Guarantees: both tables stay within their bounds, and denials push out no good verdict.
#[tokio::test(start_paused = true)]
async fn both_tables_are_bounded() {
    let denials = std::iter::repeat_with(|| DENY).take(20_000);
    let script = Script::say(std::iter::once(good(Some(100))).chain(denials));
    let flooded = cached(&script);
    assert_eq!(ask(&flooded, 0).await, ("miss", "allow"));
    for pair in 1..=20_000 {
        assert_eq!(ask(&flooded, pair).await, ("miss", "deny"));
    }
    assert_eq!(ask(&flooded, 0).await, ("hit", "allow"));
    assert!((15_000..=16_384).contains(&flooded.shared.kept.negative.len()));

    let script = Script::say(std::iter::repeat_with(|| good(Some(100))).take(1_000));
    let config = config::Cache { max_entries: 100, ..config() };
    let small = Cached::new(Arc::clone(&script), &config, Arc::new(Metrics::new()));
    for pair in 0..1_000 {
        assert_eq!(ask(&small, pair).await, ("miss", "allow"));
    }
    assert!((90..=100).contains(&small.shared.kept.positive.len()));
}

/// Scenario: a pair that was never asked for, a good one through its life, and a denied one.
/// Guarantees: known is what is good now or within its stale bound, and nothing else; asking is no call.
#[tokio::test(start_paused = true)]
async fn known_are_the_good_ones() {
    let script = Script::say([good(Some(100)), DENY]);
    let cached = cached(&script);
    let known = |pair| cached.known(&question(pair).credentials);
    assert!(!known(1));
    ask(&cached, 1).await;
    ask(&cached, 2).await;
    assert!(known(1) && !known(2));
    advance(seconds(140)).await;
    assert!(known(1));
    advance(seconds(21)).await;
    assert!(!known(1));
    assert_eq!(script.calls(), 2);
}

/// Scenario: good and bad verdicts are kept, everything is purged while one question is in flight.
/// Guarantees: nothing kept answers any more, and an answer from before the purge is not kept.
#[tokio::test(start_paused = true)]
async fn a_purge_forgets_everything() {
    let slow = Step::SayAfter(seconds(1), good(Some(100)));
    let script = Script::new([Step::Say(good(Some(100))), Step::Say(DENY), slow]);
    let cached = Arc::new(cached(&script));
    ask(&cached, 1).await;
    ask(&cached, 2).await;
    let waiting = tokio::spawn({
        let cached = Arc::clone(&cached);
        async move { ask(&cached, 3).await }
    });
    settle().await;
    assert_eq!(cached.purge(), 2);
    assert_eq!(waiting.await.unwrap(), ("miss", "allow"));
    for pair in 1..=3 {
        assert_eq!(ask(&cached, pair).await, ("miss", "undetermined"));
    }
    assert_eq!((cached.shared.kept.positive.len(), cached.shared.kept.negative.len()), (0, 0));
}

/// Scenario: a pair is purged while a question about it, or its refresh, is in flight, and is asked about at once; the
/// older question comes back last, with a good word from before the purge.
/// Guarantees: the new question is asked without waiting for the old one, and its word is the one that is kept.
#[tokio::test(start_paused = true)]
async fn an_older_word_never_replaces_a_newer_one() {
    for known in [false, true] {
        let first = known.then(|| Step::Say(good(Some(100))));
        let old = Step::SayAfter(seconds(3), good(Some(100)));
        let script = Script::new(first.into_iter().chain([old, Step::SayAfter(seconds(1), DENY)]));
        let cached = Arc::new(cached(&script));
        if known {
            ask(&cached, 1).await;
            advance(seconds(60)).await;
        }
        let waiting = tokio::spawn({
            let cached = Arc::clone(&cached);
            async move { ask(&cached, 1).await }
        });
        settle().await;
        assert_eq!(cached.purge(), usize::from(known));
        let start = Instant::now();
        assert_eq!(ask(&cached, 1).await, ("miss", "deny"));
        assert_eq!(start.elapsed().as_secs(), 1);
        assert_eq!(waiting.await.unwrap().1, "allow");
        sleep(seconds(2)).await;
        assert_eq!(ask(&cached, 1).await, ("hit", "deny"));
        assert!(!cached.known(&question(1).credentials));
        assert_eq!(cached.shared.flights().open.len(), 0);
    }
}

/// Scenario: a reload makes the outage policy strict, or its bound shorter, while a verdict is past its end.
/// Guarantees: the verdict serves no longer than the new bound, though it was kept under the old one.
#[tokio::test(start_paused = true)]
async fn a_reload_shortens_the_stale_bound_at_once() {
    let strict = config::Cache { outage: config::Outage::Strict, ..config() };
    let shorter = config::Cache { stale_if_error: seconds(5), ..config() };
    for after in [strict, shorter] {
        let script = Script::say([good(Some(10))]);
        let cached = cached(&script);
        ask(&cached, 1).await;
        advance(seconds(16)).await;
        assert_eq!(ask(&cached, 1).await, ("stale", "allow"));
        cached.reconfigure(Arc::clone(&script), &after);
        assert_eq!(ask(&cached, 1).await, ("miss", "undetermined"));
        assert!(!cached.known(&question(1).credentials));
    }
}

/// Scenario: a reload brings another authority and a shorter bound.
/// Guarantees: what is kept still answers, and the next question goes to the new authority under the new bound.
#[tokio::test(start_paused = true)]
async fn a_reload_keeps_verdicts() {
    let (old, new) = (Script::say([good(Some(100))]), Script::say([good(Some(100))]));
    let cached = cached(&old);
    ask(&cached, 1).await;
    cached.reconfigure(Arc::clone(&new), &config::Cache { max_ttl: seconds(10), ..config() });
    assert_eq!(ask(&cached, 1).await, ("hit", "allow"));
    assert_eq!(ask(&cached, 2).await, ("miss", "allow"));
    advance(seconds(11)).await;
    assert_eq!(ask(&cached, 1).await, ("hit", "allow"));
    assert_eq!(ask(&cached, 2).await, ("stale", "allow"));
    assert_eq!((old.calls(), new.calls()), (1, 2));
}

/// Scenario: verdicts of both kinds grow old, nobody asks, and metrics are scraped.
/// Guarantees: what is of no use any more is not counted and holds no memory.
#[tokio::test(start_paused = true)]
async fn a_scrape_counts_what_is_of_use() {
    let script = Script::say([good(Some(100)), DENY]);
    let cached = cached(&script);
    ask(&cached, 1).await;
    ask(&cached, 2).await;
    cached.record_entries();
    assert_eq!((cached.shared.kept.positive.len(), cached.shared.kept.negative.len()), (1, 1));
    advance(seconds(30)).await;
    cached.record_entries();
    assert_eq!((cached.shared.kept.positive.len(), cached.shared.kept.negative.len()), (1, 0));
    advance(seconds(600)).await;
    cached.record_entries();
    assert_eq!(cached.shared.kept.positive.len(), 0);
}
