//! How the real process obeys signals: on SIGTERM it leaves the load balancer first, then answers
//! what is open, then goes; a second one ends it at once. SIGHUP reads the configuration again.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use spangate::config::Config;
use tokio::task::JoinHandle;

use crate::support::{
    answer::Answer,
    authority::Authority,
    client::{Export, Form},
    collector::{Collector, Reply},
    job::Job,
    process::Spangate,
    spans,
    world::{Samples, config, eventually, get, text, try_get, unlimited},
};

/// Scenario: 50 exports wait for a slow collector when SIGTERM comes; another one comes while load balancers still learn of it.
/// Guarantees: readiness says no first, every export is answered, and the exit code is 0 before the deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_loses_nothing() {
    let (authority, collector) = (Authority::start().await, Collector::http().await);
    let job = Job::new(1);
    authority.allow(&job);
    collector.always(Reply::After(Duration::from_millis(2500), Box::new(Reply::Accept)));
    let mut config = config(&authority.url(), &collector.url());
    unlimited(&mut config);
    // Longer than the collector needs, however loaded the machine is: this test is about the end.
    config.intake.deadline = Duration::from_secs(15);
    config.collector.timeout = Duration::from_secs(14);
    config.shutdown.delay = Duration::from_secs(1);
    config.shutdown.deadline = Duration::from_secs(20);
    let mut spangate = Spangate::start(&config).await;
    let address = spangate.address();
    let admin = spangate.admin();
    eventually("it is ready", || async move { get(admin, "/-/readiness").await.status == 200 }).await;

    let exports: Vec<Export> =
        (0..50).map(|n| Export::of(Form::ALL[n % 3], &job, &spans::export(&job, 1))).collect();
    let open =
        tokio::spawn(async move { join_all(exports.iter().map(|export| export.try_send(address))).await });
    eventually("all are open", || async { collector.count() == 50 }).await;
    let asked = Instant::now();
    spangate.terminate();
    eventually("readiness says no", || async move {
        try_get(admin, "/-/readiness").await.is_ok_and(|answer| answer.status == 503)
    })
    .await;
    assert_eq!(get(admin, "/-/liveness").await.status, 200, "draining is not dying");
    // On a machine that is too busy to come here within the delay, a new connection may be refused.
    let late = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
    let late = late.try_send(address);
    let in_time = asked.elapsed() < Duration::from_millis(500);

    let late = late.await;
    if in_time {
        late.expect("it serves on for the delay").assert_accepted(Form::Protobuf);
    }
    for (n, answer) in open.await.unwrap().into_iter().enumerate() {
        answer
            .unwrap_or_else(|problem| panic!("export {n} lost: {problem}"))
            .assert_accepted(Form::ALL[n % 3]);
    }
    let status = spangate.ended(Duration::from_secs(20)).await.expect("an end");
    assert_eq!(status.code(), Some(0), "{}", spangate.output());
    assert!(asked.elapsed() < Duration::from_secs(20));
}

/// A real process with one export open, which the collector never answers.
async fn hanging(
    form: Form,
    change: impl FnOnce(&mut Config),
) -> (Spangate, JoinHandle<Result<Answer, String>>, (Authority, Collector)) {
    let (authority, collector) = (Authority::start().await, Collector::http().await);
    let job = Job::new(1);
    authority.allow(&job);
    collector.always(Reply::Hang);
    let mut config = config(&authority.url(), &collector.url());
    config.intake.deadline = Duration::from_mins(1);
    config.collector.timeout = Duration::from_mins(1);
    change(&mut config);
    let spangate = Spangate::start(&config).await;
    let export = Export::of(form, &job, &spans::export(&job, 1));
    let address = spangate.address();
    let open = tokio::spawn(async move { export.try_send(address).await });
    eventually("it is open", || async { collector.count() == 1 }).await;
    (spangate, open, (authority, collector))
}

/// Scenario: SIGTERM with a delay of 30 s and an export that hangs; then a second SIGTERM.
/// Guarantees: the first one is no end, the second one is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once() {
    let (mut spangate, open, _fakes) = hanging(Form::Protobuf, |config| {
        config.shutdown.delay = Duration::from_secs(30);
        config.shutdown.deadline = Duration::from_mins(1);
    })
    .await;
    spangate.terminate();
    let admin = spangate.admin();
    eventually("readiness says no", || async move {
        try_get(admin, "/-/readiness").await.is_ok_and(|answer| answer.status == 503)
    })
    .await;
    assert!(spangate.ended(Duration::from_millis(500)).await.is_none(), "{}", spangate.output());
    spangate.terminate();
    assert!(spangate.ended(Duration::from_secs(10)).await.is_some(), "{}", spangate.output());
    assert!(open.await.unwrap().is_err(), "an answer from nowhere");
}

/// Scenario: the deadline comes while an export hangs.
/// Guarantees: it is cut; the process does not outlive `shutdown.deadline`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_cuts() {
    let (mut spangate, open, _fakes) =
        hanging(Form::Grpc, |config| config.shutdown.deadline = Duration::from_secs(1)).await;
    spangate.terminate();
    assert!(spangate.ended(Duration::from_secs(10)).await.is_some(), "{}", spangate.output());
    drop(open.await.unwrap());
}

/// Scenario: the configuration file is changed for another collector, then broken; SIGHUP each time, under a steady flow of exports.
/// Guarantees: a good file takes effect, a bad one is refused with a reason in the log, and no export is lost at either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reloads_a_good_file_only() {
    let authority = Authority::start().await;
    let (first, second) = (Collector::http().await, Collector::http().await);
    let job = Job::new(1);
    authority.allow(&job);
    let mut config = config(&authority.url(), &first.url());
    unlimited(&mut config);
    let mut spangate = Spangate::start(&config).await;
    let address = spangate.address();
    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
    let flow = export.clone();
    let flow = tokio::spawn(async move {
        let mut answered = 0;
        loop {
            flow.send(address).await.partial(Form::Protobuf);
            answered += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
            if answered == 300 {
                return answered;
            }
        }
    });
    eventually("the first one is served", || async { first.count() > 0 }).await;
    config.collector.endpoints = vec![second.url()];
    spangate.rewrite(&serde_json::to_string(&config).unwrap());
    spangate.signal("HUP");
    eventually("the second one is served", || async { second.count() > 0 }).await;
    spangate.rewrite("listeners: [{ name: runners, no_such_key: 1 }]\n");
    spangate.signal("HUP");
    let admin = spangate.admin();
    eventually("the bad file is refused", || async move {
        let metrics = Samples(text(&get(admin, "/metrics").await));
        metrics.sum("spangate_config_reloads_total", &[("outcome", "refused")]) > 0.5
    })
    .await;
    // The log is written after the count, and read by a thread of its own.
    eventually("the reason is told", || async { spangate.output().contains("no_such_key") }).await;
    let before = (first.count(), second.count());
    export.send(address).await.assert_accepted(Form::Protobuf);
    assert_eq!(first.count(), before.0, "the old collector is still used");
    assert!(second.count() > before.1);
    assert_eq!(flow.await.unwrap(), 300);
    assert_eq!(first.count() + second.count(), 301, "an export was lost or sent twice");
    spangate.terminate();
    assert_eq!(spangate.ended(Duration::from_secs(20)).await.unwrap().code(), Some(0));
}
