//! Tests of the rewriter: what goes, what stays to the byte, what is counted. prost is the judge
//! of what leaves; the property over any input is in `tests/it/otlp_property.rs`.

mod items;
mod pieces;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value, resource::v1::Resource,
};
use prost::Message;

use super::*;
use crate::otlp::testkit::{TRACE, attribute, fixed32, int, len, long_varint, request, span, with_span};
use crate::otlp::{inspect, wire};

fn policy() -> Policy {
    Policy {
        protected: Arc::new(ProtectedKeys::new(["ci.job.id", "service.name"], ["gitlab."])),
        strip_scope: false,
        strip_items: false,
        max_item_size: 4096,
    }
}

fn stamp() -> Stamp {
    Stamp::new([("ci.job.id", Value::Int(42)), ("service.name", Value::String("gitlab-ci-runner"))])
}

/// Rewrites with everything as usual, and checks what must hold for every rewrite.
fn run(body: &[u8], policy: &Policy, budget: u64) -> (Vec<u8>, Rewritten) {
    let body = Bytes::copy_from_slice(body);
    let rewritten = rewrite(Signal::Traces, &body, policy, &stamp(), budget).unwrap();
    let whole = rewritten.pieces.concat();
    assert_eq!(whole.len(), rewritten.len);
    assert!(rewritten.pieces.iter().all(|piece| !piece.is_empty()));
    (whole, rewritten)
}

/// A request with one entry of this content and, behind it, a span.
fn with_item(entry: impl AsRef<[u8]>) -> Vec<u8> {
    request([entry.as_ref(), &len(2, len(2, span([])))].concat())
}

/// What leaves of a body, and the counts.
fn leaves(body: &[u8]) -> (Vec<u8>, Rewritten) {
    run(body, &policy(), u64::MAX)
}

fn decode(body: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(body).unwrap()
}

/// The keys of the resource that leaves, and the resource.
fn resource(body: &[u8]) -> (Vec<String>, Resource) {
    let request = decode(&leaves(body).0);
    let resource = request.resource_spans.into_iter().next().unwrap().resource.unwrap();
    (resource.attributes.iter().map(|attribute| attribute.key.clone()).collect(), resource)
}

/// Scenario: numbers at the edges and strings, empty and not ASCII, in one stamp.
/// Guarantees: prost reads from it just those, in that order, as attributes of a resource.
#[test]
fn the_stamp_is_resource_attributes() {
    let values = [
        ("zero", Value::Int(0)),
        ("most", Value::Int(i64::MAX)),
        ("least", Value::Int(i64::MIN)),
        ("empty", Value::String("")),
        ("ключ", Value::String("ñ")),
    ];
    let read = Resource::decode(&Stamp::new(values).encoded()[..]).unwrap().attributes;
    assert_eq!(read.len(), values.len());
    for ((key, value), attribute) in values.into_iter().zip(read) {
        assert_eq!(attribute.key, key);
        let expected = match value {
            Value::Int(number) => any_value::Value::IntValue(number),
            Value::String(text) => any_value::Value::StringValue(text.into()),
        };
        assert_eq!(attribute.value.unwrap().value, Some(expected));
    }
    assert!(Stamp::new([]).encoded().is_empty());
}

/// Scenario: attributes whose keys are shared, are not, stand behind the 255th, or have values just around the
/// lengths where a head grows by a byte.
/// Guarantees: what is written is the same as with own keys, and as long as it says; shared keys take one byte.
#[test]
fn shared_keys_write_the_same() {
    let texts: Vec<String> = [0, 100, 127, 128, 16_384].iter().map(|len| "x".repeat(*len)).collect();
    let values = |key| texts.iter().map(move |text| (key, Value::String(text)));
    let many: Vec<String> = (0..300).map(|number| format!("key.{number}")).collect();
    let keys = SharedKeys::new(many.iter().map(String::as_str));
    for key in ["key.0", "key.254", "key.255", "key.299", "another"] {
        let (own, shared) = (Stamp::new(values(key)), Stamp::with_keys(&keys, values(key)));
        assert_eq!(shared.encoded(), own.encoded(), "{key}");
        assert_eq!((shared.len(), own.len()), (own.encoded().len(), own.encoded().len()), "{key}");
        let saved = if key == "key.0" || key == "key.254" { texts.len() * (key.len() + 3) } else { 0 };
        assert_eq!(own.heap() - shared.heap(), saved, "{key}");
        assert_eq!(Resource::decode(&shared.encoded()[..]).unwrap().attributes.len(), texts.len(), "{key}");
    }
}

