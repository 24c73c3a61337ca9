//! Tests of the scanner and the trace gate: one for each rule, on bytes that only a hand can write.

mod references;
mod values;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, EntityRef, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Event, Link},
    },
};
use prost::Message;

use super::{Depth, Inspection, Malformed, Rules, inspect};
use crate::otlp::{
    TraceId,
    signal::Signal,
    testkit::{TRACE, attribute, fixed32, fixed64, int, len, long_varint, request, span, varint, with_span},
};

fn rules() -> Rules {
    Rules {
        trace_id: TraceId::from_lower_hex("abababababababababababababababab"),
        max_item_size: 4096,
        refuse_unknown: false,
        depth: Depth::Full,
    }
}

fn check(body: &[u8]) -> Result<Inspection, Malformed> {
    inspect(Signal::Traces, body, &rules())
}

/// What is wrong with a body that must be refused.
fn reason(body: &[u8]) -> &'static str {
    check(body).expect_err("accepted").0
}

fn text(value: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(value.into())) }
}

fn attributes() -> Vec<KeyValue> {
    vec![
        KeyValue { key: "plain".into(), value: Some(text("text")), key_strindex: 0 },
        KeyValue { key: "ключ".into(), value: Some(text("значение")), key_strindex: 3 },
        KeyValue { key: "long".into(), value: Some(text(&"x".repeat(150))), key_strindex: 0 },
        KeyValue {
            key: "number".into(),
            value: Some(AnyValue { value: Some(Value::IntValue(-1)) }),
            key_strindex: 0,
        },
        KeyValue { key: "none".into(), value: None, key_strindex: 0 },
    ]
}

/// A request with every field of every message set.
fn full() -> ExportTraceServiceRequest {
    let span = Span {
        trace_id: TRACE.into(),
        span_id: vec![2; 8],
        trace_state: "a=b".into(),
        parent_span_id: vec![3; 8],
        flags: 256,
        name: "job".into(),
        kind: 2,
        start_time_unix_nano: 4,
        end_time_unix_nano: 5,
        attributes: attributes(),
        dropped_attributes_count: 6,
        events: vec![Event {
            time_unix_nano: 7,
            name: "event".into(),
            attributes: attributes(),
            dropped_attributes_count: 8,
        }],
        dropped_events_count: 9,
        links: vec![Link {
            trace_id: vec![10; 16],
            span_id: vec![11; 8],
            trace_state: "c=d".into(),
            attributes: attributes(),
            dropped_attributes_count: 12,
            flags: 13,
        }],
        dropped_links_count: 14,
        status: Some(Status { message: "failed".into(), code: 2 }),
    };
    let entity = EntityRef {
        schema_url: "s".into(),
        r#type: "host".into(),
        id_keys: vec!["host.id".into()],
        description_keys: vec!["host.name".into()],
    };
    let resource =
        Resource { attributes: attributes(), dropped_attributes_count: 15, entity_refs: vec![entity] };
    let scope = InstrumentationScope {
        name: "scope".into(),
        version: "1".into(),
        attributes: attributes(),
        dropped_attributes_count: 16,
    };
    let scope_spans =
        ScopeSpans { scope: Some(scope), spans: vec![span.clone(), span], schema_url: "u".into() };
    let entry = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope_spans.clone(), scope_spans],
        schema_url: "v".into(),
    };
    ExportTraceServiceRequest { resource_spans: vec![entry.clone(), entry, ResourceSpans::default()] }
}

/// Scenario: a request in which every field that opentelemetry-proto knows is set.
/// Guarantees: the tables know all of them, and what is counted is right, sizes to the byte.
#[test]
fn every_known_field_is_known() {
    let body = full().encode_to_vec();
    let strict = Rules { refuse_unknown: true, ..rules() };
    let expected = Inspection { items: 8, oversize: 0, foreign: 0, resources: 3, unknown_fields: 0 };
    assert_eq!(inspect(Signal::Traces, &body, &strict), Ok(expected));

    let size = full().resource_spans[0].scope_spans[0].spans[0].encoded_len();
    for (max_item_size, oversize) in [(size, 0), (size - 1, 8)] {
        let found = inspect(Signal::Traces, &body, &Rules { max_item_size, ..rules() }).unwrap();
        assert_eq!(found.oversize, oversize);
    }
}

