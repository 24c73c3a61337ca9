//! Limits that several gateway processes share through a real Redis: one limit for all of them, what becomes of it
//! while the store hangs or is gone, and what else they tell each other. Without redis-server these tests say so
//! and end; in CI they fail.

mod cluster;
mod fleet;
mod sentinel;

use std::time::Duration;

use spangate::config::Mode;

use crate::support::{
    answer::Refusal,
    authority::Script,
    client::{Export, Form},
    job::Job,
    redis::Redis,
    spans,
    world::eventually,
};

use self::fleet::{Fleet, Load};

/// Requests a second of the one job that all replicas together may take.
const LIMIT: u32 = 50;

/// Scenario: four processes are asked for one job's requests at more than twice its limit together, evenly, then mostly
/// on one of them.
/// Guarantees: in steady state all together admit the limit within 10 %, wherever the requests come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_hold_one_limit() {
    let Some(fleet) = Fleet::start(4, |config| config.limits.per_job.requests_per_second = LIMIT).await
    else {
        return;
    };
    for shares in [[30, 30, 30, 30], [90, 10, 10, 10]] {
        let load = Load::start(&fleet, &fleet.job, shares);
        // The burst of two seconds' worth is used up meanwhile.
        load.during(Duration::from_secs(3)).await;
        let seen = load.during(Duration::from_secs(6)).await;
        println!("steady, {shares:?} requests/s offered: {seen}");
        seen.assert_only_limited();
        let wanted = f64::from(LIMIT);
        assert!((wanted * 0.9..=wanted * 1.1).contains(&seen.admitted_per_second()), "{seen}");
        load.stop().await;
    }
}

/// Scenario: under that load the store hangs (SIGSTOP) for some seconds and goes on; then it is killed and comes back
/// empty.
/// Guarantees: no request fails or waits for the store; each replica keeps to its share, so all together neither stop nor
/// pass more than the limit allows; metrics and log say so; afterwards all share one limit again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_hangs_or_dies_stops_nobody() {
    let Some(mut fleet) = Fleet::start(4, |config| config.limits.per_job.requests_per_second = LIMIT).await
    else {
        return;
    };
    let wanted = f64::from(LIMIT);
    let load = Load::start(&fleet, &fleet.job, [30; 4]);
    load.during(Duration::from_secs(3)).await;
    let before = load.during(Duration::from_secs(2)).await;
    println!("before: {before}");
    for trouble in ["hangs", "is gone"] {
        if trouble == "hangs" {
            fleet.redis[0].signal("STOP");
        } else {
            fleet.redis[0].kill();
        }
        let first = load.during(Duration::from_secs(1)).await;
        fleet.all_up(false).await;
        let alone = load.during(Duration::from_secs(4)).await;
        println!("the store {trouble}: first second {first}; then {alone}");
        for seen in [&first, &alone] {
            seen.assert_only_limited();
            seen.assert_not_slower_than(&before);
        }
        // Each may have had up to its own full rate until it noticed.
        assert!(first.admitted_per_second() <= wanted * 2.5, "{first}");
        assert!((wanted * 0.7..=wanted * 1.2).contains(&alone.admitted_per_second()), "{alone}");
        if trouble == "hangs" {
            fleet.redis[0].signal("CONT");
        } else {
            fleet.redis[0].restart();
        }
        fleet.all_up(true).await;
        load.during(Duration::from_secs(3)).await;
        let after = load.during(Duration::from_secs(4)).await;
        println!("after it {trouble}: {after}");
        after.assert_only_limited();
        assert!((wanted * 0.85..=wanted * 1.15).contains(&after.admitted_per_second()), "{after}");
    }
    load.stop().await;
    let log = fleet.gateways[0].output();
    assert_eq!(log.matches("this replica goes on with its share").count(), 2, "{log}");
    assert_eq!(log.matches("limits are shared").count(), 3, "{log}");
}

