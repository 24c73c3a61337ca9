//! The judge: what must hold for one body of any signal, said once more in terms of prost's own
//! types and without a line of the code under test.

mod raw;
mod references;
mod signals;

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{EntityRef, KeyValue},
    profiles::v1development::KeyValueAndUnit,
    resource::v1::Resource,
};
use prost::Message;
use spangate::otlp::{
    TraceId,
    inspect::{Depth, Inspection, Malformed, Rules, inspect},
    rewrite::{Policy, ProtectedKeys, Rewritten, Stamp, Value, rewrite},
    signal::Signal,
};

use self::signals::{Entry, Export, Item, Scopes};

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
    pub(super) signal: Signal,
    pub(super) body: Vec<u8>,
    pub(super) strip_scope: bool,
    pub(super) strip_items: bool,
    pub(super) max_item_size: usize,
    pub(super) budget: u64,
    /// Whether prost wrote the body, so that it must be accepted and hold nothing unknown.
    pub(super) exact: bool,
}

/// What became of it.
pub(super) enum Outcome {
    Accepted(Inspection),
    Refused,
}

/// Whether each item leaves, by entry and by scope.
type Fates = Vec<Vec<Vec<bool>>>;

/// What must leave, and what was done for it.
struct Expected<R> {
    request: R,
    /// For each item that is kept, whether it lost an attribute.
    changed: Vec<bool>,
    removed: u64,
}

/// The keys of one request, which in a profile may stand in its dictionary.
struct Keys {
    strings: Option<Vec<String>>,
}

impl Keys {
    fn of<R: Export>(request: &mut R, signal: Signal) -> Self {
        let strings = request.dictionary().map(|dictionary| dictionary.string_table.clone());
        Self { strings: (signal == Signal::Profiles).then(|| strings.unwrap_or_default()) }
    }

    /// Whether an index into the dictionary points at a protected key, or at nothing.
    fn points_at_protected(&self, index: i32) -> bool {
        let key = usize::try_from(index).ok().and_then(|index| self.strings.as_ref()?.get(index));
        key.is_none_or(|key| protected(key))
    }

    /// The same for an entry of the dictionary's table of attributes, which has no key but that
    /// index. At place 0 stands the empty string, or the request was refused.
    fn forged_entry(&self, attribute: &KeyValueAndUnit) -> bool {
        attribute.key_strindex != 0 && self.points_at_protected(attribute.key_strindex)
    }

    fn forged(&self, attribute: &KeyValue) -> bool {
        protected(&attribute.key)
            || (attribute.key_strindex != 0 && self.points_at_protected(attribute.key_strindex))
    }

    /// Takes the forged ones out and counts them.
    fn strip(&self, attributes: &mut Vec<KeyValue>) -> u64 {
        let before = attributes.len();
        attributes.retain(|attribute| !self.forged(attribute));
        (before - attributes.len()) as u64
    }
}

fn protected(key: &str) -> bool {
    // Each run of what is no letter or digit becomes one dot.
    let folded = |key: &str| {
        key.chars().fold(String::new(), |mut folded, c| {
            match c.is_ascii_alphanumeric() {
                true => folded.push(c.to_ascii_lowercase()),
                false if folded.ends_with('.') => {}
                false => folded.push('.'),
            }
            folded
        })
    };
    KEYS.iter().any(|own| folded(own) == folded(key)) || folded(key).starts_with(PREFIX)
}

fn verified() -> Vec<KeyValue> {
    Resource::decode(&Stamp::new(VERIFIED).encoded()[..]).expect("the stamp").attributes
}

/// Says which case it was when something does not hold; the last one said is the smallest found.
struct OnPanic<'a>(&'a Case);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Case { signal, body, strip_scope, strip_items, max_item_size, budget, .. } = self.0;
            let hex = body.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            eprintln!("{signal:?} {hex} {strip_scope} {strip_items} {max_item_size} {budget}");
        }
    }
}

/// Puts one body through the scanner and the rewriter, and panics if anything does not hold.
pub(super) fn hold(case: &Case) -> Outcome {
    let _case = OnPanic(case);
    match case.signal {
        Signal::Traces => hold_as::<ExportTraceServiceRequest>(case),
        Signal::Metrics => hold_as::<ExportMetricsServiceRequest>(case),
        Signal::Logs => hold_as::<ExportLogsServiceRequest>(case),
        Signal::Profiles => hold_as::<ExportProfilesServiceRequest>(case),
    }
}

