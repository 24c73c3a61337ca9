//! UTF-8, looked at in the largest runs that allow it: nearly all the time of a full inspection
//! goes here and into attributes. It never looks at what a string says.

use super::Malformed;

/// Whether a `KeyValue` shorter than 128 bytes has the usual form: a key and then a string, each
/// exactly once and nothing else. Nearly every attribute has; all the others take the long way.
///
/// In one that has it, every byte outside its two strings is below 0x80.
#[inline]
pub(super) fn is_plain(content: &[u8]) -> bool {
    let [0x0A, key_len, rest @ ..] = content else { return false };
    let Some((_key, rest)) = rest.split_at_checked(usize::from(*key_len)) else { return false };
    let Some(([0x12, value_len, 0x0A, text_len], text)) = rest.split_first_chunk() else { return false };
    usize::from(*text_len) == text.len() && *value_len == text_len.wrapping_add(2)
}

/// Strings are short and runs of attributes a few hundred bytes: whole blocks first, then the last
/// bytes once more in the largest piece that fits.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let seen = if let Some(last) = bytes.last_chunk::<16>() {
        let (blocks, _) = bytes.as_chunks::<16>();
        let all =
            blocks.iter().fold(u128::from_ne_bytes(*last), |seen, block| seen | u128::from_ne_bytes(*block));
        return all & u128::from_ne_bytes([0x80; 16]) == 0;
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        u64::from_ne_bytes(*first) | u64::from_ne_bytes(*last)
    } else {
        bytes.iter().fold(0, |seen, byte| seen | u64::from(*byte))
    };
    seen & HIGH == 0
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
