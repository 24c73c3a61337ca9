//! Cache and guard together before a GitLab that goes down for minutes, is asked by thousands at once, or
//! contradicts itself: nobody is denied by trouble, and GitLab is never stampeded.

#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test, as it should")]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures_util::future::BoxFuture;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::{Answer, DENY, DOWN, Script, config, good, question, seconds};
use crate::{
    cache::verdict::Cached,
    config as keys,
    metrics::Metrics,
    validate::{Question, Undetermined, Validator, Verdict, guard::Guard},
};

const CAP: usize = 64;
const LATENCY: Duration = Duration::from_millis(20);

/// A GitLab that knows everybody, with a switch.
#[derive(Debug, Default)]
struct Rails {
    down: AtomicBool,
    open: AtomicUsize,
    most: AtomicUsize,
    calls: Mutex<Vec<Instant>>,
}

impl Validator for Rails {
    fn validate<'a>(&'a self, _: &'a Question) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            self.calls.lock().unwrap().push(Instant::now());
            self.most.fetch_max(self.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(LATENCY).await;
            self.open.fetch_sub(1, Ordering::SeqCst);
            if self.down.load(Ordering::SeqCst) { DOWN } else { good(Some(60)) }
        })
    }
}

fn guarded<V: Validator>(inner: V) -> Arc<Cached<Guard<V>>> {
    let metrics = Arc::new(Metrics::new());
    let guard = Guard::new(inner, &keys::Gitlab::default(), Arc::default(), Arc::clone(&metrics));
    Arc::new(Cached::new(guard, &config(), metrics))
}

/// One answer, when it was asked for, and how long it took.
struct Seen {
    pair: u32,
    at: Instant,
    took: Duration,
    answer: Answer,
}

/// Asks about `pair` every four seconds until `end`.
async fn runner(cached: Arc<Cached<Guard<Arc<Rails>>>>, pair: u32, end: Instant) -> Vec<Seen> {
    let mut seen = Vec::new();
    sleep(Duration::from_millis(u64::from(pair) * 4)).await;
    while Instant::now() < end {
        let at = Instant::now();
        let answer = cached.validate(&question(pair)).await;
        seen.push(Seen { pair, at, took: at.elapsed(), answer });
        sleep(seconds(4)).await;
    }
    seen
}

/// Scenario: GitLab is down for five minutes while 1,000 runners, of which half are known, go on asking every four seconds.
/// Guarantees: nobody is denied; the known are served to the end of their stale bound, every time; the unknown hear "not
/// now" within 50 ms once the breaker is open; ten seconds after GitLab is back all are served; GitLab never sees more
/// than the cap at once, next to nothing while it is down, and no spike when it is back.
#[tokio::test(start_paused = true)]
async fn five_minutes_without_gitlab() {
    const PAIRS: u32 = 1_000;
    let rails = Arc::new(Rails::default());
    let cached = guarded(Arc::clone(&rails));
    // The ramp of the start is over.
    sleep(seconds(6)).await;
    let known: Vec<_> = (0..PAIRS / 2).map(question).collect();
    for answer in futures_util::future::join_all(known.iter().map(|pair| cached.validate(pair))).await {
        assert!(matches!(answer, Ok(Verdict::Allow(_))), "{answer:?}");
    }
    let down_from = Instant::now();
    rails.down.store(true, Ordering::SeqCst);
    rails.calls.lock().unwrap().clear();
    let up_from = down_from + seconds(300);
    let end = up_from + seconds(20);
    let runners: Vec<_> =
        (0..PAIRS).map(|pair| tokio::spawn(runner(Arc::clone(&cached), pair, end))).collect();
    sleep_until(up_from).await;
    let calls = std::mem::take(&mut *rails.calls.lock().unwrap());
    let (first, later) = (calls.len(), calls.iter().filter(|at| **at >= down_from + seconds(10)).count());
    rails.down.store(false, Ordering::SeqCst);

    let (mut served, mut bridged, mut refused) = (0, 0, 0);
    for runner in runners {
        for seen in runner.await.unwrap() {
            let since = seen.at - down_from;
            match seen.answer {
                Ok(Verdict::Deny(denial)) => panic!("a false {denial:?} after {since:?}"),
                Ok(Verdict::Allow(_)) => {
                    served += 1;
                    bridged += usize::from(since < seconds(300));
                }
                Err(trouble) => {
                    refused += 1;
                    // 60 s less a tenth of jitter, and 60 s of stale_if_error.
                    assert!(
                        seen.pair >= PAIRS / 2 || since >= seconds(54 + 60),
                        "{trouble}: a known pair after {since:?}"
                    );
                    assert!(since < seconds(310), "{trouble}: ten seconds after GitLab was back");
                    // The first ones find out; from then on nobody waits.
                    assert!(seen.took <= Duration::from_millis(50), "{trouble} after {:?}", seen.took);
                }
            }
        }
    }
    assert!(served > 18_000 && bridged > 14_000 && refused > 55_000, "{served} {bridged} {refused}");
    // Faults until they are half of what was asked of late, then probes: one in about five seconds.
    assert!(
        first < 700 && (50..=80).contains(&later),
        "{first} calls while GitLab was down, {later} of them late"
    );
    assert!(rails.most.load(Ordering::SeqCst) <= CAP);
    let calls = rails.calls.lock().unwrap();
    let spike = calls.iter().map(|from| {
        calls.iter().filter(|at| **at >= *from && **at < *from + Duration::from_millis(100)).count()
    });
    // 250 runners ask each second; at first the ramp lets four in each 20 ms through.
    let spike = spike.max().unwrap();
    assert!(spike <= 60, "{spike} calls in 100 ms at recovery");
}

