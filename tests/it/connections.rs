//! Many exports on one connection, as real exporters send them: what happens to one must not touch
//! the next, and a client can't have more than its share.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;

use crate::support::{
    answer::Refusal,
    authority::Script,
    client::{Export, Form, Wire},
    collector::Reply,
    job::Job,
    session::Session,
    spans,
    tls::TestTls,
    world::{World, eventually, loopback, unlimited},
};

/// Scenario: on one connection of each kind, good exports between refused ones: denied, malformed, foreign, undetermined, to nowhere.
/// Guarantees: each gets its own answer in order, and the connection stays usable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_leaves_the_connection_usable() {
    let tls = Arc::new(TestTls::new());
    let world = World::with(|config| {
        unlimited(config);
        config.traces.max_spans_per_job = 100_000;
        let mut secure = config.listeners[0].clone();
        secure.name = "secure".into();
        secure.address = loopback();
        secure.tls = Some(tls.listener());
        config.listeners.push(secure);
    })
    .await;
    let (job, denied, unknown) = (Job::new(1), Job::new(2), Job::new(3));
    world.authority.allow(&job);
    world.authority.know(&unknown, Script::status(500));
    let (clear, secure) = (world.address(), world.running.listener("secure").unwrap());
    for (form, wire, to) in [
        (Form::Protobuf, Wire::Http1, clear),
        (Form::Json, Wire::Http1, clear),
        (Form::Protobuf, Wire::TlsHttp1(Arc::clone(&tls)), secure),
        (Form::Json, Wire::H2c, clear),
        (Form::Grpc, Wire::H2c, clear),
        (Form::Grpc, Wire::TlsHttp2(Arc::clone(&tls)), secure),
    ] {
        let mut session = Session::open(&wire, to).await.unwrap();
        let request = spans::export(&job, 20);
        let good = Export::of(form, &job, &request);
        let mut foreign = request.clone();
        foreign.resource_spans[0].scope_spans[0].spans[19].trace_id = vec![9; 16];
        for _ in 0..3 {
            for (export, refusal) in [
                (Export::new(form, &request), Refusal::UNAUTHENTICATED),
                (Export::of(form, &denied, &request), Refusal::UNAUTHENTICATED),
                (Export::of(form, &unknown, &request), Refusal::UNAVAILABLE),
                (Export::of(form, &job, &foreign), Refusal::MALFORMED),
                (Export::raw(form, &b"\xff\xff"[..]).tokens(&job), Refusal::MALFORMED),
            ] {
                session.exchange(&export).await.unwrap().assert_refused(form, refusal);
                session.exchange(&good).await.unwrap().assert_accepted(form);
            }
        }
    }
}

/// Scenario: 100 exports of different outcomes at once on one HTTP/2 connection, while the collector is slow.
/// Guarantees: no answer is given to another's request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_do_not_mix() {
    let world = World::with(unlimited).await;
    let jobs: Vec<Job> = (0..100).map(Job::new).collect();
    for job in jobs.iter().step_by(2) {
        world.authority.allow(job);
    }
    world.collector.always(Reply::After(Duration::from_millis(50), Box::new(Reply::Accept)));
    let session = Session::open(&Wire::H2c, world.address()).await.unwrap();
    let exchanges = jobs.iter().enumerate().map(|(n, job)| {
        let mut session = session.share();
        let form = Form::ALL[n % 3];
        let export = Export::of(form, job, &spans::export(job, 3)).over(Wire::H2c);
        async move { (n, form, session.exchange(&export).await.unwrap()) }
    });
    for (n, form, answer) in join_all(exchanges).await {
        if n % 2 == 0 {
            answer.assert_accepted(form);
        } else {
            answer.assert_refused(form, Refusal::UNAUTHENTICATED);
        }
    }
    // Each accepted export arrived under its own job's identity.
    let mut arrived = Vec::new();
    for received in world.collector.received() {
        let request = received.request();
        let trace = spans::spans(&request)[0].trace_id.clone();
        let job = jobs.iter().find(|job| job.trace_id.as_slice() == trace).unwrap();
        spans::assert_stamped(job, &spans::export(job, 3), &request);
        arrived.push(job.job_id);
    }
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived.len(), 50);
}

/// Scenario: a client hangs up, by a reset or in the middle of its upload, many times, while the collector is slow.
/// Guarantees: nothing is held for it afterwards: no request, no byte and no connection stays counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_up_leaves_nothing_behind() {
    let world = World::with(unlimited).await;
    let job = Job::new(1);
    world.authority.allow(&job);
    world.collector.always(Reply::After(Duration::from_millis(300), Box::new(Reply::Accept)));
    let address = world.address();
    for n in 0..30 {
        let form = Form::ALL[n % 3];
        let export = Export::of(form, &job, &spans::export(&job, 5));
        let waiting = tokio::spawn(async move { export.try_send(address).await });
        tokio::time::sleep(Duration::from_millis(10)).await;
        waiting.abort();
        let mut upload = crate::early_answer::Upload::begin(address, &job, 100_000).await;
        upload.write(&vec![0; 50_000]).await;
        drop(upload);
    }
    let world = &world;
    for gauge in ["spangate_in_flight_requests", "spangate_in_flight_bytes"] {
        eventually(gauge, || async move { world.metrics().await.sum(gauge, &[]).abs() < 0.5 }).await;
    }
    eventually("only scrapes are connected", || async move {
        world.metrics().await.sum("spangate_connections", &[("listener", "runners")]).abs() < 0.5
    })
    .await;
    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
    world.send(&export).await.assert_accepted(Form::Protobuf);
}

/// Scenario: 20 silent connections where 10 are allowed; then some of them end.
/// Guarantees: those over the bound wait or are closed, nothing breaks, and a sender is served once there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded() {
    let world = World::with(|config| config.intake.max_connections = 10).await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(tokio::net::TcpStream::connect(world.address()).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let open = world.metrics().await.sum("spangate_connections", &[("listener", "runners")]);
    assert!(open <= 10.5, "{open} connections");
    drop(silent);
    let (world, export) = (&world, Export::of(Form::Protobuf, &job, &spans::export(&job, 1)));
    let export = &export;
    eventually("it is served", || async move {
        export.try_send(world.address()).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}
