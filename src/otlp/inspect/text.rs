//! UTF-8, looked at in the largest runs that allow it: nearly all the time of a full inspection
//! goes here and into attributes. It never looks at what a string says.

use super::Malformed;
use crate::otlp::wire::Reader;

/// What follows a run of attributes of the usual form, if there is one here: fields of this tag
/// shorter than 128 bytes that hold a key and then a string, each exactly once and nothing else.
/// Nearly every attribute has it; all others take the long way.
///
/// Every byte of such a run outside the keys and strings is below 0x80, if the tag is.
#[inline]
pub(super) fn plain_run(tag: u8, reader: Reader<'_>) -> Option<Reader<'_>> {
    let mut end = plain(tag, reader)?;
    while let Some(after) = plain(tag, end) {
        end = after;
    }
    Some(end)
}

/// What follows one attribute of the usual form.
#[inline]
fn plain(tag: u8, reader: Reader<'_>) -> Option<Reader<'_>> {
    let &[again, length @ 0..0x80, 0x0A, key_len] = reader.rest().first_chunk()? else { return None };
    if again != tag {
        return None;
    }
    let (attribute, rest) = reader.rest().split_at_checked(usize::from(length).saturating_add(2))?;
    let text_at = usize::from(key_len).saturating_add(8);
    let head = attribute.get(usize::from(key_len).saturating_add(4)..text_at)?;
    // The tags and lengths of the value and of its string, compared all at once.
    let text_len = u32::from(length).wrapping_sub(u32::from(key_len).wrapping_add(6));
    let expected = text_len.wrapping_mul(u32::from_le_bytes([0, 1, 0, 1]));
    let expected = expected.wrapping_add(u32::from_le_bytes([0x12, 2, 0x0A, 0]));
    (u32::from_le_bytes(*head.first_chunk()?) == expected).then(|| Reader::new(rest))
}

/// Whether no byte is above 0x7F. Whole blocks first, then the last bytes once more in a block that
/// may overlap with those before; what is shorter in two such blocks, the largest that fit.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    if let Some(last) = bytes.last_chunk::<64>() {
        let (blocks, _) = bytes.as_chunks::<64>();
        let mut seen = *last;
        for block in blocks {
            merge(&mut seen, block);
        }
        below_0x80(&seen)
    } else if let Some(seen) = ends::<32>(bytes) {
        below_0x80(&seen)
    } else if let Some(seen) = ends::<16>(bytes) {
        below_0x80(&seen)
    } else if let Some(seen) = ends::<8>(bytes) {
        below_0x80(&seen)
    } else {
        bytes.iter().fold(0, |seen, byte| seen | byte) < 0x80
    }
}

/// The first and the last `N` bytes, one over the other.
#[inline]
fn ends<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut seen = *bytes.first_chunk()?;
    merge(&mut seen, bytes.last_chunk()?);
    Some(seen)
}

#[inline]
fn merge<const N: usize>(seen: &mut [u8; N], bytes: &[u8; N]) {
    for (seen, byte) in seen.iter_mut().zip(bytes) {
        *seen |= byte;
    }
}

#[expect(clippy::needless_bitwise_bool, reason = "a lazy one would look at one byte after the other")]
#[inline]
fn below_0x80<const N: usize>(bytes: &[u8; N]) -> bool {
    !bytes.iter().fold(false, |seen, byte| seen | (*byte >= 0x80))
}

/// Refuses what is not UTF-8. The bytes may be several strings with ASCII bytes between them: then
/// they are UTF-8 exactly if each string is, for no character goes on past an ASCII byte or the end.
///
/// Source: Protocol Buffers, "Language Guide (proto 3)": a string is always UTF-8. prost refuses
/// any other, the Collector passes it on.
#[inline]
pub(super) fn utf8(bytes: &[u8]) -> Result<(), Malformed> {
    if is_ascii(bytes) || simdutf8::basic::from_utf8(bytes).is_ok() {
        return Ok(());
    }
    Err(Malformed("a string is not UTF-8"))
}
