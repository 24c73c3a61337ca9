//! The walk behind [`super::inspect()`]: every message by its table, attributes by a short cut. It
//! recurses only as deep as the tables do, and 32 `AnyValue`s deep inside an attribute.

use super::{Inspection, Malformed, Rules};
use crate::otlp::{
    schema::{ANY_VALUE, KEY_VALUE, Kind, MAX_NESTING, MAX_RESOURCES, Table},
    wire::{Reader, Tag, WireError},
};

/// Wire types as they stand in the low bits of a tag. A tag is taken apart with all checks only
/// when it does not fit its field; one that fits has passed them.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LEN: u32 = 2;
const FIXED32: u32 = 5;

/// One pass over one request.
pub(super) struct Walk<'r> {
    rules: &'r Rules,
    found: Inspection,
    /// Whether the item at hand named the expected trace, and whether it named another one.
    own_trace: bool,
    other_trace: bool,
}

/// What was set of one `AnyValue`'s oneof, over all the occurrences that merge into it.
#[derive(Default)]
struct Members {
    all: u32,
    contested: u32,
}

impl Members {
    /// Readers agree that the last member wins, but not on more. One that comes twice and holds a
    /// message is merged by prost and replaced by the Collector; `string_value_strindex` is no
    /// member at all to a reader that is older than it.
    fn agreed(&self) -> Result<(), Malformed> {
        if self.contested > 0 && self.all > 1 {
            return Err(Malformed(
                "an attribute value is set more than once, in ways that readers differ on",
            ));
        }
        Ok(())
    }
}

impl<'r> Walk<'r> {
    pub(super) fn new(rules: &'r Rules) -> Self {
        Self { rules, found: Inspection::default(), own_trace: false, other_trace: false }
    }

    pub(super) fn found(&self) -> Inspection {
        self.found
    }

    /// Reads one message. `nesting` is the number of `AnyValue`s around it.
    ///
    /// Fields whose tag and length take one byte each are read here, by one look at the table. All
    /// others, and all that is unknown or wrong, take the long way through [`Walk::field`], which
    /// would read these the same.
    pub(super) fn message(
        &mut self,
        table: &'static Table,
        content: &[u8],
        nesting: u32,
    ) -> Result<(), Malformed> {
        let mut reader = Reader::new(content);
        loop {
            if let Some((tag, next, mut rest)) = reader.short() {
                match table.short(tag) {
                    Kind::KeyValue if next < 0x80 => {
                        self.key_value(rest.take(next)?, nesting)?;
                        // Attributes come in runs: no look at the table for the next one.
                        while let Some((again, length @ 0..0x80, after)) = rest.short()
                            && again == tag
                        {
                            rest = after;
                            self.key_value(rest.take(length)?, nesting)?;
                        }
                    }
                    Kind::Text if next < 0x80 => text(rest.take(next)?)?,
                    Kind::Message(inner) if next < 0x80 => self.message(inner, rest.take(next)?, nesting)?,
                    Kind::OwnTraceId if next < 0x80 => self.own_trace_id(rest.take(next)?)?,
                    Kind::SpanId if next < 0x80 => span_id(rest.take(next)?)?,
                    Kind::Varint if next < 0x80 => {}
                    Kind::Fixed64 => rest.fixed(7)?,
                    _ => rest = self.field(table, reader, nesting)?,
                }
                reader = rest;
            } else if reader.is_empty() {
                return Ok(());
            } else {
                reader = self.field(table, reader, nesting)?;
            }
        }
    }

