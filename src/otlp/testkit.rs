//! A hand encoder for tests, which can write what no library would: every function gives the bytes
//! of one field, and messages are those joined.

use super::wire::put_varint;

/// A varint.
pub(super) fn varint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, value);
    out
}

/// `value` in `length` bytes, more than it needs.
pub(super) fn long_varint(value: u64, length: usize) -> Vec<u8> {
    let mut out = varint(value);
    while out.len() < length {
        *out.last_mut().unwrap() |= 0x80;
        out.push(0);
    }
    out
}

/// A length-delimited field.
pub(super) fn len(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A varint field.
pub(super) fn int(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

/// A field of eight bytes.
pub(super) fn fixed64(number: u64) -> Vec<u8> {
    [varint(number << 3 | 1), vec![7; 8]].concat()
}

/// A field of four bytes.
pub(super) fn fixed32(number: u64) -> Vec<u8> {
    [varint(number << 3 | 5), vec![7; 4]].concat()
}

/// The content of a `KeyValue` with a string.
pub(super) fn attribute(key: &str, value: &str) -> Vec<u8> {
    [len(1, key), len(2, len(1, value))].concat()
}

/// The trace that the good spans of the tests belong to.
pub(super) const TRACE: [u8; 16] = [0xAB; 16];

/// The content of a span of [`TRACE`] and whatever else it has.
pub(super) fn span(rest: impl AsRef<[u8]>) -> Vec<u8> {
    [len(1, TRACE), len(2, [1; 8]), len(5, "step"), rest.as_ref().to_vec()].concat()
}

/// A request with one `ResourceSpans` of this content.
pub(super) fn request(resource_spans: impl AsRef<[u8]>) -> Vec<u8> {
    len(1, resource_spans)
}

/// A request with one resource, one scope, and one span of this content.
pub(super) fn with_span(span: impl AsRef<[u8]>) -> Vec<u8> {
    request([len(1, len(1, attribute("host.name", "vm"))), len(2, len(2, span))].concat())
}
