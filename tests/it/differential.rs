//! The promise that the gate rests on, judged by the reader that it is made for: what the
//! Collector's own codec reads of what leaves is what the gateway vouched for. The judge is a Go
//! program (tests/interop/pdata); here are the cases and what the gateway makes of them.
//! `SPANGATE_DIFFERENTIAL_CASES` sets their number (5,000 for each signal if unset),
//! `SPANGATE_DIFFERENTIAL_SEED` which ones they are, `SPANGATE_DIFFERENTIAL_SIGNAL` the one signal.

mod cases;
mod judge;
mod mutate;
mod services;

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use spangate::otlp::{
    TraceId,
    inspect::{Depth, Rules, inspect},
    rewrite::{Policy, ProtectedKeys, Stamp, Value, rewrite},
    signal::Signal,
};

use self::{
    cases::{BLOCK, Case, Source},
    judge::{Frame, Judge, Report},
};

const KEYS: [&str; 3] = ["ci.job.id", "service.name", "ci.runner_manager.system_xid"];
const PREFIXES: [&str; 1] = ["gitlab."];
const VERIFIED: [(&str, Value<'static>); 3] = [
    ("ci.job.id", Value::Int(42)),
    ("service.name", Value::String("gitlab-ci-runner")),
    ("gitlab.cell.id", Value::Int(-7)),
];
const TRACE: &str = "abababababababababababababababab";

/// Failures after which no more cases are made.
const ENOUGH: u64 = 20;

/// What the judge has to know of the rules: as data, so that it can hold them on its own.
fn settings() -> serde_json::Value {
    let verified: Vec<_> = VERIFIED
        .iter()
        .map(|(key, value)| match value {
            Value::Int(int) => serde_json::json!({"key": key, "int": int}),
            Value::String(str) => serde_json::json!({"key": key, "str": str}),
        })
        .collect();
    serde_json::json!({
        "keys": KEYS,
        "prefixes": PREFIXES,
        "verified": verified,
        "trace": TRACE,
        "drop_empty": true,
    })
}

/// The place of a signal in the judge's table: the one thing here that is particular to a signal.
fn place(signal: Signal) -> u8 {
    match signal {
        Signal::Traces => 0,
        Signal::Metrics => 1,
        Signal::Logs => 2,
        Signal::Profiles => 3,
    }
}

/// What the gateway makes of a case.
struct Outcome {
    flags: u8,
    left: Vec<u8>,
}

const ACCEPTED: u8 = 1;
const CLEAN: u8 = 1 << 1;
const STRIP_SCOPE: u8 = 1 << 2;
const STRIP_ITEMS: u8 = 1 << 3;
const SHALLOW: u8 = 1 << 4;
const TRANSPARENT: u8 = 1 << 5;

fn gateway(case: &Case) -> Outcome {
    let rules = Rules {
        trace_id: TraceId::from_lower_hex(TRACE),
        max_item_size: case.max_item_size,
        refuse_unknown: false,
        depth: if case.shallow { Depth::Structure } else { Depth::Full },
    };
    let policy = Policy {
        protected: Arc::new(ProtectedKeys::new(KEYS, PREFIXES)),
        strip_scope: case.strip_scope,
        strip_items: case.strip_items,
        max_item_size: case.max_item_size,
    };
    let flag = |flag: u8, is_set: bool| if is_set { flag } else { 0 };
    let asked = flag(STRIP_SCOPE, case.strip_scope)
        | flag(STRIP_ITEMS, case.strip_items)
        | flag(SHALLOW, case.shallow);
    let Ok(found) = inspect(case.signal, &case.body, &rules) else {
        return Outcome { flags: asked, left: Vec::new() };
    };
    let body = Bytes::copy_from_slice(&case.body);
    let left = match rewrite(case.signal, &body, &policy, &Stamp::new(VERIFIED), case.budget) {
        Ok(rewritten) => rewritten.pieces.concat(),
        // It takes protected keys out of items that nobody has read yet.
        Err(_) if case.shallow && case.strip_items => return Outcome { flags: asked, left: Vec::new() },
        Err(error) => panic!("what was accepted is not rewritten: {error}"),
    };
    let strict = Rules { refuse_unknown: true, ..rules };
    let transparent = inspect(case.signal, &case.body, &strict).is_ok();
    Outcome {
        flags: asked | ACCEPTED | flag(CLEAN, found.foreign == 0) | flag(TRANSPARENT, transparent),
        left,
    }
}

fn send(judge: &Judge, batch: u64, cases: &[Case]) {
    let outcome = |case: &Case| {
        std::panic::catch_unwind(|| gateway(case))
            .unwrap_or_else(|_| panic!("the gateway panics on {}", hex(&case.body)))
    };
    let outcomes: Vec<Outcome> = cases.iter().map(outcome).collect();
    judge.send(
        batch,
        cases.iter().zip(&outcomes).map(|(case, outcome)| Frame {
            signal: place(case.signal),
            flags: outcome.flags,
            max_item_size: case.max_item_size as u64,
            budget: case.budget,
            came_in: &case.body,
            left: &outcome.left,
        }),
    );
}

/// The judge on a few cases.
fn ask(binary: &Path, cases: &[Case]) -> Report {
    let judge = Judge::start(binary, &settings(), |_| {});
    send(&judge, 0, cases);
    judge.end().pop().expect("a report")
}

/// The judge's program, or nothing where it cannot be had and need not be.
fn binary() -> Option<std::path::PathBuf> {
    match judge::build(&cases::folder("")) {
        Ok(binary) => Some(binary),
        Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{why}"),
        Err(why) => {
            say(&format!("SKIPPED, nothing was compared with the Collector's codec: {why}"));
            None
        }
    }
}

/// Past the test harness, which shows what a test prints only if it fails.
fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "\ndifferential: {line}"));
}

