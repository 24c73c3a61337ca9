//! Tests of the wire reader: what it takes, what it refuses, where it says fields stand.

use super::{Payload, Reader, Tag, WireError, WireType, place_of, put_varint, varint_len};

fn varint(bytes: &[u8]) -> Result<u64, WireError> {
    Reader::new(bytes).varint()
}

/// Scenario: values at every edge of a varint's length, written and read back.
/// Guarantees: each comes back as it was, in exactly `varint_len` bytes.
#[test]
fn varints_come_back() {
    let edges = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit]).chain([u64::MAX]);
    for value in edges {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, value);
        assert_eq!(bytes.len(), varint_len(value), "{value}");
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.varint(), Ok(value));
        assert!(reader.is_empty());
    }
}

/// Scenario: one value with more and more needless bytes.
/// Guarantees: legal up to ten bytes, refused at eleven.
#[test]
fn over_long_varints_are_legal_up_to_ten_bytes() {
    for length in 1..=11_usize {
        let mut bytes = vec![0x80; length];
        bytes[0] = 0x85;
        bytes[length - 1] &= 0x7F;
        let expected = if length <= 10 { Ok(5) } else { Err(WireError::Varint) };
        assert_eq!(varint(&bytes), expected, "{length} bytes");
    }
}

/// Scenario: a tenth byte that holds more than the 64th bit, a varint without an end, an empty one.
/// Guarantees: refused; the Collector's own reader would drop those bits silently.
#[test]
fn bits_past_64_and_cut_varints_are_refused() {
    let mut most = [0xFF_u8; 10];
    most[9] = 1;
    assert_eq!(varint(&most), Ok(u64::MAX));
    for last in [2, 3, 0x7F] {
        most[9] = last;
        assert_eq!(varint(&most), Err(WireError::Varint));
    }
    for cut in 0..10 {
        assert_eq!(varint(&[0x80; 10][..cut]), Err(WireError::Varint));
    }
}

/// Scenario: tags at the edges of what a tag may be.
/// Guarantees: field 0, tags past 32 bits, groups and undefined wire types are refused; the largest number is not.
#[test]
fn tags_are_strict() {
    let tag = |raw: u64| {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, raw);
        Reader::new(&bytes).tag()
    };
    assert_eq!(tag(0x0A), Ok(Some(Tag { number: 1, wire: WireType::Len })));
    let largest = (1 << 29) - 1;
    assert_eq!(
        tag((u64::from(largest) << 3) | 5),
        Ok(Some(Tag { number: largest, wire: WireType::Fixed32 }))
    );
    assert_eq!(tag(0), Err(WireError::Tag));
    assert_eq!(tag(2), Err(WireError::Tag));
    // Cut down to 32 bits this would be field 1 in wire type 2.
    assert_eq!(tag((1 << 32) | 0x0A), Err(WireError::Tag));
    for wire in [3, 4, 6, 7] {
        assert_eq!(tag((1 << 3) | wire), Err(WireError::WireType));
    }
    assert_eq!(Reader::new(&[]).tag(), Ok(None));
}

/// Scenario: fields of every wire type in a row, then the same cut at every byte.
/// Guarantees: their values and offsets are right, and no cut inside a field goes unnoticed.
#[test]
fn fields_say_where_they_stand() {
    let body = [
        &[0x08, 0x96, 0x01][..],
        &[0x11, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x1A, 2, b'h', b'i'],
        &[0x25, 1, 2, 3, 4],
    ]
    .concat();
    let mut reader = Reader::new(&body);
    let mut seen = Vec::new();
    while let Some(field) = reader.field().unwrap() {
        let start = place_of(field.raw, &body).unwrap();
        seen.push((field.number, field.value, start..start + field.raw.len()));
    }
    assert_eq!(
        seen,
        [
            (1, Payload::Varint(150), 0..3),
            (2, Payload::Fixed64, 3..12),
            (3, Payload::Len(b"hi"), 12..16),
            (4, Payload::Fixed32, 16..21),
        ]
    );
    for cut in 0..body.len() {
        let mut reader = Reader::new(&body[..cut]);
        let outcome = std::iter::from_fn(|| reader.field().transpose()).collect::<Result<Vec<_>, _>>();
        assert_eq!(outcome.is_ok(), [0, 3, 12, 16].contains(&cut), "cut at {cut}");
    }
}

/// Scenario: a message inside a message, and a length that is longer than what is left.
/// Guarantees: a field's place in the outermost body is known, and what is no part of it has none; the length is refused, even the largest one.
#[test]
fn inner_messages_and_lengths() {
    let body = [0x08, 1, 0x12, 3, 0x1A, 1, b'x'];
    let mut reader = Reader::new(&body);
    reader.field().unwrap();
    let outer = reader.field().unwrap().unwrap();
    let inner = outer.message().unwrap().field().unwrap().unwrap();
    assert_eq!((place_of(inner.raw, &body), inner.raw.len(), inner.bytes()), (Some(4), 3, Ok(&b"x"[..])));
    assert_eq!(place_of(&body, inner.raw), None);
    assert_eq!(place_of(&body[5..], &body[..6]), None);

    for length in [2, 0x7F, u64::from(u32::MAX), u64::MAX] {
        let mut bytes = vec![0x0A];
        put_varint(&mut bytes, length);
        bytes.push(0);
        assert_eq!(Reader::new(&bytes).field().unwrap_err(), WireError::Length);
    }
}

/// Scenario: a number asked for as a message.
/// Guarantees: refused as a mismatch.
#[test]
fn a_number_is_no_message() {
    let field = Reader::new(&[0x08, 1]).field().unwrap().unwrap();
    assert_eq!(field.bytes(), Err(WireError::Mismatch));
    assert_eq!(field.message().unwrap_err(), WireError::Mismatch);
}