fn hold_as<R: Export>(case: &Case) -> Outcome {
    let rules = Rules {
        trace_id: TraceId::from_lower_hex(&"ab".repeat(16)),
        max_item_size: case.max_item_size,
        refuse_unknown: false,
        depth: Depth::Full,
    };
    let body = Bytes::copy_from_slice(&case.body);
    let strict = inspect(case.signal, &body, &Rules { refuse_unknown: true, ..rules });
    let found = inspect(case.signal, &body, &rules);
    let shallow = Rules { depth: Depth::Structure, ..rules };
    let glanced = inspect(case.signal, &body, &shallow);
    let Ok(found) = found else {
        assert!(strict.is_err(), "strict rules accept what lenient ones refuse");
        let reason = case.exact.then(|| R::decode(&body[..]).expect("what prost wrote"));
        assert!(
            reason.is_none_or(|mut request| references::dangle(&mut request, case.signal)),
            "what prost wrote is refused"
        );
        // What a glance lets pass the Collector judges; if it can be read, it is vouched for too.
        // What nothing lets pass is not rewritten, but would not break the rewriter either.
        match (glanced, R::decode(&body[..])) {
            (Ok(glanced), Ok(before)) => rewritten_as_due(case, &shallow, &body, before, &glanced),
            _ => drop(rewritten(case, &body)),
        }
        return Outcome::Refused;
    };
    assert_eq!(strict.is_err(), found.unknown_fields > 0);
    assert!(!case.exact || found.unknown_fields == 0, "what prost wrote is unknown");
    assert_eq!(glanced, Ok(found), "a glance sees another request");
    let before = R::decode(&body[..]).expect("prost refuses what was accepted");
    rewritten_as_due(case, &rules, &body, before, &found);
    Outcome::Accepted(found)
}

fn rewritten(case: &Case, body: &Bytes) -> Result<Rewritten, Malformed> {
    let policy = Policy {
        protected: Arc::new(ProtectedKeys::new(KEYS, [PREFIX])),
        strip_scope: case.strip_scope,
        strip_items: case.strip_items,
        max_item_size: case.max_item_size,
    };
    rewrite(case.signal, body, &policy, &Stamp::new(VERIFIED), case.budget)
}

/// What must hold for a body that was accepted and that prost reads as `before`.
fn rewritten_as_due<R: Export>(case: &Case, rules: &Rules, body: &Bytes, mut before: R, found: &Inspection) {
    let signal = case.signal;
    assert!(!references::dangle(&mut before, signal), "a reference to nothing passes");
    let is_full = rules.depth == Depth::Full;
    let items = raw::Request::decode(&body[..]).expect("the frame");
    counts_agree(case, &items, found);
    assert!(!is_full || !items.items().any(|item| raw::is_contested(signal, item)), "two kinds of data");
    let rewritten = match rewritten(case, body) {
        // Only where the rewriter goes deeper into an item than a glance did.
        Err(_) if !is_full && case.strip_items => return,
        rewritten => rewritten.expect("what was accepted is rewritten"),
    };
    let leaves = rewritten.pieces.concat();
    assert_eq!(leaves.len(), rewritten.len);
    tallies_agree(&rewritten, found, case);

    let mut after = R::decode(&leaves[..]).expect("prost refuses what leaves");
    vouched_for(&mut after, signal);
    let left = raw::Request::decode(&leaves[..]).expect("the frame");
    let again = inspect(signal, &leaves, &Rules { refuse_unknown: true, ..*rules }).expect("refused again");
    assert_eq!((again.items, again.resources), (rewritten.kept, left.entries.len() as u64));

    let fates = fates(&items, case);
    let expected = expected(before, &fates, case);
    // By bytes: floats that are no number are not equal to themselves.
    assert_eq!(
        after.encode_to_vec(),
        expected.request.encode_to_vec(),
        "\nleft {after:#?}\nright {:#?}",
        expected.request
    );
    // What prost has forgotten of a oneof that was set twice is not known here.
    if is_full {
        let all_stay = fates.iter().all(|entry| {
            !entry.is_empty() && entry.iter().all(|scopes| !scopes.is_empty() && !scopes.contains(&false))
        });
        // Where something goes whole, it is left open whether what was in it is counted too.
        assert!(rewritten.stripped == expected.removed || !all_stay && rewritten.stripped > expected.removed);
        untouched_to_the_byte(&items, &left, &fates, &expected.changed);
    }
}

