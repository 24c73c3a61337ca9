//! The verified identity on its way to the collector: written into every resource once, whatever
//! the sender claimed, while all else stays byte for byte.

use base64::Engine as _;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, any_value},
    resource::v1::Resource,
    trace::v1::ResourceSpans,
};
use prost::Message as _;
use spangate::{
    config::{AlsoStrip, AttributesMode, Config, units::ByteSize},
    otlp::compression::Encoding,
};

use crate::support::{
    answer::Refusal,
    authority::Script,
    client::{Export, Form},
    job::Job,
    spans::{self, assert_stamped, assert_verified, int, raw_field, raw_fields, raw_scope_spans, text},
    world::{World, unlimited},
};

/// Scenario: an honest runner's export in each form.
/// Guarantees: `service.name` and every verified attribute, once each, with the authority's values; nothing else changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_resource_carries_the_verified_identity() {
    let job = Job::new(1);
    let world = World::of_job(&job, |_| {}).await;
    for form in Form::ALL {
        let sent = spans::wide_export(&job, 3, 2);
        world.send(&Export::of(form, &job, &sent)).await.assert_accepted(form);
        assert_stamped(&job, &sent, &world.collector.received().pop().unwrap().request());
    }
}

/// Scenario: resources that claim another job: other values, other types, duplicates, look-alike keys, empty and huge values.
/// Guarantees: not one of them arrives; honest attributes around them do, in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_attributes_never_arrive() {
    let job = Job::new(1);
    let world = World::of_job(&job, |_| {}).await;
    let mut nested = int("ci.job.id", 0);
    let list = ArrayValue { values: vec![AnyValue { value: Some(any_value::Value::IntValue(666)) }] };
    nested.value = Some(AnyValue { value: Some(any_value::Value::ArrayValue(list)) });
    let mut absent = int("ci.job.id", 0);
    absent.value = None;
    let mut sent = spans::export(&job, 2);
    let attributes = &mut sent.resource_spans[0].resource.as_mut().unwrap().attributes;
    for (at, forged) in [
        (0, int("ci.job.id", 666)),
        (2, int("ci.job.id", 666)),
        (4, text("ci.job.id", "666")),
        (5, int("CI_Project-Id", 666)),
        (6, int("CI.JOB.ID", 666)),
        (7, int("ci-job_id", 666)),
        (8, text("service_name", "gitlab-ci-rails")),
        (9, text("Service-Name", "gitlab-ci-rails")),
        (10, text("ci.runner-manager.system.xid", "s_forged")),
        (11, text("ci.pipeline.source", "")),
        (12, text("ci.runner.type", &"x".repeat(100_000))),
        (13, nested),
        (14, absent),
    ] {
        attributes.insert(at, forged);
    }
    // Near misses that are nobody's business.
    attributes.push(int("ci.job.id2", 1));
    attributes.push(int("xci.job.id", 1));
    attributes.push(text("ci.job", "build"));
    for form in [Form::Protobuf, Form::Grpc] {
        world.send(&Export::of(form, &job, &sent)).await.assert_accepted(form);
        assert_stamped(&job, &sent, &world.collector.received().pop().unwrap().request());
    }
}

/// Scenario: the authority knows a few facts only.
/// Guarantees: a protected key for which there is no verified value is removed, not passed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_nobody_can_prove_is_removed() {
    let job = Job::new(1);
    let world = World::start().await;
    let bare = serde_json::json!({ "trace_id": job.trace_hex(), "project_id": job.project_id });
    let script = Script::allow(&job, 300).body(bare.to_string());
    world.authority.know(&job, script);
    let mut sent = spans::export(&job, 1);
    let attributes = &mut sent.resource_spans[0].resource.as_mut().unwrap().attributes;
    attributes.extend([int("ci.runner.id", 666), text("ci_pipeline_source", "forged")]);
    world.send(&Export::of(Form::Protobuf, &job, &sent)).await.assert_accepted(Form::Protobuf);
    let arrived = world.collector.only().request();
    let attributes = &arrived.resource_spans[0].resource.as_ref().unwrap().attributes;
    let folded = |key: &str| key.to_lowercase().replace(['_', '-'], ".");
    let mut asserted: Vec<String> = attributes
        .iter()
        .map(|a| folded(&a.key))
        .filter(|k| k.starts_with("ci.") || k == "service.name")
        .collect();
    asserted.sort();
    assert_eq!(asserted, ["ci.project.id", "service.name"]);
}

