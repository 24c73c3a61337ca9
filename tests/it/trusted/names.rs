//! What a service may say of itself.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::KeyValue, resource::v1::Resource,
};
use prost::Message as _;
use spangate::config::AttributesMode;

use super::{RAILS, RAILS_SAN, ROUTER, ROUTER_SAN, export, services, under, with_clients};
use crate::support::{
    answer::Refusal,
    client::{Export, Form, Wire},
    spans::{self, int, raw_field, text},
    tls::TestTls,
};

const SERVICE: &str = "service.name";

/// Scenario: a client that may only be Rails, and one that may be both, say each name.
/// Guarantees: a client's own list narrows the listener's; nobody else's name passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_says_its_own_names_only() {
    let tls = TestTls::new();
    let world = with_clients(&tls, |_| {}).await;
    for (san, name, good) in [
        (RAILS_SAN, RAILS, true),
        (RAILS_SAN, ROUTER, false),
        (ROUTER_SAN, ROUTER, true),
        (ROUTER_SAN, RAILS, true),
        (ROUTER_SAN, "gitlab-ci-runner", false),
        (ROUTER_SAN, "", false),
    ] {
        let tls = tls.named(san);
        for (form, wire) in [
            (Form::Protobuf, Wire::TlsHttp1(tls.clone())),
            (Form::Json, Wire::TlsHttp2(tls.clone())),
            (Form::Grpc, Wire::TlsHttp2(tls.clone())),
        ] {
            let answer = Export::new(form, &export(name)).over(wire).send(services(&world)).await;
            if good {
                answer.assert_accepted(form);
            } else {
                let sentence = answer.assert_refused(form, Refusal::MALFORMED);
                assert!(sentence.contains(SERVICE), "{sentence}");
            }
        }
    }
    let labels = [("listener", "services"), ("outcome", "service_name")];
    assert!((world.metrics().await.sum("spangate_requests_total", &labels) - 9.0).abs() < 0.1);
    assert_eq!(world.collector.count(), 9);
}

/// Scenario: names that are absent, doubled, in other spellings, of other types, or behind another resource; each alone is refused.
/// Guarantees: not one of them passes, in no form; the honest ones beside them do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_name_slips_through() {
    let tls = TestTls::new();
    let world = with_clients(&tls, |_| {}).await;
    let client = tls.named(RAILS_SAN);
    let good = text(SERVICE, RAILS);
    let no_value = KeyValue { key: SERVICE.into(), ..KeyValue::default() };
    for (attributes, passes) in [
        (&[good.clone()][..], true),
        (&[good.clone(), good.clone()], true),
        (&[text("service_name", RAILS), good.clone()], true),
        (&[text("peer.service", "else"), good.clone()], true),
        (&[], false),
        (&[text("service_name", RAILS)], false),
        (&[good.clone(), text(SERVICE, ROUTER)], false),
        (&[text(SERVICE, ROUTER), good.clone()], false),
        (&[good.clone(), text("service_name", ROUTER)], false),
        (&[good.clone(), text("Service-Name", "else")], false),
        (&[int(SERVICE, 1)], false),
        (&[good.clone(), int(SERVICE, 1)], false),
        (&[good.clone(), no_value.clone()], false),
    ] {
        let honest = under(std::slice::from_ref(&good));
        for entries in [vec![under(attributes), honest.clone()], vec![honest, under(attributes)]] {
            let request = ExportTraceServiceRequest { resource_spans: entries };
            for (form, wire) in [
                (Form::Protobuf, Wire::TlsHttp1(client.clone())),
                (Form::Json, Wire::TlsHttp1(client.clone())),
                (Form::Grpc, Wire::TlsHttp2(client.clone())),
            ] {
                let answer = Export::new(form, &request).over(wire).send(services(&world)).await;
                if passes {
                    answer.assert_accepted(form);
                    assert_eq!(world.collector.received().pop().unwrap().request(), request);
                } else {
                    answer.assert_refused(form, Refusal::MALFORMED);
                }
            }
        }
    }
}

