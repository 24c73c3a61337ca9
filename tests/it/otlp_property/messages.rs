//! Requests that opentelemetry-proto can build: every field, forged and look-alike keys, missing
//! and several resources.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value},
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Event, Link},
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::judge::TRACE;

/// Keys: verified, disguised, near misses, honest, and any text.
pub(super) const NAMES: [&str; 16] = [
    "ci.job.id",
    "CI_JOB-ID",
    "Ci.Job.Id",
    "service.name",
    "service_name",
    "ci.runner.manager.system-xid",
    "gitlab.cell.id",
    "GitLab_anything",
    "gitlab",
    "ci.job.id.",
    "ci.job",
    "сi.job.id",
    "ci.job.id\u{0}",
    "host.name",
    "http.status",
    "",
];

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(&NAMES[..]).prop_map(str::to_owned), 1 => text()]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-z.]{0,12}", 2 => "\\PC{0,8}", 1 => "[a-z]{120,140}"]
}

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        6 => text().prop_map(any_value::Value::StringValue),
        1 => any::<bool>().prop_map(any_value::Value::BoolValue),
        2 => any::<i64>().prop_map(any_value::Value::IntValue),
        1 => any::<u64>().prop_map(|bits| any_value::Value::DoubleValue(f64::from_bits(bits))),
        1 => vec(any::<u8>(), 0..20).prop_map(any_value::Value::BytesValue),
        1 => any::<i32>().prop_map(any_value::Value::StringValueStrindex),
    ];
    let leaf = option::weighted(0.9, leaf).prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 8, 3, |inner| {
        let list = vec((key(), option::of(inner.clone())), 0..3).prop_map(|pairs| {
            let values =
                pairs.into_iter().map(|(key, value)| KeyValue { key, value, key_strindex: 0 }).collect();
            any_value::Value::KvlistValue(KeyValueList { values })
        });
        let array = vec(inner, 0..3).prop_map(|values| any_value::Value::ArrayValue(ArrayValue { values }));
        prop_oneof![list, array].prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let index = prop_oneof![9 => Just(0), 1 => any::<i32>()];
    vec((key(), option::weighted(0.9, value()), index), 0..5).prop_map(|all| {
        all.into_iter().map(|(key, value, key_strindex)| KeyValue { key, value, key_strindex }).collect()
    })
}

fn resource() -> impl Strategy<Value = Resource> {
    let entity = (text(), text(), vec(key(), 0..3), vec(key(), 0..3)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef {
            schema_url,
            r#type,
            id_keys,
            description_keys,
        },
    );
    (attributes(), any::<u32>(), vec(entity, 0..3)).prop_map(
        |(attributes, dropped_attributes_count, entity_refs)| Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        },
    )
}

fn trace_id() -> impl Strategy<Value = Vec<u8>> {
    select(vec![TRACE.to_vec(), TRACE.to_vec(), TRACE.to_vec(), vec![9; 16], vec![0; 16], vec![]])
}

fn span_id() -> impl Strategy<Value = Vec<u8>> {
    select(vec![vec![1; 8], vec![0xFF; 8], vec![]])
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), text(), attributes(), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    (trace_id(), span_id(), text(), attributes(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, number)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count: number,
            flags: number,
        },
    )
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (trace_id(), span_id(), span_id());
    let status = option::of((text(), any::<i32>()))
        .prop_map(|status| status.map(|(message, code)| Status { message, code }));
    let parts = (attributes(), vec(event(), 0..3), vec(link(), 0..2), status);
    (ids, text(), any::<u32>(), any::<u64>(), parts).prop_map(|(ids, name, number, time, parts)| {
        let (trace_id, span_id, parent_span_id) = ids;
        let (attributes, events, links, status) = parts;
        Span {
            trace_id,
            span_id,
            trace_state: name.clone(),
            parent_span_id,
            flags: number,
            name,
            kind: number.cast_signed(),
            start_time_unix_nano: time,
            end_time_unix_nano: time,
            attributes,
            dropped_attributes_count: number,
            events,
            dropped_events_count: number,
            links,
            dropped_links_count: number,
            status,
        }
    })
}

fn scope_spans() -> impl Strategy<Value = ScopeSpans> {
    let scope = (text(), text(), attributes(), any::<u32>()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    );
    (option::of(scope), vec(span(), 0..4), text()).prop_map(|(scope, spans, schema_url)| ScopeSpans {
        scope,
        spans,
        schema_url,
    })
}

/// A whole request.
pub(super) fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let entry = (option::of(resource()), vec(scope_spans(), 0..3), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(entry, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}
