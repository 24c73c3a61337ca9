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

/// Scenario: one byte that is no ASCII at each place of strings of many lengths, as names, keys and values, alone and at the ends of a run.
/// Guarantees: not one place is overlooked, whichever way the string is read.
#[test]
fn no_byte_of_a_string_is_overlooked() {
    let attribute = |key: &[u8], value: &[u8]| len(9, [len(1, key), len(2, len(1, value))].concat());
    let plain = [len(5, "name"), int(6, 1), attribute(b"key", b"value"), attribute(b"a", b"")].concat();
    for length in (1..70).chain(114..132) {
        for at in 0..length {
            let mut bad = vec![b'a'; length];
            bad[at] = 0xFF;
            for field in [len(5, &bad), attribute(&bad, b"value"), attribute(b"key", &bad)] {
                for fields in [[&field[..], &plain], [&plain, &field], [&field, &field]] {
                    assert_eq!(
                        reason(&with_span(span(fields.concat()))),
                        "a string is not UTF-8",
                        "{at} of {length}"
                    );
                }
            }
        }
    }
}

/// Scenario: very long runs of short fields, each ended by one that takes the long way.
/// Guarantees: at either depth each field is read once; a run read again for each of them would not end within the hour.
#[test]
fn long_runs_are_read_once() {
    let mut value = len(1, "k");
    value.extend(len(2, len(1, "v")));
    for short in [len(9, &value), len(9, []), len(5, "n"), len(11, len(2, "n")), int(6, 1), fixed64(7)] {
        for last in [len(9, [len(1, [b'k'; 200])].concat()), fixed32(16)] {
            let body = with_span(span([short.repeat(300_000), last].concat()));
            for depth in [Depth::Full, Depth::Structure] {
                let found = inspect(Signal::Traces, &body, &Rules { depth, ..rules() });
                assert_eq!(found.map(|found| found.items), Ok(1));
            }
        }
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

/// Scenario: attributes that look like a short key and a short string, but whose inner lengths disagree.
/// Guarantees: the short cut for plain attributes does not take them; what is sound of them passes.
#[test]
fn almost_plain_attributes_take_the_long_way() {
    let tail = |value_len: u8, text_len: u8, text: &str| {
        [&[0x0A, 1, b'k', 0x12, value_len, 0x0A, text_len][..], text.as_bytes()].concat()
    };
    assert!(check(&with_span(span(len(9, tail(4, 2, "xy"))))).is_ok());
    for broken in [tail(3, 2, "xy"), tail(5, 2, "xy"), tail(4, 3, "xy"), tail(0x7F, 2, "xy")] {
        assert!(check(&with_span(span(len(9, &broken)))).is_err(), "{broken:x?}");
    }
    // The string ends before the value does, and what follows it there is a number.
    assert!(check(&with_span(span(len(9, tail(5, 1, "x\x18\x01"))))).is_ok());
    // The value ends before the attribute does, and what follows is another key.
    assert!(check(&with_span(span(len(9, tail(3, 1, "x\x0A\x01k"))))).is_ok());
    assert!(check(&with_span(span(len(9, tail(3, 1, "x\x0A\x02k"))))).is_err());
}
