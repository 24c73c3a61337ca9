//! Tests of what strings and attribute values may hold, wherever they stand.

use super::*;

/// Scenario: bytes that are no UTF-8 in each string of a request, short and long.
/// Guarantees: refused; in bytes values they pass.
#[test]
fn strings_are_utf8() {
    for bad in
        [&[0xFF][..], &[0xC0, 0x80], &[0xED, 0xA0, 0x80], &[[b'a'; 200].as_slice(), &[0xE2, 0x82]].concat()]
    {
        let key = len(1, bad);
        let value = [len(1, "k"), len(2, len(1, bad))].concat();
        let nested = [len(1, "k"), len(2, len(5, len(1, len(1, bad))))].concat();
        let strings = [
            request(len(3, bad)),
            request(len(2, len(3, bad))),
            request(len(1, len(1, &key))),
            request(len(1, len(1, &value))),
            request(len(1, len(1, &nested))),
            request(len(1, len(3, len(1, bad)))),
            request(len(1, len(3, len(4, bad)))),
            request(len(2, len(1, len(1, bad)))),
            request(len(2, len(1, len(2, bad)))),
            with_span(span(len(3, bad))),
            with_span(span(len(5, bad))),
            with_span(span(len(9, &value))),
            with_span(span(len(11, len(2, bad)))),
            with_span(span(len(13, len(3, bad)))),
            with_span(span(len(15, len(2, bad)))),
        ];
        for body in strings {
            assert_eq!(reason(&body), "a string is not UTF-8", "{body:x?}");
        }
        let bytes = [len(1, "k"), len(2, len(7, bad))].concat();
        assert!(check(&with_span(span(len(9, bytes)))).is_ok());
    }
}

/// An attribute value that is `levels` deep: arrays or lists around a string.
fn nested(levels: u32, list: bool) -> Vec<u8> {
    (1..levels).fold(len(1, "leaf"), |inner, _| {
        if list { len(6, len(1, [len(1, "k"), len(2, inner)].concat())) } else { len(5, len(1, inner)) }
    })
}

/// Scenario: arrays and lists nested 32 and 33 levels deep, and 32 levels with something in the last.
/// Guarantees: 32 pass everywhere, and prost reads them; more is refused.
#[test]
fn nesting_ends_at_32() {
    let places: [&dyn Fn(Vec<u8>) -> Vec<u8>; 3] = [
        &|value| request(len(1, len(1, [len(1, "k"), len(2, value)].concat()))),
        &|value| with_span(span(len(9, [len(1, "k"), len(2, value)].concat()))),
        &|value| with_span(span(len(11, len(3, [len(1, "k"), len(2, value)].concat())))),
    ];
    let innermost = |last: Vec<u8>| (1..32).fold(last, |inner, _| len(6, len(1, len(2, inner))));
    for place in places {
        for list in [false, true] {
            let body = place(nested(32, list));
            assert!(check(&body).is_ok());
            ExportTraceServiceRequest::decode(&body[..]).unwrap();
            assert!(reason(&place(nested(33, list))).contains("32 levels"));
            assert!(reason(&place(nested(5000, list))).contains("32 levels"));
        }
        for empty in [len(5, []), len(6, [])] {
            let body = place(innermost(empty));
            assert!(check(&body).is_ok());
            ExportTraceServiceRequest::decode(&body[..]).unwrap();
        }
        for held in [len(6, len(1, [])), len(6, len(1, len(1, "key"))), len(6, int(9, 1)), len(5, len(1, []))]
        {
            assert!(reason(&place(innermost(held))).contains("32 levels"));
        }
    }
}

/// Scenario: one oneof set more than once, within one value and over several.
/// Guarantees: where readers differ it is refused; where the last wins for all of them it passes.
#[test]
fn contested_values_are_refused() {
    let array = |text: &str| len(5, len(1, len(1, text)));
    let list = len(6, len(1, attribute("a", "b")));
    let refused = [
        len(2, [array("a"), array("b")].concat()),
        [len(2, array("a")), len(2, array("b"))].concat(),
        len(2, [list.clone(), len(1, "s"), list.clone()].concat()),
        [len(2, list), len(2, len(1, "s"))].concat(),
        len(2, [len(1, "s"), int(8, 1)].concat()),
        len(2, len(5, len(1, [array("a"), array("b")].concat()))),
    ];
    let accepted = [
        len(2, [len(1, "a"), len(1, "b"), int(3, 1), int(2, 0), fixed64(4), len(7, "c")].concat()),
        [len(2, len(1, "a")), len(2, []), len(2, int(3, 1))].concat(),
        len(2, int(8, 1)),
        [len(2, array("a")), len(2, [])].concat(),
        len(2, len(5, [len(1, array("a")), len(1, array("b"))].concat())),
    ];
    for value in refused {
        assert!(reason(&with_span(span(len(9, &value)))).contains("more than once"), "{value:x?}");
    }
    for value in accepted {
        assert!(check(&with_span(span(len(9, &value)))).is_ok(), "{value:x?}");
    }
}
