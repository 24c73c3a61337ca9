//! Requests of the traces signal.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Event, Link},
    },
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message;

use super::{attributes, entries, span_id, text, trace_id};

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

pub(super) fn body() -> impl Strategy<Value = Vec<u8>> {
    entries(
        span(),
        |scope, spans, schema_url| ScopeSpans { scope, spans, schema_url },
        |resource, scope_spans, schema_url| ResourceSpans { resource, scope_spans, schema_url },
    )
    .prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans }.encode_to_vec())
}
