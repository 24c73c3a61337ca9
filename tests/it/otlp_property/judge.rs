//! The judge: what must hold for one body, said once more in terms of prost's own types and
//! without a line of the code under test.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{EntityRef, KeyValue},
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::Message;
use spangate::otlp::{
    TraceId,
    inspect::{Depth, Inspection, Rules, inspect},
    rewrite::{Policy, ProtectedKeys, Rewritten, Stamp, Value, rewrite},
    signal::Signal,
};

/// The expected trace.
pub(super) const TRACE: [u8; 16] = [0xAB; 16];

const KEYS: [&str; 3] = ["ci.job.id", "service.name", "ci.runner_manager.system_xid"];
const PREFIX: &str = "gitlab.";
const VERIFIED: [(&str, Value<'static>); 3] = [
    ("ci.job.id", Value::Int(42)),
    ("service.name", Value::String("gitlab-ci-runner")),
    ("gitlab.cell.id", Value::Int(-7)),
];

/// One body and how it is to be treated.
pub(super) struct Case {
    pub(super) body: Vec<u8>,
    pub(super) strip_scope: bool,
    pub(super) strip_items: bool,
    pub(super) max_item_size: usize,
    pub(super) budget: u64,
    /// Whether prost wrote the body, so that it can tell how long each span is.
    pub(super) exact: bool,
}

/// What became of it.
pub(super) enum Outcome {
    Accepted(Inspection),
    Refused,
}

/// All spans, in order.
pub(super) fn spans(request: &ExportTraceServiceRequest) -> Vec<&Span> {
    let scopes = request.resource_spans.iter().flat_map(|entry| &entry.scope_spans);
    scopes.flat_map(|scope| &scope.spans).collect()
}

fn protected(key: &str) -> bool {
    let folded = |key: &str| key.to_ascii_lowercase().replace(['_', '-'], ".");
    KEYS.iter().any(|own| folded(own) == folded(key)) || folded(key).starts_with(PREFIX)
}

fn forged(attribute: &KeyValue) -> bool {
    protected(&attribute.key) || attribute.key_strindex != 0
}

/// Puts one body through the scanner and the rewriter, and panics if anything does not hold.
pub(super) fn hold(case: &Case) -> Outcome {
    let rules = Rules {
        trace_id: TraceId::from_lower_hex(&"ab".repeat(16)),
        max_item_size: case.max_item_size,
        refuse_unknown: false,
        depth: Depth::Full,
    };
    let policy = Policy {
        protected: Arc::new(ProtectedKeys::new(KEYS, [PREFIX])),
        strip_scope: case.strip_scope,
        strip_items: case.strip_items,
        max_item_size: case.max_item_size,
    };
    let stamp = Stamp::new(VERIFIED);
    let body = Bytes::copy_from_slice(&case.body);
    let rewritten = rewrite(Signal::Traces, &body, &policy, &stamp, case.budget);
    let strict = inspect(Signal::Traces, &body, &Rules { refuse_unknown: true, ..rules });
    let Ok(found) = inspect(Signal::Traces, &body, &rules) else {
        assert!(strict.is_err(), "strict rules accept what lenient ones refuse");
        return Outcome::Refused;
    };
    assert_eq!(strict.is_err(), found.unknown_fields > 0);

    let before = ExportTraceServiceRequest::decode(&body[..]).expect("prost refuses what was accepted");
    counts_agree(&before, &found);
    let rewritten = rewritten.expect("what was accepted is rewritten");
    let leaves = rewritten.pieces.concat();
    assert_eq!(leaves.len(), rewritten.len);
    tallies_agree(&rewritten, &found, case);

    let after = ExportTraceServiceRequest::decode(&leaves[..]).expect("prost refuses what leaves");
    vouched_for(&after);
    let again =
        inspect(Signal::Traces, &leaves, &Rules { refuse_unknown: true, ..rules }).expect("refused again");
    assert_eq!((again.items, again.resources), (rewritten.kept, after.resource_spans.len() as u64));

    // By bytes: floats that are no number are not equal to themselves.
    let expected = expected(before, &after, case);
    assert_eq!(after.encode_to_vec(), expected.encode_to_vec(), "\nleft {after:#?}\nright {expected:#?}");
    Outcome::Accepted(found)
}

fn counts_agree(before: &ExportTraceServiceRequest, found: &Inspection) {
    let all = spans(before);
    assert_eq!(found.items, all.len() as u64);
    assert_eq!(found.resources, before.resource_spans.len() as u64);
    // prost keeps the last of several ids, the gate counts every one: never fewer than prost.
    let foreign = all.iter().filter(|span| span.trace_id != TRACE).count() as u64;
    assert!(found.foreign >= foreign, "a foreign span passed the gate");
}

fn tallies_agree(rewritten: &Rewritten, found: &Inspection, case: &Case) {
    let within = found.items - found.oversize;
    assert_eq!(rewritten.oversize, found.oversize);
    assert_eq!(rewritten.kept, within.min(case.budget));
    assert_eq!(rewritten.over_budget, within - rewritten.kept);
    assert_eq!(rewritten.unknown_dropped, found.unknown_fields);
}

/// Each resource has exactly the verified attributes under protected keys, once each, in order.
fn vouched_for(after: &ExportTraceServiceRequest) {
    let verified = Resource::decode(&Stamp::new(VERIFIED).encoded()[..]).expect("the stamp").attributes;
    for entry in &after.resource_spans {
        let resource = entry.resource.as_ref().expect("a resource");
        let under: Vec<_> =
            resource.attributes.iter().filter(|attribute| forged(attribute)).cloned().collect();
        assert_eq!(under, verified);
        let mut named = resource
            .entity_refs
            .iter()
            .flat_map(|entity| entity.id_keys.iter().chain(&entity.description_keys));
        assert!(!named.any(|key| protected(key)));
    }
}

/// What prost read before, changed as it should be. Which spans are too long prost can tell only
/// of its own encoding; of any other a span is left out here if it is missing there.
fn expected(
    mut request: ExportTraceServiceRequest,
    after: &ExportTraceServiceRequest,
    case: &Case,
) -> ExportTraceServiceRequest {
    let verified = Resource::decode(&Stamp::new(VERIFIED).encoded()[..]).expect("the stamp").attributes;
    let mut budget = case.budget;
    // Of what prost did not write, a span is left out here if it is missing there.
    let mut left = spans(after).into_iter().map(Message::encode_to_vec).peekable();
    for entry in &mut request.resource_spans {
        let resource = entry.resource.get_or_insert_default();
        resource.attributes.retain(|attribute| !forged(attribute));
        resource.attributes.extend(verified.iter().cloned());
        resource.entity_refs.retain(|entity| !entity.id_keys.iter().any(|key| protected(key)));
        for EntityRef { description_keys, .. } in &mut resource.entity_refs {
            description_keys.retain(|key| !protected(key));
        }
        for scopes in &mut entry.scope_spans {
            if let Some(scope) = &mut scopes.scope
                && case.strip_scope
            {
                scope.attributes.retain(|attribute| !forged(attribute));
            }
            if case.exact {
                scopes.spans.retain(|span| {
                    let kept = span.encoded_len() <= case.max_item_size && budget > 0;
                    budget -= u64::from(kept);
                    kept
                });
            }
            for span in &mut scopes.spans {
                if case.strip_items {
                    span.attributes.retain(|attribute| !forged(attribute));
                }
            }
            if !case.exact {
                scopes.spans.retain(|span| left.next_if_eq(&span.encode_to_vec()).is_some());
            }
        }
        entry.scope_spans.retain(|scopes| !scopes.spans.is_empty());
    }
    request.resource_spans.retain(|entry| !entry.scope_spans.is_empty());
    request
}
