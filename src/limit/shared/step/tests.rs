//! In step, alone, in step again: against a store in memory, under a clock of the test's own.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use futures_util::future::BoxFuture;

use super::*;
use crate::{
    limit::{Level, shared::InStep},
    validate::credentials::Mark,
};

/// What a store does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Answers,
    Hangs,
    /// It answers nothing but signs of life.
    HangsOnCharges,
    Fails,
    Refuses,
}

/// A store that many lines lead to, and the states that follow it.
#[derive(Debug)]
struct World {
    mood: Mutex<Mood>,
    replicas: AtomicU32,
    dialled: AtomicU32,
    charged: Mutex<HashMap<Slot, Advance>>,
    followed: Mutex<HashMap<(u64, Unit), u64>>,
    share: AtomicU32,
    pending: Arc<Pending>,
    presence: Arc<Presence>,
    metrics: Arc<Metrics>,
}

impl World {
    fn start() -> (Arc<Self>, InStep) {
        let metrics = Arc::new(Metrics::new());
        let world = Arc::new(Self {
            mood: Mutex::new(Mood::Answers),
            replicas: AtomicU32::new(4),
            dialled: AtomicU32::new(0),
            charged: Mutex::default(),
            followed: Mutex::default(),
            share: AtomicU32::new(1),
            pending: Arc::default(),
            presence: Arc::new(Presence::new(Arc::clone(&metrics))),
            metrics,
        });
        let step = Step::new(
            Arc::new(Door(Arc::clone(&world))),
            Arc::clone(&world.pending),
            Arc::clone(&world.presence),
            Arc::clone(&world) as _,
            Arc::clone(&world.metrics),
        );
        let task = InStep(tokio::spawn(step.run()).abort_handle());
        (world, task)
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn answer<T>(&self, answer: impl FnOnce() -> T) -> Result<T, Trouble> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Answers | Mood::HangsOnCharges => Ok(answer()),
            Mood::Hangs => std::future::pending().await,
            Mood::Fails | Mood::Refuses => Err(Trouble::Failed("broken".into())),
        }
    }

    fn note(&self, unit: Unit, by: i64) {
        assert!(self.pending.note(Entry { level: Level::Job, key: 1, unit }, by));
    }

    fn charged(&self) -> Advance {
        let slot = Slot { level: Level::Job, key: 1 };
        self.charged.lock().unwrap().get(&slot).copied().unwrap_or_default()
    }

    fn share(&self) -> u32 {
        self.share.load(Ordering::SeqCst)
    }

    fn shows(&self, line: &str) -> bool {
        self.metrics.render().replace("{}", "").lines().any(|shown| shown == line)
    }
}

impl Follower for World {
    fn follow(&self, entry: Entry, ahead: u64) {
        self.followed.lock().unwrap().insert((entry.key, entry.unit), ahead);
    }

    fn set_share(&self, replicas: u32) {
        self.share.store(replicas, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Door(Arc<World>);

impl Dial for Door {
    fn dial(&self) -> BoxFuture<'_, Result<Arc<dyn Line>, Trouble>> {
        self.0.dialled.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let line: Arc<dyn Line> = Arc::new(Wire(Arc::clone(&self.0)));
            match *self.0.mood.lock().unwrap() {
                Mood::Refuses => Err(Trouble::Failed("refused".into())),
                _ => Ok(line),
            }
        })
    }
}

#[derive(Debug)]
struct Wire(Arc<World>);

impl Line for Wire {
    fn charge(&self, rows: Vec<Row>) -> BoxFuture<'_, Result<Vec<Seen>, Trouble>> {
        if *self.0.mood.lock().unwrap() == Mood::HangsOnCharges {
            return Box::pin(std::future::pending());
        }
        Box::pin(self.0.answer(move || {
            let mut charged = self.0.charged.lock().unwrap();
            let mut charge = |row: Row| {
                let sum = charged.entry(row.slot).or_default();
                for (to, by) in sum.rates.iter_mut().zip(row.rates) {
                    *to += by;
                }
                sum.budget += row.budget;
                let ahead = sum.rates.map(|rate| u64::try_from(rate).unwrap());
                Seen { slot: row.slot, ahead, spent: u64::try_from(sum.budget).unwrap() }
            };
            rows.into_iter().map(&mut charge).collect()
        }))
    }

    fn register<'a>(&'a self, _replica: &'a str, _life: Duration) -> BoxFuture<'a, Result<u32, Trouble>> {
        Box::pin(self.0.answer(|| self.0.replicas.load(Ordering::SeqCst)))
    }

    fn remember(&self, _: Mark, _: Vec<u8>, _: Duration) -> BoxFuture<'_, Result<(), Trouble>> {
        Box::pin(self.0.answer(|| ()))
    }

    fn recall(&self, _: Mark) -> BoxFuture<'_, Result<Option<Vec<u8>>, Trouble>> {
        Box::pin(self.0.answer(|| None))
    }
}

/// Long enough for a flush, whatever the jitter.
const A_FLUSH: Duration = Duration::from_millis(70);

