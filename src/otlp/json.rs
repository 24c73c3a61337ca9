//! OTLP/JSON in: decoded strictly and written as protobuf; JSON is never passed on.
//!
//! It follows tables (`schema`) through one document, once, and decides what a document says and
//! whether protobuf can say the same: what comes out is what was meant, or nothing is. It never
//! judges what a request may hold; that is done to the protobuf, as for everybody's.
//!
//! Exporters write the same few forms over and over. Each is first looked for as it is usually
//! written (`usual_key`, `short`); whatever is not that, however wrong, is left to the strict way,
//! which alone refuses.
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
mod fault;
mod lexer;
mod number;
mod scalar;
mod short;

use super::{
    schema::{self, ANY_VALUE, KEY_VALUE, Kind, Label, MAX_NESTING, Row, Table, WINDOW},
    signal::Signal,
};
use encode::{Encoder, MAX_INPUT};
use fault::{Fault, Step};
use lexer::{Lexer, Token};
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
/// length even for one of nothing but zeros of eight bytes each (once for spans as they are).
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
    decode(schema::of(signal).request, text).map_err(|fault| JsonError(fault.to_string()))
}

fn decode(message: &'static Table, text: &str) -> Result<Vec<u8>, Fault> {
    let out = Encoder::for_input(text.len());
    let mut decoder = Decoder { json: Lexer::new(text), out, depth: 0, nested_values: 0 };
    let end = decoder.message(0, message)?;
    decoder.json.moved_to(end).end()?;
    Ok(decoder.out.finish())
}

/// Its methods are told where reading has come to, and give the place where they left off.
struct Decoder<'a> {
    json: Lexer<'a>,
    out: Encoder,
    /// Arrays and objects that are open.
    depth: u32,
    nested_values: u32,
}