fn counts_agree(case: &Case, items: &raw::Request, found: &Inspection) {
    let all: Vec<_> = items.items().collect();
    let count = |test: &dyn Fn(&[u8]) -> bool| all.iter().filter(|item| test(item)).count() as u64;
    assert_eq!(found.items, all.len() as u64);
    assert_eq!(found.resources, items.entries.len() as u64);
    assert_eq!(found.oversize, count(&|item| item.len() > case.max_item_size));
    // All that is foreign outside the items counts as one.
    let outside = u64::from(raw::has_foreign_link(case.signal, &case.body));
    assert_eq!(found.foreign, count(&|item| raw::is_foreign(case.signal, item)) + outside);
    // The Collector reads the removed field 1000 as items, and one signal has no such past.
    let legacy = items.entries.iter().any(|entry| !entry.legacy.is_empty());
    assert!(!legacy || case.signal == Signal::Profiles, "a removed field passed the gate");
}

fn tallies_agree(rewritten: &Rewritten, found: &Inspection, case: &Case) {
    let within = found.items - found.oversize;
    assert_eq!(rewritten.oversize, found.oversize);
    assert_eq!(rewritten.kept, within.min(case.budget));
    assert_eq!(rewritten.over_budget, within - rewritten.kept);
    assert_eq!(rewritten.unknown_dropped, found.unknown_fields);
}

/// Each resource has exactly the verified attributes under protected keys, once each, in order.
fn vouched_for<R: Export>(after: &mut R, signal: Signal) {
    let verified = verified();
    let keys = Keys::of(after, signal);
    for entry in after.entries() {
        let resource = entry.resource().as_ref().expect("a resource");
        let under: Vec<_> =
            resource.attributes.iter().filter(|attribute| keys.forged(attribute)).cloned().collect();
        assert_eq!(under, verified);
        let mut named = resource
            .entity_refs
            .iter()
            .flat_map(|entity| entity.id_keys.iter().chain(&entity.description_keys));
        assert!(!named.any(|key| protected(key)));
    }
}

/// Which items leave: those short enough, in order, as far as the budget goes.
fn fates(items: &raw::Request, case: &Case) -> Fates {
    let mut budget = case.budget;
    let mut fate = |item: &Vec<u8>| {
        let kept = item.len() <= case.max_item_size && budget > 0;
        budget -= u64::from(kept);
        kept
    };
    let mut fates = Fates::new();
    for entry in &items.entries {
        let scopes = entry.scopes.iter().map(|scopes| scopes.items.iter().map(&mut fate).collect());
        fates.push(scopes.collect());
    }
    fates
}

/// What prost read before, changed as it should be.
fn expected<R: Export>(mut request: R, fates: &Fates, case: &Case) -> Expected<R> {
    let verified = verified();
    let keys = Keys::of(&mut request, case.signal);
    let mut changed = Vec::new();
    let mut removed = 0;
    for (entry, fates) in request.entries().iter_mut().zip(fates) {
        for (scopes, fates) in entry.scopes().iter_mut().zip(fates) {
            let mut fates = fates.iter();
            scopes.items().retain(|_| *fates.next().expect("a fate"));
            if case.strip_scope
                && !scopes.items().is_empty()
                && let Some(scope) = scopes.scope()
            {
                removed += keys.strip(&mut scope.attributes);
            }
            for item in scopes.items() {
                let mut stripped = 0;
                if case.strip_items {
                    item.own_attributes(&mut |attributes| stripped += keys.strip(attributes));
                }
                changed.push(stripped > 0);
                removed += stripped;
            }
        }
        entry.scopes().retain_mut(|scopes| !scopes.items().is_empty());
    }
    request.entries().retain_mut(|entry| !entry.scopes().is_empty());
    for entry in request.entries() {
        let resource = entry.resource().get_or_insert_default();
        removed += keys.strip(&mut resource.attributes);
        resource.attributes.extend(verified.iter().cloned());
        resource.entity_refs.retain(|entity| !entity.id_keys.iter().any(|key| protected(key)));
        for EntityRef { description_keys, .. } in &mut resource.entity_refs {
            description_keys.retain(|key| !protected(key));
        }
    }
    if let Some(dictionary) = request.dictionary()
        && case.strip_items
    {
        // Indices stay what they are, so the entry stays too, but says nothing.
        for attribute in &mut dictionary.attribute_table {
            if keys.forged_entry(attribute) {
                *attribute = KeyValueAndUnit::default();
                removed += 1;
            }
        }
    }
    Expected { request, changed, removed }
}

/// Items that lost nothing leave byte for byte, with all that prost does not know.
fn untouched_to_the_byte(before: &raw::Request, after: &raw::Request, fates: &Fates, changed: &[bool]) {
    let kept = before.items().zip(fates.iter().flatten().flatten()).filter(|(_, kept)| **kept);
    let after: Vec<_> = after.items().collect();
    assert_eq!(after.len(), changed.len());
    for (((before, _), after), changed) in kept.zip(after).zip(changed) {
        assert!(*changed || before == after, "an item was changed");
    }
}