/// Scenario: a start with 5,000 pairs a second that nobody knows, for ten seconds; GitLab takes 20 ms.
/// Guarantees: never more in flight than the cap; the queue and the flights are bounded; who is refused hears so at once;
/// afterwards nothing is left over.
#[tokio::test(start_paused = true)]
async fn a_cold_start_with_five_thousand_pairs_a_second() {
    let rails = Arc::new(Rails::default());
    let cached = guarded(Arc::clone(&rails));
    let mut asked = Vec::new();
    let mut most_flights = 0;
    for millisecond in 0..10_000 {
        for pair in 0..5 {
            let cached = Arc::clone(&cached);
            asked.push(tokio::spawn(async move {
                let started = Instant::now();
                let answer = cached.validate(&question(millisecond * 5 + pair)).await;
                (answer, started.elapsed())
            }));
        }
        sleep(Duration::from_millis(1)).await;
        most_flights = most_flights.max(cached.shared.flights().open.len());
    }
    let (mut served, mut refused) = (0, 0);
    for task in asked {
        match task.await.unwrap() {
            (Ok(Verdict::Allow(_)), took) => {
                served += 1;
                assert!(took <= seconds(2), "{took:?}");
            }
            (Err(Undetermined::Busy), took) => {
                refused += 1;
                assert!(took <= Duration::from_millis(50), "{took:?}");
            }
            (other, took) => panic!("{other:?} after {took:?}"),
        }
    }
    assert!(served > 15_000 && refused > 5_000, "{served} served, {refused} refused");
    assert!(rails.most.load(Ordering::SeqCst) <= CAP, "{}", rails.most.load(Ordering::SeqCst));
    let queue = keys::Gitlab::default().max_queue;
    assert!(most_flights <= CAP + queue + 10, "{most_flights} questions at once");
    assert_eq!(cached.shared.flights().open.len(), 0);
    assert_eq!((cached.shared.kept.positive.len(), cached.shared.kept.negative.len()), (served, 0));
}

/// Scenario: good, then 500, good, the 401 of a replica that lags behind, good; each after the verdict before it has ended.
/// Guarantees: the job is served every time.
#[tokio::test(start_paused = true)]
async fn an_authority_that_flips_denies_nobody() {
    let script = Script::say([good(Some(10)), DOWN, good(Some(10)), DENY, good(Some(10))]);
    let cached = guarded(Arc::clone(&script));
    for round in 0..4 {
        let answer = cached.validate(&question(1)).await;
        assert!(matches!(answer, Ok(Verdict::Allow(_))), "round {round}: {answer:?}");
        sleep(seconds(11)).await;
    }
    assert_eq!(script.calls(), 5);
}
