//! What a runner exports: realistic jobs of about 590 bytes a span under a resource of twelve
//! attributes, forged and foreign ones, and a reader of raw protobuf fields to compare bytes.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event},
};
use prost::Message as _;

use super::{
    job::{Job, Verified},
    signal::Otlp,
};

const STARTED: u64 = 1_795_000_000_000_000_000;
const SECTIONS: [&str; 6] = [
    "prepare_executor",
    "prepare_script",
    "get_sources",
    "restore_cache",
    "step_script",
    "upload_artifacts_on_success",
];

/// A string attribute.
pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.into()))
}

/// An integer attribute.
pub(crate) fn int(key: &str, value: i64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// The resource of an honest runner; it claims a job id of its own, as today's runner does.
pub(crate) fn resource(job: &Job) -> Resource {
    Resource {
        attributes: vec![
            text("service.name", "runner"),
            text("service.version", "19.4.0"),
            text("host.name", "runner-zxwgkjap-project-500001-concurrent-0"),
            text("host.arch", "amd64"),
            text("os.type", "linux"),
            int("process.pid", 4711),
            text("process.runtime.name", "go"),
            text("telemetry.sdk.name", "opentelemetry"),
            text("telemetry.sdk.language", "go"),
            text("telemetry.sdk.version", "1.43.0"),
            int("ci.job.id", i64::try_from(job.job_id).unwrap()),
            text("deployment.environment.name", "production"),
        ],
        ..Resource::default()
    }
}

/// Span number `index` of a job.
pub(crate) fn span(job: &Job, index: u64) -> Span {
    let section = SECTIONS[usize::try_from(index).unwrap() % SECTIONS.len()];
    let started = STARTED + index * 1_000_000_000;
    let mut parent = span_id(job, 0);
    if index == 0 {
        parent.clear();
    }
    Span {
        trace_id: job.trace_id.to_vec(),
        span_id: span_id(job, index),
        parent_span_id: parent,
        name: format!("section {section} #{index}"),
        kind: 1,
        start_time_unix_nano: started,
        end_time_unix_nano: started + 987_654_321,
        attributes: vec![
            text("section.name", section),
            text("section.image", "registry.example.com/group/project/ci-build:2026-11"),
            text("executor.name", "docker+machine"),
            text("executor.shell", "bash"),
            text("step.command", "cargo build --locked --all-targets --workspace"),
            text("section.result", "success"),
            text("step.working_directory", "/builds/group/sub-group/project"),
            text("step.cache.key", "cargo-registry-protected-19"),
            int("section.exit_code", 0),
        ],
        events: vec![
            Event {
                time_unix_nano: started + 1_000,
                name: "section_start".into(),
                attributes: vec![text("log.file", "job.log")],
                ..Event::default()
            },
            Event { time_unix_nano: started + 987_000_000, name: "section_end".into(), ..Event::default() },
        ],
        status: Some(Status { message: String::new(), code: 1 }),
        flags: 1,
        ..Span::default()
    }
}

/// The id of span number `index`; never all zero.
fn span_id(job: &Job, index: u64) -> Vec<u8> {
    (job.job_id << 20 | (index + 1)).to_be_bytes().to_vec()
}

/// One `ResourceSpans` with spans `from..to`.
pub(crate) fn resource_spans(job: &Job, from: u64, to: u64) -> ResourceSpans {
    ResourceSpans {
        resource: Some(resource(job)),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "gitlab.com/gitlab-org/gitlab-runner".into(),
                version: "19.4.0".into(),
                ..InstrumentationScope::default()
            }),
            spans: (from..to).map(|index| span(job, index)).collect(),
            schema_url: "https://opentelemetry.io/schemas/1.37.0".into(),
        }],
        schema_url: "https://opentelemetry.io/schemas/1.37.0".into(),
    }
}

/// A job's export of `count` spans under one resource.
pub(crate) fn export(job: &Job, count: u64) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest { resource_spans: vec![resource_spans(job, 0, count)] }
}

/// A job's export of `resources` resources with `each` spans.
pub(crate) fn wide_export(job: &Job, resources: u64, each: u64) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: (0..resources).map(|n| resource_spans(job, n * each, (n + 1) * each)).collect(),
    }
}

/// Makes a span longer than 4 KiB.
pub(crate) fn overfill(span: &mut Span) {
    span.attributes.push(text("step.output", &"x".repeat(5_000)));
}

/// Every span, in order.
pub(crate) fn spans(request: &ExportTraceServiceRequest) -> Vec<&Span> {
    request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans).collect()
}

/// A key as the gateway compares protected ones.
fn folded(key: &str) -> String {
    key.to_lowercase().replace(['_', '-'], ".")
}

/// Fails unless a resource carries exactly the job's verified attributes under protected keys, once
/// each, and gives the other attributes back in their order.
pub(crate) fn assert_verified<'a>(job: &Job, resource: &'a Resource) -> Vec<&'a KeyValue> {
    let verified = job.verified();
    let protected: Vec<String> = verified.iter().map(|(key, _)| folded(key)).collect();
    let (mut ours, others): (Vec<_>, Vec<_>) =
        resource.attributes.iter().partition(|attribute| protected.contains(&folded(&attribute.key)));
    ours.sort_by(|a, b| a.key.cmp(&b.key));
    let ours: Vec<(String, Verified)> = ours
        .into_iter()
        .map(|attribute| {
            let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(any_value::Value::IntValue(int)) => Verified::Int(*int),
                Some(any_value::Value::StringValue(text)) => Verified::Text(text.clone()),
                other => panic!("{} has the value {other:?}", attribute.key),
            };
            (attribute.key.clone(), value)
        })
        .collect();
    assert_eq!(ours, verified, "protected attributes of a resource");
    others
}

