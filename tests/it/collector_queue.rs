//! More exports at once than `collector.max_connections`: what the collector sees of them, and what their senders get.

use std::time::Duration;

use futures_util::future::join_all;
use spangate::config::Config;

use crate::support::{
    answer::Refusal,
    authority::Authority,
    client::{Export, Form},
    collector::{Collector, Reply},
    job::Job,
    process::Spangate,
    spans,
    world::{self, Samples, eventually, get, text, unlimited},
};

/// Exports that may be under way.
const MOST: usize = 8;

async fn metrics(spangate: &Spangate) -> Samples {
    Samples(text(&get(spangate.admin(), "/metrics").await))
}

fn config(authority: &Authority, collector: &Collector) -> Config {
    let mut config = world::config(&authority.url(), &collector.url());
    unlimited(&mut config);
    config.traces.max_spans_per_job = 100_000;
    config.gitlab.timeout = Duration::from_secs(1);
    config.intake.deadline = Duration::from_secs(2);
    config.collector.max_connections = MOST;
    config
}

/// Scenario: the real process, a collector that hangs, and 50 exports at once in each form, of which eight may be under way;
/// then 50 whose senders hang up; then the collector answers.
/// Guarantees: the collector never has more connections than are reckoned with; every sender is told to try again, those whose
/// turn never came with the key's name; no place is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_collector_has_a_bounded_number_of_connections() {
    let (authority, collector, job) = (Authority::start().await, Collector::http().await, Job::new(1));
    authority.allow(&job);
    let spangate = Spangate::start(&config(&authority, &collector)).await;
    let export = |form| Export::of(form, &job, &spans::export(&job, 1));
    // The tokens are known from here on.
    export(Form::Protobuf).send(spangate.address()).await.assert_accepted(Form::Protobuf);
    collector.always(Reply::Hang);
    for form in Form::ALL {
        let counted = async |outcome: &str| {
            metrics(&spangate).await.sum("spangate_requests_total", &[("outcome", outcome)])
        };
        let before = (counted("collector_queue").await, counted("collector_timeout").await);
        let export = export(form);
        let answers = join_all((0..50).map(|_| export.send(spangate.address()))).await;
        let (mut in_vain, mut too_slow) = (0_u32, 0_u32);
        for answer in &answers {
            if answer.rpc_status(form).message.contains("collector.max_connections") {
                answer.assert_refused(form, Refusal::UNAVAILABLE);
                in_vain += 1;
            } else {
                answer.assert_refused(form, Refusal::TOO_SLOW);
                too_slow += 1;
            }
        }
        assert_eq!(in_vain + too_slow, 50);
        assert!(in_vain > 0 && too_slow >= u32::try_from(MOST).unwrap(), "{in_vain}, {too_slow}");
        let after = (counted("collector_queue").await, counted("collector_timeout").await);
        let fits = |after: f64, before: f64, told: u32| (after - before - f64::from(told)).abs() < 0.5;
        assert!(
            fits(after.0, before.0, in_vain) && fits(after.1, before.1, too_slow),
            "{before:?}, {after:?}"
        );
    }
    let unanswered = export(Form::Protobuf);
    let hang_up = tokio::time::timeout(
        Duration::from_millis(300),
        join_all((0..50).map(|_| unanswered.try_send(spangate.address()))),
    );
    assert!(hang_up.await.is_err(), "an answer came of a collector that hangs");
    assert!((MOST..=2 * MOST).contains(&collector.peak()), "{} connections", collector.peak());
    collector.always(Reply::Accept);
    for _ in 0..2 * MOST {
        export(Form::Grpc).send(spangate.address()).await.assert_accepted(Form::Grpc);
    }
    eventually("nothing is under way", || async {
        metrics(&spangate).await.sum("spangate_in_flight_requests", &[]).abs() < 0.5
    })
    .await;
    assert!(metrics(&spangate).await.sum("spangate_collector_queued_total", &[]) >= 3.0 * 42.0);
    assert!(
        spangate.output().contains("all connections to collectors (collector.max_connections"),
        "the log says why"
    );
}

/// Scenario: 50 exports at once of which eight may be under way, to a collector that takes its time.
/// Guarantees: all of them pass: to wait for a turn is no refusal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_turn_passes() {
    let (authority, collector, job) = (Authority::start().await, Collector::http().await, Job::new(1));
    authority.allow(&job);
    let mut config = config(&authority, &collector);
    config.intake.deadline = Duration::from_secs(20);
    let spangate = Spangate::start(&config).await;
    collector.always(Reply::After(Duration::from_millis(100), Box::new(Reply::Accept)));
    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
    for answer in join_all((0..50).map(|_| export.send(spangate.address()))).await {
        answer.assert_accepted(Form::Protobuf);
    }
    assert_eq!(collector.count(), 50);
    assert!((MOST..=2 * MOST).contains(&collector.peak()), "{} connections", collector.peak());
}

/// Scenario: one export may be under way, and a collector hangs over it; a job with a budget of ten spans sends ten and hangs
/// up while they wait for their turn; then the collector answers, and the job sends them again.
/// Guarantees: the budget is whole: what was sent to nobody costs nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_up_in_the_queue_gets_the_budget_back() {
    let (authority, collector) = (Authority::start().await, Collector::http().await);
    let (other, job) = (Job::new(1), Job::new(2));
    authority.allow(&other);
    authority.allow(&job);
    let mut config = config(&authority, &collector);
    config.traces.max_spans_per_job = 10;
    config.collector.max_connections = 1;
    config.collector.timeout = Duration::from_secs(10);
    config.intake.deadline = Duration::from_secs(20);
    let spangate = Spangate::start(&config).await;
    collector.always(Reply::Hang);
    let whole = |job: &Job, count| Export::of(Form::Protobuf, job, &spans::export(job, count));
    let to = spangate.address();
    let send = |export: Export| tokio::spawn(async move { export.try_send(to).await.is_ok() });
    let under_way = send(whole(&other, 1));
    eventually("the other export is under way", || async { collector.peak() == 1 }).await;
    let waits = send(whole(&job, 10));
    eventually("the job's export waits", || async {
        metrics(&spangate).await.sum("spangate_collector_queued_total", &[]) > 0.5
    })
    .await;
    for hangs_up in [waits, under_way] {
        hangs_up.abort();
        assert!(hangs_up.await.unwrap_err().is_cancelled(), "an answer came of a collector that hangs");
    }
    eventually("nothing is under way", || async {
        metrics(&spangate).await.sum("spangate_in_flight_requests", &[]).abs() < 0.5
    })
    .await;
    collector.always(Reply::Accept);
    whole(&job, 10).send(to).await.assert_accepted(Form::Protobuf);
    assert!(metrics(&spangate).await.sum("spangate_spans_total", &[("outcome", "budget")]).abs() < 0.5);
}