/// Scenario: nothing, and a resource with nothing in it.
/// Guarantees: well formed, with no items.
#[test]
fn empty_is_well_formed() {
    assert_eq!(check(&[]), Ok(Inspection::default()));
    assert_eq!(check(&request([])), Ok(Inspection { resources: 1, ..Inspection::default() }));
}

/// Scenario: a good request cut short at every byte.
/// Guarantees: a cut never passes for more than whole leading entries, and never panics.
#[test]
fn a_cut_request_is_refused() {
    let mut body = full();
    body.resource_spans.truncate(2);
    body.resource_spans[1] = ResourceSpans::default();
    let whole = body.encoded_len() - 2;
    let body = body.encode_to_vec();
    for cut in 1..=body.len() {
        assert_eq!(check(&body[..cut]).is_ok(), [whole, whole + 2].contains(&cut), "cut at {cut}");
    }
}

/// Scenario: each known field of each message written in each wire type.
/// Guarantees: its own wire type alone is accepted.
#[test]
fn a_known_field_has_one_wire_type() {
    let wrapped = |path: &[u64], field: Vec<u8>| path.iter().rev().fold(field, |inner, &at| len(at, inner));
    let (string, number, eight, four) = (2, 0, 1, 5);
    let any_value = |path: &[u64]| {
        let mut fields = vec![];
        for (at, wire) in [(1, string), (2, number), (3, number), (4, eight), (5, 2), (6, 2), (7, 2), (8, 0)]
        {
            fields.push((path.to_vec(), at, wire));
        }
        fields
    };
    let mut known: Vec<(Vec<u64>, u64, u64)> = vec![
        (vec![], 1, 2),
        (vec![1], 1, 2),
        (vec![1], 2, 2),
        (vec![1], 3, string),
        (vec![1, 1], 1, 2),
        (vec![1, 1], 2, number),
        (vec![1, 1], 3, 2),
        (vec![1, 2], 1, 2),
        (vec![1, 2], 2, 2),
        (vec![1, 2], 3, string),
    ];
    known.extend((1..=4).map(|at| (vec![1, 1, 3], at, string)));
    known.extend([(1, string), (2, string), (3, 2), (4, number)].map(|(at, wire)| (vec![1, 2, 1], at, wire)));
    let span = [2, 2, 2, 2, 2, 0, 1, 1, 2, 0, 2, 0, 2, 0, 2, 5];
    known.extend((1..).zip(span).map(|(at, wire)| (vec![1, 2, 2], at, wire)));
    let event = [eight, string, 2, number];
    known.extend((1..).zip(event).map(|(at, wire)| (vec![1, 2, 2, 11], at, wire)));
    let link = [2, 2, string, 2, number, four];
    known.extend((1..).zip(link).map(|(at, wire)| (vec![1, 2, 2, 13], at, wire)));
    known.extend([(2, string), (3, number)].map(|(at, wire)| (vec![1, 2, 2, 15], at, wire)));
    for attribute in [vec![1, 1, 1], vec![1, 2, 1, 3], vec![1, 2, 2, 9], vec![1, 2, 2, 11, 3]] {
        known.extend([(1, string), (2, 2), (3, number)].map(|(at, wire)| (attribute.clone(), at, wire)));
        let value = [attribute, vec![2]].concat();
        known.extend(any_value(&value));
        known.extend(any_value(&[&value[..], &[5, 1]].concat()));
        known.push(([&value[..], &[6]].concat(), 1, 2));
    }
    for (path, at, own) in known {
        for (wire, field) in [(0, int(at, 1)), (1, fixed64(at)), (2, len(at, [])), (5, fixed32(at))] {
            let outcome = check(&wrapped(&path, field));
            assert_eq!(
                outcome.is_ok(),
                wire == own,
                "field {at} in {path:?} as wire type {wire}: {outcome:?}"
            );
        }
    }
}

