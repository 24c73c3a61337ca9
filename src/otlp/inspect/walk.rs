//! The walk behind [`super::inspect()`]: every message by its table, attributes by a short cut. It
//! recurses only as deep as the tables do, and 32 `AnyValue`s deep inside an attribute.

use super::{Inspection, Malformed, Rules};
use crate::otlp::{
    schema::{ANY_VALUE, KEY_VALUE, Kind, MAX_NESTING, MAX_RESOURCES, Table},
    wire::{Reader, Tag, WireError, WireType},
};

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
    pub(super) fn message(
        &mut self,
        table: &'static Table,
        content: &[u8],
        nesting: u32,
    ) -> Result<(), Malformed> {
        let mut reader = Reader::new(content);
        while let Some(tag) = reader.tag()? {
            match (table.kind(tag.number), tag.wire) {
                (Kind::KeyValue, WireType::Len) => self.key_value(reader.bytes()?, nesting)?,
                (Kind::Message(inner), WireType::Len) => self.message(inner, reader.bytes()?, nesting)?,
                (Kind::Element, WireType::Len) => {
                    let mut members = Members::default();
                    self.any_value(reader.bytes()?, nesting, &mut members)?;
                    members.agreed()?;
                }
                (Kind::OwnTraceId, WireType::Len) => self.own_trace_id(reader.bytes()?)?,
                (Kind::Item(inner), WireType::Len) => self.item(inner, reader.bytes()?)?,
                (Kind::Entry(inner), WireType::Len) => {
                    self.found.resources = self.found.resources.saturating_add(1);
                    if self.found.resources > MAX_RESOURCES {
                        return Err(Malformed("the request holds more than 1000 resources"));
                    }
                    self.message(inner, reader.bytes()?, nesting)?;
                }
                (Kind::Unknown, _) => self.unknown(table, tag, &mut reader)?,
                (kind, _) => scalar(kind, tag, &mut reader)?,
            }
        }
        Ok(())
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
        while let Some(tag) = reader.tag()? {
            match (KEY_VALUE.kind(tag.number), tag.wire) {
                (Kind::Value, WireType::Len) => self.any_value(reader.bytes()?, nesting, &mut members)?,
                (Kind::Unknown, wire) => reader.skip(wire)?,
                (kind, _) => scalar(kind, tag, &mut reader)?,
            }
        }
        members.agreed()
    }

    /// Reads one `AnyValue` with `nesting` others around it; below [`MAX_NESTING`] by construction.
    fn any_value(&mut self, content: &[u8], nesting: u32, members: &mut Members) -> Result<(), Malformed> {
        let nesting = nesting.saturating_add(1);
        let mut reader = Reader::new(content);
        while let Some(tag) = reader.tag()? {
            let kind = ANY_VALUE.kind(tag.number);
            match (kind, tag.wire) {
                (Kind::Unknown, wire) => {
                    reader.skip(wire)?;
                    continue;
                }
                (Kind::Container(inner), WireType::Len) => {
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
    fn unknown(&mut self, table: &Table, tag: Tag, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        if table.legacy == Some(tag.number) {
            return Err(Malformed("the request uses a field that OTLP removed"));
        }
        if table.frame {
            if self.rules.refuse_unknown {
                return Err(Malformed("the request has an unknown field outside its items"));
            }
            self.found.unknown_fields = self.found.unknown_fields.saturating_add(1);
        }
        Ok(reader.skip(tag.wire)?)
    }
}

/// Reads a value that holds no message.
#[inline]
fn scalar(kind: Kind, tag: Tag, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    match (kind, tag.wire) {
        (Kind::Text, WireType::Len) => text(reader.bytes()?),
        (Kind::TraceId, WireType::Len) => trace_id(reader.bytes()?),
        (Kind::SpanId, WireType::Len) => span_id(reader.bytes()?),
        (Kind::Varint | Kind::StringIndex, WireType::Varint)
        | (Kind::Fixed64, WireType::Fixed64)
        | (Kind::Fixed32, WireType::Fixed32)
        | (Kind::Bytes, WireType::Len) => Ok(reader.skip(tag.wire)?),
        _ => Err(WireError::Mismatch.into()),
    }
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
        && content.is_ascii()
}

/// Source: Protocol Buffers, "Language Guide (proto 3)": a string is always UTF-8. prost refuses
/// any other, the Collector passes it on.
#[inline]
fn text(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.is_ascii() || simdutf8::basic::from_utf8(bytes).is_ok() {
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
