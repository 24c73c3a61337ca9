//! Where attacks take place: the real process with its authority and collector, a good sender beside the attack, and
//! the figures of both. The attacker has a thread of its own, so that the good sender does not wait for it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use spangate::config::{Config, Mode};
use tokio::time::timeout;

use super::{
    figures::Figures,
    good::{Good, Kind},
    usage::Usage,
    wire::{Tally, Target},
};
use crate::support::{
    authority::Authority,
    collector::Collector,
    job::Job,
    process::Spangate,
    tls::TestTls,
    world::{self, Samples, eventually, loopback},
};

/// `full`: long attacks whose figures are printed; anything else: short ones that are only held against the bounds.
const MODE: &str = "SPANGATE_HOSTILE";

/// How long each part of a measurement takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) quiet: Duration,
    pub(super) attack: Duration,
    calibration: Duration,
}

/// Whether figures are wanted.
pub(super) fn is_full() -> bool {
    std::env::var(MODE).is_ok_and(|mode| mode == "full")
}

impl Times {
    pub(super) fn of_mode() -> Self {
        let [quiet, attack, calibration] =
            if is_full() { [5_000, 10_000, 2_000] } else { [500, 1_000, 300] }.map(Duration::from_millis);
        Self { quiet, attack, calibration }
    }
}

/// The gateway's process and its surroundings.
pub(super) struct Scene {
    pub(super) gateway: Spangate,
    pub(super) authority: Authority,
    pub(super) collector: Collector,
    pub(super) tls: Arc<TestTls>,
    /// Whose exports are good.
    pub(super) job: Job,
    /// Good exports a second.
    rate: u32,
}

impl Scene {
    /// With the default limits on strangers, and none on the good sender.
    pub(super) async fn start() -> Self {
        Self::with(150, |_| {}).await
    }

    /// The same with another rate of good exports, and changes to the configuration.
    pub(super) async fn with(rate: u32, change: impl FnOnce(&mut Config)) -> Self {
        let (authority, collector) = (Authority::start().await, Collector::http().await);
        let (job, tls) = (Job::new(1), Arc::new(TestTls::new()));
        authority.allow(&job);
        let mut config = world::config(&authority.url(), &collector.url());
        let mut secure = config.listeners[0].clone();
        secure.name = "secure".into();
        secure.address = loopback();
        secure.tls = Some(tls.listener());
        config.listeners.push(secure);
        config.limits.per_job.mode = Mode::Off;
        config.limits.per_runner.mode = Mode::Off;
        config.traces.max_spans_per_job = u64::MAX >> 1;
        // Ten thousand idle ones are to find room: no stage of overload is reached.
        config.intake.max_connections = 15_000;
        config.intake.stranger_idle_timeout = Duration::from_mins(2);
        // Attackers and the good sender come from one address.
        config.intake.max_connections_per_client = 0;
        if !is_full() {
            config.intake.header_timeout = Duration::from_secs(1);
            config.intake.body_timeout = Duration::from_secs(1);
        }
        change(&mut config);
        let gateway = Spangate::start(&config).await;
        Self { gateway, authority, collector, tls, job, rate }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    pub(super) fn usage(&self) -> Usage {
        Usage(self.gateway.pid())
    }

    /// Takes the figures of an attack on the clear listener.
    pub(super) async fn measure<F>(
        &self,
        name: &'static str,
        kind: Kind,
        attack: impl FnOnce(Target) -> F + Send + 'static,
    ) -> Figures
    where
        F: Future<Output = ()>,
    {
        let figures = self.take(self.address(), name, kind, attack).await;
        self.assert_settled().await;
        figures
    }

    /// The same on any listener, with what the attack leaves behind.
    pub(super) async fn take<F>(
        &self,
        victim: SocketAddr,
        name: &'static str,
        kind: Kind,
        attack: impl FnOnce(Target) -> F + Send + 'static,
    ) -> Figures
    where
        F: Future<Output = ()>,
    {
        let (times, usage, to) = (Times::of_mode(), self.usage(), self.address());
        // The first answers are slow: files, caches and connections to the collector are new.
        kind.send(to, &self.job, times.calibration / 2).await;
        let before = usage.cpu();
        let (count, bytes) = kind.send(to, &self.job, times.calibration).await;
        let good = usage.cpu().saturating_sub(before).as_secs_f64();
        let (good_byte, good_request) = (good / as_f64(bytes), good / as_f64(count));

        let before = usage.cpu();
        let quiet = Good::send(to, &self.job, self.rate, times.quiet).await;
        let quiet_cpu = usage.cpu().saturating_sub(before).as_secs_f64() / times.quiet.as_secs_f64();

        let tally = Arc::new(Tally::default());
        let (memory, before, began) = (usage.memory(), usage.cpu(), Instant::now());
        let watch = Watch::start(usage);
        let until = began + times.attack;
        let attacker = std::thread::spawn({
            let target = Target { address: victim, until, tally: Arc::clone(&tally) };
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let attack = async move { timeout(times.attack + GRACE, attack(target)).await };
                runtime.block_on(attack).expect("the attack ends with its time");
            }
        });
        let beside = Good::send(to, &self.job, self.rate, times.attack).await;
        // Those at the end wait for nobody's latency.
        tokio::task::spawn_blocking(move || attacker.join()).await.unwrap().unwrap();
        let cpu =
            usage.cpu().saturating_sub(before).as_secs_f64() - quiet_cpu * began.elapsed().as_secs_f64();
        let figures = Figures {
            name,
            kind,
            growth: watch.stop().await.saturating_sub(memory),
            cpu: cpu.max(0.0),
            good_byte,
            good_request,
            quiet: quiet.p99(),
            beside: beside.p99(),
            sent: beside.latencies.len(),
            refused: quiet.refused.into_iter().chain(beside.refused).collect(),
            tally,
        };
        figures.print();
        figures
    }

    /// Once the attack is over nothing of it is left: no request, no byte, no connection.
    pub(super) async fn assert_settled(&self) {
        for gauge in ["spangate_in_flight_requests", "spangate_in_flight_bytes"] {
            eventually(gauge, || async move { self.metrics().await.sum(gauge, &[]).abs() < 0.5 }).await;
        }
        for listener in ["runners", "secure"] {
            eventually("nobody is connected", || async move {
                let open = self.metrics().await.sum("spangate_connections", &[("listener", listener)]);
                open.abs() < 0.5
            })
            .await;
        }
    }

    /// Nothing reached the collector but what the good sender sent, and was told so.
    pub(super) async fn assert_only_good_arrives(&self) {
        let accepted = self.metrics().await.sum("spangate_requests_total", &[("outcome", "ok")]);
        let arrived = as_f64(self.collector.count() as u64);
        assert!((arrived - accepted).abs() < 0.5, "{arrived} arrived, {accepted} were accepted");
    }

    pub(super) async fn metrics(&self) -> Samples {
        Samples(world::text(&world::get(self.gateway.admin(), "/metrics").await))
    }
}

/// How much longer an attack may take than it was told: what is open has to come to its end.
const GRACE: Duration = Duration::from_secs(20);

/// Looks at the memory of a process every few milliseconds and keeps the most.
struct Watch {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<u64>,
}

impl Watch {
    fn start(usage: Usage) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut most = usage.memory();
            while !stopped.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                most = most.max(usage.memory());
            }
            most
        });
        Self { stop, task }
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}
