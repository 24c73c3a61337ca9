//! OTLP/JSON in: decoded strictly and written as protobuf; JSON is never passed on.
//!
//! It follows tables (`schema`) through one document, once, and decides what a document says and
//! whether protobuf can say the same: what comes out is what was meant, or nothing is. It never
//! judges what a request may hold; that is done to the protobuf, as for everybody's.
//!
//! Where the specification leaves a choice:
//! - a field has two names, `lowerCamelCase` and that of the .proto file; giving it twice, by
//!   whichever name, is refused, for readers differ in which one counts;
//! - `null` is an absent field, but never an element of an array;
//! - fields that no table knows are skipped, however often they come, for none of them leaves; they
//!   are read as strictly as the rest;
//! - integers are decimal numbers, bare or in a string, without a fraction once their exponent is
//!   applied; enums are numbers or names, and a name that no table knows is refused;
//! - a value that is there but empty (`"value": {}`) stays there and empty.
//!
//! Source: OTLP specification, "JSON Protobuf Encoding"; "`ProtoJSON` Format" of Protocol Buffers.

mod encode;
mod lexer;
mod scalar;

use std::borrow::Cow;

use super::{
    schema::{self, ANY_VALUE, KEY_VALUE, Kind, Label, MAX_NESTING, Row, Table},
    signal::Signal,
    wire::put_varint,
};
use encode::{Encoder, MAX_INPUT};
use lexer::{Fault, Lexer, Step, Token};
use scalar::Expected;

/// Why a JSON body was refused; the text is safe to show to the sender.
///
/// It names the path of known fields and the byte where reading stopped, and holds nothing that
/// the sender wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(pub String);

/// Reads an `ExportXServiceRequest` in OTLP/JSON and writes it as protobuf.
///
/// Depth is bounded whatever the document is, and memory beside the input stays under ten times its
/// length even for one of nothing but empty messages (under twice for spans as they are).
///
/// # Errors
/// [`JsonError`] when it is no JSON, or says something that protobuf can't represent.
pub fn to_protobuf(signal: Signal, json: &[u8]) -> Result<Vec<u8>, JsonError> {
    if !signal.takes_json() {
        return Err(JsonError("this signal is not taken as JSON".to_owned()));
    }
    if json.len() > MAX_INPUT {
        return Err(JsonError("the document is longer than 1 GiB".to_owned()));
    }
    let text =
        simdutf8::basic::from_utf8(json).map_err(|_| JsonError("the document is not UTF-8".to_owned()))?;
    let mut decoder = Decoder { json: Lexer::new(text), out: Encoder::default(), nested_values: 0 };
    decoder
        .message(schema::of(signal).request)
        .and_then(|()| decoder.json.end())
        .map_err(|fault| JsonError(fault.to_string()))?;
    Ok(decoder.out.finish())
}

/// A number as it stands on the wire.
enum Number {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
}

/// The field of a message that a key names, and its place in the table.
fn named(table: &'static Table, key: &str) -> Option<(usize, &'static Row)> {
    table.rows.iter().enumerate().find(|(_, row)| key == row.name || is_snake_case_of(key, row.name))
}

fn is_snake_case_of(key: &str, name: &str) -> bool {
    let mut key = key.bytes();
    let same = name.bytes().all(|byte| {
        (!byte.is_ascii_uppercase() || key.next() == Some(b'_'))
            && key.next() == Some(byte.to_ascii_lowercase())
    });
    same && key.next().is_none()
}

struct Decoder<'a> {
    json: Lexer<'a>,
    out: Encoder,
    nested_values: u32,
}

impl<'a> Decoder<'a> {
    fn message(&mut self, message: &'static Table) -> Result<(), Fault> {
        self.json.open_object()?;
        let (mut first, mut seen, mut oneof_taken) = (true, 0_u64, false);
        while let Some(key) = self.json.key(&mut first)? {
            let Some((place, row)) = named(message, &key) else {
                self.json.skip()?;
                continue;
            };
            let bit =
                u32::try_from(place).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(u64::MAX);
            let field = if seen & bit == 0 {
                self.field(row, &mut oneof_taken)
            } else {
                Err(self.json.fault("given twice, by one or by both of its names"))
            };
            field.map_err(|fault| fault.inside(Step::Field(row.name)))?;
            seen |= bit;
        }
        Ok(())
    }

    fn field(&mut self, row: &Row, oneof_taken: &mut bool) -> Result<(), Fault> {
        if self.json.token()? == Token::Null {
            return self.json.literal("null");
        }
        match row.label {
            Label::Member if std::mem::replace(oneof_taken, true) => {
                Err(self.json.fault("a second value where only one is possible"))
            }
            Label::Plain | Label::Optional | Label::Member => self.value(row),
            Label::Packed => self.packed(row),
            Label::Repeated => {
                self.json.open_array()?;
                let (mut first, mut index) = (true, 0_usize);
                while self.json.element(&mut first)? {
                    self.value(row).map_err(|fault| fault.inside(Step::Element(index)))?;
                    index = index.saturating_add(1);
                }
                Ok(())
            }
        }
    }

