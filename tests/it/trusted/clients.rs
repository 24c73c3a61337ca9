//! Who may come in with a certificate, and who may not.

use std::{sync::Arc, time::Duration};

use rcgen::ExtendedKeyUsagePurpose;
use spangate::config::Mode;

use super::{RAILS, RAILS_SAN, ROUTER, ROUTER_SAN, client, export, services, with_clients};
use crate::support::{
    answer::Refusal,
    client::{Export, Form, Wire},
    job::Job,
    logs::Captured,
    session::Session,
    tls::{Shown, TestTls},
    world::eventually,
};

/// The ways in over TLS.
fn ways(tls: &Arc<TestTls>) -> [(Form, Wire); 4] {
    [
        (Form::Protobuf, Wire::TlsHttp1(Arc::clone(tls))),
        (Form::Json, Wire::TlsHttp1(Arc::clone(tls))),
        (Form::Protobuf, Wire::TlsHttp2(Arc::clone(tls))),
        (Form::Grpc, Wire::TlsHttp2(Arc::clone(tls))),
    ]
}

/// Scenario: a client known by a URI and one known by a DNS name, in every form; with tokens and other credentials in their headers, good and bad.
/// Guarantees: their spans arrive as they are, of any trace; GitLab is asked nothing, and no credential goes on (the fake collector looks).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_clients_come_in_as_they_are() {
    let tls = TestTls::new();
    let world = with_clients(&tls, |_| {}).await;
    let job = Job::new(1);
    for (san, name) in [(RAILS_SAN, RAILS), (ROUTER_SAN, ROUTER), ("Router.GITLAB.svc", RAILS)] {
        let sent = export(name);
        for (form, wire) in ways(&tls.named(san)) {
            let plain = Export::new(form, &sent).over(wire);
            let half = plain.clone().header("job-token", "!").header("authorization", "Bearer x.y.z");
            for export in [plain.clone(), plain.clone().tokens(&job), half] {
                export.send(services(&world)).await.assert_accepted(form);
                assert_eq!(world.collector.received().pop().unwrap().request(), sent);
            }
        }
    }
    assert_eq!(world.authority.count(), 0);
}

/// Scenario: a client whose certificate is good but whose name nobody knows, more often than one address may fail; then a known one.
/// Guarantees: 403 each time in the client's own form, its names in the log for the operator, and nobody is locked out.
#[tokio::test]
async fn unknown_names_are_told_to_the_operator() {
    let captured = Captured::start();
    let tls = TestTls::new();
    let world = with_clients(&tls, |config| config.limits.per_client_failures.per_minute = 1).await;
    for san in ["spiffe://example.org/ns/gitlab/sa/other", "rails.gitlab.svc"] {
        for (form, wire) in ways(&tls.named(san)) {
            let answer = Export::new(form, &export(RAILS)).over(wire).send(services(&world)).await;
            let sentence = answer.assert_refused(form, Refusal::FORBIDDEN);
            assert!(!sentence.contains(san), "{sentence}");
        }
        let told = captured.text();
        let line = told.lines().find(|line| line.contains(san)).expect("a line with the name");
        assert!(line.contains("client_names=") && line.contains("unknown_client"), "{line}");
    }
    let known = Export::new(Form::Protobuf, &export(RAILS)).over(Wire::TlsHttp1(tls.named(RAILS_SAN)));
    known.send(services(&world)).await.assert_accepted(Form::Protobuf);
    assert!(captured.text().contains(&format!("client=\"{RAILS_SAN}\"")), "no sender in the access line");
    let labels = [("listener", "services"), ("outcome", "unknown_client")];
    assert!((world.metrics().await.sum("spangate_requests_total", &labels) - 8.0).abs() < 0.1);
    assert_eq!(world.collector.count(), 1);
}

/// Scenario: no certificate; one that has ended, one that has not begun, one for servers, one of another authority, one that signed itself: all with a known name.
/// Guarantees: none gets a connection; each is counted as trouble with TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_certificates_get_no_connection() {
    let (tls, other) = (TestTls::new(), TestTls::new());
    let world = with_clients(&tls, |_| {}).await;
    let bad = [
        Arc::new(tls.clone()),
        tls.showing(tls.issue(RAILS_SAN, |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        })),
        tls.showing(tls.issue(RAILS_SAN, |params| params.not_before = rcgen::date_time_ymd(2090, 1, 1))),
        tls.showing(tls.issue(RAILS_SAN, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })),
        tls.showing(other.issue(RAILS_SAN, |_| {})),
        tls.showing(Shown::self_signed(RAILS_SAN)),
    ];
    for tls in &bad {
        for (form, wire) in ways(tls) {
            let met = Export::new(form, &export(RAILS)).over(wire).try_send(services(&world)).await;
            assert!(met.is_err(), "{met:?}");
        }
    }
    let (world, expected) = (&world, 4.0 * 6.0);
    eventually("each is counted", || async move {
        let labels = [("listener", "services"), ("reason", "tls")];
        (world.metrics().await.sum("spangate_connection_errors_total", &labels) - expected).abs() < 0.1
    })
    .await;
    assert_eq!((world.collector.count(), world.authority.count()), (0, 0));
}