/// Scenario: charges of a rate and of a budget between flushes, a part of a microsecond among them; then nothing; then more
/// while a flush is under way.
/// Guarantees: they are told within a flush, once, rounded up, and what all charged comes back in nanoseconds, with what
/// was charged here meanwhile; nothing new costs no call but the sign of life each second.
#[tokio::test(start_paused = true)]
async fn charges_are_told_and_followed() {
    let (world, _task) = World::start();
    sleep(A_FLUSH).await;
    world.note(Unit::Requests, 2_000_001);
    world.note(Unit::Budget, 5);
    sleep(A_FLUSH).await;
    assert_eq!(world.charged(), Advance { rates: [2_001, 0, 0], budget: 5 });
    let followed = world.followed.lock().unwrap().clone();
    assert_eq!(followed, HashMap::from([((1, Unit::Requests), 2_001_000), ((1, Unit::Budget), 5)]));

    let calls = |world: &World| {
        let text = world.metrics.render();
        let line = text.lines().find(|line| line.contains("limit_store_requests_total{outcome=\"ok\"}"));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    let before = calls(&world);
    sleep(Duration::from_secs(10)).await;
    assert!((9..=11).contains(&(calls(&world) - before)), "{}", calls(&world) - before);

    let seen = Seen { slot: Slot { level: Level::Job, key: 1 }, ahead: [3_000, 0, 9], spent: 8 };
    world.note(Unit::Requests, 500);
    world.note(Unit::Budget, -3);
    follow(&*world, &world.pending, seen);
    let followed = world.followed.lock().unwrap().clone();
    let wanted = [((1, Unit::Requests), 3_000_500), ((1, Unit::Bytes), 9_000), ((1, Unit::Budget), 5)];
    assert_eq!(followed, HashMap::from(wanted));
}

/// Scenario: the store hangs, for less than it may and then for longer; it answers again.
/// Guarantees: a hiccup changes nothing; a silence makes each cost count as often as there are replicas, well before half
/// a second is over, and metrics say so; requests don't ask a store that is silent; the first answer ends it. Rates charged
/// meanwhile are not told later, budgets are.
#[tokio::test(start_paused = true)]
async fn a_silent_store_leaves_everybody_with_a_share() {
    let (world, _task) = World::start();
    sleep(A_FLUSH).await;
    assert!(world.shows("spangate_limit_store_up 1") && world.shows("spangate_limit_store_replicas 4"));
    assert!(world.presence.line().is_some());

    world.set(Mood::Hangs);
    world.note(Unit::Spans, 7_000);
    sleep(Duration::from_millis(150)).await;
    assert!(world.presence.line().is_none());
    world.set(Mood::Answers);
    sleep(Duration::from_millis(150)).await;
    assert_eq!((world.share(), world.presence.line().is_some()), (1, true));
    assert_eq!(world.charged().rates, [0; 3], "what may have been told is not told twice");
    assert!(world.shows("spangate_limit_store_untold_total 1"));

    world.set(Mood::Hangs);
    world.note(Unit::Spans, 7_000);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(world.share(), 4);
    assert!(world.shows("spangate_limit_store_up 0"));
    for _ in 0..100 {
        world.note(Unit::Spans, 9_000);
        world.note(Unit::Budget, 1);
        sleep(Duration::from_millis(100)).await;
    }
    world.set(Mood::Answers);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(world.share(), 1);
    assert!(world.shows("spangate_limit_store_up 1"));
    assert_eq!(world.charged(), Advance { rates: [0; 3], budget: 100 });
}

/// Scenario: for ten minutes of load the store answers signs of life and no charge.
/// Guarantees: the replica keeps to its share for nearly all of the time, and does not go back and forth for ever.
#[tokio::test(start_paused = true)]
async fn half_an_answer_is_none() {
    let (world, _task) = World::start();
    sleep(A_FLUSH).await;
    world.set(Mood::HangsOnCharges);
    let (mut alone, mut changes, mut last) = (0, 0, 1);
    for _ in 0..12_000 {
        world.note(Unit::Requests, 1_000);
        sleep(FLUSH).await;
        alone += u32::from(world.share() == 4);
        changes += u32::from(world.share() != last);
        last = world.share();
    }
    assert!(alone > 11_000 && changes < 50, "{alone} of 12000 alone, {changes} changes");
}

/// Scenario: the store's connection breaks; new ones are refused for half a minute; it is back and hears of the replicas one
/// by one.
/// Guarantees: this replica keeps to its share at once; it tries again, but no more than every two seconds in the end; when
/// the store is back limits are shared, and the number of replicas does not fall before it had time to grow.
#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_made_anew() {
    let (world, _task) = World::start();
    sleep(A_FLUSH).await;
    world.set(Mood::Fails);
    world.note(Unit::Bytes, 1_000);
    sleep(A_FLUSH).await;
    assert_eq!(world.share(), 4);
    world.set(Mood::Refuses);
    let before = world.dialled.load(Ordering::SeqCst);
    sleep(Duration::from_secs(30)).await;
    let tries = world.dialled.load(Ordering::SeqCst) - before;
    assert!((12..=24).contains(&tries), "{tries}");
    world.replicas.store(1, Ordering::SeqCst);
    world.set(Mood::Answers);
    sleep(Duration::from_secs(3)).await;
    assert_eq!((world.share(), world.presence.replicas()), (1, 4));
    world.replicas.store(3, Ordering::SeqCst);
    sleep(Duration::from_secs(8)).await;
    assert_eq!(world.presence.replicas(), 3);
    world.replicas.store(5, Ordering::SeqCst);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.presence.replicas(), 5);
}

/// Scenario: a store that was never there.
/// Guarantees: the replica counts itself only, says that nothing is shared, and shares as soon as the store comes.
#[tokio::test(start_paused = true)]
async fn a_store_may_come_later() {
    let (world, task) = World::start();
    world.set(Mood::Refuses);
    sleep(Duration::from_secs(5)).await;
    assert_eq!((world.share(), world.presence.line().is_none()), (1, true));
    assert!(world.shows("spangate_limit_store_up 0"));
    world.set(Mood::Answers);
    sleep(Duration::from_secs(3)).await;
    assert!(world.shows("spangate_limit_store_up 1"));
    drop(task);
    sleep(A_FLUSH).await;
    world.note(Unit::Requests, 1_000);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.charged(), Advance::default(), "it goes on after its end");
}
