//! What the limits cost: memory for a million keys, and CPU for the charges of one request on every level
//! of the hierarchy, keys in random order. It prints tables in Markdown and passes no judgement.
//!
//! `cargo bench --bench limits`; Linux only, for `/proc`.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that measures: whatever is not as it should be must end it"
)]

use std::{
    fs,
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use spangate::{
    config::{Config, LevelRates, Listener, PerClientFailures, PerJob, PerRunner, units::ByteSize},
    limit::{Cost, Decision, LimitStore, Subject, failures::Failures, listener_key, local::Local},
    metrics::Metrics,
    validate::Places,
};

/// Requests in one round.
const REQUESTS: usize = 2_000_000;
const ROUNDS: usize = 7;
/// Of a usual export.
const SPANS: u64 = 32;
const BYTES: u64 = 19_000;

thread_local! {
    static LISTENER: u64 = listener_key(&Listener::default().name);
}

fn main() {
    memory();
    println!(
        "\n| jobs, runners, projects | one charge of all, ns | the two of a request and its budget, ns |"
    );
    println!("|---|---|---|");
    for keys in [[1, 1, 1], [75_000, 5_000, 20_000], [100_000, 3_000, 20_000], [100_000, 100_000, 100_000]] {
        charges("", keys, &everything());
    }
    charges(" (default configuration)", [100_000, 3_000, 20_000], &defaults());
    attempts();
}

/// Rates on every level that no round uses up.
fn everything() -> Config {
    let mut config = defaults();
    let burst = Duration::from_hours(100);
    let wide = LevelRates {
        requests_per_second: 5_000,
        spans_per_second: 200_000,
        bytes_per_second: ByteSize(256 << 20),
        burst,
        ..LevelRates::default()
    };
    let limits = &mut config.limits;
    (limits.global, limits.per_listener, limits.per_project) = (wide.clone(), wide.clone(), wide);
    limits.per_runner = PerRunner {
        spans_per_second: 200_000,
        bytes_per_second: ByteSize(256 << 20),
        burst,
        ..PerRunner::default()
    };
    config
}

/// What is limited by default, with bursts that no round uses up.
fn defaults() -> Config {
    let mut config = Config { listeners: vec![Listener::default()], ..Config::default() };
    let burst = Duration::from_hours(100);
    config.limits.per_runner = PerRunner { burst, ..PerRunner::default() };
    config.limits.per_job = PerJob {
        requests_per_second: 200,
        spans_per_second: 5_000,
        bytes_per_second: ByteSize(16 << 20),
        burst,
        ..PerJob::default()
    };
    config.traces.max_spans_per_job = u64::MAX;
    config
}

fn take(local: &Local, subject: &Subject, cost: Cost, now: Instant) {
    assert_eq!(local.take(subject, cost, now).now_or_never(), Some(Decision::Taken));
}

/// A request as the line charges it: on arrival, at a time that the line needs for the body's deadline too, and when its
/// bytes and spans are counted, at a time that is read for that alone.
fn request(local: &Local, subject: &Subject, arrived: Instant) {
    take(local, subject, Cost { requests: 1, ..Cost::default() }, arrived);
    let cost = Cost { bytes: BYTES, spans: SPANS, requests: 0 };
    let granted = local.take_spans(subject, cost, Instant::now());
    assert_eq!(granted.now_or_never(), Some(Ok(SPANS)));
}

fn subject(job: u64, [_, runners, projects]: [u64; 3], places: Option<&Places>) -> Subject<'_> {
    let key = |what: u64, id: u64| mixed(what.wrapping_mul(0x0123_4567_89AB_CDEF) ^ id);
    Subject {
        listener: LISTENER.with(|key| *key),
        project: Some(key(1, job % projects)),
        runner: key(2, job % runners),
        job: Some(key(3, job)),
        places,
    }
}