/// Scenario: the authority tells the trace only; the job token is a JWT that names job and project; then one whose job is another's.
/// Guarantees: after a 200 its claims fill what is missing; two stories are never mixed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vouched_job_token_fills_the_gaps() {
    let world = World::start().await;
    let claims = r#"{"sub":"gid://gitlab/Ci::Build/987654","p":"2s","o":"1"}"#;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
    let token = |seed: u64| format!("glcbt-eyJhbGciOiJSUzI1NiJ9.{payload}.c2ln{seed:04}");
    let told = |job: &Job| serde_json::json!({ "trace_id": job.trace_hex() });
    let contradicting = |job: &Job| serde_json::json!({ "trace_id": job.trace_hex(), "job_id": 1 });
    for (seed, answer, expected) in [
        (
            1,
            told as fn(&Job) -> serde_json::Value,
            vec![int("ci.job.id", 987_654), int("ci.project.id", 100)],
        ),
        (2, contradicting, vec![int("ci.job.id", 1)]),
    ] {
        let job = Job { job_token: token(seed), ..Job::new(seed) };
        world.authority.know(&job, Script::allow(&job, 300).body(answer(&job).to_string()));
        let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
        world.send(&export).await.assert_accepted(Form::Protobuf);
        let arrived = world.collector.received().pop().unwrap().request();
        let resource = arrived.resource_spans[0].resource.as_ref().unwrap();
        let mut asserted: Vec<_> =
            resource.attributes.iter().filter(|a| a.key.starts_with("ci.")).cloned().collect();
        asserted.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(asserted, expected);
    }
}

/// Scenario: a `ResourceSpans` with two `resource` fields, each with a part of a forged identity, and one with none at all.
/// Guarantees: readers that merge and readers that take the last one see the same: one resource, verified.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_resources_become_one() {
    let job = Job::new(1);
    let world = World::of_job(&job, |_| {}).await;
    let part = |attributes| Resource { attributes, ..Resource::default() };
    let first = part(vec![text("host.name", "a"), int("ci.job.id", 666)]);
    let second = part(vec![int("CI_JOB_ID", 667), text("host.arch", "amd64"), int("ci.job.id", 668)]);
    let honest = spans::resource_spans(&job, 0, 2);
    let without = ResourceSpans { resource: None, ..honest.clone() };
    let doubled = [
        raw_field(1, &first.encode_to_vec()),
        without.encode_to_vec(),
        raw_field(1, &second.encode_to_vec()),
    ]
    .concat();
    let body = [raw_field(1, &doubled), raw_field(1, &without.encode_to_vec())].concat();
    for form in [Form::Protobuf, Form::Grpc] {
        world.send(&Export::raw(form, body.clone()).tokens(&job)).await.assert_accepted(form);
        let arrived = world.collector.received().pop().unwrap();
        let bytes = arrived.inflated();
        for (_, entry) in raw_fields(&bytes) {
            let resources = raw_fields(entry).into_iter().filter(|(number, _)| *number == 1).count();
            assert_eq!(resources, 1, "resource fields of one entry");
        }
        let request = arrived.request();
        let merged = assert_verified(&job, request.resource_spans[0].resource.as_ref().unwrap());
        assert_eq!(merged, [&text("host.name", "a"), &text("host.arch", "amd64")]);
        let made = assert_verified(&job, request.resource_spans[1].resource.as_ref().unwrap());
        assert!(made.is_empty());
        assert_eq!(request.resource_spans[0].scope_spans, honest.scope_spans);
        assert_eq!(request.resource_spans[1].scope_spans, honest.scope_spans);
    }
}

/// Scenario: spans with unknown fields and over-long varints inside, between resources that are rewritten.
/// Guarantees: every `scope_spans` arrives byte-identical: spans are never decoded and encoded again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_arrive_byte_for_byte() {
    let job = Job::new(1);
    let world = World::of_job(&job, |_| {}).await;
    let mut span = spans::span(&job, 7).encode_to_vec();
    // Field 200 of a later OTLP, and `dropped_attributes_count` in five bytes where one is enough.
    span.extend_from_slice(&[0xc2, 0x0c, 0x03, b'n', b'e', b'w']);
    span.extend_from_slice(&[0x50, 0x81, 0x80, 0x80, 0x80, 0x00]);
    let odd = raw_field(1, &raw_field(2, &raw_field(2, &span)));
    let body = [spans::wide_export(&job, 3, 5).encode_to_vec(), odd].concat();
    for form in [Form::Protobuf, Form::Grpc] {
        for encoding in [Encoding::Identity, Encoding::Gzip] {
            let export = Export::raw(form, body.clone()).tokens(&job).compressed(encoding);
            world.send(&export).await.assert_accepted(form);
            let arrived = world.collector.received().pop().unwrap().inflated();
            assert_eq!(raw_scope_spans(&arrived), raw_scope_spans(&body));
        }
    }
}

