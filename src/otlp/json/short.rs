//! Values in the form that nearly all of them have, read without a second look: short strings
//! without escapes, plain digits, ids. What is not plainly such a value is left to the strict way,
//! which finds out whether it is one at all; no value is refused here, and none is read differently.

use super::{
    encode::{Encoder, short_tag},
    lexer::first_stop,
};

/// Writes a string field of less than 128 bytes without escapes; gives the bytes that were read.
///
/// Bytes are copied as they are looked at, sixteen at a time, and those beyond the end taken back.
#[expect(clippy::inline_always, reason = "half of all values are strings")]
#[inline(always)]
pub(super) fn string(text: &[u8], number: u32, keep_empty: bool, encoder: &mut Encoder) -> Option<usize> {
    let (b'"', text) = text.split_first()? else { return None };
    let tag = short_tag(number, 2)?;
    let out = encoder.raw();
    let start = out.len();
    out.extend_from_slice(&[tag, 0]);
    let (chunks, _) = text.as_chunks::<16>();
    for (chunk, before) in chunks.iter().zip((0..0x80_u8).step_by(16)) {
        out.extend_from_slice(chunk);
        if let Some(place) = first_stop(chunk) {
            if chunk.get(usize::from(place)) != Some(&b'"') {
                break;
            }
            let len = before | place;
            let wanted = if len == 0 && !keep_empty { 0 } else { usize::from(len).wrapping_add(2) };
            if let Some(place) = out.get_mut(start.wrapping_add(1)) {
                *place = len;
            }
            out.truncate(start.wrapping_add(wanted));
            return Some(usize::from(len).wrapping_add(2));
        }
    }
    out.truncate(start);
    None
}

/// Reads an unsigned integer of at most 19 digits, bare or in quotes; gives it, whether it is in
/// quotes, and the bytes that were read.
#[inline]
pub(super) fn integer(text: &[u8]) -> Option<(u64, bool, usize)> {
    let (quoted, digits) = match text {
        [b'"', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (mut value, mut rest) = (0_u64, digits);
    while let Some((&eight, after)) = rest.split_first_chunk::<8>()
        && let Some(eight) = eight_digits(eight)
    {
        value = value.wrapping_mul(100_000_000).wrapping_add(eight);
        rest = after;
    }
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit & 0xf));
        rest = after;
    }
    let len = digits.len().wrapping_sub(rest.len());
    let ends = match rest.first()? {
        b'"' => quoted,
        b'.' | b'e' | b'E' => false,
        _ => !quoted,
    };
    let whole = matches!(len, 1..=19) && (len == 1 || digits.first() != Some(&b'0'));
    (ends && whole).then_some((value, quoted, len.wrapping_add(if quoted { 2 } else { 0 })))
}

/// Reads eight digits at once: neighbours are joined to numbers of two digits, these to four, these
/// to eight.
#[inline]
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    let text = u64::from_le_bytes(text);
    // Digits are 0x30 to 0x39: in the right row as they are, and still there after 6 more.
    let in_row = |bytes: u64| bytes & 0xf0f0_f0f0_f0f0_f0f0 == 0x3030_3030_3030_3030;
    if !in_row(text) || !in_row(text.wrapping_add(0x0606_0606_0606_0606)) {
        return None;
    }
    let ones = text & 0x0f0f_0f0f_0f0f_0f0f;
    let twos = (ones.wrapping_mul(10).wrapping_add(ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos.wrapping_mul(100).wrapping_add(twos >> 16)) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff)
}

/// What a hex digit stands for, for each byte; [`NO_DIGIT`] for what is none.
#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler alone"
)]
const DIGITS: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        let digit = b"0123456789abcdef"[value];
        table[digit as usize] = value as u8;
        table[digit.to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    table
};

const NO_DIGIT: u8 = 0xff;

/// Reads an id of `N` bytes.
#[inline]
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let mut all = 0;
    let id = pairs.map(|[high, low]| {
        let [high, low] =
            [high, low].map(|digit| DIGITS.get(usize::from(digit)).copied().unwrap_or(NO_DIGIT));
        all |= high | low;
        high << 4 | low
    });
    (all != NO_DIGIT && rest.is_empty()).then_some(id)
}

/// Writes an id field of `N` bytes in hex; gives the bytes that were read.
#[inline]
fn id_of<const N: usize>(text: &[u8], number: u32, encoder: &mut Encoder) -> Option<usize> {
    let quoted = N.wrapping_mul(2).wrapping_add(2);
    let (b'"', digits) = text.get(..quoted)?.split_first()? else { return None };
    let (b'"', digits) = digits.split_last()? else { return None };
    let id = hex::<N>(digits)?;
    let out = encoder.raw();
    out.extend_from_slice(&[short_tag(number, 2)?, u8::try_from(N).ok()?]);
    out.extend_from_slice(&id);
    Some(quoted)
}

/// Writes an id field of `len` bytes in hex; gives the bytes that were read.
#[inline]
pub(super) fn id(text: &[u8], number: u32, len: usize, encoder: &mut Encoder) -> Option<usize> {
    match len {
        16 => id_of::<16>(text, number, encoder),
        8 => id_of::<8>(text, number, encoder),
        _ => None,
    }
}
