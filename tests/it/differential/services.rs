//! Service names before the Collector's own codec: the sender is one of GitLab's own services, whose
//! resource stays as it is. Cases are those of the property with prost as the judge, and all others.

use bytes::Bytes;
use proptest::{strategy::Strategy as _, strategy::ValueTree as _, test_runner::TestRunner};
use spangate::otlp::{
    inspect::{Depth, Rules, inspect},
    rewrite::{Policy, Stamp, rewrite},
    service::{ServiceNames, all_allowed},
    signal::Signal,
};

use super::{
    ACCEPTED, TRACE, binary,
    cases::Source,
    hex,
    judge::{Frame, Judge},
    number, place, say,
};
use crate::{fuzzed::service::ALLOWED, service_names};

/// Its bit in the stream.
const SERVICES: u8 = 1 << 6;

/// Nothing is protected and nothing is verified: a resource stays.
fn settings() -> serde_json::Value {
    serde_json::json!({
        "keys": [],
        "prefixes": [],
        "verified": [],
        "trace": TRACE,
        "drop_empty": true,
        "services": ALLOWED,
    })
}

/// What leaves of a body, if its names are allowed.
fn left(signal: Signal, body: &[u8]) -> Option<Vec<u8>> {
    let rules =
        Rules { trace_id: None, max_item_size: usize::MAX, refuse_unknown: false, depth: Depth::Full };
    inspect(signal, body, &rules).ok()?;
    let allowed = all_allowed(signal, body, &ServiceNames::new(ALLOWED)).expect("an accepted body");
    let body = Bytes::copy_from_slice(body);
    let policy = Policy::keep_all(usize::MAX);
    allowed.then(|| {
        let rewritten = rewrite(signal, &body, &policy, &Stamp::default(), u64::MAX);
        rewritten.expect("what was accepted is not rewritten").pieces.concat()
    })
}

/// Scenario: requests about service names, and those of the other comparisons, for each signal.
/// Guarantees: in what is allowed the Collector's codec reads an allowed name in each resource, before and after; nothing else changes.
#[test]
fn allowed_names_hold_before_the_collectors_codec() {
    let Some(binary) = binary() else { return };
    let count = number("SPANGATE_DIFFERENTIAL_CASES", 5_000).min(50_000) / 2;
    for &signal in Signal::ALL {
        let mut runner = TestRunner::deterministic();
        let about_names = service_names::body(signal).prop_filter("a resource", |body| !body.is_empty());
        let named = (0..count).map(|_| about_names.new_tree(&mut runner).expect("a request").current());
        let mut bodies: Vec<_> = named.collect();
        bodies.extend(Source::new(signal, 1).block(0).into_iter().map(|case| case.body));
        let outcomes: Vec<_> = bodies.iter().map(|body| left(signal, body)).collect();
        let judge = Judge::start(&binary, &settings(), |_| {});
        judge.send(
            0,
            bodies.iter().zip(&outcomes).map(|(body, outcome)| Frame {
                signal: place(signal),
                flags: if outcome.is_some() { ACCEPTED | SERVICES } else { 0 },
                max_item_size: u64::MAX,
                budget: u64::MAX,
                came_in: body,
                left: outcome.as_deref().unwrap_or_default(),
            }),
        );
        let report = judge.end().pop().expect("a report");
        let failed: Vec<_> =
            report.failures.iter().map(|one| (hex(&bodies[one.case]), one.why.clone())).take(3).collect();
        assert!(failed.is_empty(), "{}: {failed:#?}", signal.label());
        say(&format!(
            "services in {}: {} cases, {} allowed ({} left to the Collector), {} refused that it reads",
            signal.label(),
            report.cases,
            report.accepted,
            report.left,
            report.stricter,
        ));
        assert!(report.accepted * 5 > report.cases && report.stricter > 0, "the cases are all alike");
    }
}