fn memory() {
    println!("| jobs, runners, projects | MiB | bytes a key |\n|---|---|---|");
    for keys in [[800_000, 1, 1], [800_000, 100_000, 100_000]] {
        let config = everything();
        let local = Local::new(&config, &Metrics::new());
        let before = resident();
        for job in 0..keys[0] {
            take(
                &local,
                &subject(job, keys, None),
                Cost { requests: 1, spans: SPANS, bytes: BYTES },
                Instant::now(),
            );
        }
        let (taken, sum) = (resident() - before, keys.iter().sum::<u64>());
        #[expect(clippy::cast_precision_loss, reason = "figures of three digits")]
        let mebibytes = taken as f64 / f64::from(1 << 20);
        println!("| {} | {mebibytes:.1} | {} |", text(keys), taken / sum);
    }
}

fn charges(what: &str, keys: [u64; 3], config: &Config) {
    let local = Local::new(config, &Metrics::new());
    // Each in its identity, which the line has just read.
    let places: Vec<Places> = (0..keys[0]).map(|_| Places::default()).collect();
    let of = |job: u64| subject(job, keys, places.get(usize::try_from(job).unwrap()));
    let start = Instant::now();
    for job in 0..keys[0] {
        request(&local, &of(job), start);
    }
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        // Made as they are needed: a list of them would push the states out of the caches. The line has read a sender's
        // identity when it comes to its limits, and none before its request is there: so the next sender is known only when
        // the identity of this one was read.
        let subjects = || {
            let mut state = round as u64;
            (0..REQUESTS).map(move |_| {
                let subject = of(random(&mut state) % keys[0]);
                let read = subject.places.map_or(0, |places| places.0[0].load(Ordering::Relaxed));
                state ^= u64::from(black_box(read));
                subject
            })
        };
        let start = cpu();
        for subject in subjects() {
            black_box(&subject);
        }
        let made = cpu();
        for subject in subjects() {
            take(&local, &subject, Cost { requests: 1, spans: SPANS, bytes: BYTES }, Instant::now());
        }
        let taken = cpu();
        let arrived = Instant::now();
        for subject in subjects() {
            request(&local, &subject, arrived);
        }
        let walk = made - start;
        rounds.push([taken - made, cpu() - taken].map(|time| time.saturating_sub(walk) / REQUESTS as u64));
    }
    println!("| {}{what} | {} | {} |", text(keys), median(&rounds, 0), median(&rounds, 1));
}

/// The way of an unknown pair past the limiter of failures, from 100,000 addresses and from one.
fn attempts() {
    println!("\n| addresses | an attempt that succeeds, ns |\n|---|---|");
    for addresses in [1, 100_000_u64] {
        let failures = Arc::new(Failures::new(&PerClientFailures::default(), &Metrics::new()));
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let mut state = round as u64;
            let order: Vec<u32> =
                (0..REQUESTS).map(|_| u32::try_from(random(&mut state) % addresses).unwrap()).collect();
            let start = cpu();
            for address in &order {
                drop(failures.admit(IpAddr::V4(Ipv4Addr::from_bits(*address))).unwrap());
            }
            rounds.push([(cpu() - start) / REQUESTS as u64; 2]);
        }
        println!("| {addresses} | {} |", median(&rounds, 0));
    }
}

fn text(keys: [u64; 3]) -> String {
    keys.map(|keys| keys.to_string()).join(", ")
}

fn median(rounds: &[[u64; 2]], figure: usize) -> String {
    let mut sorted: Vec<u64> = rounds.iter().map(|round| round[figure]).collect();
    sorted.sort_unstable();
    format!("{} ({}-{})", sorted[ROUNDS / 2], sorted[0], sorted[ROUNDS - 1])
}

/// Resident memory in bytes.
fn resident() -> u64 {
    /// On every machine that this runs on.
    const PAGE: u64 = 4096;

    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PAGE
}

/// CPU time of this thread in nanoseconds: others on a busy machine add to the clock on the wall, not here.
fn cpu() -> u64 {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedstat.split(' ').next().unwrap().parse().unwrap()
}

/// Numbers without a pattern that a prefetcher could follow (`SplitMix64`).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed(*state)
}

fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