/// Scenario: the rates and the budget of jobs are as tight as can be; then a client sends more than a runner may.
/// Guarantees: what holds for jobs holds for no service; the rate of runners holds for each client by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_those_of_a_runner() {
    let tls = TestTls::new();
    let world = with_clients(&tls, |config| {
        config.traces.max_spans_per_job = 1;
        config.limits.per_job.requests_per_second = 1;
        config.limits.per_job.spans_per_second = 1;
        config.limits.per_runner.requests_per_second = 5;
        config.limits.per_runner.burst = Duration::from_secs(1);
    })
    .await;
    let send = async |san: &str| {
        let export = Export::new(Form::Protobuf, &export(RAILS)).over(Wire::TlsHttp1(tls.named(san)));
        export.send(services(&world)).await
    };
    for _ in 0..4 {
        send(RAILS_SAN).await.assert_accepted(Form::Protobuf);
    }
    // The rate gives back while it is used up, so not every one of these is refused.
    let mut refused = 0;
    for _ in 0..20 {
        let answer = send(RAILS_SAN).await;
        if answer.status != 200 {
            answer.assert_refused(Form::Protobuf, Refusal::RATE_LIMITED);
            refused += 1;
        }
    }
    assert!(refused > 0, "no rate at all");
    send(ROUTER_SAN).await.assert_accepted(Form::Protobuf);
}

/// Scenario: a client's connection is open; a reload takes its name out and puts another one in; then one takes another authority for clients; then one would make the listener one for tokens.
/// Guarantees: names change at once, the authority for new connections, and what kind of listener it is not before a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_takes_effect() {
    let (tls, other) = (TestTls::new(), TestTls::new());
    let world = with_clients(&tls, |config| config.limits.per_runner.mode = Mode::Off).await;
    let form = Form::Protobuf;
    let sent = Export::new(form, &export(RAILS));
    let (rails, router) = (Wire::TlsHttp1(tls.named(RAILS_SAN)), Wire::TlsHttp1(tls.named(ROUTER_SAN)));
    let mut open = Session::open(&rails, services(&world)).await.unwrap();
    open.exchange(&sent).await.unwrap().assert_accepted(form);

    let mut config = world.config.clone();
    config.listeners[1].clients = vec![client(ROUTER_SAN, &[RAILS])];
    world.running.reload(&config).unwrap();
    open.exchange(&sent).await.unwrap().assert_refused(form, Refusal::FORBIDDEN);
    let mut open = Session::open(&router, services(&world)).await.unwrap();
    open.exchange(&sent).await.unwrap().assert_accepted(form);
    let foreign = Export::new(form, &export(ROUTER));
    open.exchange(&foreign).await.unwrap().assert_refused(form, Refusal::MALFORMED);

    tls.accept_clients_of(&other);
    sent.clone().over(router.clone()).send(services(&world)).await.assert_accepted(form);
    world.running.reload(&config).unwrap();
    open.exchange(&sent).await.unwrap().assert_accepted(form);
    assert!(sent.clone().over(router).try_send(services(&world)).await.is_err());
    let theirs = Wire::TlsHttp1(tls.showing(other.issue(ROUTER_SAN, |_| {})));
    sent.clone().over(theirs.clone()).send(services(&world)).await.assert_accepted(form);

    let listener = &mut config.listeners[1];
    listener.authentication = vec![spangate::config::Authentication::Gitlab];
    (listener.clients, listener.service_names) = (Vec::new(), Vec::new());
    listener.tls = Some(tls.listener());
    world.running.reload(&config).unwrap();
    let without = Wire::TlsHttp1(Arc::new(tls.clone()));
    assert!(sent.clone().over(without).try_send(services(&world)).await.is_err());
    let answer = sent.over(theirs).send(services(&world)).await;
    answer.assert_refused(form, Refusal::UNAVAILABLE);
}