/// Scenario: resources that are absent, empty, or in several entries.
/// Guarantees: every entry leaves with exactly one resource that has the stamp.
#[test]
fn every_entry_is_stamped() {
    let body = [with_item([]), with_item(len(1, [])), with_span(span([]))].concat();
    let (out, rewritten) = leaves(&body);
    let request = decode(&out);
    assert_eq!(request.resource_spans.len(), 3);
    for entry in &request.resource_spans {
        let attributes = &entry.resource.as_ref().unwrap().attributes;
        let stamped = Resource::decode(&stamp().encoded()[..]).unwrap().attributes;
        assert!(attributes.ends_with(&stamped));
    }
    assert_eq!((rewritten.kept, rewritten.stripped), (3, 0));
}

/// Scenario: entries and scopes without items, before, between and after ones that have some.
/// Guarantees: only those with items leave, to the byte as they would have left alone.
#[test]
fn what_has_no_items_does_not_leave() {
    let full = with_span(span([]));
    let empty = [
        request([]),
        request(len(1, len(1, attribute("host.name", "vm")))),
        request([len(2, []), len(2, len(1, len(1, "scope"))), len(3, "url"), int(99, 1)].concat()),
    ];
    let body = [&empty[0][..], &full, &empty[1], &empty[2], &full, &empty[0]].concat();
    let (out, rewritten) = leaves(&body);
    assert_eq!(out, leaves(&full).0.repeat(2));
    assert_eq!((rewritten.kept, rewritten.unknown_dropped), (2, 1));

    let scopes = [len(2, len(3, "none")), len(2, len(2, span([]))), len(2, len(1, []))].concat();
    assert_eq!(leaves(&request(scopes)).0, leaves(&request(len(2, len(2, span([]))))).0);
    assert!(leaves(&empty.concat()).0.is_empty());
}

/// Scenario: a thousand entries of next to nothing.
/// Guarantees: the stamp is shared instead of copied, and what leaves is the same.
#[test]
fn many_stamps_are_shared() {
    let entry = len(1, len(2, len(2, len(1, TRACE))));
    let (out, rewritten) = leaves(&entry.repeat(1_000));
    assert_eq!(out, leaves(&entry).0.repeat(1_000));
    let shared = rewritten.pieces.iter().filter(|piece| piece.as_ptr() == rewritten.pieces[1].as_ptr());
    assert_eq!(shared.count(), 1_000);
}

/// Scenario: an empty request.
/// Guarantees: it leaves empty; there is no resource to stamp.
#[test]
fn nothing_becomes_nothing() {
    let (out, rewritten) = leaves(&[]);
    assert!(out.is_empty());
    assert!(rewritten.pieces.is_empty());
}

/// Scenario: forged, duplicated and look-alike attributes among honest ones.
/// Guarantees: all forged ones go whatever their value, the others stay in their order, then the stamp.
#[test]
fn forged_attributes_go() {
    let forged = [
        attribute("ci.job.id", "1"),
        attribute("CI_Job-ID", "2"),
        attribute("service.name", ""),
        attribute("gitlab_anything", "x"),
        [len(1, "ci.job.id"), len(2, int(3, 7))].concat(),
        len(1, "ci.job.id"),
        [len(2, len(1, "value first")), len(1, "ci.job.id")].concat(),
        [len(1, "harmless"), len(1, "ci.job.id"), len(2, len(1, "x"))].concat(),
        [len(1, "harmless"), len(2, len(1, "x")), len(1, "ci.job.id")].concat(),
        [len(1, "harmless"), len(2, len(1, "x")), int(3, 2)].concat(),
        [len(1, "harmless"), int(3, 1)].concat(),
        [int(3, 1 << 31), len(1, "harmless")].concat(),
    ];
    let honest = [
        attribute("host.name", "vm"),
        [len(1, "ci.job.id"), len(1, "last.key"), len(2, len(1, "x"))].concat(),
        [len(1, "zero.index"), int(3, 5), int(3, 0)].concat(),
        [len(1, "cut.index"), int(3, 1 << 32)].concat(),
        attribute("ci.job.identity", "x"),
        vec![],
    ];
    let mut attributes = Vec::new();
    for (at, forgery) in forged.iter().enumerate() {
        attributes.extend(len(1, forgery));
        attributes.extend(honest.get(at).map(|honest| len(1, honest)).unwrap_or_default());
    }
    let body = with_item(len(1, attributes));
    let keys = [
        "host.name",
        "last.key",
        "zero.index",
        "cut.index",
        "ci.job.identity",
        "",
        "ci.job.id",
        "service.name",
    ];
    assert_eq!(resource(&body).0, keys);
    assert_eq!(leaves(&body).1.stripped, forged.len() as u64);
}