/// Scenario: a job sends through one replica, then through a second that has never seen it: until its budget of spans is
/// used up, and until its burst of requests is.
/// Guarantees: what the second one grants is what the first one left, from its first request on; no key in the store shows
/// a token, a job or a project.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_new_here_is_known_elsewhere() {
    let fleet = Fleet::start(2, |config| {
        config.traces.max_spans_per_job = 100;
        config.limits.per_job.requests_per_second = 1;
        config.limits.per_job.burst = Duration::from_secs(3);
    });
    let Some(fleet) = fleet.await else { return };
    let export = |job: &Job, count| Export::of(Form::Protobuf, job, &spans::export(job, count));
    let [first, second] = [0, 1].map(|replica| fleet.gateways[replica].address());
    export(&fleet.job, 70).send(first).await.assert_accepted(Form::Protobuf);
    fleet.flushed().await;
    let (rejected, _) = export(&fleet.job, 70).send(second).await.partial(Form::Protobuf);
    assert_eq!(rejected, 40);

    let job = Job::new(2);
    fleet.authority.allow(&job);
    for _ in 0..3 {
        export(&job, 1).send(first).await.assert_accepted(Form::Protobuf);
    }
    fleet.flushed().await;
    export(&job, 1).send(second).await.assert_refused(Form::Protobuf, Refusal::RATE_LIMITED);

    let kept = fleet.redis[0].ask("KEYS *");
    let keys: Vec<_> = kept.lines().filter(|line| line.starts_with("spangate:{")).collect();
    assert!(keys.len() > 4, "{kept}");
    for told in [&job.runner_token, &job.job_token, &job.job_id.to_string(), &job.project_id.to_string()] {
        assert!(!kept.contains(told.as_str()), "{told} in {kept}");
    }
}

/// Scenario: one replica is told "no" about a bad pair; a second is asked about it, about another bad one, and goes on with a
/// pair that it knows to be good when the first is told "no" about that one too.
/// Guarantees: the authority is not asked twice about the bad pair; the good one is served on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denials_are_shared() {
    let Some(fleet) = Fleet::start(2, |_| ()).await else { return };
    let export = |job: &Job| Export::of(Form::Protobuf, job, &spans::export(job, 1));
    let [first, second] = [0, 1].map(|replica| fleet.gateways[replica].address());
    let (bad, other) = (Job::new(7), Job::new(8));
    export(&bad).send(first).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    fleet.flushed().await;
    let asked = fleet.authority.count();
    export(&bad).send(second).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    assert_eq!(fleet.authority.count(), asked);
    export(&other).send(second).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    assert_eq!(fleet.authority.count(), asked + 1);
    assert!(fleet.metrics(1).await.sum("spangate_limit_store_denials_total", &[]) > 0.5);

    export(&fleet.job).send(second).await.assert_accepted(Form::Protobuf);
    fleet.authority.know(&fleet.job, Script::status(401));
    export(&fleet.job).send(first).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    fleet.flushed().await;
    export(&fleet.job).send(second).await.assert_accepted(Form::Protobuf);
}

/// Scenario: the store wants another password than the one in the file; a gateway starts, serves and is asked for its
/// metrics and its configuration.
/// Guarantees: it is ready and serves as if there was no store, says what is wrong, and shows no password anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_not_shown() {
    let Some(redis) = Redis::start(&["--requirepass", "right-Passw0rd"]) else { return };
    let url = format!("redis://:wrong-Passw0rd@127.0.0.1:{}/0", redis.port());
    let fleet = Fleet::around(vec![redis], &url, 1, |config| config.limits.per_runner.mode = Mode::Off).await;
    fleet.all_up(false).await;
    let export = Export::of(Form::Protobuf, &fleet.job, &spans::export(&fleet.job, 1));
    let (address, admin) = (fleet.gateways[0].address(), fleet.gateways[0].admin());
    export.send(address).await.assert_accepted(Form::Protobuf);
    assert_eq!(crate::support::world::get(admin, "/-/readiness").await.status, 200);
    let fleet = &fleet;
    eventually(
        "the log says so",
        || async move { fleet.gateways[0].output().contains("goes on with its share") },
    )
    .await;
    let metrics = fleet.metrics(0).await;
    for shown in [fleet.gateways[0].output(), metrics.0, fleet.shown().await] {
        assert!(!shown.contains("Passw0rd"), "{shown}");
    }
}
