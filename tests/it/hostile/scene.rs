//! Where attacks take place: the real process with its authority and collector, and what must be left of an attack
//! when it is over: nothing. How it is measured stands in `rounds`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use spangate::config::{Config, Mode};

use super::{figures::Figures, good::Kind, rounds::Rounds, usage::Usage, wire::Target};
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

/// Ten thousand idle ones find room in it: no stage of overload is reached.
const MAX_CONNECTIONS: usize = 15_000;

/// Whether figures are wanted.
pub(super) fn is_full() -> bool {
    std::env::var(MODE).is_ok_and(|mode| mode == "full")
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
    pub(super) rate: u32,
}

impl Scene {
    /// With the default limits on strangers, and none on the good sender.
    pub(super) async fn start() -> Self {
        Self::with(rate(), |_| {}).await
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
        config.intake.max_connections = MAX_CONNECTIONS;
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

    /// How many places for connections the gateway has: what it was told, or what it says that its limit bears.
    pub(super) fn places(&self) -> usize {
        let output = self.gateway.output();
        let bearable = output.split_once("\"places\":").map(|(_, rest)| rest.split([',', '}']).next());
        bearable.map_or(MAX_CONNECTIONS, |number| number.unwrap().parse().unwrap())
    }

    /// Takes the figures of an attack on the clear listener.
    pub(super) async fn measure<F>(
        &self,
        name: &'static str,
        kind: Kind,
        attack: impl FnOnce(Target) -> F + Clone + Send + 'static,
    ) -> Figures
    where
        F: Future<Output = ()>,
    {
        let mut rounds = Rounds::begin(self, kind).await;
        rounds.run(attack).await;
        let figures = rounds.end(name);
        self.assert_settled().await;
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

/// Good exports a second beside most attacks: many where a 99th percentile is wanted, so few that two busy processors
/// are not what is measured.
pub(super) fn rate() -> u32 {
    if is_full() { 400 } else { 150 }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}