/// What must arrive for what was sent: resources with the verified attributes in place of
/// protected ones, all else as it was.
pub(crate) fn assert_stamped<R: Otlp>(job: &Job, sent: &R, arrived: &R) {
    let protected: Vec<String> = job.verified().iter().map(|(key, _)| folded(key)).collect();
    let strings = sent.strings().to_vec();
    let is_honest = |attribute: &&KeyValue| match usize::try_from(attribute.key_strindex) {
        Ok(0) => !protected.contains(&folded(&attribute.key)),
        // A place that does not exist can be any key.
        place => place
            .ok()
            .and_then(|place| strings.get(place))
            .is_some_and(|key| !protected.contains(&folded(key))),
    };
    let (mut sent, mut arrived) = (sent.clone(), arrived.clone());
    assert_eq!(arrived.resources().len(), sent.resources().len());
    for (sent, arrived) in sent.resources().into_iter().zip(arrived.resources()) {
        let (sent, arrived) = (sent.take().unwrap_or_default(), arrived.take().expect("a resource"));
        let honest: Vec<&KeyValue> = sent.attributes.iter().filter(is_honest).collect();
        assert_eq!(assert_verified(job, &arrived), honest, "attributes that are not protected");
        let rest = |resource: Resource| Resource { attributes: Vec::new(), ..resource };
        assert_eq!(rest(arrived), rest(sent));
    }
    // By bytes: a number that is none is not equal to itself.
    assert!(arrived.encode_to_vec() == sent.encode_to_vec(), "sent {sent:#?}\narrived {arrived:#?}");
}

/// One field of a protobuf message, undecoded: its number and its value's bytes (for a varint or a
/// fixed value: as they stand on the wire).
pub(crate) fn raw_fields(mut message: &[u8]) -> Vec<(u64, &[u8])> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let value = match tag & 7 {
            0 => {
                let before = message;
                varint(&mut message);
                &before[..before.len() - message.len()]
            }
            1 => take(&mut message, 8),
            2 => {
                let length = varint(&mut message);
                take(&mut message, usize::try_from(length).unwrap())
            }
            5 => take(&mut message, 4),
            other => panic!("wire type {other}"),
        };
        fields.push((tag >> 3, value));
    }
    fields
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (value, rest) = message.split_at(length);
    *message = rest;
    value
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in 0..10 {
        let byte = take(message, 1)[0];
        value |= u64::from(byte & 0x7f) << (shift * 7);
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint without an end");
}

/// The undecoded `scope_spans` of every `ResourceSpans` of a request; other signals have the same numbers.
pub(crate) fn raw_scope_spans(request: &[u8]) -> Vec<Vec<&[u8]>> {
    raw_fields(request)
        .into_iter()
        .filter(|(number, _)| *number == 1)
        .map(|(_, resource_spans)| {
            let fields = raw_fields(resource_spans).into_iter();
            fields.filter(|(number, _)| *number == 2).map(|(_, bytes)| bytes).collect()
        })
        .collect()
}

/// A length-delimited field.
pub(crate) fn raw_field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encode_length_delimiter(value.len(), &mut field).unwrap();
    field.extend_from_slice(value);
    field
}

/// Scenario: an export of 32 spans.
/// Guarantees: spans have the size that the figures in the documents are about, and the raw reader
/// finds what prost wrote.
#[test]
fn exports_are_realistic() {
    let job = Job::new(1);
    let request = export(&job, 32);
    let each = spans(&request).iter().map(|span| span.encoded_len()).sum::<usize>() / 32;
    assert!((540..=640).contains(&each), "{each} bytes a span");
    assert_eq!(resource(&job).attributes.len(), 12);
    let bytes = request.encode_to_vec();
    let raw = raw_scope_spans(&bytes);
    assert_eq!(raw.len(), 1);
    assert_eq!(ScopeSpans::decode(raw[0][0]).unwrap(), request.resource_spans[0].scope_spans[0]);
    assert_eq!(
        raw_field(1, &request.resource_spans[0].encode_to_vec()),
        bytes,
        "a field written by hand is the one that prost writes"
    );
}

/// Scenario: a resource with a forged attribute is held against the verified ones.
/// Guarantees: the judge of identity sees a duplicate, a look-alike and a wrong value.
#[test]
fn a_forged_attribute_is_seen() {
    let job = Job::new(1);
    let mut honest = Resource::default();
    for (key, value) in job.verified() {
        honest.attributes.push(match value {
            Verified::Int(value) => int(&key, value),
            Verified::Text(value) => text(&key, &value),
        });
    }
    assert!(assert_verified(&job, &honest).is_empty());
    for forged in [int("ci.job.id", 666), int("CI_Job-Id", 666), text("service_name", "runner")] {
        let mut resource = honest.clone();
        resource.attributes.push(forged);
        assert!(std::panic::catch_unwind(|| drop(assert_verified(&job, &resource))).is_err());
    }
}