    /// Reads one field of any form and gives a reader of what follows it.
    fn field<'a>(
        &mut self,
        table: &'static Table,
        mut reader: Reader<'a>,
        nesting: u32,
    ) -> Result<Reader<'a>, Malformed> {
        let Some(tag) = reader.raw_tag()? else { return Ok(reader) };
        match (table.kind(tag >> 3), tag & 7) {
            (Kind::KeyValue, LEN) => self.key_value(reader.bytes()?, nesting)?,
            (Kind::Message(inner), LEN) => self.message(inner, reader.bytes()?, nesting)?,
            (Kind::Element, LEN) => {
                let mut members = Members::default();
                self.any_value(reader.bytes()?, nesting, &mut members)?;
                members.agreed()?;
            }
            (Kind::OwnTraceId, LEN) => self.own_trace_id(reader.bytes()?)?,
            (Kind::Item(inner), LEN) => self.item(inner, reader.bytes()?)?,
            (Kind::Entry(inner), LEN) => {
                self.found.resources = self.found.resources.saturating_add(1);
                if self.found.resources > MAX_RESOURCES {
                    return Err(Malformed("the request holds more than 1000 resources"));
                }
                self.message(inner, reader.bytes()?, nesting)?;
            }
            (Kind::Unknown, _) => reader = self.unknown(table, tag, reader)?,
            (kind, _) => scalar(kind, tag, &mut reader)?,
        }
        Ok(reader)
    }

    fn item(&mut self, table: &'static Table, content: &[u8]) -> Result<(), Malformed> {
        (self.own_trace, self.other_trace) = (false, false);
        self.message(table, content, 0)?;
        self.found.items = self.found.items.saturating_add(1);
        if content.len() > self.rules.max_item_size {
            self.found.oversize = self.found.oversize.saturating_add(1);
        }
        if self.rules.trace_id.is_some() && (self.other_trace || !self.own_trace) {
            self.found.foreign = self.found.foreign.saturating_add(1);
        }
        Ok(())
    }

    /// An empty id is proto3's default, the same as no field: well formed, but of no trace. An id
    /// of zeros equals no verdict's (see [`crate::otlp::TraceId`]), so it needs no rule of its own.
    fn own_trace_id(&mut self, id: &[u8]) -> Result<(), Malformed> {
        trace_id(id)?;
        if let Some(expected) = &self.rules.trace_id {
            if id == expected.as_bytes() {
                self.own_trace = true;
            } else {
                self.other_trace = true;
            }
        }
        Ok(())
    }

    #[inline]
    fn key_value(&mut self, content: &[u8], nesting: u32) -> Result<(), Malformed> {
        if is_plain(content) { Ok(()) } else { self.any_key_value(content, nesting) }
    }

    fn any_key_value(&mut self, content: &[u8], nesting: u32) -> Result<(), Malformed> {
        let mut reader = Reader::new(content);
        let mut members = Members::default();
        while let Some(tag) = reader.raw_tag()? {
            match (KEY_VALUE.kind(tag >> 3), tag & 7) {
                (Kind::Value, LEN) => self.any_value(reader.bytes()?, nesting, &mut members)?,
                (Kind::Unknown, _) => reader = skip(tag, reader)?,
                (kind, _) => scalar(kind, tag, &mut reader)?,
            }
        }
        members.agreed()
    }

    /// Reads one `AnyValue` with `nesting` others around it; below [`MAX_NESTING`] by construction.
    fn any_value(&mut self, content: &[u8], nesting: u32, members: &mut Members) -> Result<(), Malformed> {
        let nesting = nesting.saturating_add(1);
        let mut reader = Reader::new(content);
        while let Some(tag) = reader.raw_tag()? {
            let kind = ANY_VALUE.kind(tag >> 3);
            match (kind, tag & 7) {
                (Kind::Unknown, _) => {
                    reader = skip(tag, reader)?;
                    continue;
                }
                (Kind::Container(inner), LEN) => {
                    let held = reader.bytes()?;
                    // At the last level nothing at all may be held, not even a `KeyValue` without
                    // a value: 32 levels in an event's attribute already are prost's own limit of
                    // 100 messages.
                    if nesting >= MAX_NESTING && !held.is_empty() {
                        return Err(Malformed("an attribute value is nested more than 32 levels deep"));
                    }
                    self.message(inner, held, nesting)?;
                }
                _ => scalar(kind, tag, &mut reader)?,
            }
            members.all = members.all.saturating_add(1);
            if matches!(kind, Kind::Container(_) | Kind::StringIndex) {
                members.contested = members.contested.saturating_add(1);
            }
        }
        Ok(())
    }

    #[cold]
    fn unknown<'a>(&mut self, table: &Table, tag: u32, reader: Reader<'a>) -> Result<Reader<'a>, Malformed> {
        if table.legacy == Some(tag >> 3) {
            return Err(Malformed("the request uses a field that OTLP removed"));
        }
        if table.frame {
            if self.rules.refuse_unknown {
                return Err(Malformed("the request has an unknown field outside its items"));
            }
            self.found.unknown_fields = self.found.unknown_fields.saturating_add(1);
        }
        skip(tag, reader)
    }
}

