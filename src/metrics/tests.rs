//! What operators rely on: names, labels, the bound on series, the text form.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{ItemRecord, Metrics, RequestRecord, table::TABLE};
use crate::config::check::{MAX_ENDPOINTS, MAX_LISTENERS, MAX_PROVIDERS};

/// As many as `Rejection` has labels, and the two good ones.
const OUTCOMES: [&str; 38] = [
    "ok", "partial", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q",
    "r", "s", "t", "u", "v", "w", "x", "y", "z", "A", "B", "C", "D", "E", "F", "G", "H", "I", "J",
];

/// Touches every metric with every value of its labels.
fn touch_all(metrics: &Metrics, listeners: usize) {
    let duration = Duration::from_millis(3);
    for listener in 0..listeners {
        let listener = format!("listener-{listener}");
        for outcome in OUTCOMES {
            for protocol in ["http_protobuf", "http_json", "grpc"] {
                metrics.request(RequestRecord {
                    listener: &listener,
                    signal: "traces",
                    protocol,
                    outcome,
                    duration,
                    body_bytes: Some(1000),
                });
            }
        }
        metrics.request(RequestRecord {
            listener: &listener,
            signal: "none",
            protocol: "none",
            outcome: "not_found",
            duration,
            body_bytes: None,
        });
        metrics.items(
            &listener,
            ItemRecord { forwarded: 7, oversize: 1, over_budget: 1, refused: 1, foreign: 1 },
        );
        metrics.connections(&listener, 1);
        for reason in ["tls", "http", "timeout", "accept", "full", "per_client", "proxy_header"] {
            metrics.connection_error(&listener, reason);
        }
    }
    metrics.in_flight_requests(2);
    metrics.in_flight_requests(-1);
    metrics.in_flight_bytes(100);
    metrics.in_flight_bytes_limit(100);
    metrics.overload_stage(1);
    for stage in ["strangers", "idle", "closed"] {
        metrics.overload_shed(stage, 1);
    }
    metrics.verdict("hit", "allow");
    for kind in ["positive", "negative", "bearer_positive", "bearer_negative"] {
        metrics.cache_entries(kind, 5);
        metrics.cache_size(kind, 5);
    }
    for kind in ["positive", "bearer_positive"] {
        metrics.cache_size(kind, 6);
    }
    for outcome in ["allow", "deny", "timeout", "unreachable", "throttled", "status", "bad_answer", "busy"] {
        metrics.authority_request(outcome, duration);
    }
    let issuers: Vec<_> = (0..2 * MAX_PROVIDERS).map(|index| format!("https://issuer-{index}")).collect();
    metrics.jwks_ages(issuers.iter().map(|issuer| (issuer.as_str(), duration)));
    for outcome in ["ok", "timeout", "unreachable", "status", "bad_answer"] {
        metrics.jwks_fetch(outcome);
    }
    for level in ["job", "runner", "project", "listener", "global"] {
        for unit in ["requests", "spans", "bytes"] {
            let limit: &'static str = Box::leak(format!("{level}_{unit}").into_boxed_str());
            metrics.limit_counts(limit).add([1; 3]);
        }
    }
    metrics.limit_store(true, 4);
    for outcome in ["ok", "timeout", "error"] {
        metrics.limit_store_request(outcome, duration);
    }
    metrics.limit_store_untold(2);
    metrics.limit_store_denial();
    for limit in ["job_span_budget", "client_failures", "client_in_flight"] {
        metrics.limit_counts(limit).add([1; 3]);
    }
    metrics.attributes_stripped(3);
    metrics.unknown_fields_dropped(4);
    for endpoint in 0..2 * MAX_ENDPOINTS {
        for outcome in
            ["ok", "refused", "too_large", "throttled", "unavailable", "timeout", "unreachable", "bad_answer"]
        {
            metrics.collector_request(endpoint, outcome, duration);
        }
    }
    metrics.collector_queued();
    metrics.collector_connections_limit(1024);
    metrics.config_reload("applied");
    for signal in ["traces", "metrics", "logs", "profiles"] {
        metrics.foreign_items(signal, 1);
    }
}

fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

/// Scenario: every metric is touched with every value of its labels, on more listeners and endpoints
/// than a configuration may have.
/// Guarantees: fewer than 2,000 series, and what is past the bound is still counted.
#[test]
fn the_number_of_series_is_bounded() {
    let metrics = Metrics::new();
    touch_all(&metrics, 3 * MAX_LISTENERS);
    let text = metrics.render();
    assert!(series(&text) < 2_000, "{} series", series(&text));
    assert!(text.contains("spangate_spans_total{listener=\"other\",outcome=\"forwarded\"} 140"), "{text}");
    assert!(text.contains("spangate_collector_requests_total{endpoint=\"16\",outcome=\"ok\"} 16"), "{text}");
}

