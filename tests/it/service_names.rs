//! The property that keeps one service from another's name, with prost as the judge (it stands in
//! `fuzzed/service.rs`): whatever is allowed, prost reads as allowed. Here are the requests.

use proptest::{
    collection::vec, prelude::*, sample::select, strategy::ValueTree as _, test_runner::TestRunner,
};
use spangate::otlp::signal::Signal;

use crate::{
    fuzzed::service::{ALLOWED, judge},
    otlp_property::generators,
    support::spans::raw_field,
};

/// The dictionary of profiles.
const STRINGS: [&str; 7] =
    ["", "service.name", "gitlab-ci-rails", "service_name", "else", "host.name", "gitlab-ci-job-router"];

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A field with a number in it, at times in more bytes than it needs.
fn place(number: u8) -> impl Strategy<Value = Vec<u8>> {
    let places = prop_oneof![8 => 0..8_u8, 1 => Just(0x7F)];
    (places, prop::bool::weighted(0.2)).prop_map(move |(place, long)| {
        if long { vec![number << 3, place | 0x80, 0x80, 0] } else { vec![number << 3, place] }
    })
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let keys = prop_oneof![
        8 => Just("service.name"),
        2 => select(vec!["service_name", "Service-Name", "SERVICE.NAME"]),
        2 => select(vec!["host.name", "service.names", "", "service.name\0"]),
    ];
    keys.prop_map(|key| raw_field(1, key.as_bytes()))
}

/// One member of an `AnyValue`.
fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        16 => select(&ALLOWED[..]).prop_map(|name| raw_field(1, name.as_bytes())),
        1 => select(vec!["else", "", "gitlab-ci-rail", "gitlab-ci-rails "]).prop_map(|name| raw_field(1, name.as_bytes())),
        1 => Just(vec![3 << 3, 7]),
        1 => Just(raw_field(7, b"gitlab-ci-rails")),
        1 => Just(raw_field(5, &raw_field(1, &raw_field(1, b"gitlab-ci-rails")))),
        1 => Just(raw_field(9, b"unknown")),
        3 => place(8),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let count = prop_oneof![12 => Just(1_usize), 1 => Just(0), 2 => Just(2)];
    count.prop_flat_map(|count| vec(member(), count)).prop_map(|members| raw_field(2, &members.concat()))
}

/// A `KeyValue` that is allowed.
fn good() -> impl Strategy<Value = Vec<u8>> {
    select(&ALLOWED[..]).prop_map(|name| {
        [raw_field(1, b"service.name"), raw_field(2, &raw_field(1, name.as_bytes()))].concat()
    })
}

/// A `KeyValue`: mostly a key and a value, at times anything in any order.
fn attribute() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![3 => key(), 3 => value(), 1 => place(3), 1 => Just(raw_field(9, b"unknown"))];
    let content = prop_oneof![
        8 => (key(), value()).prop_map(|(key, value)| [key, value].concat()),
        1 => (place(3), value()).prop_map(|(key, value)| [key, value].concat()),
        3 => vec(field, 0..4).prop_map(|fields| fields.concat()),
    ];
    let other = raw_field(1, b"host.name");
    prop_oneof![3 => good(), 3 => content, 1 => Just([other, raw_field(2, &raw_field(1, b"vm"))].concat())]
        .prop_map(|content| raw_field(1, &content))
}

/// `ResourceX`: its resource, mostly in one part that begins with a good name, and mostly an item.
fn entry() -> impl Strategy<Value = Vec<u8>> {
    let begun = (good(), vec(attribute(), 0..3))
        .prop_map(|(first, rest)| [vec![raw_field(1, &first)], rest].concat());
    let resource = prop_oneof![2 => begun, 1 => vec(attribute(), 0..3)];
    let parts = prop_oneof![8 => Just(1_usize), 3 => Just(2), 1 => Just(0)];
    let resources = parts.prop_flat_map(move |parts| vec(resource.clone(), parts));
    (resources, prop::bool::weighted(0.8), any::<bool>()).prop_map(|(resources, has_item, first)| {
        let resources: Vec<u8> = resources.into_iter().flat_map(|all| raw_field(1, &all.concat())).collect();
        let scopes = if has_item { raw_field(2, &raw_field(2, b"")) } else { Vec::new() };
        raw_field(1, &if first { [scopes, resources].concat() } else { [resources, scopes].concat() })
    })
}

/// A request that is mostly about service names.
pub(crate) fn body(signal: Signal) -> BoxedStrategy<Vec<u8>> {
    let strings: Vec<u8> = STRINGS.iter().flat_map(|text| raw_field(5, text.as_bytes())).collect();
    let dictionary = if signal == Signal::Profiles { raw_field(2, &strings) } else { Vec::new() };
    (vec(entry(), 0..3), any::<bool>())
        .prop_map(move |(entries, first)| {
            let entries = entries.concat();
            if first { [&*dictionary, &*entries].concat() } else { [&*entries, &*dictionary].concat() }
        })
        .boxed()
}

fn signal() -> impl Strategy<Value = Signal> {
    select(Signal::ALL)
}

proptest! {
    #![proptest_config(config())]

    /// Scenario: names, look-alikes, parts and places in every combination, then a few bytes hit at random.
    /// Guarantees: prost reads none but allowed names in what is allowed, and what is plain is read in one way.
    #[test]
    fn allowed_names_are_what_prost_reads(
        (signal, mut body) in signal().prop_flat_map(|signal| (Just(signal), body(signal))),
        hits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        harm in prop::bool::weighted(0.2),
    ) {
        if harm && !body.is_empty() {
            for (at, byte) in hits {
                *at.get_mut(&mut body) = byte;
            }
        }
        judge(signal, &body);
    }

    /// Scenario: any request that opentelemetry-proto can build, and hostile bytes, for each signal.
    /// Guarantees: the same.
    #[test]
    fn any_request_is_read_in_one_way(
        (signal, built) in signal().prop_flat_map(|signal| (Just(signal), generators::built(signal))),
        entropy in vec(any::<u8>(), 0..1_000),
    ) {
        judge(signal, &built);
        judge(signal, &generators::hostile(signal, &entropy));
    }
}

/// Scenario: the generator above, many times for each signal.
/// Guarantees: it makes requests that are allowed, that are not, and that are no requests, so that its property is not empty.
#[test]
fn requests_are_of_every_kind() {
    for &signal in Signal::ALL {
        let mut runner = TestRunner::deterministic();
        let strategy = body(signal);
        let mut verdicts = [0_u32; 3];
        for _ in 0..500 {
            let body = strategy.new_tree(&mut runner).expect("a request").current();
            verdicts[match judge(signal, &body) {
                Some(true) => 0,
                Some(false) => 1,
                None => 2,
            }] += 1;
        }
        // A third of all requests have no resource.
        assert!(verdicts[0] > 250 && verdicts[1] > 100 && verdicts[2] > 5, "{signal:?}: {verdicts:?}");
    }
}
