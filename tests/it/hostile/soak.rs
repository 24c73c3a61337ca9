//! Hours in small: pairs and connections that come and go, reloads, an authority and a collector that flap, and what
//! the process uses meanwhile. `bench/soak` runs it for long on a release build; a few seconds of it run with the tests.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use spangate::config::Config;
use tokio::time::{sleep, sleep_until, timeout};

use super::{flapping::Flapping, scene::as_f64, usage::Usage};
use crate::support::{
    client::{Export, Form, PATIENCE, Wire},
    job::Job,
    process::Spangate,
    session::Session,
    spans,
    tls::TestTls,
    world::{self, Samples, eventually, loopback},
};

/// For how long it runs; bench/soak sets it.
const SECONDS: &str = "SPANGATE_SOAK_SECONDS";
/// Where the samples go.
const CSV: &str = "SPANGATE_SOAK_CSV";

/// Senders, each with one request at a time.
const LANES: u32 = 48;

/// Requests of one job, and on one connection.
const OF_A_JOB: u32 = 25;
const OF_A_CONNECTION: u32 = 60;

/// From here on memory must be at rest: what the limits know of a job is kept for 16 minutes after its last request and
/// for an eighth of that at most until it is looked at, so that until then every new job adds to it.
const AT_REST: Duration = Duration::from_mins(19);

/// From this length on there is enough left after that to tell.
const RESTED: Duration = Duration::from_mins(28);

/// The most that memory may grow then, in KiB a minute: 1 MiB in eight minutes is the allocator's doing.
const SLOPE: f64 = 128.0;

/// Descriptors that may come and go by themselves: the file that a scrape is reading, the scrape's own connection.
const STRAY: usize = 3;

struct Plan {
    length: Duration,
    every: Duration,
    weather: Duration,
    reloads: Duration,
    csv: Option<String>,
}

impl Plan {
    fn of_environment() -> Self {
        let csv = std::env::var(CSV).ok();
        let Ok(seconds) = std::env::var(SECONDS) else {
            let [length, every, weather, reloads] = [5_000, 250, 250, 700].map(Duration::from_millis);
            return Self { length, every, weather, reloads, csv };
        };
        let [every, weather, reloads] = [5, 7, 15].map(Duration::from_secs);
        Self { length: Duration::from_secs(seconds.parse().unwrap()), every, weather, reloads, csv }
    }

    fn is_long(&self) -> bool {
        self.csv.is_some()
    }
}

/// What senders saw.
#[derive(Debug, Default)]
struct Seen {
    outcomes: BTreeMap<String, u64>,
    /// Of accepted exports, in microseconds.
    latencies: Vec<u32>,
}

impl Seen {
    fn merge(all: Vec<Self>) -> Self {
        let mut merged = Self::default();
        for seen in all {
            merged.latencies.extend(seen.latencies);
            for (outcome, count) in seen.outcomes {
                *merged.outcomes.entry(outcome).or_default() += count;
            }
        }
        merged.latencies.sort_unstable();
        merged
    }

    fn quantile(&self, percent: usize) -> f64 {
        let place = self.latencies.len().saturating_sub(1) * percent / 100;
        self.latencies.get(place).map_or(f64::NAN, |latency| f64::from(*latency) / 1e3)
    }

    fn count(&self, outcome: &str) -> u64 {
        self.outcomes.get(outcome).copied().unwrap_or_default()
    }
}

struct Soak {
    gateway: Spangate,
    fakes: Flapping,
    tls: Arc<TestTls>,
    config: Config,
    /// The number of the next job.
    jobs: AtomicU64,
}