impl Decoder<'_> {
    fn message(&mut self, at: usize, message: &'static Table) -> Result<usize, Fault> {
        let mut json = self.json.moved_to(at);
        self.depth = json.open(b'{', "expected an object", self.depth)?;
        let (mut first, mut next, mut seen, mut oneof_taken) = (true, 0, 0_u64, false);
        while json.member(&mut first)? {
            json.next_byte();
            let known = if let Some((place, row)) = usual_key(&json, message, next) {
                json.advance(row.key.len());
                Some((place, row))
            } else {
                let (known, at) = unusual_key(json, message)?;
                json = json.moved_to(at);
                known
            };
            json.colon()?;
            let Some((place, row)) = known else {
                json = json.moved_to(self.skip(json.place())?);
                continue;
            };
            next = place.wrapping_add(1);
            let bit =
                u32::try_from(place).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(u64::MAX);
            let field = if seen & bit == 0 {
                self.field(json, row, &mut oneof_taken)
            } else {
                Err(json.fault("given twice, by one or by both of its names"))
            };
            json = json.moved_to(field.map_err(|fault| fault.inside(Step::Field(row.name)))?);
            seen |= bit;
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(json.place())
    }

    #[inline(never)]
    fn skip(&self, at: usize) -> Result<usize, Fault> {
        let mut json = self.json.moved_to(at);
        json.skip(self.depth)?;
        Ok(json.place())
    }

    #[inline]
    fn field(
        &mut self,
        mut json: Lexer<'_>,
        row: &'static Row,
        oneof_taken: &mut bool,
    ) -> Result<usize, Fault> {
        let usual = matches!(json.next_byte(), Some(b'"' | b'{' | b'[' | b'0'..=b'9'));
        if !usual && json.token()? == Token::Null {
            json.literal("null")?;
            return Ok(json.place());
        }
        match row.label {
            Label::Repeated => return self.repeated(json, row),
            Label::Packed => return self.packed(json, row),
            Label::Plain | Label::Optional => {}
            Label::Member => {
                if std::mem::replace(oneof_taken, true) {
                    return Err(json.fault("a second value where only one is possible"));
                }
            }
        }
        self.value(json, row)
    }

    /// An array, each element of which is a field.
    #[inline(never)]
    fn repeated(&mut self, mut json: Lexer<'_>, row: &'static Row) -> Result<usize, Fault> {
        self.depth = json.open(b'[', "expected an array", self.depth)?;
        let (mut first, mut index) = (true, 0_usize);
        while json.element(&mut first)? {
            let value = self.value(json, row);
            json = json.moved_to(value.map_err(|fault| fault.inside(Step::Element(index)))?);
            index = index.wrapping_add(1);
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(json.place())
    }

    /// Numbers in an array, as one field.
    #[inline(never)]
    fn packed(&mut self, mut json: Lexer<'_>, row: &'static Row) -> Result<usize, Fault> {
        json.open(b'[', "expected an array", self.depth)?;
        let (mut first, mut index) = (true, 0_usize);
        if !json.element(&mut first)? {
            return Ok(json.place());
        }
        let open = self.out.open(row.number);
        loop {
            let (value, at) =
                number::read(json, row.kind).map_err(|fault| fault.inside(Step::Element(index)))?;
            self.out.packed(value);
            json = json.moved_to(at);
            if !json.element(&mut first)? {
                break;
            }
            index = index.wrapping_add(1);
        }
        self.out.close(open);
        Ok(json.place())
    }

    #[expect(clippy::inline_always, reason = "a tenth of the time goes by if it is called")]
    #[inline(always)]
    fn value(&mut self, mut json: Lexer<'_>, row: &'static Row) -> Result<usize, Fault> {
        json.next_byte();
        let keep_default = row.label != Label::Plain;
        let len = match row.kind {
            Kind::KeyValue => return self.nested(json.place(), row.number, &KEY_VALUE),
            Kind::AnyValue => return self.nested(json.place(), row.number, &ANY_VALUE),
            Kind::Message(table) | Kind::Entry(table) | Kind::Item(table) => {
                return self.nested(json.place(), row.number, table);
            }
            Kind::String => short::string(json.rest(), row.number, keep_default, &mut self.out),
            Kind::Id(id) => short::id(json.rest(), row.number, id.len(), &mut self.out),
            Kind::Bytes | Kind::Index | Kind::Legacy(_) => None,
            kind => {
                let (value, at) = number::read(json, kind)?;
                if keep_default || !value.is_default() {
                    self.out.number(row.number, value);
                }
                return Ok(at);
            }
        };
        match len {
            Some(len) => {
                json.advance(len);
                Ok(json.place())
            }
            None => self.unusual(json, row),
        }
    }

    /// A value that is not a number, in any form.
    #[inline(never)]
    fn unusual(&mut self, mut json: Lexer<'_>, row: &Row) -> Result<usize, Fault> {
        let keep_default = row.label != Label::Plain;
        match row.kind {
            Kind::String if !keep_default && json.rest().starts_with(b"\"\"") => json.advance(2),
            Kind::String => {
                let open = self.out.open(row.number);
                json.string_into(self.out.raw())?;
                self.out.close(open);
            }
            Kind::Bytes => self.decoded(&mut json, row, scalar::base64)?,
            Kind::Id(id) => self.decoded(&mut json, row, |text, out| match text {
                b"" => Ok(()),
                text => scalar::hex(text, id.len(), out),
            })?,
            Kind::Legacy(why) => return Err(json.fault(why)),
            Kind::Index => {
                let says_nothing = row.label == Label::Plain
                    && json.token()? == Token::Number
                    && number::integer::<u8>(&mut json).is_ok_and(|value| value == 0);
                if !says_nothing {
                    return Err(json.fault("a reference into a dictionary, which this signal does not have"));
                }
            }
            _ => {}
        }
        Ok(json.place())
    }

    /// A message field, however empty.
    #[expect(clippy::inline_always, reason = "as above")]
    #[inline(always)]
    fn nested(&mut self, at: usize, number: u32, message: &'static Table) -> Result<usize, Fault> {
        let levels = u32::from(message.nests);
        self.nested_values = self.nested_values.saturating_add(levels);
        if self.nested_values > MAX_NESTING {
            return Err(self.json.moved_to(at).fault("values are nested too deeply"));
        }
        let open = self.out.open(number);
        let at = self.message(at, message)?;
        self.out.close(open);
        self.nested_values = self.nested_values.saturating_sub(levels);
        Ok(at)
    }

    /// A bytes field, from its text.
    fn decoded(
        &mut self,
        json: &mut Lexer<'_>,
        row: &Row,
        decode: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), Expected>,
    ) -> Result<(), Fault> {
        let text = json.string()?;
        if text.is_empty() && row.label == Label::Plain {
            return Ok(());
        }
        let open = self.out.open(row.number);
        decode(&text, self.out.raw()).map_err(|expected| json.fault(expected))?;
        self.out.close(open);
        Ok(())
    }
}

/// A field and its place in the table.
type Known = (usize, &'static Row);

/// The field whose key comes next, if the key is written plainly. Fields mostly come in the order of
/// the table, so that the row after the last one is tried first.
#[inline]
fn usual_key(json: &Lexer<'_>, message: &'static Table, next: usize) -> Option<Known> {
    let window = json.window::<WINDOW>()?;
    let (before, after) = message.rows.split_at_checked(next)?;
    let found = after.iter().enumerate().find(|(_, row)| row.key.is(window));
    found
        .map(|(place, row)| (place.wrapping_add(next), row))
        .or_else(|| before.iter().enumerate().find(|(_, row)| row.key.is(window)))
}

/// Reads a key in any form; gives the field, if there is one of that name, and the place after it.
#[inline(never)]
fn unusual_key(mut json: Lexer<'_>, message: &'static Table) -> Result<(Option<Known>, usize), Fault> {
    let key = json.string()?;
    Ok((message.named(&key), json.place()))
}

#[cfg(test)]
mod tests;