/// Puts bytes somewhere into a request.
type Place<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

/// Scenario: bytes that break the wire format at every depth.
/// Guarantees: each is refused.
#[test]
fn broken_wire_is_refused_at_every_depth() {
    let broken = [
        (varint(0), "tag"),
        (varint(2), "tag"),
        (varint((1 << 32) | 0x0A), "tag"),
        (vec![0x0B], "group"),
        (vec![0x0C], "group"),
        (vec![0x0E], "group"),
        (vec![0x0F], "group"),
        (vec![0xFF; 10], "varint"),
        (vec![0x80], "varint"),
        ([varint(0x7A), varint(1)].concat(), "beyond"),
        ([varint(0x7A), varint(u64::MAX)].concat(), "beyond"),
    ];
    let places: [Place; 10] = [
        &|bytes| bytes.to_vec(),
        &|bytes| request(bytes),
        &|bytes| request(len(1, bytes)),
        &|bytes| request(len(1, len(1, bytes))),
        &|bytes| request(len(1, len(3, bytes))),
        &|bytes| request(len(2, bytes)),
        &|bytes| request(len(2, len(1, bytes))),
        &with_span_of,
        &|bytes| with_span(span(len(9, len(2, bytes)))),
        &|bytes| with_span(span(len(9, len(2, len(5, len(1, bytes)))))),
    ];
    for (bytes, word) in &broken {
        for (depth, place) in places.iter().enumerate() {
            assert!(reason(&place(bytes)).contains(word), "{bytes:x?} at {depth}");
        }
    }
}

fn with_span_of(bytes: &[u8]) -> Vec<u8> {
    with_span(span(bytes))
}

/// Scenario: tags and lengths written with needless bytes, ids and plain attributes included.
/// Guarantees: they are read for what they say.
#[test]
fn over_long_varints_are_read() {
    let long = |number: u64, content: &[u8]| {
        [long_varint(number << 3 | 2, 5), long_varint(content.len() as u64, 9), content.to_vec()].concat()
    };
    let foreign = long(1, &[9; 16]);
    let own = long(1, &TRACE);
    let tagged = long(9, &[long(1, b"key"), long(2, &long(1, b"value"))].concat());
    for (id, expected) in [(own, 0), (foreign, 1)] {
        let body = long(1, &long(2, &long(2, &[id, tagged.clone()].concat())));
        let found = check(&body).unwrap();
        assert_eq!((found.items, found.foreign, found.unknown_fields), (1, expected, 0));
    }
}

/// Scenario: a span of the trace, of another, of none, of zeros, and with two ids in either order.
/// Guarantees: all but the first are foreign, wherever the span stands, and none is when no trace is expected.
#[test]
fn the_trace_gate_counts_every_stranger() {
    let other = len(1, [9; 16]);
    let foreign = [
        other.clone(),
        vec![],
        len(1, []),
        len(1, [0; 16]),
        [len(1, TRACE), other.clone()].concat(),
        [other, len(1, TRACE)].concat(),
        [len(1, TRACE), len(1, [])].concat(),
    ];
    let good = span([]);
    for id in foreign {
        let bad = [id, len(2, [1; 8])].concat();
        let scopes =
            |items: &[&Vec<u8>]| len(2, items.iter().flat_map(|item| len(2, item)).collect::<Vec<_>>());
        let body = [
            request(scopes(&[&good])),
            request([scopes(&[]), scopes(&[&good, &bad]), scopes(&[&good])].concat()),
            request(scopes(&[&bad])),
        ]
        .concat();
        let found = check(&body).unwrap();
        assert_eq!((found.items, found.foreign), (5, 2), "{bad:x?}");
        let found = inspect(Signal::Traces, &body, &Rules { trace_id: None, ..rules() }).unwrap();
        assert_eq!((found.items, found.foreign), (5, 0));
    }
}

