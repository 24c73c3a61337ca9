//! The operator's listener: metrics with closed labels, probes that don't depend on others. And
//! reloads, which an operator asks for on the same running process.

use std::time::Duration;

use crate::support::{
    answer::Refusal,
    authority::Script,
    client::{Export, Form},
    collector::{Collector, Reply},
    job::Job,
    server::Refusing,
    spans,
    world::{World, get, text},
};

/// Scenario: probes while all is well, and while neither authority nor collector can be reached.
/// Guarantees: both say yes each time: a warm cache still serves, and all replicas must not leave at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_do_not_depend_on_others() {
    let nobody = Refusing::new();
    let down = World::with(|config| {
        config.gitlab.url = nobody.url();
        config.collector.endpoints = vec![nobody.url()];
    })
    .await;
    for world in [World::start().await, down] {
        for path in ["/-/liveness", "/-/readiness"] {
            assert_eq!(get(world.running.admin(), path).await.status, 200, "{path}");
        }
        assert_eq!(get(world.running.admin(), "/nothing/here").await.status, 404);
        let job = Job::new(1);
        let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
        let answer = export.send(world.running.admin()).await;
        assert!([404, 405].contains(&answer.status), "exports on the operator's listener: {answer:?}");
        assert_eq!(get(world.address(), "/metrics").await.status, 404, "no metrics on the runners' listener");
    }
}

/// Scenario: accepted, partial, denied and undetermined exports, then a scrape.
/// Guarantees: each is counted under its outcome; no token, job, project or runner is a label; few series.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_and_name_nobody() {
    let world = World::start().await;
    let (job, stranger, third) = (Job::new(1), Job::new(2), Job::new(3));
    world.authority.allow(&job);
    for form in Form::ALL {
        world.send(&Export::of(form, &job, &spans::export(&job, 2))).await.assert_accepted(form);
        world.send(&Export::of(form, &stranger, &spans::export(&stranger, 2))).await;
    }
    world.collector.next(Reply::Partial { rejected: 1, message: "no" });
    world.send(&Export::of(Form::Protobuf, &job, &spans::export(&job, 2))).await.partial(Form::Protobuf);
    world.authority.always(Script::status(500));
    let answer = world.send(&Export::of(Form::Protobuf, &third, &spans::export(&third, 2))).await;
    answer.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);

    let scrape = get(world.running.admin(), "/metrics").await;
    assert_eq!(scrape.status, 200);
    let content_type = scrape.header("content-type").unwrap();
    let forms = ["text/plain", "application/openmetrics-text"];
    assert!(forms.iter().any(|form| content_type.starts_with(form)), "{content_type}");
    let metrics = world.metrics().await;
    let requests = |labels: &[(&str, &str)]| metrics.sum("spangate_requests_total", labels).round();
    let close = |value: f64, wanted: f64| (value - wanted).abs() < 0.5;
    assert!(close(requests(&[("listener", "runners")]), 8.0), "{}", metrics.0);
    assert!(close(requests(&[("outcome", "ok")]), 3.0), "{}", metrics.0);
    assert!(close(requests(&[("outcome", "partial")]), 1.0), "{}", metrics.0);
    assert!(close(requests(&[("signal", "traces"), ("protocol", "grpc")]), 2.0), "{}", metrics.0);
    let asked = |outcome| metrics.sum("spangate_authority_requests_total", &[("outcome", outcome)]);
    assert!(
        close(asked("allow"), 1.0) && close(asked("deny"), 1.0) && close(asked("status"), 1.0),
        "{}",
        metrics.0
    );
    let hits = metrics.sum("spangate_verdicts_total", &[("source", "hit"), ("verdict", "allow")]);
    assert!(close(hits, 3.0), "{}", metrics.0);
    for (kind, entries) in [("positive", 1.0), ("negative", 1.0)] {
        assert!(close(metrics.sum("spangate_cache_entries", &[("kind", kind)]), entries), "{}", metrics.0);
    }
    assert!(metrics.sum("spangate_spans_total", &[("outcome", "forwarded")]) > 6.5, "{}", metrics.0);
    assert!(close(metrics.sum("spangate_build_info", &[]), 1.0), "{}", metrics.0);
    for job in [&job, &stranger, &third] {
        for secret in [&job.runner_token, &job.job_token, &job.trace_hex(), &job.job_id.to_string()] {
            assert!(!metrics.0.contains(secret.as_str()), "a label names a sender");
        }
    }
    let series = metrics.0.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 2000, "{series} series");
}

/// Scenario: a reload to another collector and stricter rules while an export is open; then one with a file that isn't there.
/// Guarantees: new exports follow the new settings with the verdicts that are known; the open one ends under the old; a bad reload changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_swaps_all_or_nothing() {
    let world = World::start().await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
    world.send(&export).await.assert_accepted(Form::Protobuf);
    world.collector.next(Reply::After(Duration::from_secs(1), Box::new(Reply::Accept)));
    let (address, open) = (world.address(), export.clone());
    let open = tokio::spawn(async move { open.send(address).await });
    crate::support::world::eventually("it is open", || async { world.collector.count() == 2 }).await;

    let other = Collector::http().await;
    let mut config = world.config.clone();
    config.collector.endpoints = vec![other.url()];
    config.gitlab.max_concurrency = 128;
    config.cache.stale_if_error = Duration::from_secs(30);
    config.attributes.protected.keys.push("custom.key".into());
    world.running.reload(&config).expect("a good configuration");
    world.send(&export).await.assert_accepted(Form::Protobuf);
    assert_eq!((world.collector.count(), other.count()), (2, 1));
    open.await.unwrap().assert_accepted(Form::Protobuf);
    assert_eq!(world.authority.count(), 1, "verdicts outlive a reload");

    config.gitlab.secret_file = "/nonexistent/spangate/secret".into();
    let problem = world.running.reload(&config).unwrap_err().to_string();
    assert!(problem.contains("/nonexistent/spangate/secret"), "{problem}");
    world.send(&export).await.assert_accepted(Form::Protobuf);
    assert_eq!(other.count(), 2);
}

/// Scenario: the gateway is drained in process while an export is open.
/// Guarantees: the export ends by itself, drain says so, and the port is free afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_waits_for_open_exports() {
    let world = World::start().await;
    let job = Job::new(1);
    world.authority.allow(&job);
    world.collector.always(Reply::After(Duration::from_millis(700), Box::new(Reply::Accept)));
    let export = Export::of(Form::Grpc, &job, &spans::export(&job, 1));
    let address = world.address();
    let open = tokio::spawn(async move { export.send(address).await });
    let World { running, collector, .. } = world;
    crate::support::world::eventually("it is open", || async { collector.count() == 1 }).await;
    assert!(running.drain().await, "everything ended by itself");
    open.await.unwrap().assert_accepted(Form::Grpc);
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "a port that still listens");
}

/// Scenario: the text of a scrape.
/// Guarantees: each family has one HELP and one TYPE, and no sample comes without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_is_well_formed() {
    let world = World::start().await;
    let scrape = text(&get(world.running.admin(), "/metrics").await);
    let families = |kind: &str| -> Vec<String> {
        let lines = scrape.lines().filter_map(|line| line.strip_prefix(kind)?.split(' ').next());
        lines.map(str::to_owned).collect()
    };
    let (help, types) = (families("# HELP "), families("# TYPE "));
    assert!(types.len() > 10, "{scrape}");
    assert_eq!(help, types);
    let mut unique = types.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), types.len());
    for line in scrape.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(types.iter().any(|family| name.starts_with(family.as_str())), "{line}");
    }
}
