//! References of profiles into their dictionary: those that can be looked up, and those that can't.

use super::{super::*, rules};
use crate::otlp::testkit::{int, len};

/// A resource with this attribute.
fn in_resource(attribute: &[u8]) -> Vec<u8> {
    len(1, len(1, len(1, attribute)))
}

/// A scope with this attribute.
fn in_scope(attribute: &[u8]) -> Vec<u8> {
    len(1, len(2, len(1, len(3, attribute))))
}

/// A dictionary with so many strings.
fn dictionary(strings: usize) -> Vec<u8> {
    len(2, len(5, "").repeat(strings))
}

fn check(body: &[u8]) -> Result<Inspection, Malformed> {
    let both = [Depth::Full, Depth::Structure]
        .map(|depth| inspect(Signal::Profiles, body, &Rules { depth, ..rules() }));
    assert_eq!(both[0], both[1], "a glance sees another request");
    both[0]
}

const MISSING: Result<Inspection, Malformed> =
    Err(Malformed("an attribute names a place that the dictionary does not have"));

const BOTH: Result<Inspection, Malformed> =
    Err(Malformed("an attribute has both a key and the place of one in the dictionary"));

/// Scenario: attributes that name one place, as key and as value, in arrays and lists, with
/// dictionaries that just have it and that just don't, before, behind and on both sides.
/// Guarantees: a request passes if all its dictionaries together have the place; a resource's own
/// attribute may lack its key, which is the rewriter's to take out.
#[test]
fn a_place_must_be_there() {
    let value = |value: Vec<u8>| [len(1, "key"), len(2, value)].concat();
    let key = int(3, 3);
    let named: [(&[u8], bool); 6] = [
        (&key, true),
        // The last one counts.
        (&[int(3, 900), int(3, 3)].concat(), true),
        (&value(int(8, 3)), false),
        (&value(len(5, [len(1, int(2, 1)), len(1, int(8, 3))].concat())), false),
        (&value(len(6, [len(1, int(3, 1)), len(1, &key)].concat())), false),
        (&value(len(5, len(1, len(6, len(1, [int(3, 2), len(2, int(8, 3))].concat()))))), false),
    ];
    for (attribute, is_key) in named {
        for (holder, is_resource) in [(in_resource(attribute), true), (in_scope(attribute), false)] {
            for (before, behind) in [(0, 4), (4, 0), (2, 2), (4, 9)] {
                let body = [dictionary(before), holder.clone(), dictionary(behind)].concat();
                assert!(check(&body).is_ok(), "{attribute:x?} {before} {behind}");
            }
            let expected = if is_resource && is_key { check(b"") } else { MISSING };
            for (before, behind) in [(0, 3), (3, 0), (2, 1)] {
                let body = [dictionary(before), holder.clone(), dictionary(behind)].concat();
                let found = check(&body).map(|found| Inspection { resources: 0, ..found });
                assert_eq!(found, expected, "{attribute:x?} {before} {behind}");
            }
        }
    }
}

/// Scenario: negative places, places past 32 bits, place 0 with an empty dictionary.
/// Guarantees: they are what an int32 is; 0 is no key, but it is a string's place.
#[test]
fn places_are_of_32_bits() {
    let few = dictionary(2);
    let scope = |attribute: &[u8]| check(&[in_scope(attribute), few.clone()].concat());
    assert_eq!(scope(&int(3, u64::MAX)), MISSING);
    assert_eq!(scope(&int(3, 0x7FFF_FFFF)), MISSING);
    assert!(scope(&int(3, 0x1_0000_0001)).is_ok());
    assert!(scope(&int(3, 0x1_0000_0000)).is_ok());
    assert!(check(&in_scope(&int(3, 0))).is_ok());
    assert_eq!(check(&in_scope(&len(2, int(8, 0)))), MISSING);
    assert!(check(&[in_scope(&len(2, int(8, 0))), dictionary(1)].concat()).is_ok());
}

/// Scenario: attributes with a key and a good place of one, outermost and deep in a value.
/// Guarantees: they are refused wherever they stand; an empty key is none.
#[test]
fn a_key_is_given_once() {
    let both = [len(1, "key"), int(3, 1)].concat();
    let deep = len(2, len(6, len(1, &both)));
    let empty = [len(1, "key"), int(3, 1), len(1, "")].concat();
    for holder in [in_resource, in_scope] {
        for attribute in [&both, &deep] {
            assert_eq!(check(&[holder(attribute), dictionary(2)].concat()), BOTH, "{attribute:x?}");
        }
        assert!(check(&[holder(&empty), dictionary(2)].concat()).is_ok());
    }
}

/// Scenario: the same attributes in other signals, which have no dictionary.
/// Guarantees: what no reader looks up is no matter of this rule.
#[test]
fn other_signals_have_no_dictionary() {
    for attribute in [int(3, 7), [len(1, "key"), int(3, 1)].concat(), len(2, int(8, 3))] {
        for signal in [Signal::Traces, Signal::Metrics, Signal::Logs] {
            for holder in [in_resource, in_scope] {
                assert!(inspect(signal, &holder(&attribute), &rules()).is_ok(), "{signal:?} {attribute:x?}");
            }
        }
    }
}