/// Scenario: a link to another trace, and a parent that is nowhere.
/// Guarantees: neither makes a span foreign.
#[test]
fn links_and_parents_may_point_anywhere() {
    let link = len(13, [len(1, [9; 16]), len(2, [9; 8])].concat());
    assert_eq!(check(&with_span(span([link, len(4, [9; 8])].concat()))).unwrap().foreign, 0);
}

/// Scenario: ids of every length in spans and links, as the only or as an earlier occurrence.
/// Guarantees: only the right length passes, or none at all, which means absent.
#[test]
fn ids_have_their_length() {
    for length in [0_usize, 1, 7, 8, 9, 15, 16, 17, 32] {
        let id = vec![0xAB; length];
        let cases = [
            (16, len(1, &id)),
            (16, len(13, len(1, &id))),
            (8, len(2, &id)),
            (8, len(4, &id)),
            (8, len(13, len(2, &id))),
            (8, [len(2, &id), len(2, [1; 8])].concat()),
        ];
        for (right, field) in cases {
            let outcome = check(&with_span(span(&field)));
            assert_eq!(outcome.is_ok(), length == 0 || length == right, "{field:x?}");
        }
    }
}

/// Scenario: the field that OTLP removed and the Collector still reads, in any wire type.
/// Guarantees: refused in a resource's entry, where alone it means anything.
#[test]
fn the_legacy_field_is_refused() {
    for field in [len(1000, len(2, span([]))), len(1000, []), int(1000, 1)] {
        assert!(reason(&request(&field)).contains("OTLP removed"));
        assert!(check(&with_span(span(&field))).is_ok());
    }
}

/// Scenario: fields that no one knows, outside the items and inside.
/// Guarantees: outside they are counted, or refused in transparent mode; inside they pass.
#[test]
fn unknown_fields_are_counted_outside_the_items() {
    let strict = Rules { refuse_unknown: true, ..rules() };
    for unknown in [int(99, 1), len(99, "x"), fixed32(99), fixed64((1 << 29) - 1)] {
        let outside = [
            unknown.clone(),
            request(&unknown),
            request(len(1, &unknown)),
            request(len(1, len(3, &unknown))),
            request(len(2, &unknown)),
            request(len(2, len(1, &unknown))),
        ];
        for body in outside {
            assert_eq!(check(&body).unwrap().unknown_fields, 1, "{body:x?}");
            assert!(inspect(Signal::Traces, &body, &strict).is_err());
        }
        let inside = [
            request(len(1, len(1, &unknown))),
            request(len(1, len(1, len(2, &unknown)))),
            with_span(span(&unknown)),
            with_span(span(len(11, &unknown))),
            with_span(span(len(13, &unknown))),
            with_span(span(len(15, &unknown))),
            with_span(span(len(9, len(2, len(5, &unknown))))),
        ];
        for body in inside {
            assert_eq!(inspect(Signal::Traces, &body, &strict).unwrap().unknown_fields, 0, "{body:x?}");
        }
    }
}

/// Scenario: 1000 resources and one more.
/// Guarantees: the last is too many.
#[test]
fn resources_are_bounded() {
    let body = request([]).repeat(1000);
    assert_eq!(check(&body).unwrap().resources, 1000);
    assert!(reason(&[body, request([])].concat()).contains("1000"));
}

/// Scenario: empty scopes, in one resource and in many, as many as are free and as their bytes allow, and some more; scopes
/// with the shortest span, however many.
/// Guarantees: only scopes that hold next to nothing can be too many.
#[test]
fn scopes_are_bounded_by_length() {
    let empty = |scopes: usize| len(1, len(2, []).repeat(scopes));
    assert!(check(&empty(1000)).is_ok());
    assert!(check(&empty(1100)).is_ok());
    assert!(reason(&empty(1120)).contains("scopes"));
    assert!(reason(&empty(500_000)).contains("scopes"));
    assert!(check(&empty(100).repeat(10)).is_ok());
    assert!(reason(&empty(11).repeat(110)).contains("scopes"));
    let shortest = len(2, len(2, len(1, TRACE)));
    assert!(check(&len(1, shortest.repeat(50_000))).is_ok());
}