/// A request whose one `ResourceSpans` has these occurrences of `resource` and two spans.
fn split(resources: &[Resource]) -> Vec<u8> {
    let mut entry = under(&[]);
    entry.resource = None;
    let resources = resources.iter().flat_map(|resource| raw_field(1, &resource.encode_to_vec()));
    raw_field(1, &resources.chain(entry.encode_to_vec()).collect::<Vec<u8>>())
}

/// Scenario: `resource` comes in parts: the name in one of them, a second name in the other, and with something unknown beside it.
/// Guarantees: parts are one resource; one that is allowed leaves as one, without what is unknown, and an unlisted name hides in no part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_one_resource() {
    let tls = TestTls::new();
    let world = with_clients(&tls, |_| {}).await;
    let wire = Wire::TlsHttp1(tls.named(RAILS_SAN));
    let part = |attribute| Resource { attributes: vec![attribute], ..Resource::default() };
    let (host, good) = (text("host.name", "pod"), text(SERVICE, RAILS));
    let send = async |body: Vec<u8>| {
        Export::raw(Form::Protobuf, body).over(wire.clone()).send(services(&world)).await
    };
    for parts in
        [[part(good.clone()), part(text(SERVICE, ROUTER))], [part(int(SERVICE, 1)), part(good.clone())]]
    {
        send(split(&parts)).await.assert_refused(Form::Protobuf, Refusal::MALFORMED);
    }
    let body = split(&[part(host.clone()), part(good.clone())]);
    let unknown = [&*body, &*raw_field(9, b"unknown")].concat();
    for body in [body, unknown] {
        send(body).await.assert_accepted(Form::Protobuf);
        let received = world.collector.received().pop().unwrap();
        let [(1, entry)] = *spans::raw_fields(&received.raw) else { panic!("{received:?}") };
        let resources = spans::raw_fields(entry).iter().filter(|(number, _)| *number == 1).count();
        assert_eq!(resources, 1);
        let arrived = received.request();
        let resource = arrived.resource_spans[0].resource.as_ref().unwrap();
        assert_eq!(resource.attributes, [host.clone(), good.clone()]);
    }
}

/// Scenario: `attributes.mode: transparent`, with good and bad names, and with an unknown field.
/// Guarantees: the body goes on byte for byte or not at all; the identity's headers are there and empty, so that no claim of the sender's stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transparent_body_stays() {
    let tls = TestTls::new();
    let world = with_clients(&tls, |config| config.attributes.mode = AttributesMode::Transparent).await;
    let wire = Wire::TlsHttp1(tls.named(RAILS_SAN));
    let (form, good) = (Form::Protobuf, export(RAILS));
    let sent = Export::new(form, &good).over(wire.clone()).header("x-gitlab-ci-job-id", "7");
    sent.send(services(&world)).await.assert_accepted(form);
    let received = world.collector.only();
    assert_eq!(received.raw, sent.body());
    let told: Vec<_> = received
        .headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-gitlab"))
        .map(|(_, value)| value.to_str().unwrap())
        .collect();
    assert_eq!(told, [""; 8]);

    let unknown = [good.encode_to_vec(), raw_field(9, b"unknown")].concat();
    for export in [Export::new(form, &export(ROUTER)), Export::raw(form, unknown)] {
        let answer = export.over(wire.clone()).send(services(&world)).await;
        answer.assert_refused(form, Refusal::MALFORMED);
    }
    assert_eq!(world.collector.count(), 1);
}

/// Scenario: a span that is longer than allowed, and bytes that are no OTLP.
/// Guarantees: structure and size hold for services as for everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn structure_and_size_hold() {
    let tls = TestTls::new();
    let world = with_clients(&tls, |_| {}).await;
    let wire = Wire::TlsHttp2(tls.named(RAILS_SAN));
    let mut long = export(RAILS);
    spans::overfill(&mut long.resource_spans[0].scope_spans[0].spans[1]);
    let answer = Export::new(Form::Grpc, &long).over(wire.clone()).send(services(&world)).await;
    assert_eq!(answer.partial(Form::Grpc).0, 1);
    assert_eq!(world.collector.spans(), 3);
    let broken = Export::raw(Form::Grpc, &b"\xff\xff"[..]).over(wire);
    broken.send(services(&world)).await.assert_refused(Form::Grpc, Refusal::MALFORMED);
}
