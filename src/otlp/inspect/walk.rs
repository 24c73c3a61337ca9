//! The walk behind [`super::inspect()`]: every message by its table, attributes by a short cut. It
//! recurses only as deep as the tables do, and 32 `AnyValue`s deep inside an attribute.

use super::{
    Depth, Inspection, Malformed, Rules,
    rules::{Gate, Members},
    text::{is_plain, utf8},
};
use crate::otlp::{
    schema::{ANY_VALUE, KEY_VALUE, Look, MAX_NESTING, MAX_RESOURCES, Table},
    wire::{Reader, Tag, WireError},
};

/// One pass over one request.
pub(super) struct Walk<'r> {
    rules: &'r Rules,
    gate: Gate,
    found: Inspection,
}

impl<'r> Walk<'r> {
    /// `trace_required`: whether an item must name its trace.
    pub(super) fn new(rules: &'r Rules, trace_required: bool) -> Self {
        Self { rules, gate: Gate::new(rules.trace_id, trace_required), found: Inspection::default() }
    }

    pub(super) fn end(&self) -> Inspection {
        Inspection { foreign: self.gate.end(), ..self.found }
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
        let mut members = Members::default();
        loop {
            if let Some((tag, next, mut rest)) = reader.short() {
                match table.look(u32::from(tag)) {
                    Look::KeyValue if next < 0x80 => rest = self.attributes(tag, reader, nesting)?,
                    Look::Text if next < 0x80 => utf8(rest.take(next)?)?,
                    Look::Message(inner) if next < 0x80 => self.message(inner, rest.take(next)?, nesting)?,
                    Look::Id(id) if next < 0x80 => self.gate.id(id, rest.take(next)?)?,
                    Look::Varint if next < 0x80 => {}
                    Look::Fixed64 => rest.fixed(7)?,
                    _ => rest = self.field(table, reader, nesting, &mut members)?,
                }
                reader = rest;
            } else if reader.is_empty() {
                return members.agreed();
            } else {
                reader = self.field(table, reader, nesting, &mut members)?;
            }
        }
    }