/// Scenario: a resource in three parts, among and after the scopes.
/// Guarantees: one resource leaves, first, with all that prost had merged of the parts.
#[test]
fn split_resources_become_one() {
    let parts = [
        len(1, [len(1, attribute("a", "1")), int(2, 5)].concat()),
        len(2, len(2, span([]))),
        len(1, [int(2, 7), len(1, attribute("service.name", "forged")), len(3, len(2, "host"))].concat()),
        len(3, "schema"),
        len(1, len(1, attribute("b", "2"))),
    ];
    let body = request(parts.concat());
    let (keys, merged) = resource(&body);
    assert_eq!(keys, ["a", "b", "ci.job.id", "service.name"]);
    assert_eq!((merged.dropped_attributes_count, merged.entity_refs.len()), (7, 1));
    let (out, _) = leaves(&body);
    let entry = &decode(&out).resource_spans[0];
    assert_eq!((entry.scope_spans.len(), entry.schema_url.as_str()), (1, "schema"));
    let entry = wire::Reader::new(&out).field().unwrap().unwrap().bytes().unwrap().to_vec();
    let mut fields = wire::Reader::new(&entry);
    let numbers: Vec<_> = std::iter::from_fn(|| fields.field().unwrap()).map(|field| field.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

/// Scenario: entity references that are identified or described by protected keys, or by none.
/// Guarantees: the first go whole, the second lose the key, the third stay to the byte.
#[test]
fn entity_references_to_protected_keys_go() {
    let entity = |ids: &[&str], described: &[&str]| {
        let ids = ids.iter().flat_map(|key| len(3, key));
        let described = described.iter().flat_map(|key| len(4, key));
        len(3, [len(2, "t"), ids.collect(), described.collect()].concat())
    };
    let untouched = entity(&["host.id"], &["host.name"]);
    let refs = [
        entity(&["host.id", "Service_Name"], &["host.name"]),
        untouched.clone(),
        entity(&["host.id"], &["gitlab.x", "host.name", "ci-job-id"]),
    ];
    let body = with_item(len(1, refs.concat()));
    let (_, resource) = resource(&body);
    assert_eq!(resource.entity_refs.len(), 2);
    for entity in resource.entity_refs {
        assert_eq!(
            (entity.id_keys, entity.description_keys),
            (vec!["host.id".into()], vec!["host.name".into()])
        );
    }
    let (out, rewritten) = leaves(&body);
    assert_eq!(rewritten.stripped, 0);
    assert_eq!(out.windows(untouched.len()).filter(|window| *window == untouched).count(), 2);
}

/// Scenario: unknown fields in every message outside the items, and inside.
/// Guarantees: those outside go and are counted as the scanner counts them; those inside stay.
#[test]
fn unknown_fields_outside_the_items_go() {
    let unknown = |id: u8| len(99, vec![id; 5]);
    let kept = [unknown(201), unknown(202)];
    let item = span(&kept[0]);
    let scope = len(
        1,
        [len(1, "name"), unknown(209), len(3, [attribute("k", "v"), kept[1].clone()].concat())].concat(),
    );
    let scopes = [unknown(209), scope, len(2, &item), fixed32(77), len(3, "url")].concat();
    let entity = [len(2, "t"), unknown(209)].concat();
    let forged = [unknown(209), len(3, "ci.job.id")].concat();
    let resource = [len(3, entity), unknown(209), len(3, forged)].concat();
    let entry = [len(1, resource), unknown(209), len(2, scopes), int(500, 1)].concat();
    let body = [unknown(209), request(entry), int(99, 1)].concat();

    let (out, rewritten) = leaves(&body);
    assert_eq!(rewritten.unknown_dropped, 10);
    let rules = inspect::Rules {
        trace_id: None,
        max_item_size: 4096,
        refuse_unknown: false,
        depth: inspect::Depth::Full,
    };
    assert_eq!(inspect::inspect(Signal::Traces, &body, &rules).unwrap().unknown_fields, 10);
    let found =
        inspect::inspect(Signal::Traces, &out, &inspect::Rules { refuse_unknown: true, ..rules }).unwrap();
    assert_eq!((found.items, found.unknown_fields), (1, 0));
    for (id, times) in [(201, 1), (202, 1), (209, 0)] {
        assert_eq!(out.windows(5).filter(|window| *window == [id; 5]).count(), times, "{id}");
    }
    assert_eq!(
        decode(&out).resource_spans[0].scope_spans[0].scope,
        decode(&body).resource_spans[0].scope_spans[0].scope
    );
}

/// Scenario: bodies that no inspection accepted, among them every cut of a good one.
/// Guarantees: refused or rewritten, never a panic; what the rewriter walks must be sound.
#[test]
fn what_was_not_inspected_is_refused() {
    let body = request([len(1, len(1, attribute("a", "b"))), len(2, len(2, span([])))].concat());
    for cut in 1..body.len() {
        let cut = Bytes::copy_from_slice(&body[..cut]);
        assert!(rewrite(Signal::Traces, &cut, &policy(), &stamp(), 1).is_err());
    }
    let bad = [
        request(len(1000, [])),
        request(int(1, 1)),
        request(len(2, int(2, 1))),
        request(len(1, len(1, [0x0B]))),
        request(vec![]).repeat(1001),
    ];
    for body in bad {
        assert!(rewrite(Signal::Traces, &body.into(), &policy(), &stamp(), 1).is_err());
    }
}
