//! The property that the gate rests on, with prost as the judge: whatever is accepted leaves with
//! exactly the verified attributes under protected keys, and with all else as prost read it
//! before. `PROPTEST_CASES` sets the number of cases for each property and signal (1,000 if unset).

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which fail by panicking"
)]

mod hostile;
mod judge;
mod messages;

use proptest::prelude::*;
use spangate::otlp::signal::Signal;

use self::{
    hostile::Dice,
    judge::{Case, Outcome},
};

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
            accepted > 60 && refused > 30 && foreign > 5 && unknown > 10,
            "{signal:?}: {accepted} {refused} {foreign} {unknown}"
        );
    }
}