/// Scenario: the output is compared with the table that docs/metrics.md is made of.
/// Guarantees: the same metrics, of the same kind, with the same labels, in both.
#[test]
fn the_output_is_what_the_table_says() {
    let metrics = Metrics::new();
    touch_all(&metrics, 1);
    let text = metrics.render();
    let mut kinds = BTreeMap::new();
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("name and kind");
            kinds.insert(name, kind);
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').expect("series and value");
            let (name, inside) = series.split_once('{').unwrap_or((series, ""));
            let keys = inside.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0));
            labels.entry(name).or_default().extend(keys.filter(|key| *key != "le"));
        }
    }
    assert_eq!(kinds.len(), TABLE.len(), "{kinds:?}");
    for row in TABLE {
        assert_eq!(kinds.get(row.registered()), Some(&row.kind), "{}", row.name);
        let sample =
            if row.kind == "histogram" { format!("{}_count", row.name) } else { row.name.to_owned() };
        let expected: BTreeSet<_> = row.labels.iter().map(|(name, _)| *name).collect();
        assert_eq!(labels.get(sample.as_str()), Some(&expected), "{sample}");
    }
    assert!(text.ends_with("# EOF\n"));
}

/// Scenario: a fresh registry, then single events.
/// Guarantees: each event moves its own series by its own amount, and only that one.
#[test]
fn events_move_their_own_series() {
    let metrics = Metrics::new();
    assert!(metrics.render().contains("spangate_config_reloads_total{outcome=\"refused\"} 0"));
    metrics.request(RequestRecord {
        listener: "runners",
        signal: "traces",
        protocol: "grpc",
        outcome: "partial",
        duration: Duration::from_millis(3),
        body_bytes: Some(5000),
    });
    metrics.items("runners", ItemRecord { forwarded: 30, over_budget: 2, ..ItemRecord::default() });
    metrics.in_flight_requests(1);
    metrics.connections("runners", 1);
    metrics.connections("runners", 1);
    metrics.connections("runners", -1);
    metrics.verdict("stale", "allow");
    metrics.config_reload("refused");
    metrics.connection_error("runners", "tls");
    let text = metrics.render();
    for line in [
        "spangate_requests_total{listener=\"runners\",signal=\"traces\",protocol=\"grpc\",outcome=\"partial\"} 1",
        "spangate_request_duration_seconds_bucket{le=\"0.0025\"} 0",
        "spangate_request_duration_seconds_bucket{le=\"0.005\"} 1",
        "spangate_request_body_bytes_sum 5000.0",
        "spangate_spans_total{listener=\"runners\",outcome=\"forwarded\"} 30",
        "spangate_spans_total{listener=\"runners\",outcome=\"budget\"} 2",
        "spangate_spans_total{listener=\"runners\",outcome=\"foreign\"} 0",
        "spangate_in_flight_requests 1",
        "spangate_connections{listener=\"runners\"} 1",
        "spangate_connection_errors_total{listener=\"runners\",reason=\"tls\"} 1",
        "spangate_connection_errors_total{listener=\"runners\",reason=\"full\"} 0",
        "spangate_verdicts_total{source=\"stale\",verdict=\"allow\"} 1",
        "spangate_verdicts_total{source=\"hit\",verdict=\"allow\"} 0",
        "spangate_config_reloads_total{outcome=\"refused\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.contains(concat!("gitlab_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\",built=")));
}

/// Scenario: the process's own figures are scraped.
/// Guarantees: they are there and plausible: started in the past, some memory, some open files.
#[test]
fn the_process_tells_of_itself() {
    let text = Metrics::new().render();
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect(name);
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    };
    let now = std::time::UNIX_EPOCH.elapsed().expect("a sane clock").as_secs_f64();
    let started = value("process_start_time_seconds");
    assert!(started <= now + 1.0 && started > now - 86_400.0, "{started} {now}");
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
    assert!(value("process_cpu_seconds_total") >= 0.0);
}

/// Scenario: many threads meet a listener for the first time at once.
/// Guarantees: no event is lost.
#[test]
fn a_listener_is_made_once() {
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    metrics.items("runners", ItemRecord { forwarded: 1, ..ItemRecord::default() });
                }
            });
        }
    });
    assert!(metrics.render().contains("outcome=\"forwarded\"} 800\n"));
}

/// Scenario: what one request does to the metrics, 20,000 times, in a debug build.
/// Guarantees: a bound so loose that only a mistake of kind (an allocation storm, a global lock held over
/// a scrape) breaks it.
#[test]
fn a_request_costs_little() {
    let metrics = Metrics::new();
    let limits = ["runner_requests", "job_requests", "job_spans", "job_bytes"]
        .map(|limit| metrics.limit_counts(limit));
    let begin = Instant::now();
    for _ in 0..20_000 {
        metrics.in_flight_requests(1);
        metrics.verdict("hit", "allow");
        for limit in &limits {
            limit.add([1, 0, 0]);
        }
        metrics.items("runners", ItemRecord { forwarded: 32, ..ItemRecord::default() });
        metrics.request(RequestRecord {
            listener: "runners",
            signal: "traces",
            protocol: "http_protobuf",
            outcome: "ok",
            duration: Duration::from_millis(1),
            body_bytes: Some(20_000),
        });
        metrics.in_flight_requests(-1);
    }
    let each = begin.elapsed() / 20_000;
    println!("metrics of one request: {each:?}");
    assert!(each < Duration::from_micros(200), "{each:?}");
}
