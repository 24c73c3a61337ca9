//! Several gateway processes on one store, one authority and one collector, and a load on them that is counted.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use spangate::config::{Config, Mode, StoreType};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::support::{
    authority::Authority,
    client::{Export, Form, Wire},
    collector::Collector,
    job::Job,
    process::{Spangate, run},
    redis::Redis,
    session::Session,
    spans,
    world::{Samples, config, eventually, get, text},
};

/// Gateways that share.
pub(crate) struct Fleet {
    pub(crate) gateways: Vec<Spangate>,
    /// The servers of the store.
    pub(crate) redis: Vec<Redis>,
    pub(crate) authority: Authority,
    /// A job that is good.
    pub(crate) job: Job,
    config: Config,
    _collector: Collector,
    folder: TempDir,
}

impl Fleet {
    /// So many, all of which have found the store; `None` where no Redis is installed.
    pub(crate) async fn start(count: u32, change: impl FnOnce(&mut Config)) -> Option<Self> {
        let redis = Redis::start(&[])?;
        let url = redis.url();
        let fleet = Self::around(vec![redis], &url, count, change).await;
        fleet.all_up(true).await;
        Some(fleet)
    }

    /// The same on servers that are found under these URLs, or are not.
    pub(crate) async fn around(
        redis: Vec<Redis>,
        urls: &str,
        count: u32,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let (authority, collector) = (Authority::start().await, Collector::http().await);
        let job = Job::new(1);
        authority.allow(&job);
        let folder = TempDir::new().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let mut config = config(&authority.url(), &collector.url());
        config.limits.per_client_failures.mode = Mode::Off;
        config.limits.store.r#type = StoreType::Redis;
        config.limits.store.url_file = file("urls", urls);
        config.limits.store.secret_file = file("secret", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n");
        change(&mut config);
        let gateways = join_all((0..count).map(|_| Spangate::start(&config))).await;
        Self { gateways, redis, authority, job, config, _collector: collector, folder }
    }

    /// What one of them counts.
    pub(crate) async fn metrics(&self, replica: usize) -> Samples {
        Samples(text(&get(self.gateways[replica].admin(), "/metrics").await))
    }

    /// Waits until every one of them shares limits with all others, or none does.
    pub(crate) async fn all_up(&self, up: bool) {
        let replicas = self.gateways.len();
        eventually("each says how it stands with the store", || async move {
            for replica in 0..replicas {
                let metrics = self.metrics(replica).await;
                let says = |name| metrics.sum(name, &[]);
                #[expect(clippy::cast_precision_loss, reason = "a handful")]
                let knows_all = !up || says("spangate_limit_store_replicas") > replicas as f64 - 0.5;
                if (says("spangate_limit_store_up") > 0.5) != up || !knows_all {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Sends one export each of jobs that nobody has seen, to one gateway after the other: those ask the store. Fails if one
    /// is refused or most of them wait.
    #[expect(clippy::print_stdout, reason = "figures, for who asks with --nocapture")]
    pub(crate) async fn serves_newcomers(&self, first: u64) {
        let (started, mut took) = (Instant::now(), Vec::new());
        for (seed, gateway) in (first..).zip(self.gateways.iter().cycle()).take(10) {
            let job = Job::new(seed);
            self.authority.allow(&job);
            let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
            let answer = export.send(gateway.address()).await;
            answer.assert_accepted(Form::Protobuf);
            took.push(answer.took);
        }
        let seen = Seen { admitted: took.len(), took, during: started.elapsed(), ..Seen::default() };
        println!("newcomers: {seen}");
        assert!(seen.slow() < 0.5, "{seen}");
    }

    /// Waits until what was charged so far has been told, however loaded the machine is: until two more flushes at
    /// least have been through.
    pub(crate) async fn flushed(&self) {
        sleep(Duration::from_millis(300)).await;
    }

    /// `spangate config show` of their configuration.
    pub(crate) async fn shown(&self) -> String {
        let path = self.folder.path().join("spangate.yaml");
        std::fs::write(&path, serde_json::to_string(&self.config).unwrap()).unwrap();
        let arguments = ["config", "show", "--config"].map(str::to_owned).into_iter();
        let (code, out, errors) =
            run(&arguments.chain([path.display().to_string()]).collect::<Vec<_>>()).await;
        assert_eq!(code, 0, "{errors}");
        assert!(out.contains("url_file"), "{out}");
        out + &errors
    }
}

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    admitted: usize,
    limited: usize,
    /// Anything else, in words.
    failed: Vec<String>,
    took: Vec<Duration>,
    during: Duration,
}

/// More than this is slow: the store's time for two questions, and the gateway's own.
const SLOW: Duration = Duration::from_millis(50);

impl Seen {
    /// Fails if more than so many were admitted a second, or fewer. A second and less is too short to tell.
    #[track_caller]
    pub(crate) fn assert_between(&self, lowest: f64, highest: f64) {
        let tells = self.during > Duration::from_secs(1);
        assert!(!tells || (lowest..=highest).contains(&self.admitted_per_second()), "{self}");
    }

    /// Requests admitted, by the second.
    pub(crate) fn admitted_per_second(&self) -> f64 {
        count(self.admitted) / self.during.as_secs_f64()
    }

    /// Fails if any request was neither admitted nor told to come again.
    #[track_caller]
    pub(crate) fn assert_only_limited(&self) {
        assert!(self.failed.is_empty(), "{:?}", self.failed);
        assert!(self.admitted > 0 && self.limited > 0, "{self}");
    }

    /// Fails if notably more requests were slow than before: whatever else keeps this machine busy did so then. Where
    /// requests wait for a store that hangs, all are.
    #[track_caller]
    pub(crate) fn assert_not_slower_than(&self, before: &Self) {
        assert!(self.slow() <= before.slow() + 0.1, "{self}, and before {before}");
    }

    /// Fails if most requests were slow. Where requests wait for a store that hangs, all are, for as long as it does; other
    /// tests on the machine slow down some.
    #[track_caller]
    pub(crate) fn assert_not_waiting(&self) {
        assert!(self.slow() < 0.5, "{self}");
    }

    /// Both as one: a short time has too few requests to say how many are slow.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.admitted += other.admitted;
        self.limited += other.limited;
        self.failed.extend(other.failed);
        self.took.extend(other.took);
        self.during += other.during;
        self
    }

    fn slow(&self) -> f64 {
        count(self.took.iter().filter(|took| **took > SLOW).count()) / count(self.took.len())
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut took = self.took.clone();
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
        write!(
            f,
            "{:.1}/s admitted, {} limited, {} failed, median {:?}, 99th {:?}, longest {:?}, {:.1} % over 50 ms",
            self.admitted_per_second(),
            self.limited,
            self.failed.len(),
            at(50),
            at(99),
            took.last().copied().unwrap_or_default(),
            self.slow() * 100.0,
        )
    }
}

/// How many windows a limit has to settle in. A replica that other tests keep from the processor misses the store for a
/// moment, and the limit with it; one that does not hold misses all.
const WINDOWS: usize = 4;

/// Waits for a window of so many seconds in which each load has between `lowest` and `highest` times `limit` admitted a second.
#[expect(clippy::print_stdout, reason = "figures, for who asks with --nocapture")]
pub(crate) async fn settled(what: &str, loads: &[Load], seconds: u64, limit: u32, bounds: [f64; 2]) {
    let [lowest, highest] = bounds;
    for window in 1..=WINDOWS {
        let seen = join_all(loads.iter().map(|load| load.during(Duration::from_secs(seconds)))).await;
        for (place, seen) in seen.iter().enumerate() {
            println!("{what}, load {place}: {seen}");
            seen.assert_only_limited();
            seen.assert_not_waiting();
        }
        let parts: Vec<_> = seen.iter().map(|seen| seen.admitted_per_second() / f64::from(limit)).collect();
        if parts.iter().all(|part| (lowest..=highest).contains(part)) {
            return;
        }
        // However far a replica is behind, each takes its own full rate at the most.
        assert!(parts.iter().all(|part| *part <= 2.5), "{what}: {parts:?} of the limit");
        assert!(window < WINDOWS, "{what}: {parts:?} of the limit, and not better before");
    }
}

#[expect(clippy::cast_precision_loss, reason = "some thousand requests")]
fn count(number: usize) -> f64 {
    number as f64
}

/// A steady load of one job, until it is stopped.
pub(crate) struct Load {
    seen: Arc<Mutex<Seen>>,
    stops: Arc<AtomicBool>,
    senders: JoinSet<()>,
}

impl Load {
    /// So many requests a second to each gateway.
    pub(crate) fn start<const N: usize>(fleet: &Fleet, job: &Job, rates: [u32; N]) -> Self {
        /// Enough that none waits for another.
        const SENDERS: u32 = 3;
        let (seen, stops) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let mut senders = JoinSet::new();
        let export = Export::of(Form::Protobuf, job, &spans::export(job, 1));
        for (gateway, rate) in fleet.gateways.iter().zip(rates) {
            for _ in 0..SENDERS {
                let (to, export) = (gateway.address(), export.clone());
                let (seen, stops) = (Arc::clone(&seen), Arc::clone(&stops));
                senders.spawn(async move {
                    let mut ticks = interval(Duration::from_secs(1) * SENDERS / rate);
                    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    let mut session = None;
                    while !stops.load(Ordering::Relaxed) {
                        ticks.tick().await;
                        let mut open = match session.take() {
                            Some(open) => open,
                            None => Session::open(&Wire::Http1, to).await.unwrap(),
                        };
                        let answer = open.exchange(&export).await;
                        let mut seen = seen.lock().unwrap();
                        match &answer {
                            Ok(answer) if answer.status == 200 => seen.admitted += 1,
                            Ok(answer) if answer.status == 429 => seen.limited += 1,
                            other => seen.failed.push(format!("{other:?}")),
                        }
                        if let Ok(answer) = answer {
                            seen.took.push(answer.took);
                            let closes = answer.header("connection").is_some_and(|value| value == "close");
                            session = (!closes).then_some(open);
                        }
                    }
                });
            }
        }
        Self { seen, stops, senders }
    }

    /// What becomes of the requests of this time from now on.
    pub(crate) async fn during(&self, time: Duration) -> Seen {
        self.until(sleep(time)).await
    }

    /// What becomes of them from now on until this has ended.
    pub(crate) async fn until(&self, end: impl Future<Output = ()>) -> Seen {
        let started = Instant::now();
        drop(std::mem::take(&mut *self.seen.lock().unwrap()));
        end.await;
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        Seen { during: started.elapsed(), ..seen }
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) {
        self.stops.store(true, Ordering::Relaxed);
        while let Some(sender) = self.senders.join_next().await {
            sender.unwrap();
        }
    }
}