impl Soak {
    async fn start(plan: &Plan) -> Self {
        let (fakes, tls) = (Flapping::start(plan.weather).await, Arc::new(TestTls::new()));
        let url = |address: SocketAddr| format!("http://{address}");
        let mut config = world::config(&url(fakes.authority.address()), &url(fakes.collector.address()));
        let mut secure = config.listeners[0].clone();
        secure.name = "secure".into();
        secure.address = loopback();
        secure.tls = Some(tls.listener());
        config.listeners.push(secure);
        // The limits count, and refuse nobody: their tables have to let go of jobs that are over.
        config.limits.per_job.requests_per_second = 1_000_000;
        config.limits.per_job.spans_per_second = 1_000_000;
        config.limits.per_job.bytes_per_second.0 = 1 << 32;
        config.limits.per_runner.requests_per_second = 1_000_000;
        // Small, so that it is full early and memory comes to rest.
        config.cache.max_entries = 2_000;
        let gateway = Spangate::start(&config).await;
        Self { gateway, fakes, tls, config, jobs: AtomicU64::new(1) }
    }

    /// `rate` exports a second until `until`. A sender that is held up leaves out what it could not send.
    async fn load(&self, rate: f64, until: Instant) -> Seen {
        let step = Duration::from_secs_f64(f64::from(LANES) / rate);
        Seen::merge(join_all((0..LANES).map(|lane| self.lane(lane, step, until))).await)
    }

    async fn lane(&self, lane: u32, step: Duration, until: Instant) -> Seen {
        let (form, wire, to) = match lane % 5 {
            0 => (Form::Protobuf, Wire::Http1, self.gateway.address()),
            1 => (Form::Json, Wire::TlsHttp1(Arc::clone(&self.tls)), self.gateway.listener("secure")),
            2 => (Form::Grpc, Wire::H2c, self.gateway.address()),
            3 => (Form::Grpc, Wire::TlsHttp2(Arc::clone(&self.tls)), self.gateway.listener("secure")),
            _ => (Form::Protobuf, Wire::TlsHttp2(Arc::clone(&self.tls)), self.gateway.listener("secure")),
        };
        let mut seen = Seen::default();
        let mut due = Instant::now() + step * lane / LANES;
        let (mut session, mut export) = (None, None);
        for number in lane.. {
            due = due.max(Instant::now().checked_sub(step).unwrap_or(due));
            if due >= until {
                break;
            }
            sleep_until(due.into()).await;
            let export = match &export {
                Some(export) if number % OF_A_JOB != 0 => export,
                _ => {
                    let job = Job::new(self.jobs.fetch_add(1, Ordering::Relaxed));
                    let request = spans::export(&job, u64::from(number % 16 + 1));
                    export.insert(Export::of(form, &job, &request).over(wire.clone()))
                }
            };
            if number % OF_A_CONNECTION == 0 {
                session = None;
            }
            let sent = Instant::now();
            let outcome = match timeout(PATIENCE, exchange(&mut session, &wire, to, export)).await {
                Ok(Ok(status)) => status,
                Ok(Err(problem)) => {
                    session = None;
                    format!("broken: {problem}")
                }
                Err(_) => "no answer".into(),
            };
            if outcome == ACCEPTED {
                seen.latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap());
            }
            *seen.outcomes.entry(outcome).or_default() += 1;
            due += step;
        }
        seen
    }

    /// The rate at which exports begin to wait, by rates that rise until then.
    async fn saturation(&self) -> f64 {
        let mut rate = 200.0;
        loop {
            let time = Duration::from_secs(3);
            let seen = self.load(rate, Instant::now() + time).await;
            let done = as_f64(seen.latencies.len() as u64) / time.as_secs_f64();
            eprintln!("ramp: {rate:.0}/s offered, {done:.0}/s done, p99 {:.1} ms", seen.quantile(99));
            if done < rate * 0.9 || rate > 50_000.0 {
                return done;
            }
            rate *= 1.3;
        }
    }

    async fn metrics(&self) -> Samples {
        let answer = world::get(self.gateway.admin(), "/metrics").await;
        Samples(world::text(&answer))
    }

    /// What the process uses, and what it says of itself.
    async fn sample(&self) -> Sample {
        let (usage, metrics) = (Usage(self.gateway.pid()), self.metrics().await);
        let of = |listener| metrics.sum("spangate_connections", &[("listener", listener)]);
        Sample {
            memory: usage.memory(),
            descriptors: usage.descriptors(),
            threads: usage.threads(),
            connections: of("runners") + of("secure"),
            requests: metrics.sum("spangate_in_flight_requests", &[]),
            bytes: metrics.sum("spangate_in_flight_bytes", &[]),
            entries: metrics.sum("spangate_cache_entries", &[]),
        }
    }

    /// The same once nothing is under way and no connection is kept on either side.
    async fn sample_at_rest(&self) -> Sample {
        eventually("nothing is under way", || async move {
            self.fakes.hang_up();
            let sample = self.sample().await;
            sample.connections + sample.requests + sample.bytes < 0.5
        })
        .await;
        sleep(Duration::from_millis(500)).await;
        self.sample().await
    }

    /// Takes samples until the load is over, and writes each down at once.
    async fn watch(&self, plan: &Plan, is_over: &AtomicBool) -> Vec<(f64, Sample)> {
        let mut file = plan.csv.as_ref().map(|path| std::fs::File::create(path).unwrap());
        let mut samples = Vec::new();
        let began = Instant::now();
        if let Some(file) = &mut file {
            writeln!(file, "seconds,{}", Sample::NAMES).unwrap();
        }
        while !is_over.load(Ordering::Relaxed) {
            let sample = self.sample().await;
            let at = began.elapsed().as_secs_f64();
            if let Some(file) = &mut file {
                writeln!(file, "{at:.1},{}", sample.row()).unwrap();
            }
            samples.push((at, sample));
            sleep(plan.every).await;
        }
        samples
    }

    /// Other settings and the same again, by SIGHUP.
    async fn reload(&self, plan: &Plan, is_over: &AtomicBool) {
        let mut config = self.config.clone();
        for turn in 0.. {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            config.cache.negative_ttl = Duration::from_secs(3 + turn % 3);
            self.gateway.rewrite(&serde_json::to_string_pretty(&config).unwrap());
            self.gateway.signal("HUP");
            sleep(plan.reloads).await;
        }
    }
}