    /// Reads one field of any form and gives a reader of what follows it.
    fn field<'a>(
        &mut self,
        table: &'static Table,
        mut reader: Reader<'a>,
        nesting: u32,
        members: &mut Members,
    ) -> Result<Reader<'a>, Malformed> {
        let Some(tag) = reader.raw_tag()? else { return Ok(reader) };
        match table.look(tag) {
            Look::KeyValue => self.key_value(reader.bytes()?, nesting)?,
            Look::Message(inner) => self.message(inner, reader.bytes()?, nesting)?,
            Look::MessageMember(inner) => {
                members.set(true);
                self.message(inner, reader.bytes()?, nesting)?;
            }
            Look::Value => self.any_value(reader.bytes()?, nesting, members)?,
            Look::Element => {
                let mut members = Members::default();
                self.any_value(reader.bytes()?, nesting, &mut members)?;
                members.agreed()?;
            }
            Look::Id(id) => self.gate.id(id, reader.bytes()?)?,
            Look::Item(inner) => self.item(inner, reader.bytes()?)?,
            Look::Entry(inner) => {
                self.found.resources = self.found.resources.saturating_add(1);
                if self.found.resources > MAX_RESOURCES {
                    return Err(Malformed("the request holds more than 1000 resources"));
                }
                self.message(inner, reader.bytes()?, nesting)?;
            }
            Look::Unknown => self.unknown(table, tag, &mut reader)?,
            look => scalar(look, &mut reader)?,
        }
        Ok(reader)
    }

    fn item(&mut self, table: &'static Table, content: &[u8]) -> Result<(), Malformed> {
        let outside = self.gate.begin_item();
        match self.rules.depth {
            Depth::Full => self.message(table, content, 0)?,
            Depth::Structure => self.structure(table, content)?,
        }
        self.gate.end_item(outside);
        self.found.items = self.found.items.saturating_add(1);
        if content.len() > self.rules.max_item_size {
            self.found.oversize = self.found.oversize.saturating_add(1);
        }
        Ok(())
    }

    /// Reads the fields of a message and below them only those messages in which there are ids for
    /// the trace gate.
    fn structure(&mut self, table: &'static Table, content: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(content);
        loop {
            if let Some((tag, next, mut rest)) = reader.short() {
                match table.look(u32::from(tag)) {
                    Look::KeyValue | Look::Text | Look::Bytes if next < 0x80 => drop(rest.take(next)?),
                    Look::Message(inner) if next < 0x80 && !inner.gated => drop(rest.take(next)?),
                    Look::Id(id) if next < 0x80 => self.gate.id(id, rest.take(next)?)?,
                    Look::Varint if next < 0x80 => {}
                    Look::Fixed64 => rest.fixed(7)?,
                    _ => rest = self.structure_field(table, reader)?,
                }
                reader = rest;
            } else if reader.is_empty() {
                return Ok(());
            } else {
                reader = self.structure_field(table, reader)?;
            }
        }
    }

    fn structure_field<'a>(
        &mut self,
        table: &'static Table,
        mut reader: Reader<'a>,
    ) -> Result<Reader<'a>, Malformed> {
        let Some(tag) = reader.raw_tag()? else { return Ok(reader) };
        match table.look(tag) {
            Look::Id(id) => self.gate.id(id, reader.bytes()?)?,
            Look::Message(inner) | Look::MessageMember(inner) if inner.gated => {
                self.structure(inner, reader.bytes()?)?;
            }
            Look::Varint | Look::IndexMember => drop(reader.varint()?),
            Look::Fixed64 => reader.fixed(8)?,
            Look::Fixed32 => reader.fixed(4)?,
            Look::Unknown => self.unknown(table, tag, &mut reader)?,
            _ => drop(reader.bytes()?),
        }
        Ok(reader)
    }

    /// Reads a run of attributes: the one at hand, and those of the same field that follow it.
    ///
    /// As long as they are plain their strings are looked at all at once: all else in such a run is
    /// ASCII, the tags and lengths of the attributes included.
    fn attributes<'a>(
        &mut self,
        tag: u8,
        mut reader: Reader<'a>,
        nesting: u32,
    ) -> Result<Reader<'a>, Malformed> {
        let mut run = reader;
        while let Some((again, length @ 0..0x80, mut rest)) = reader.short()
            && again == tag
        {
            let content = rest.take(length)?;
            if !is_plain(content) {
                utf8(run.upto(&reader))?;
                self.key_value(content, nesting)?;
                run = rest;
            }
            reader = rest;
        }
        utf8(run.upto(&reader))?;
        Ok(reader)
    }

    fn key_value(&mut self, content: &[u8], nesting: u32) -> Result<(), Malformed> {
        let mut reader = Reader::new(content);
        let mut members = Members::default();
        while let Some(tag) = reader.raw_tag()? {
            match KEY_VALUE.look(tag) {
                Look::Value => self.any_value(reader.bytes()?, nesting, &mut members)?,
                Look::Unknown => self.unknown(&KEY_VALUE, tag, &mut reader)?,
                look => scalar(look, &mut reader)?,
            }
        }
        members.agreed()
    }

    /// Reads one `AnyValue` with `nesting` others around it; below [`MAX_NESTING`] by construction.
    fn any_value(&mut self, content: &[u8], nesting: u32, members: &mut Members) -> Result<(), Malformed> {
        let nesting = nesting.saturating_add(1);
        let mut reader = Reader::new(content);
        while let Some(tag) = reader.raw_tag()? {
            let look = ANY_VALUE.look(tag);
            match look {
                Look::Unknown => {
                    self.unknown(&ANY_VALUE, tag, &mut reader)?;
                    continue;
                }
                Look::MessageMember(inner) => {
                    let held = reader.bytes()?;
                    // At the last level nothing at all may be held, not even a `KeyValue` without
                    // a value: 32 levels in an event's attribute already are prost's own limit of
                    // 100 messages.
                    if nesting >= MAX_NESTING && !held.is_empty() {
                        return Err(Malformed("an attribute value is nested more than 32 levels deep"));
                    }
                    self.message(inner, held, nesting)?;
                }
                _ => scalar(look, &mut reader)?,
            }
            members.set(matches!(look, Look::MessageMember(_) | Look::IndexMember));
        }
        Ok(())
    }

    /// Passes over a field that no row describes, or says why it is refused.
    #[cold]
    fn unknown(&mut self, table: &Table, tag: u32, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let Tag { number, wire } = Tag::of(tag)?;
        if table.is_legacy(number) {
            return Err(Malformed("the request uses a field that OTLP removed"));
        }
        if table.knows(number) {
            return Err(WireError::Mismatch.into());
        }
        if table.frame {
            if self.rules.refuse_unknown {
                return Err(Malformed("the request has an unknown field outside its items"));
            }
            self.found.unknown_fields = self.found.unknown_fields.saturating_add(1);
        }
        Ok(reader.skip(wire)?)
    }
}

/// Reads a value that holds no message and no id.
#[expect(
    clippy::inline_always,
    reason = "a call would force the reader out of registers: a third of the time"
)]
#[inline(always)]
fn scalar(look: Look, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    match look {
        Look::Text => utf8(reader.bytes()?)?,
        Look::Bytes => drop(reader.bytes()?),
        Look::Varint | Look::IndexMember => drop(reader.varint()?),
        Look::Fixed64 => reader.fixed(8)?,
        Look::Fixed32 => reader.fixed(4)?,
        Look::Varints => {
            let mut numbers = Reader::new(reader.bytes()?);
            while !numbers.is_empty() {
                numbers.varint()?;
            }
        }
        Look::Fixed64s => {
            if reader.bytes()?.len() % 8 != 0 {
                return Err(WireError::Length.into());
            }
        }
        // All that is left holds messages or ids and was told apart before.
        _ => return Err(WireError::Mismatch.into()),
    }
    Ok(())
}