/// Scenario: keys and prefixes that the operator protects, and `also_strip` for scopes and spans.
/// Guarantees: they go from where they are to go, look-alikes included; elsewhere they stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_protected_keys() {
    let job = Job::new(1);
    let mut sent = spans::export(&job, 1);
    let claims = [text("Tenant_Id", "other"), text("gitlab.internal-thing", "x"), int("ci.job.id", 666)];
    let entry = &mut sent.resource_spans[0];
    entry.resource.as_mut().unwrap().attributes.extend(claims.clone());
    entry.scope_spans[0].scope.as_mut().unwrap().attributes.extend(claims.clone());
    entry.scope_spans[0].spans[0].attributes.extend(claims);
    for strip in
        [Vec::new(), vec![AlsoStrip::Scope], vec![AlsoStrip::Span], vec![AlsoStrip::Scope, AlsoStrip::Span]]
    {
        let world = World::of_job(&job, |config| {
            config.attributes.protected.keys = vec!["tenant.id".into()];
            config.attributes.protected.prefixes = vec!["gitlab.".into()];
            config.attributes.also_strip.clone_from(&strip);
        })
        .await;
        world.send(&Export::of(Form::Protobuf, &job, &sent)).await.assert_accepted(Form::Protobuf);
        let arrived = world.collector.only().request();
        let claimed = |key: &str| {
            let key = key.to_lowercase().replace(['_', '-'], ".");
            key == "tenant.id" || key.starts_with("gitlab.") || key == "ci.job.id"
        };
        let entry = &arrived.resource_spans[0];
        let others = assert_verified(&job, entry.resource.as_ref().unwrap());
        assert!(!others.iter().any(|attribute| claimed(&attribute.key)));
        let scope = &entry.scope_spans[0].scope.as_ref().unwrap().attributes;
        let span = &entry.scope_spans[0].spans[0].attributes;
        for (attributes, place) in [(scope, AlsoStrip::Scope), (span, AlsoStrip::Span)] {
            let left = attributes.iter().filter(|attribute| claimed(&attribute.key)).count();
            assert_eq!(left, if strip.contains(&place) { 0 } else { 3 }, "{place:?} under {strip:?}");
        }
        assert_eq!(
            span.len() - spans::span(&job, 0).attributes.len(),
            if strip.contains(&AlsoStrip::Span) { 0 } else { 3 }
        );
    }
}

/// Scenario: `transparent` mode; bodies plain and compressed, in both protocols in and out, with forged identity headers.
/// Guarantees: the body goes on byte-identical, compression included; the identity travels in headers that only the gateway sets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transparent_bodies_are_untouched() {
    let job = Job::new(1);
    let transparent = |config: &mut Config| {
        unlimited(config);
        config.attributes.mode = AttributesMode::Transparent;
    };
    for world in [World::with(transparent).await, World::grpc(transparent).await] {
        world.authority.allow(&job);
        let mut sent = spans::export(&job, 3);
        sent.resource_spans[0].resource.as_mut().unwrap().attributes.push(int("ci.job.id", 666));
        for form in [Form::Protobuf, Form::Grpc] {
            for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
                let export = Export::of(form, &job, &sent)
                    .compressed(encoding)
                    .header("x-gitlab-ci-job-id", "666")
                    .header("X-Gitlab-Ci-Project-Id", "666");
                world.send(&export).await.assert_accepted(form);
                let arrived = world.collector.received().pop().unwrap();
                let out = if form == Form::Grpc { export.body().slice(5..) } else { export.body().clone() };
                assert_eq!(arrived.raw, out, "{form:?} {encoding:?}");
                assert_eq!(arrived.encoding, encoding.token());
                for (name, value) in [
                    ("x-gitlab-ci-job-id", job.job_id),
                    ("x-gitlab-ci-project-id", job.project_id),
                    ("x-gitlab-ci-pipeline-id", job.pipeline_id),
                    ("x-gitlab-ci-runner-id", job.runner_id),
                ] {
                    let values: Vec<_> = arrived.headers.get_all(name).iter().collect();
                    assert_eq!(values, [value.to_string().as_str()], "{name}");
                }
            }
        }
    }
}

/// Scenario: `transparent` mode; a span over the limit, an unknown field in a resource.
/// Guarantees: what can't be dropped from an untouched body is refused whole, and nothing is forwarded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transparent_bodies_are_refused_whole() {
    let job = Job::new(1);
    let world = World::of_job(&job, |config| {
        config.attributes.mode = AttributesMode::Transparent;
        config.traces.max_span_size = ByteSize(4 << 10);
    })
    .await;
    let mut too_long = spans::export(&job, 3);
    spans::overfill(&mut too_long.resource_spans[0].scope_spans[0].spans[1]);
    let with_unknown = [spans::resource_spans(&job, 0, 1).encode_to_vec(), raw_field(9, b"?")].concat();
    for body in [too_long.encode_to_vec(), raw_field(1, &with_unknown)] {
        let answer = world.send(&Export::raw(Form::Protobuf, body).tokens(&job)).await;
        answer.assert_refused(Form::Protobuf, Refusal::MALFORMED);
    }
    assert_eq!(world.collector.count(), 0);
}

/// Scenario: the same export in JSON, to both kinds of collectors.
/// Guarantees: JSON never goes on: protobuf leaves, with the same spans.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_becomes_protobuf() {
    let job = Job::new(1);
    let sent = spans::wide_export(&job, 2, 3);
    for world in [World::start().await, World::grpc(|_| {}).await] {
        world.authority.allow(&job);
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
            let export = Export::of(Form::Json, &job, &sent).compressed(encoding);
            world.send(&export).await.assert_accepted(Form::Json);
            // The fake collector takes protobuf only, and its decoder reads it.
            assert_stamped(&job, &sent, &world.collector.received().pop().unwrap().request());
        }
    }
}
