//! A listener that asks for nothing, because only a closed network reaches it.

use spangate::config::Authentication;

use super::{RAILS, ROUTER, export, listener, services};
use crate::support::{
    answer::Refusal,
    client::{Export, Form, Wire},
    job::Job,
    spans,
    tls::TestTls,
    world::World,
};

/// Scenario: exports without credentials in every form to a listener that wants none, over clear text; with a name that is not listed; with tokens.
/// Guarantees: listed names come in as they are, others don't; GitLab is asked nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reaches_it_may_send() {
    let world = World::with(|config| config.listeners.push(listener(Authentication::None))).await;
    for form in Form::ALL {
        for wire in [Wire::Http1, Wire::H2c] {
            if form == Form::Grpc && matches!(wire, Wire::Http1) {
                continue;
            }
            for name in [RAILS, ROUTER] {
                let plain = Export::new(form, &export(name)).over(wire.clone());
                for export in [plain.clone(), plain.tokens(&Job::new(1))] {
                    export.send(services(&world)).await.assert_accepted(form);
                }
                assert_eq!(world.collector.received().pop().unwrap().request(), export(name));
            }
            let runner = Export::new(form, &export("gitlab-ci-runner")).over(wire);
            runner.send(services(&world)).await.assert_refused(form, Refusal::MALFORMED);
        }
    }
    assert_eq!(world.authority.count(), 0);
}

/// Scenario: the same beside the runners' own listener.
/// Guarantees: that one still wants tokens, and stamps what comes with them, whatever name the runner gives itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_still_need_tokens() {
    let world = World::with(|config| config.listeners.push(listener(Authentication::None))).await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let sent = export(RAILS);
    let form = Form::Protobuf;
    world.send(&Export::new(form, &sent)).await.assert_refused(form, Refusal::UNAUTHENTICATED);
    let mut own = sent;
    own.resource_spans.truncate(1);
    world.send(&Export::of(form, &job, &own)).await.assert_accepted(form);
    spans::assert_stamped(&job, &own, &world.collector.only().request());
}

/// Scenario: the same under TLS, which asks for no certificate.
/// Guarantees: TLS alone changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_without_certificates_works() {
    let tls = std::sync::Arc::new(TestTls::new());
    let world = World::with(|config| {
        let mut closed = listener(Authentication::None);
        closed.tls = Some(tls.listener());
        config.listeners.push(closed);
    })
    .await;
    for (form, wire) in [
        (Form::Protobuf, Wire::TlsHttp1(tls.clone())),
        (Form::Grpc, Wire::TlsHttp2(tls.named("somebody.example.org"))),
    ] {
        Export::new(form, &export(RAILS)).over(wire).send(services(&world)).await.assert_accepted(form);
    }
}