fn number(name: &str, unset: u64) -> u64 {
    std::env::var(name)
        .map_or(unset, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Scenario: each committed request, under every option: seeds in which every field is set, and all
/// requests on which gateway and Collector once disagreed.
/// Guarantees: the Collector reads what the gateway vouches for.
#[test]
fn committed_requests_hold_before_the_collectors_codec() {
    let Some(binary) = binary() else { return };
    let mut accepted = 0;
    for &signal in Signal::ALL {
        for folder in ["regressions", "seeds"] {
            for (name, body) in cases::committed(folder, signal) {
                let report = ask(&binary, &cases::all_options(signal, &body));
                assert!(report.failures.is_empty(), "{folder}/{name}.bin: {:#?}", report.failures);
                accepted += u64::from(folder == "seeds" && report.accepted == report.cases);
            }
        }
    }
    assert!(accepted >= Signal::ALL.len() as u64, "only {accepted} seeds are accepted");
}

/// Scenario: requests built, mutated, damaged and made to be hostile, for each signal.
/// Guarantees: whatever is accepted the Collector's own codec reads, before and after; in what leaves it
/// finds exactly the verified attributes under protected keys, no foreign trace that the gate did not
/// see, and all else as it came but for what the rules take out.
#[test]
fn random_requests_hold_before_the_collectors_codec() {
    let Some(binary) = binary() else { return };
    let (count, seed) =
        (number("SPANGATE_DIFFERENTIAL_CASES", 5_000), number("SPANGATE_DIFFERENTIAL_SEED", 1));
    let only = std::env::var("SPANGATE_DIFFERENTIAL_SIGNAL").ok();
    let asked = |signal: &&Signal| only.as_ref().is_none_or(|only| only == signal.label());
    assert!(Signal::ALL.iter().any(|signal| asked(&signal)), "SPANGATE_DIFFERENTIAL_SIGNAL is no signal");
    for &signal in Signal::ALL.iter().filter(asked) {
        run(&binary, signal, count.div_ceil(BLOCK).max(1), seed);
    }
}

fn run(binary: &Path, signal: Signal, blocks: u64, seed: u64) {
    let start = Instant::now();
    let (failures, stop) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
    let judge = {
        let stop = Arc::clone(&stop);
        Judge::start(binary, &settings(), move |report| {
            let failed = failures.fetch_add(report.failures.len() as u64, Ordering::Relaxed);
            stop.fetch_or(failed + report.failures.len() as u64 >= ENOUGH, Ordering::Relaxed);
        })
    };
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let source = Source::new(signal, seed);
                while !stop.load(Ordering::Relaxed) {
                    let block = next.fetch_add(1, Ordering::Relaxed);
                    if block >= blocks {
                        break;
                    }
                    send(&judge, block, &source.block(block));
                }
            });
        }
    });
    let reports = judge.end();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let (cases, accepted, stricter) =
        (sum(|report| report.cases), sum(|report| report.accepted), sum(|report| report.stricter));
    let seconds = start.elapsed().as_secs_f64();
    say(&format!(
        "{}: {cases} cases in {seconds:.1} s, {accepted} accepted ({} left to the Collector), {} refused \
         ({stricter} of which the Collector reads)",
        signal.label(),
        sum(|report| report.left),
        cases - accepted,
    ));
    let failed: Vec<_> = reports
        .iter()
        .flat_map(|report| report.failures.iter().map(|failure| (report.batch, failure)))
        .collect();
    assert!(failed.is_empty(), "{}", told(binary, &Source::new(signal, seed), &failed));
    assert!(cases >= blocks * BLOCK);
    assert!(accepted * 10 > cases && (cases - accepted) * 10 > cases, "the cases are all alike");
}

/// Makes the failed cases again, small, writes them beside the judge, and says what is wrong.
fn told(binary: &Path, source: &Source, failed: &[(u64, &judge::Failure)]) -> String {
    let mut text = format!("gateway and Collector disagree in {} cases; the first ones:\n", failed.len());
    for (block, failure) in failed.iter().take(3) {
        let case = &source.block(*block)[failure.case];
        let failing = |cases: &[Case]| Some(ask(binary, cases).failures.first()?.case);
        let least = cases::shrink(case, &failing);
        let name = format!("{}-{block}-{}", case.signal.label(), failure.case);
        let path = cases::folder("regressions").join(format!("{name}.bin"));
        fs::write(&path, &least.body).expect("the regression is written");
        let why = ask(binary, std::slice::from_ref(&least)).failures.pop().map(|failure| failure.why);
        writeln!(
            text,
            "\n{} (say why in the README there)\n  strip_scope {} strip_items {} shallow {} max_item_size {} budget {}\n  \
             came in {}\n    left  {}\n  {}",
            path.display(),
            least.strip_scope,
            least.strip_items,
            least.shallow,
            least.max_item_size,
            least.budget,
            hex(&least.body),
            hex(&gateway(&least).left),
            why.unwrap_or_default(),
        )
        .expect("a string takes all");
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Scenario: the folder of requests on which gateway and Collector once disagreed.
/// Guarantees: each of them has its line of why in the README there.
#[test]
fn regressions_are_explained() {
    let readme = fs::read_to_string(cases::folder("regressions/README.md")).expect("the README");
    for &signal in Signal::ALL {
        for (name, _) in cases::committed("regressions", signal) {
            assert!(readme.contains(&format!("`{name}.bin`")), "{name}.bin is not explained");
        }
    }
}
