//! The measurement of one attack: short rounds, quiet and attacked in turn, in one process and over the same connections
//! of the good sender, so that what else the machine does meets both alike. It decides nothing about the figures.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout};

use super::{
    figures::{Figures, Latency},
    good::{Good, Kind, LANES, Sender},
    priority::{prefer_good, stand_back},
    scene::{Scene, as_f64, is_full},
    usage::Usage,
    wire::{Tally, Target},
};
use crate::support::world::eventually;

/// How much longer an attack may take than it was told: what is open has to come to its end.
const GRACE: Duration = Duration::from_secs(20);

/// How long each part of a measurement takes, and how many rounds there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) rounds: u32,
    quiet: Duration,
    pub(super) attack: Duration,
    calibration: Duration,
}

impl Times {
    pub(super) fn of_mode() -> Self {
        let (rounds, times) = if is_full() { (8, [1_200, 1_500, 1_500]) } else { (1, [500, 1_000, 300]) };
        let [quiet, attack, calibration] = times.map(Duration::from_millis);
        Self { rounds, quiet, attack, calibration }
    }
}

/// A measurement under way.
pub(super) struct Rounds<'a> {
    scene: &'a Scene,
    times: Times,
    kind: Kind,
    sender: Sender,
    /// CPU seconds for one byte of good traffic of the kind, and for one whole request.
    good: [f64; 2],
    quiet: Phase,
    beside: Phase,
    /// Resident memory before the first attack, and the most by which it has grown over that.
    memory: Option<u64>,
    growth: u64,
    tally: Arc<Tally>,
}

/// All rounds of one sort.
#[derive(Default)]
struct Phase {
    rounds: Vec<Good>,
    cpu: Duration,
    /// How long the good sender was at work.
    sending: Duration,
}

impl<'a> Rounds<'a> {
    /// Learns what good traffic costs, and lets the good sender become known.
    pub(super) async fn begin(scene: &'a Scene, kind: Kind) -> Self {
        let (times, usage, to) = (Times::of_mode(), scene.usage(), scene.address());
        prefer_good(scene.gateway.pid());
        let mut sender = Sender::new(to, &scene.job, scene.rate);
        sender.open().await;
        // The first answers are slow: files, caches and connections to the collector are new.
        kind.send(to, &scene.job, times.calibration / 2).await;
        let before = usage.cpu();
        let (count, bytes) = kind.send(to, &scene.job, times.calibration).await;
        let good = usage.cpu().saturating_sub(before).as_secs_f64();
        Self {
            scene,
            times,
            kind,
            sender,
            good: [bytes, count].map(|units| good / as_f64(units)),
            quiet: Phase::default(),
            beside: Phase::default(),
            memory: None,
            growth: 0,
            tally: Arc::default(),
        }
    }

    /// A round without an attack.
    pub(super) async fn quiet(&mut self) {
        let usage = self.scene.usage();
        // Its figure is of no use here, but a round beside an attack has one too.
        let (watch, before, began) = (Watch::start(usage), usage.cpu(), Instant::now());
        let good = self.sender.send(self.times.quiet).await;
        self.quiet.add(good, usage.cpu().saturating_sub(before), began.elapsed());
        watch.stop().await;
    }

    /// A round beside the attack, which has a thread of its own.
    pub(super) async fn beside<F>(
        &mut self,
        victim: SocketAddr,
        attack: impl FnOnce(Target) -> F + Send + 'static,
    ) where
        F: Future<Output = ()>,
    {
        let (usage, time) = (self.scene.usage(), self.times.attack);
        let memory = *self.memory.get_or_insert_with(|| usage.memory());
        let (ready, is_ready) = oneshot::channel();
        let (go, when) = std::sync::mpsc::channel();
        let attacker = std::thread::spawn(move || {
            stand_back();
            ready.send(()).unwrap();
            let Ok(target) = when.recv() else { return };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let attack = async move { timeout(time + GRACE, attack(target)).await };
            runtime.block_on(attack).expect("the attack ends with its time");
        });
        is_ready.await.unwrap();
        let (watch, before, began) = (Watch::start(usage), usage.cpu(), Instant::now());
        go.send(Target { address: victim, until: began + time, tally: Arc::clone(&self.tally) }).unwrap();
        let good = self.sender.send(time).await;
        let sending = began.elapsed();
        // Those at the end wait for nobody's latency.
        tokio::task::spawn_blocking(move || attacker.join()).await.unwrap().unwrap();
        self.beside.add(good, usage.cpu().saturating_sub(before), sending);
        self.growth = self.growth.max(watch.stop().await.saturating_sub(memory));
    }

    /// Memory that is held by now is no growth of the rounds to come: it is measured by itself.
    pub(super) fn forget_memory(&mut self) {
        self.memory = None;
    }

    /// Waits until of the last attack nothing is left but `connections` on a listener.
    pub(super) async fn rest(&self, listener: &str, connections: u32) {
        let scene = self.scene;
        eventually("the attack is over", || async move {
            let metrics = scene.metrics().await;
            metrics.sum("spangate_connections", &[("listener", listener)]) < f64::from(connections) + 0.5
                && metrics.sum("spangate_in_flight_requests", &[]) < 0.5
        })
        .await;
    }

    /// All of it: quiet and attacked rounds in turn, on the clear listener.
    pub(super) async fn run<F>(&mut self, attack: impl FnOnce(Target) -> F + Clone + Send + 'static)
    where
        F: Future<Output = ()>,
    {
        for round in 0..self.times.rounds {
            if round > 0 {
                self.rest("runners", LANES).await;
            }
            self.quiet().await;
            self.beside(self.scene.address(), attack.clone()).await;
        }
    }

    /// The row. The good sender's connections end with it.
    pub(super) fn end(self, name: &'static str) -> Figures {
        let Self { kind, good: [good_byte, good_request], quiet, beside, .. } = self;
        let quiet_cpu = quiet.cpu.as_secs_f64() / quiet.sending.as_secs_f64();
        let cpu = beside.cpu.as_secs_f64() - quiet_cpu * beside.sending.as_secs_f64();
        let figures = Figures {
            name,
            kind,
            growth: self.growth,
            cpu: cpu.max(0.0),
            good_byte,
            good_request,
            quiet: Latency::of(&quiet.rounds),
            beside: Latency::of(&beside.rounds),
            sent: beside.rounds.iter().map(|good| good.latencies.len()).sum(),
            refused: quiet.rounds.into_iter().chain(beside.rounds).flat_map(|good| good.refused).collect(),
            tally: self.tally,
        };
        figures.print();
        figures
    }
}

impl Phase {
    fn add(&mut self, good: Good, cpu: Duration, sending: Duration) {
        self.rounds.push(good);
        self.cpu += cpu;
        self.sending += sending;
    }
}

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
