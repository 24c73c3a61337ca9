//! What goes out to other replicas and comes in from them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use governor::clock::FakeRelativeClock;

use super::{REQUEST, SUBJECT, Timed, budget, config, limits, passes, refusal, spans, take, unhurried};
use crate::{
    config::{Limits, Mode},
    limit::{Cost, Decision, Entry, Ledger, Level, Limit, Subject, Unit},
    metrics::Metrics,
};

/// Adds up what it is told; answers a first sight after one turn.
#[derive(Debug, Default)]
struct Book {
    sums: Mutex<BTreeMap<(Level, u64, Unit), i64>>,
    asked: AtomicU32,
}

impl Ledger for Book {
    fn note(&self, entry: Entry, nanos: i64) {
        let mut sums = self.sums.lock().unwrap();
        let sum = sums.entry((entry.level, entry.key, entry.unit)).or_default();
        *sum = sum.checked_add(nanos).unwrap();
    }

    fn first_sight(&self, _: Subject) -> Option<BoxFuture<'_, ()>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Some(Box::pin(tokio::task::yield_now()))
    }
}

fn shared(limits: &Limits) -> (Timed, Arc<Book>, FakeRelativeClock) {
    let (clock, book) = (FakeRelativeClock::default(), Arc::new(Book::default()));
    let local = Timed::new(&config(limits, 1_000), &Metrics::new(), clock.clone());
    let local = local.with_ledger(Arc::clone(&book) as _);
    // Seen for the first time with this.
    let first = local.take(SUBJECT, Cost::default());
    assert_eq!(
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(first),
        Decision::Taken
    );
    (local, book, clock)
}

/// Scenario: charges that are taken, refused, in shadow, given back; and spans of the budget.
/// Guarantees: the book has what each limit took, in time and for the budget in spans, and nothing of what none took.
#[test]
fn the_ledger_has_what_was_taken() {
    let mut some = limits();
    some.global.requests_per_second = 1_000;
    let (local, book, _clock) = shared(&some);
    let sum = |level, key, unit| book.sums.lock().unwrap().get(&(level, key, unit)).copied();
    assert_eq!(take(&local, SUBJECT, Cost { requests: 3, spans: 7, bytes: 0 }), Decision::Taken);
    assert_eq!(sum(Level::Job, 2, Unit::Requests), Some(300_000_000));
    assert_eq!(sum(Level::Job, 2, Unit::Spans), Some(70_000_000));
    assert_eq!(sum(Level::Runner, 1, Unit::Requests), Some(30_000_000));
    assert_eq!(sum(Level::Global, 0, Unit::Requests), Some(3_000_000));
    assert_eq!((sum(Level::Job, 2, Unit::Bytes), sum(Level::Runner, 1, Unit::Spans)), (None, None));

    assert!(refusal(&local, SUBJECT, Cost { requests: 1, spans: 200, bytes: 0 }).is_some());
    assert_eq!(sum(Level::Job, 2, Unit::Requests), Some(300_000_000));
    local.give_back(SUBJECT, Cost { requests: 1, spans: 7, bytes: 0 }, 0);
    assert_eq!(sum(Level::Job, 2, Unit::Requests), Some(200_000_000));
    assert_eq!(sum(Level::Job, 2, Unit::Spans), Some(0));
    assert_eq!(sum(Level::Global, 0, Unit::Requests), Some(2_000_000));

    local.reconfigure(&config(&unhurried(some.clone()), 1_000));
    assert_eq!(budget(&local, SUBJECT, 600), 600);
    local.give_back(SUBJECT, Cost::default(), 100);
    assert_eq!(sum(Level::Job, 2, Unit::Budget), Some(500));

    some.per_job.mode = Mode::Shadow;
    local.reconfigure(&config(&some, 1_000));
    assert_eq!(take(&local, SUBJECT, spans(5_000)), Decision::Taken);
    assert_eq!(take(&local, SUBJECT, spans(1)), Decision::Taken);
    assert_eq!(sum(Level::Job, 2, Unit::Spans), Some(50_000_000_000));
}

