//! The property that the gate rests on, with prost as the judge: whatever is accepted leaves with
//! exactly the verified attributes under protected keys, and with all else as prost read it
//! before. `PROPTEST_CASES` sets the number of cases for each property and signal (1,000 if unset).

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which fail by panicking"
)]

pub(crate) mod fuzzed;
mod hostile;
mod judge;
mod messages;

use proptest::prelude::*;
use spangate::otlp::signal::Signal;

use self::{
    hostile::Dice,
    judge::{Case, Outcome},
};

/// The generators, for other tests that need requests.
pub(crate) mod generators {
    use proptest::strategy::{BoxedStrategy, Strategy};
    use spangate::otlp::signal::Signal;

    use super::{hostile::Dice, messages};

    /// Any request that opentelemetry-proto can build, encoded.
    pub(crate) fn built(signal: Signal) -> BoxedStrategy<Vec<u8>> {
        messages::body(signal).boxed()
    }

    /// Wire bytes that split, repeat, disguise and break; the same entropy gives the same bytes.
    pub(crate) fn hostile(signal: Signal, entropy: &[u8]) -> Vec<u8> {
        Dice::new(entropy).request(signal)
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

type Options = (bool, bool, Option<u16>, Option<u8>);

fn options() -> impl Strategy<Value = Options> {
    (any::<bool>(), any::<bool>(), prop::option::of(0..400_u16), prop::option::weighted(0.3, 0..6_u8))
}

fn case(signal: Signal, body: Vec<u8>, exact: bool, options: Options) -> Case {
    let (strip_scope, strip_items, size, budget) = options;
    Case {
        signal,
        body,
        exact,
        strip_scope,
        strip_items,
        max_item_size: size.map_or(usize::MAX, usize::from),
        budget: budget.map_or(u64::MAX, u64::from),
    }
}

/// The same three properties for a signal.
macro_rules! properties {
    ($name:ident, $signal:expr) => {
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(config())]

                /// Scenario: any request that opentelemetry-proto can build, with forged, doubled and look-alike keys.
                /// Guarantees: it is accepted, counted to the item, and the property holds.
                #[test]
                fn built_requests_leave_vouched_for(body in messages::body($signal), options in options()) {
                    judge::hold(&case($signal, body, true, options));
                }

                /// Scenario: wire bytes that split, repeat, disguise and break, then a few bytes hit at random.
                /// Guarantees: nothing panics, and for all that is accepted prost agrees and the property holds.
                #[test]
                fn hostile_bytes_leave_vouched_for_or_not_at_all(
                    entropy in prop::collection::vec(any::<u8>(), 0..1_500),
                    hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
                    harm in prop::bool::weighted(0.3),
                    options in options(),
                ) {
                    let mut body = Dice::new(&entropy).request($signal);
                    if harm && !body.is_empty() {
                        for (at, byte) in hits {
                            *at.get_mut(&mut body) = byte;
                        }
                    }
                    judge::hold(&case($signal, body, false, options));
                }

                /// Scenario: a good request with a few bytes changed, taken out or put in.
                /// Guarantees: as for hostile bytes; these reach deeper, because most of the request is sound.
                #[test]
                fn damaged_requests_leave_vouched_for_or_not_at_all(
                    mut body in messages::body($signal),
                    damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
                    options in options(),
                ) {
                    for (at, byte, how) in damage {
                        if body.is_empty() {
                            break;
                        }
                        let at = at.index(body.len());
                        match how {
                            0 => body[at] = byte,
                            1 => drop(body.remove(at)),
                            _ => body.insert(at, byte),
                        }
                    }
                    judge::hold(&case($signal, body, false, options));
                }
            }
        }
    };
}

properties!(traces, Signal::Traces);
properties!(metrics, Signal::Metrics);
properties!(logs, Signal::Logs);
properties!(profiles, Signal::Profiles);

/// Scenario: the generator of hostile bytes on many entropies, for each signal.
/// Guarantees: it makes both, bodies that pass and bodies that don't, some with foreign items and
/// some with unknown fields, so that its property is not empty.
#[test]
fn hostile_bytes_are_both_accepted_and_refused() {
    for &signal in Signal::ALL {
        let (mut accepted, mut refused, mut foreign, mut unknown) = (0, 0, 0, 0);
        for seed in 0..300_u64 {
            let entropy: Vec<u8> = (0..1_000_u64)
                .map(|at| (seed * 1_000 + at).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[2])
                .collect();
            let body = Dice::new(&entropy).request(signal);
            match judge::hold(&case(signal, body, false, (false, false, None, None))) {
                Outcome::Accepted(found) => {
                    accepted += 1;
                    foreign += u64::from(found.items > 0 && found.foreign > 0);
                    unknown += u64::from(found.items > 0 && found.unknown_fields > 0);
                }
                Outcome::Refused => refused += 1,
            }
        }
        assert!(
            accepted > 60 && refused > 30 && foreign > 3 && unknown > 10,
            "{signal:?}: {accepted} {refused} {foreign} {unknown}"
        );
    }
}

/// A field that holds a message, by its number.
fn within(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("short");
    let length = ((length << 1) & 0x7F00 | length & 0x7F | 0x80).to_le_bytes();
    [&[number << 3 | 2], &length[..], content].concat()
}

/// Scenario: values in values, to both sides of any limit, in every kind of place, as lists and as arrays.
/// Guarantees: prost, which reads 100 messages deep at most, reads all that is accepted; what no one
/// would call deep is accepted, what no one reads is not.
#[test]
fn nested_values_are_read_or_refused() {
    let places: [(Signal, &[u8]); 9] = [
        (Signal::Traces, &[1, 1, 1, 2]),
        (Signal::Traces, &[1, 2, 1, 3, 2]),
        (Signal::Traces, &[1, 2, 2, 11, 3, 2]),
        (Signal::Metrics, &[1, 2, 2, 12, 2]),
        (Signal::Metrics, &[1, 2, 2, 5, 1, 5, 7, 2]),
        (Signal::Metrics, &[1, 2, 2, 10, 1, 11, 7, 2]),
        (Signal::Logs, &[1, 2, 2, 5]),
        (Signal::Logs, &[1, 2, 2, 6, 2]),
        (Signal::Profiles, &[2, 6, 2]),
    ];
    for (signal, path) in places {
        for (lists, leaf) in [(true, &[0x10, 1][..]), (true, &[]), (false, &[0x10, 1]), (false, &[])] {
            let mut value = leaf.to_vec();
            for depth in 1..50 {
                let body = path.iter().rev().fold(value.clone(), |inner, number| within(*number, &inner));
                let outcome = judge::hold(&case(signal, body, false, (false, true, None, None)));
                let accepted = matches!(outcome, Outcome::Accepted(_));
                assert!(accepted || depth > 20, "{signal:?} {path:?}: {depth} levels are refused");
                assert!(!accepted || depth <= 33, "{signal:?} {path:?}: {depth} levels are accepted");
                let element = if lists { within(2, &value) } else { value };
                value = within(if lists { 6 } else { 5 }, &within(1, &element));
            }
        }
    }
}