const ACCEPTED: &str = "200";

async fn exchange(
    session: &mut Option<Session>,
    wire: &Wire,
    to: SocketAddr,
    export: &Export,
) -> Result<String, String> {
    let open = match session {
        Some(open) => open,
        None => session.insert(Session::open(wire, to).await?),
    };
    let answer = open.exchange(export).await?;
    let code = |headers: &http::HeaderMap| Some(headers.get("grpc-status")?.to_str().ok()?.to_owned());
    let grpc = code(&answer.headers).or_else(|| code(answer.trailers.as_ref()?));
    Ok(match grpc.as_deref() {
        None | Some("0") => answer.status.to_string(),
        Some(code) => format!("gRPC {code}"),
    })
}

/// One look at the process.
#[derive(Clone, Copy, Debug)]
struct Sample {
    memory: u64,
    descriptors: usize,
    threads: u64,
    connections: f64,
    requests: f64,
    bytes: f64,
    entries: f64,
}

impl Sample {
    const NAMES: &str =
        "rss_bytes,descriptors,threads,connections,in_flight_requests,in_flight_bytes,cache_entries";

    fn row(&self) -> String {
        let Self { memory, descriptors, threads, connections, requests, bytes, entries } = self;
        format!("{memory},{descriptors},{threads},{connections},{requests},{bytes},{entries}")
    }
}

/// KiB a minute, by least squares over the samples at rest, in a short run over the second half.
fn slope(samples: &[(f64, Sample)], from: Duration) -> f64 {
    let rest = samples.iter().position(|(at, _)| *at >= from.as_secs_f64()).unwrap();
    let rest = &samples[rest..];
    let count = as_f64(rest.len() as u64);
    let points = || rest.iter().map(|(at, sample)| (at / 60.0, as_f64(sample.memory) / 1024.0));
    let (x, y) = points().fold((0.0, 0.0), |sum, (x, y)| (sum.0 + x / count, sum.1 + y / count));
    let (over, under) =
        points().fold((0.0, 0.0), |sum, (px, py)| (sum.0 + (px - x) * (py - y), sum.1 + (px - x).powi(2)));
    over / under
}

