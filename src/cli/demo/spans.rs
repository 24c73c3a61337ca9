//! The spans that the demo sends: a CI job as a runner would report it, and the same export in
//! OTLP/JSON. It decides what is sent, never what should become of it.

use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::bail;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};
use serde_json::{Value, json};

use super::authority::{Job, random_bytes};

/// The steps of a job: name, start and length in milliseconds.
const STEPS: [(&str, u64, u64); 4] = [
    ("prepare_executor", 0, 3_150),
    ("get_sources", 3_150, 1_480),
    ("step_script", 4_630, 36_900),
    ("upload_artifacts", 41_530, 870),
];

/// The whole job, in milliseconds.
const JOB: u64 = 42_400;

/// A string attribute.
pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.into()))
}

/// An integer attribute.
pub(super) fn int(key: &str, value: i64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// A finished job with its steps, in the job's own trace.
pub(super) fn whole_job(job: &Job) -> anyhow::Result<ExportTraceServiceRequest> {
    let mut root = span(job, &format!("job: {}", job.name), 0, JOB)?;
    root.attributes = vec![
        text("gitlab.job.stage", "test"),
        text("gitlab.runner.executor", "docker"),
        text("gitlab.job.image", "rust:1.95-bookworm"),
    ];
    let mut spans = Vec::new();
    for (name, start, length) in STEPS {
        let mut step = span(job, name, start, length)?;
        step.parent_span_id.clone_from(&root.span_id);
        step.attributes = vec![text("gitlab.runner.stage", name), int("process.exit.code", 0)];
        spans.push(step);
    }
    spans.insert(0, root);
    Ok(export(spans))
}

/// As many single steps in the job's own trace.
pub(super) fn steps(job: &Job, count: usize) -> anyhow::Result<ExportTraceServiceRequest> {
    let spans = (0..count).map(|_| span(job, "step_script", 0, 1_000)).collect::<anyhow::Result<_>>()?;
    Ok(export(spans))
}

/// One span in the job's own trace, `start` and `length` in milliseconds from a minute ago.
pub(super) fn span(job: &Job, name: &str, start: u64, length: u64) -> anyhow::Result<Span> {
    let minute_ago = UNIX_EPOCH.elapsed().unwrap_or_default().saturating_sub(Duration::from_mins(1));
    let at = |millis| nanos(minute_ago.saturating_add(Duration::from_millis(millis)));
    Ok(Span {
        trace_id: job.trace_id.as_bytes().to_vec(),
        span_id: random_bytes::<8>()?.to_vec(),
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: at(start),
        end_time_unix_nano: at(start.saturating_add(length)),
        status: Some(Status { code: StatusCode::Ok.into(), ..Status::default() }),
        ..Span::default()
    })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// An export of spans under the resource that a runner reports.
pub(super) fn export(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let attributes = vec![
        text("service.name", "runner"),
        text("service.version", "19.6.0"),
        text("host.name", "runner-host-1"),
        text("os.type", "linux"),
        text("telemetry.sdk.language", "go"),
    ];
    let scope = InstrumentationScope { name: "gitlab-runner".to_owned(), ..InstrumentationScope::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

/// All spans of an export, in order.
pub(super) fn all(export: &ExportTraceServiceRequest) -> impl Iterator<Item = &Span> {
    export.resource_spans.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans)
}

/// The attributes of an export's first resource.
pub(super) fn resource_attributes(export: &ExportTraceServiceRequest) -> &[KeyValue] {
    let first = export.resource_spans.first().and_then(|entry| entry.resource.as_ref());
    first.map_or(&[], |resource| &resource.attributes)
}

/// An export in OTLP/JSON: lowerCamelCase names, ids in hex, 64-bit integers as strings.
///
/// # Errors
/// When it holds an attribute value of a kind that the demo never sends.
pub(super) fn to_json(export: &ExportTraceServiceRequest) -> anyhow::Result<Value> {
    let mut resources = Vec::new();
    for resource in &export.resource_spans {
        let mut scopes = Vec::new();
        for scope in &resource.scope_spans {
            let name = scope.scope.as_ref().map_or("", |scope| scope.name.as_str());
            let spans = scope.spans.iter().map(span_to_json).collect::<anyhow::Result<Vec<_>>>()?;
            scopes.push(json!({ "scope": { "name": name }, "spans": spans }));
        }
        let attributes = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        let attributes = attributes_to_json(attributes)?;
        resources.push(json!({ "resource": { "attributes": attributes }, "scopeSpans": scopes }));
    }
    Ok(json!({ "resourceSpans": resources }))
}

fn span_to_json(span: &Span) -> anyhow::Result<Value> {
    let mut json = json!({
        "traceId": hex(&span.trace_id),
        "spanId": hex(&span.span_id),
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": span.start_time_unix_nano.to_string(),
        "endTimeUnixNano": span.end_time_unix_nano.to_string(),
        "attributes": attributes_to_json(&span.attributes)?,
        "status": { "code": span.status.as_ref().map_or(0, |status| status.code) },
    });
    if let Some(members) = json.as_object_mut().filter(|_| !span.parent_span_id.is_empty()) {
        members.insert("parentSpanId".to_owned(), hex(&span.parent_span_id).into());
    }
    Ok(json)
}

fn attributes_to_json(attributes: &[KeyValue]) -> anyhow::Result<Vec<Value>> {
    let one = |attribute: &KeyValue| {
        let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => json!({ "stringValue": text }),
            Some(any_value::Value::IntValue(number)) => json!({ "intValue": number.to_string() }),
            _ => bail!("the demo sends only strings and integers as JSON"),
        };
        Ok(json!({ "key": attribute.key, "value": value }))
    };
    attributes.iter().map(one).collect()
}

/// Bytes in lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _written = write!(hex, "{byte:02x}");
        hex
    })
}