/// Passes over the value of an unknown field.
#[cold]
fn skip(tag: u32, mut reader: Reader<'_>) -> Result<Reader<'_>, Malformed> {
    reader.skip(Tag::of(tag)?.wire)?;
    Ok(reader)
}

/// Reads a value that holds no message.
#[expect(
    clippy::inline_always,
    reason = "a call would force the reader out of registers: a third of the time"
)]
#[inline(always)]
fn scalar(kind: Kind, tag: u32, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    match (kind, tag & 7) {
        (Kind::Text, LEN) => text(reader.bytes()?),
        (Kind::TraceId, LEN) => trace_id(reader.bytes()?),
        (Kind::SpanId, LEN) => span_id(reader.bytes()?),
        (Kind::Bytes, LEN) => Ok(reader.bytes().map(|_| ())?),
        (Kind::Varint | Kind::StringIndex, VARINT) => Ok(reader.varint().map(|_| ())?),
        (Kind::Fixed64, FIXED64) => Ok(reader.fixed(8)?),
        (Kind::Fixed32, FIXED32) => Ok(reader.fixed(4)?),
        _ => Err(mismatch(tag)),
    }
}

/// A tag that does not fit its field: what is wrong with it in itself goes before the misfit.
#[cold]
fn mismatch(tag: u32) -> Malformed {
    Tag::of(tag).err().unwrap_or(WireError::Mismatch).into()
}

/// Whether a `KeyValue` is the usual one, a short ASCII key and then a short ASCII string, each
/// exactly once and nothing else. Nearly every attribute is; all the others take the long way.
#[inline]
fn is_plain(content: &[u8]) -> bool {
    let [0x0A, key_len @ 0..=0x7F, rest @ ..] = content else { return false };
    let Some((_key, rest)) = rest.split_at_checked(usize::from(*key_len)) else { return false };
    let [0x12, value_len @ 0..=0x7F, 0x0A, text_len, text @ ..] = rest else { return false };
    usize::from(*text_len) == text.len()
        && value_len.checked_sub(2) == Some(*text_len)
        // Tags and lengths are below 0x80 here, so one look at the whole is one at both strings.
        && is_ascii(content)
}

/// The strings of an export are short: sixteen bytes at a time, the last ones twice, beats what the
/// standard library does for long ones.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    let high = |bytes: &[u8; 16]| u128::from_ne_bytes(*bytes) & u128::from_ne_bytes([0x80; 16]);
    let half = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes) & u64::from_ne_bytes([0x80; 8]);
    if let Some(last) = bytes.last_chunk() {
        bytes.as_chunks().0.iter().fold(high(last), |seen, chunk| seen | high(chunk)) == 0
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        half(first) | half(last) == 0
    } else {
        bytes.iter().all(u8::is_ascii)
    }
}

/// Source: Protocol Buffers, "Language Guide (proto 3)": a string is always UTF-8. prost refuses
/// any other, the Collector passes it on.
#[inline]
fn text(bytes: &[u8]) -> Result<(), Malformed> {
    if is_ascii(bytes) || simdutf8::basic::from_utf8(bytes).is_ok() {
        return Ok(());
    }
    Err(Malformed("a string is not UTF-8"))
}

/// Source: `trace.proto`, 16 bytes; the Collector takes an empty one for absent and refuses the
/// whole request for any other length, in links too.
#[inline]
fn trace_id(id: &[u8]) -> Result<(), Malformed> {
    match id.len() {
        0 | 16 => Ok(()),
        _ => Err(Malformed("a trace id is not 16 bytes long")),
    }
}

/// Source: `trace.proto`, 8 bytes; a root span's parent is empty, and the Collector takes an empty
/// span id of the span or a link for absent.
#[inline]
fn span_id(id: &[u8]) -> Result<(), Malformed> {
    match id.len() {
        0 | 8 => Ok(()),
        _ => Err(Malformed("a span id is not 8 bytes long")),
    }
}
