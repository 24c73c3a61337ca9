//! How proto3 JSON and OTLP/JSON write scalars: exact integers, doubles, ids, bytes. What the field
//! can't hold exactly is refused, never rounded or cut.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};

use super::lexer::is_number;

/// What was expected instead.
pub(super) type Expected = &'static str;

const INTEGER: Expected = "expected an integer within the range of the field";
const DOUBLE: Expected = "expected a number within the range of a double, \"NaN\" or \"Infinity\"";
const BASE64: Expected = "expected base64";

/// Reads a decimal number that is an integer, however it is written: `12`, `1.20e1`, `-0`.
///
/// It works on the digits, so that no value passes through a double.
///
/// # Errors
/// When it has a fraction, or does not fit `T`.
pub(super) fn integer<T: TryFrom<i128>>(number: &[u8]) -> Result<T, Expected> {
    strictly(number).and_then(exact).and_then(|value| value.try_into().ok()).ok_or(INTEGER)
}

/// A JSON number and nothing else.
fn strictly(number: &[u8]) -> Option<&str> {
    if is_number(number) { std::str::from_utf8(number).ok() } else { None }
}

fn exact(number: &str) -> Option<i128> {
    let unsigned = number.strip_prefix('-').unwrap_or(number);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // Zeros are taken in only once a digit follows them, so that any number of trailing ones is fine.
    let (mut value, mut zeros) = (0_u64, 0_u32);
    for digit in whole.bytes().chain(fraction.bytes()).filter_map(|digit| digit.checked_sub(b'0')) {
        if digit == 0 {
            zeros = if value == 0 { 0 } else { zeros.saturating_add(1) };
        } else {
            let places = 10_u64.checked_pow(zeros.saturating_add(1));
            value = match value {
                0 => u64::from(digit),
                value => value.checked_mul(places?)?.checked_add(u64::from(digit))?,
            };
            zeros = 0;
        }
    }
    if value == 0 {
        return Some(0);
    }
    let places = i64::try_from(fraction.len()).ok()?;
    let scale = exponent.parse::<i64>().ok()?.checked_sub(places)?.checked_add(i64::from(zeros))?;
    let magnitude = i128::from(value.checked_mul(10_u64.checked_pow(u32::try_from(scale).ok()?)?)?);
    if number.starts_with('-') { magnitude.checked_neg() } else { Some(magnitude) }
}

/// Reads a JSON number as a double, rounded to the nearest.
///
/// # Errors
/// When it is past the largest double: the nearest would be infinity, which has a name of its own.
pub(super) fn double(number: &[u8]) -> Result<f64, Expected> {
    let value = strictly(number).and_then(|number| number.parse().ok());
    value.filter(|value: &f64| value.is_finite()).ok_or(DOUBLE)
}

/// Reads a double that is written as a string: a number or one of the three names.
///
/// # Errors
/// When it is neither.
pub(super) fn double_text(text: &[u8]) -> Result<f64, Expected> {
    match text {
        b"NaN" => Ok(f64::NAN),
        b"Infinity" => Ok(f64::INFINITY),
        b"-Infinity" => Ok(f64::NEG_INFINITY),
        number => double(number),
    }
}

/// Appends an id of exactly `len` bytes, written in hex digits of any case (not base64).
///
/// Source: OTLP specification, "JSON Protobuf Encoding".
///
/// # Errors
/// When it has another length or other characters.
pub(super) fn hex(text: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), Expected> {
    let expected = if len == 16 { "expected 32 hex digits" } else { "expected 16 hex digits" };
    let (pairs, odd) = text.as_chunks::<2>();
    if pairs.len() != len || !odd.is_empty() {
        return Err(expected);
    }
    for pair in pairs {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        let byte = high.zip(low).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        out.push(byte.ok_or(expected)?);
    }
    Ok(())
}

/// Appends bytes that are written in base64, of the standard or the URL-safe alphabet, padded in full
/// or not at all.
///
/// # Errors
/// When the two alphabets are mixed, or bits are left over that are no byte.
pub(super) fn base64(text: &[u8], out: &mut Vec<u8>) -> Result<(), Expected> {
    let engine = match (text.iter().any(|byte| matches!(byte, b'-' | b'_')), text.ends_with(b"=")) {
        (false, true) => STANDARD,
        (false, false) => STANDARD_NO_PAD,
        (true, true) => URL_SAFE,
        (true, false) => URL_SAFE_NO_PAD,
    };
    engine.decode_vec(text, out).map_err(|_| BASE64)
}