/// Scenario: other replicas took half a second of the job's spans, 990 spans of its budget, and a lot of the runner's and of
/// all requests; then less; then something of a job that is not kept here.
/// Guarantees: here so much less passes; what is behind changes nothing, and nothing appears.
#[test]
fn others_charges_can_be_followed() {
    let mut some = limits();
    some.global.requests_per_second = 1_000;
    let (local, _book, _clock) = shared(&some);
    let entry = |level, key, unit| Entry { level, key, unit };
    local.follow(entry(Level::Job, 2, Unit::Spans), 500_000_000);
    local.follow(entry(Level::Job, 2, Unit::Spans), 100_000_000);
    assert_eq!(passes(&local, SUBJECT, spans(1)), 150);
    local.follow(entry(Level::Job, 2, Unit::Budget), 990);
    local.follow(entry(Level::Job, 2, Unit::Budget), 5);
    local.reconfigure(&config(&unhurried(some.clone()), 1_000));
    assert_eq!(budget(&local, SUBJECT, 100), 10);
    assert_eq!(take(&local, SUBJECT, REQUEST), Decision::Taken);
    local.follow(entry(Level::Runner, 1, Unit::Requests), 1_990_000_000);
    assert_eq!(refusal(&local, SUBJECT, Cost { requests: 2, ..REQUEST }), Some((Limit::RunnerRequests, 10)));
    assert_eq!(passes(&local, SUBJECT, REQUEST), 1);
    local.follow(entry(Level::Global, 0, Unit::Requests), 3_000_000_000);
    assert_eq!(refusal(&local, SUBJECT, REQUEST), Some((Limit::GlobalRequests, 1_001)));
    let kept = local.states().jobs.len();
    local.follow(entry(Level::Job, 77, Unit::Requests), 1_000_000_000);
    local.follow(entry(Level::Project, 77, Unit::Bytes), 1_000_000_000);
    local.follow(entry(Level::Listener, 77, Unit::Bytes), 1_000_000_000);
    let states = local.states();
    assert_eq!((states.jobs.len(), states.projects.len()), (kept, 0));
}

/// Scenario: three replicas do not know of each other, and this one keeps to a third; then they do again.
/// Guarantees: a third of the burst, of the rate and of what the budget has left; what is given back is whole, and what was
/// spent counts once when the share ends; the book has what was sent, once.
#[test]
fn a_share_is_a_part_of_everything() {
    let (local, book, clock) = shared(&limits());
    local.set_share(3);
    clock.advance(Duration::from_secs(100));
    assert_eq!(passes(&local, SUBJECT, REQUEST), 6);
    let mut taken = 0;
    for _ in 0..30 {
        clock.advance(Duration::from_secs(1));
        taken += passes(&local, SUBJECT, REQUEST);
    }
    assert!((99..=100).contains(&taken), "{taken}");
    assert_eq!(
        book.sums.lock().unwrap()[&(Level::Job, 2, Unit::Requests)],
        (6 + i64::try_from(taken).unwrap()) * 100_000_000
    );
    assert_eq!(passes(&local, SUBJECT, spans(60)), 1);
    local.give_back(SUBJECT, spans(60), 0);
    assert_eq!(passes(&local, SUBJECT, spans(60)), 1);
    local.reconfigure(&config(&unhurried(limits()), 1_000));
    assert_eq!(budget(&local, SUBJECT, 200), 200);
    assert_eq!(budget(&local, SUBJECT, 1_000), 133);
    local.give_back(SUBJECT, Cost::default(), 33);
    assert_eq!(budget(&local, SUBJECT, 1_000), 33);
    local.set_share(0);
    assert_eq!(budget(&local, SUBJECT, 2_000), 667);
    local.give_back(SUBJECT, Cost::default(), 300);
    local.set_share(3);
    assert_eq!(budget(&local, SUBJECT, 2_000), 100);
    local.set_share(1);
    assert_eq!(budget(&local, SUBJECT, 2_000), 200);
}

/// Scenario: a job comes for the first time, twice at the same moment; a sender without a job; a store without a ledger.
/// Guarantees: only the first charge of the job waits, and what is followed meanwhile holds for it already.
#[tokio::test]
async fn the_first_charge_of_a_job_waits() {
    let (local, book, _clock) = {
        let (clock, book) = (FakeRelativeClock::default(), Arc::new(Book::default()));
        let local = Timed::new(&config(&limits(), 1_000), &Metrics::new(), clock.clone());
        (local.with_ledger(Arc::clone(&book) as _), book, clock)
    };
    let mut first = local.take(SUBJECT, spans(60));
    assert_eq!((&mut first).now_or_never(), None);
    assert_eq!(take(&local, SUBJECT, spans(1)), Decision::Taken);
    let entry = Entry { level: Level::Job, key: 2, unit: Unit::Spans };
    local.follow(entry, 1_500_000_000);
    assert!(matches!(first.await, Decision::Refused(_)));
    assert_eq!(take(&local, Subject { job: None, ..SUBJECT }, spans(1)), Decision::Taken);
    assert_eq!(book.asked.load(Ordering::Relaxed), 1);
}
