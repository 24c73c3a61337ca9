//! OTLP/JSON as an exporter writes it (opentelemetry-js): hex ids, 64-bit integers as strings,
//! lowerCamelCase. Written by hand, so that the gateway's decoder meets a stranger's encoder.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
    trace::v1::Span,
};
use serde_json::{Value, json};

use super::job::hex;

/// An export request in JSON.
pub(crate) fn to_json(request: &ExportTraceServiceRequest) -> Vec<u8> {
    let resource_spans: Vec<Value> = request
        .resource_spans
        .iter()
        .map(|entry| {
            let scope_spans: Vec<Value> = entry
                .scope_spans
                .iter()
                .map(|scope_spans| {
                    json!({
                        "scope": scope_spans.scope.as_ref().map(|scope| json!({
                            "name": scope.name, "version": scope.version,
                        })),
                        "spans": scope_spans.spans.iter().map(span).collect::<Vec<_>>(),
                        "schemaUrl": scope_spans.schema_url,
                    })
                })
                .collect();
            let mut object = json!({ "scopeSpans": scope_spans, "schemaUrl": entry.schema_url });
            if let Some(resource) = &entry.resource {
                object["resource"] = json!({ "attributes": attributes(&resource.attributes) });
            }
            object
        })
        .collect();
    serde_json::to_vec(&json!({ "resourceSpans": resource_spans })).unwrap()
}

fn span(span: &Span) -> Value {
    json!({
        "traceId": hex(&span.trace_id),
        "spanId": hex(&span.span_id),
        "parentSpanId": hex(&span.parent_span_id),
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": span.start_time_unix_nano.to_string(),
        "endTimeUnixNano": span.end_time_unix_nano.to_string(),
        "attributes": attributes(&span.attributes),
        "events": span.events.iter().map(|event| json!({
            "timeUnixNano": event.time_unix_nano.to_string(),
            "name": event.name,
            "attributes": attributes(&event.attributes),
        })).collect::<Vec<_>>(),
        "status": span.status.as_ref().map(|status| json!({ "code": status.code })),
        "flags": span.flags,
    })
}

fn attributes(attributes: &[KeyValue]) -> Vec<Value> {
    let value = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => json!({ "stringValue": text }),
        Some(any_value::Value::IntValue(int)) => json!({ "intValue": int.to_string() }),
        other => panic!("the tests' JSON knows no {other:?}"),
    };
    attributes.iter().map(|attribute| json!({ "key": attribute.key, "value": value(attribute) })).collect()
}