    fn value(&mut self, row: &Row) -> Result<(), Fault> {
        let number = row.number;
        let wanted = |is_default: bool| !is_default || row.label != Label::Plain;
        match row.kind {
            Kind::Message(table) | Kind::Entry(table) | Kind::Item(table) => {
                return self.nested(number, table);
            }
            Kind::KeyValue => return self.nested(number, &KEY_VALUE),
            Kind::AnyValue => return self.nested(number, &ANY_VALUE),
            Kind::String => {
                let text = self.json.string()?;
                if wanted(text.is_empty()) {
                    self.out.string(number, &text);
                }
            }
            Kind::Bytes => {
                let text = self.json.string()?;
                self.decoded(row, &text, scalar::base64)?;
            }
            Kind::Id(id) => {
                let text = self.json.string()?;
                self.decoded(row, &text, |text, out| match text {
                    "" => Ok(()),
                    text => scalar::hex(text, id.len(), out),
                })?;
            }
            Kind::Index => {
                let says_nothing = row.label == Label::Plain
                    && self.json.token()? == Token::Number
                    && self.integer::<u8>().is_ok_and(|value| value == 0);
                if !says_nothing {
                    return Err(self
                        .json
                        .fault("a reference into a dictionary, which this signal does not have"));
                }
            }
            Kind::Legacy(why) => return Err(self.json.fault(why)),
            kind => match self.number(kind)? {
                Number::Varint(value) if wanted(value == 0) => self.out.varint(number, value),
                Number::Fixed32(value) if wanted(value == 0) => self.out.fixed32(number, value),
                Number::Fixed64(value) if wanted(value == 0) => self.out.fixed64(number, value),
                _ => {}
            },
        }
        Ok(())
    }

    /// A number of any kind, as it stands on the wire.
    fn number(&mut self, kind: Kind) -> Result<Number, Fault> {
        Ok(match kind {
            Kind::Bool => {
                let value = self.json.token()? == Token::True;
                self.json
                    .literal(if value { "true" } else { "false" })
                    .map_err(|_| self.json.fault("expected true or false"))?;
                Number::Varint(u64::from(value))
            }
            Kind::Uint32 => Number::Varint(u64::from(self.integer::<u32>()?)),
            Kind::Uint64 => Number::Varint(self.integer()?),
            // A negative number takes all ten bytes, as protobuf has it.
            Kind::Int32 => Number::Varint(i64::from(self.integer::<i32>()?).cast_unsigned()),
            Kind::Int64 => Number::Varint(self.integer::<i64>()?.cast_unsigned()),
            Kind::Sint32 => {
                let value: i32 = self.integer()?;
                Number::Varint(u64::from((value << 1 ^ value >> 31).cast_unsigned()))
            }
            Kind::Fixed32 => Number::Fixed32(self.integer()?),
            Kind::Fixed64 => Number::Fixed64(self.integer()?),
            Kind::Sfixed64 => Number::Fixed64(self.integer::<i64>()?.cast_unsigned()),
            Kind::Double => Number::Fixed64(self.double()?.to_bits()),
            Kind::Enum(names) => Number::Varint(i64::from(self.enumerated(names)?).cast_unsigned()),
            _ => return Err(self.json.fault("no number")),
        })
    }

    /// An array of numbers, as one field.
    fn packed(&mut self, row: &Row) -> Result<(), Fault> {
        self.json.open_array()?;
        let (mut first, mut index) = (true, 0_usize);
        let mut open = None;
        while self.json.element(&mut first)? {
            let number = self.number(row.kind).map_err(|fault| fault.inside(Step::Element(index)))?;
            open.get_or_insert_with(|| self.out.open(row.number));
            match number {
                Number::Varint(value) => put_varint(self.out.raw(), value),
                Number::Fixed32(value) => self.out.raw().extend_from_slice(&value.to_le_bytes()),
                Number::Fixed64(value) => self.out.raw().extend_from_slice(&value.to_le_bytes()),
            }
            index = index.saturating_add(1);
        }
        if let Some(open) = open {
            self.out.close(&open);
        }
        Ok(())
    }

    /// A message field, however empty.
    fn nested(&mut self, number: u32, message: &'static Table) -> Result<(), Fault> {
        let levels = u32::from(message.nests);
        self.nested_values = self.nested_values.saturating_add(levels);
        if self.nested_values > MAX_NESTING {
            return Err(self.json.fault("values are nested too deeply"));
        }
        let open = self.out.open(number);
        self.message(message)?;
        self.out.close(&open);
        self.nested_values = self.nested_values.saturating_sub(levels);
        Ok(())
    }

    /// A bytes field, from its text.
    fn decoded(
        &mut self,
        row: &Row,
        text: &str,
        decode: impl Fn(&str, &mut Vec<u8>) -> Result<(), Expected>,
    ) -> Result<(), Fault> {
        if text.is_empty() && row.label == Label::Plain {
            return Ok(());
        }
        let open = self.out.open(row.number);
        decode(text, self.out.raw()).map_err(|expected| self.json.fault(expected))?;
        self.out.close(&open);
        Ok(())
    }

    fn integer<T: TryFrom<i128>>(&mut self) -> Result<T, Fault> {
        let number = match self.json.token()? {
            Token::String => self.json.string()?,
            Token::Number => Cow::Borrowed(self.json.number()?),
            // Nothing else is an integer, so that the one message for all misfits is given.
            _ => Cow::Borrowed(""),
        };
        scalar::integer(&number).map_err(|expected| self.json.fault(expected))
    }

    fn double(&mut self) -> Result<f64, Fault> {
        let value = match self.json.token()? {
            Token::String => scalar::double_text(&self.json.string()?),
            Token::Number => scalar::double(self.json.number()?),
            _ => scalar::double_text(""),
        };
        value.map_err(|expected| self.json.fault(expected))
    }

    fn enumerated(&mut self, names: &[(&str, i32)]) -> Result<i32, Fault> {
        if self.json.token()? != Token::String {
            return self.integer();
        }
        let text: Cow<'a, str> = self.json.string()?;
        let entry = names.iter().find(|(name, _)| *name == text);
        entry.map(|(_, value)| *value).ok_or_else(|| self.json.fault("a name that this enum does not have"))
    }
}

#[cfg(test)]
mod tests;
