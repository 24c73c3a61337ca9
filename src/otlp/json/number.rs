//! Which numbers a field takes and what they are on the wire; what is not in its range is refused.

use std::borrow::Cow;

use super::{
    encode::Number,
    fault::Fault,
    lexer::{Lexer, Token},
    scalar, short,
};
use crate::otlp::schema::Kind;

/// Reads a number, a bool or an enum; gives the place after it.
#[inline]
pub(super) fn read(json: Lexer<'_>, kind: Kind) -> Result<(Number, usize), Fault> {
    let usual = short::integer(json.rest()).and_then(|(value, quoted, len)| {
        let number = match kind {
            Kind::Fixed64 => Number::Fixed64(value),
            Kind::Uint64 => Number::Varint(value),
            Kind::Int64 => Number::Varint(i64::try_from(value).ok()?.cast_unsigned()),
            Kind::Uint32 => Number::Varint(u32::try_from(value).ok()?.into()),
            Kind::Fixed32 => Number::Fixed32(u32::try_from(value).ok()?),
            Kind::Enum(_) if !quoted => Number::Varint(i32::try_from(value).ok()?.cast_unsigned().into()),
            _ => return None,
        };
        Some((number, json.place().wrapping_add(len)))
    });
    match usual {
        Some(usual) => Ok(usual),
        None => unusual(json, kind),
    }
}

/// The same, in any form.
#[inline(never)]
fn unusual(mut json: Lexer<'_>, kind: Kind) -> Result<(Number, usize), Fault> {
    let json = &mut json;
    let number = match kind {
        Kind::Bool => {
            let value = json.token()? == Token::True;
            json.literal(if value { "true" } else { "false" })
                .map_err(|_| json.fault("expected true or false"))?;
            Number::Varint(value.into())
        }
        Kind::Uint32 => Number::Varint(integer::<u32>(json)?.into()),
        Kind::Uint64 => Number::Varint(integer::<u64>(json)?),
        // A negative number takes all ten bytes, as protobuf has it.
        Kind::Int32 => Number::Varint(i64::from(integer::<i32>(json)?).cast_unsigned()),
        Kind::Int64 => Number::Varint(integer::<i64>(json)?.cast_unsigned()),
        Kind::Sint32 => {
            let value: i32 = integer(json)?;
            Number::Varint(((value << 1) ^ (value >> 31)).cast_unsigned().into())
        }
        Kind::Fixed32 => Number::Fixed32(integer(json)?),
        Kind::Fixed64 => Number::Fixed64(integer(json)?),
        Kind::Sfixed64 => Number::Fixed64(integer::<i64>(json)?.cast_unsigned()),
        Kind::Double => Number::Fixed64(double(json)?.to_bits()),
        Kind::Enum(names) => Number::Varint(i64::from(enumerated(json, names)?).cast_unsigned()),
        _ => return Err(json.fault("expected a number")),
    };
    Ok((number, json.place()))
}

/// Reads an integer, bare or in a string.
pub(super) fn integer<T: TryFrom<i128>>(json: &mut Lexer<'_>) -> Result<T, Fault> {
    let number = match json.token()? {
        Token::String => json.string()?,
        Token::Number => Cow::Borrowed(json.number()?),
        // Nothing else is an integer, so that the one message for all misfits is given.
        _ => Cow::Borrowed(&b""[..]),
    };
    scalar::integer(&number).map_err(|expected| json.fault(expected))
}

fn double(json: &mut Lexer<'_>) -> Result<f64, Fault> {
    let value = match json.token()? {
        Token::String => scalar::double_text(&json.string()?),
        Token::Number => scalar::double(json.number()?),
        _ => scalar::double(b""),
    };
    value.map_err(|expected| json.fault(expected))
}

fn enumerated(json: &mut Lexer<'_>, names: &[(&str, i32)]) -> Result<i32, Fault> {
    if json.token()? != Token::String {
        return integer(json);
    }
    let text = json.string()?;
    let entry = names.iter().find(|(name, _)| name.as_bytes() == &*text);
    entry.map(|(_, value)| *value).ok_or_else(|| json.fault("a name that this enum does not have"))
}
