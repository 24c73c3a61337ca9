//! The property that the gate rests on, with prost as the judge: whatever is accepted leaves with
//! exactly the verified attributes under protected keys, and with all else as prost read it
//! before. `PROPTEST_CASES` sets the number of cases (2,000 if unset).

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
use prost::Message;

use self::{
    hostile::Dice,
    judge::{Case, Outcome},
};

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn options() -> impl Strategy<Value = (bool, bool, Option<u16>, Option<u8>)> {
    (any::<bool>(), any::<bool>(), prop::option::of(0..400_u16), prop::option::weighted(0.3, 0..6_u8))
}

fn case(body: Vec<u8>, exact: bool, options: (bool, bool, Option<u16>, Option<u8>)) -> Case {
    let (strip_scope, strip_items, size, budget) = options;
    Case {
        body,
        exact,
        strip_scope,
        strip_items,
        max_item_size: size.map_or(usize::MAX, usize::from),
        budget: budget.map_or(u64::MAX, u64::from),
    }
}

proptest! {
    #![proptest_config(config())]

    /// Scenario: any request that opentelemetry-proto can build, with forged, doubled and look-alike keys.
    /// Guarantees: it is accepted, counted to the span, and the property holds.
    #[test]
    fn built_requests_leave_vouched_for(request in messages::request(), options in options()) {
        let case = case(request.encode_to_vec(), true, options);
        let Outcome::Accepted(found) = judge::hold(&case) else { panic!("refused: {request:?}") };
        let spans = judge::spans(&request);
        prop_assert_eq!(found.items, spans.len() as u64);
        let count = |test: &dyn Fn(&opentelemetry_proto::tonic::trace::v1::Span) -> bool| {
            spans.iter().filter(|span| test(span)).count() as u64
        };
        prop_assert_eq!(found.foreign, count(&|span| span.trace_id != judge::TRACE));
        prop_assert_eq!(found.oversize, count(&|span| span.encoded_len() > case.max_item_size));
        prop_assert_eq!(found.unknown_fields, 0);
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
        let mut body = Dice::new(&entropy).request();
        if harm && !body.is_empty() {
            for (at, byte) in hits {
                *at.get_mut(&mut body) = byte;
            }
        }
        judge::hold(&case(body, false, options));
    }

    /// Scenario: a good request with a few bytes changed, taken out or put in.
    /// Guarantees: as for hostile bytes; these reach deeper, because most of the request is sound.
    #[test]
    fn damaged_requests_leave_vouched_for_or_not_at_all(
        request in messages::request(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
        options in options(),
    ) {
        let mut body = request.encode_to_vec();
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
        judge::hold(&case(body, false, options));
    }
}

/// Scenario: the generator of hostile bytes on many entropies.
/// Guarantees: it makes both, bodies that pass and bodies that don't, so that its property is not empty.
#[test]
fn hostile_bytes_are_both_accepted_and_refused() {
    let (mut accepted, mut refused, mut stripped) = (0, 0, 0);
    for seed in 0..300_u64 {
        let entropy: Vec<u8> = (0..1_000_u64)
            .map(|at| (seed * 1_000 + at).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[2])
            .collect();
        match judge::hold(&case(Dice::new(&entropy).request(), false, (false, false, None, None))) {
            Outcome::Accepted(found) => {
                accepted += 1;
                stripped += u64::from(found.items > 0 && found.unknown_fields > 0);
            }
            Outcome::Refused => refused += 1,
        }
    }
    assert!(accepted > 60 && refused > 30 && stripped > 10, "{accepted} {refused} {stripped}");
}