/// Scenario: good senders of every kind whose pairs and connections change all the time, while the configuration is
/// reloaded and the authority and the collector fail in every way; then all of them leave.
/// Guarantees: nobody is denied falsely, exports go on arriving, and no connection, request, byte, descriptor or thread is
/// left; in a long run memory comes to rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak() {
    let plan = Plan::of_environment();
    let soak = Soak::start(&plan).await;
    drop(soak.load(100.0, Instant::now() + Duration::from_secs(1)).await);
    let before = soak.sample_at_rest().await;
    let rate = if plan.is_long() { soak.saturation().await * 0.7 } else { 100.0 };

    soak.fakes.flaps.store(true, Ordering::Relaxed);
    let is_over = AtomicBool::new(false);
    let until = Instant::now() + plan.length;
    let load = async {
        let seen = soak.load(rate, until).await;
        is_over.store(true, Ordering::Relaxed);
        seen
    };
    let (seen, samples, ()) = tokio::join!(load, soak.watch(&plan, &is_over), soak.reload(&plan, &is_over));
    soak.fakes.flaps.store(false, Ordering::Relaxed);
    let after = soak.sample_at_rest().await;

    let from = if plan.length >= RESTED { AT_REST } else { plan.length / 2 };
    let slope = slope(&samples, from);
    if plan.is_long() {
        let mut report = String::new();
        let (p50, p99) = (seen.quantile(50), seen.quantile(99));
        writeln!(
            report,
            "{:.0} s at {rate:.0}/s, {} jobs",
            plan.length.as_secs_f64(),
            soak.jobs.load(Ordering::Relaxed)
        )
        .unwrap();
        let judged = if plan.length >= RESTED { "" } else { ", not judged: too short a run" };
        writeln!(report, "memory: slope {slope:.1} KiB/min from {:.0} s on{judged}", from.as_secs_f64())
            .unwrap();
        writeln!(report, "accepted: p50 {p50:.1} ms, p99 {p99:.1} ms").unwrap();
        writeln!(
            report,
            "asked {} times, {} exports at the collector",
            get(&soak.fakes.questions),
            get(&soak.fakes.exports)
        )
        .unwrap();
        for (outcome, count) in &seen.outcomes {
            writeln!(report, "{outcome}: {count}").unwrap();
        }
        writeln!(report, "{}\nbefore: {}\nafter:  {}", Sample::NAMES, before.row(), after.row()).unwrap();
        eprintln!("{report}");
    }
    for denied in ["401", "403", "gRPC 16", "gRPC 7"] {
        assert_eq!(seen.count(denied), 0, "{denied}, to senders that are all good: {:?}", seen.outcomes);
    }
    let all: u64 = seen.outcomes.values().sum();
    // New jobs get no verdict while the authority fails, and most jobs are new: a good third arrives.
    assert!(seen.count(ACCEPTED) * 6 > all, "{:?}", seen.outcomes);
    assert!(after.descriptors <= before.descriptors + STRAY, "{before:?}, then {after:?}");
    // Threads that wait for long work come and go; they are bounded by the runtime, and few.
    assert!(after.threads <= before.threads + 8, "{before:?}, then {after:?}");
    let metrics = soak.metrics().await;
    assert!(metrics.sum("spangate_config_reloads_total", &[("outcome", "applied")]) >= 1.0);
    assert!(metrics.sum("spangate_config_reloads_total", &[("outcome", "refused")]) < 0.5);
    assert!(plan.length < RESTED || slope < SLOPE, "memory grows by {slope} KiB a minute");
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
