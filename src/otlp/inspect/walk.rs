//! The walk behind [`super::inspect()`]: every message by its table, attributes by a short cut. It
//! recurses only as deep as the tables do, and at most 32 `AnyValue`s deep inside an attribute.

use super::{
    Depth, Inspection, Malformed, Rules,
    rules::{Gate, Members},
    text::{plain_run, utf8},
};
use crate::otlp::{
    schema::{ANY_VALUE, Id, KEY_VALUE, Look, MAX_NESTING, MAX_RESOURCES, Table, number},
    wire::{Reader, Tag, WireError},
};

/// Scopes of which no length is asked.
const FREE_SCOPES: usize = 1_000;

/// Fewest bytes of the request for each further scope, on average: it may take 2 bytes here, and takes a hundred and more in
/// every reader behind us. The shortest scope with a span of a trace has 22.
const BYTES_PER_SCOPE: usize = 20;

/// One pass over one request.
pub(super) struct Walk<'r> {
    rules: &'r Rules,
    gate: Gate,
    found: Inspection,
    /// How many `ScopeX` may still come.
    scopes: usize,
}

impl<'r> Walk<'r> {
    /// `trace_required`: whether an item must name its trace; `length`: of the whole request.
    pub(super) fn new(rules: &'r Rules, trace_required: bool, length: usize) -> Self {
        let scopes = FREE_SCOPES.saturating_add(length / BYTES_PER_SCOPE);
        Self { rules, gate: Gate::new(rules.trace_id, trace_required), found: Inspection::default(), scopes }
    }

    pub(super) fn end(&self) -> Inspection {
        Inspection { foreign: self.gate.end(), ..self.found }
    }

    /// Reads one message. `nesting` is the number of `AnyValue`s around it; `BRIEF`: only for the
    /// trace gate's ids (see [`Depth::Structure`]).
    pub(super) fn message<const BRIEF: bool>(
        &mut self,
        table: &'static Table,
        mut reader: Reader<'_>,
        nesting: u32,
    ) -> Result<(), Malformed> {
        let nesting = nesting.saturating_add(table.levels);
        let mut members = Members::default();
        loop {
            reader = self.usual::<BRIEF, false>(table, reader, nesting)?;
            if reader.is_empty() {
                return members.agreed();
            }
            reader = self.field::<BRIEF>(table, reader, nesting, &mut members)?;
        }
    }

    /// Reads fields as long as they are usual: tag and length take one byte each, and one look at
    /// the table says what to do. All others, and all that is unknown or wrong, take the long way
    /// through [`Walk::field`], which would read these the same.
    #[expect(clippy::inline_always, reason = "a call for each item costs more than a field")]
    #[inline(always)]
    fn usual<'a, const BRIEF: bool, const LEAF: bool>(
        &mut self,
        table: &'static Table,
        mut reader: Reader<'a>,
        nesting: u32,
    ) -> Result<Reader<'a>, Malformed> {
        while let Some([tag, next]) = reader.peek() {
            let after = match table.first_look::<BRIEF>(tag) {
                Look::KeyValue | Look::Text => {
                    let after = text_run(table, reader);
                    let run = reader.upto(&after);
                    utf8(run)?;
                    (!run.is_empty()).then_some(after)
                }
                Look::Bytes => reader.past_short(next).map(|after| bytes_run::<BRIEF>(table, after)),
                Look::Message if !LEAF => match reader.content() {
                    Some((content, after)) => {
                        let inner = table.inner(u32::from(tag));
                        let rest = self.usual::<BRIEF, true>(inner, Reader::new(content), nesting)?;
                        if !rest.is_empty() {
                            self.message::<BRIEF>(inner, rest, nesting)?;
                        }
                        Some(after)
                    }
                    None => None,
                },
                Look::Varint if next < 0x80 => reader.past(2),
                Look::Fixed64 => reader.past(9),
                Look::SpanId if next == 8 => reader.past(10),
                Look::OwnTrace if !LEAF && next == 16 => {
                    reader.array::<18>().map(|([_, _, id @ ..], after)| {
                        self.gate.own_trace(id);
                        after
                    })
                }
                Look::Unknown
                | Look::Varint
                | Look::Fixed32
                | Look::SpanId
                | Look::OwnTrace
                | Look::SetTrace
                | Look::OtherTrace
                | Look::ProfileId
                | Look::Value
                | Look::Element
                | Look::Varints
                | Look::Fixed64s
                | Look::IndexMember
                | Look::MessageMember
                | Look::Message
                | Look::Entry
                | Look::Item => None,
            };
            let Some(after) = after else { break };
            reader = after;
        }
        Ok(reader)
    }

    /// Reads one field of any form and gives a reader of what follows it.
    #[cold]
    #[inline(never)]
    fn field<'a, const BRIEF: bool>(
        &mut self,
        table: &'static Table,
        mut reader: Reader<'a>,
        nesting: u32,
        members: &mut Members,
    ) -> Result<Reader<'a>, Malformed> {
        let Some(tag) = reader.raw_tag()? else { return Ok(reader) };
        match table.look::<BRIEF>(tag) {
            Look::KeyValue => self.key_value(reader.bytes()?, nesting)?,
            Look::Message => {
                self.message::<BRIEF>(table.inner(tag), Reader::new(reader.bytes()?), nesting)?;
            }
            Look::MessageMember => {
                members.set(true);
                self.message::<BRIEF>(table.inner(tag), Reader::new(reader.bytes()?), nesting)?;
            }
            Look::Value => self.any_value(reader.bytes()?, nesting, members)?,
            Look::Element => {
                let mut members = Members::default();
                self.any_value(reader.bytes()?, nesting, &mut members)?;
                members.agreed()?;
            }
            Look::OwnTrace => self.gate.id(Id::OwnTrace, reader.bytes()?)?,
            Look::SetTrace => self.gate.id(Id::SetTrace, reader.bytes()?)?,
            Look::OtherTrace => self.gate.id(Id::OtherTrace, reader.bytes()?)?,
            Look::SpanId => self.gate.id(Id::Span, reader.bytes()?)?,
            Look::ProfileId => self.gate.id(Id::Profile, reader.bytes()?)?,
            Look::Item => {
                let inner = table.inner(tag);
                return match self.rules.depth {
                    Depth::Full => self.items::<false>(inner, tag, reader),
                    Depth::Structure => self.items::<true>(inner, tag, reader),
                };
            }
            Look::Entry => {
                self.found.resources = self.found.resources.saturating_add(1);
                if self.found.resources > MAX_RESOURCES {
                    return Err(Malformed("the request holds more than 1000 resources"));
                }
                let content = reader.bytes()?;
                self.count_scopes(content)?;
                self.message::<BRIEF>(table.inner(tag), Reader::new(content), nesting)?;
            }
            Look::Unknown => self.unknown(table, tag, &mut reader)?,
            look => scalar(look, &mut reader)?,
        }
        Ok(reader)
    }

    /// Counts the scopes of a `ResourceX`. What is malformed in it is left for the walk to find.
    fn count_scopes(&mut self, entry: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(entry);
        while let Ok(Some(Tag { number, wire })) = reader.tag() {
            if number == number::SCOPES {
                let left = self.scopes.checked_sub(1);
                self.scopes =
                    left.ok_or(Malformed("the request holds far more scopes than its length explains"))?;
            }
            if reader.skip(wire).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Reads an item, and those of the same field that follow it.
    fn items<'a, const BRIEF: bool>(
        &mut self,
        table: &'static Table,
        tag: u32,
        mut reader: Reader<'a>,
    ) -> Result<Reader<'a>, Malformed> {
        let outside = self.gate.enter_items();
        let max_item_size = self.rules.max_item_size;
        let (mut items, mut oversize) = (0_u64, 0_u64);
        loop {
            let content = reader.bytes()?;
            let rest = self.usual::<BRIEF, false>(table, Reader::new(content), 0)?;
            if !rest.is_empty() {
                self.message::<BRIEF>(table, rest, 0)?;
            }
            self.gate.end_item();
            items = items.wrapping_add(1);
            oversize = oversize.wrapping_add(u64::from(content.len() > max_item_size));
            match reader.after(tag) {
                Some(rest) => reader = rest,
                None => break,
            }
        }
        self.gate.leave_items(outside);
        self.found.items = self.found.items.saturating_add(items);
        self.found.oversize = self.found.oversize.saturating_add(oversize);
        Ok(reader)
    }

    fn key_value(&mut self, content: &[u8], nesting: u32) -> Result<(), Malformed> {
        let mut reader = Reader::new(content);
        let mut members = Members::default();
        while let Some(tag) = reader.raw_tag()? {
            match KEY_VALUE.look::<false>(tag) {
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
            let look = ANY_VALUE.look::<false>(tag);
            match look {
                Look::Unknown => {
                    self.unknown(&ANY_VALUE, tag, &mut reader)?;
                    continue;
                }
                Look::MessageMember => {
                    let held = reader.bytes()?;
                    // At the last level nothing at all may be held, not even a `KeyValue` without
                    // a value: 32 levels in an event's attribute already are prost's own limit of
                    // 100 messages (see `Table::levels` for what stands deeper).
                    if nesting >= MAX_NESTING && !held.is_empty() {
                        return Err(Malformed("an attribute value is nested more than 32 levels deep"));
                    }
                    self.message::<false>(ANY_VALUE.inner(tag), Reader::new(held), nesting)?;
                }
                _ => scalar(look, &mut reader)?,
            }
            members.set(matches!(look, Look::MessageMember | Look::IndexMember));
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

/// The end of a run of fields that are text or stand beside it: strings and numbers of the shortest
/// form, attributes of the usual form. Every byte of it outside the strings is below 0x80.
#[inline]
fn text_run<'a>(table: &Table, mut reader: Reader<'a>) -> Reader<'a> {
    while let Some([tag, next]) = reader.peek() {
        let after = match table.first_look::<false>(tag) {
            Look::KeyValue => plain_run(tag, reader),
            Look::Text => reader.past_short(next),
            Look::Varint if next < 0x80 => reader.past(2),
            _ => None,
        };
        let Some(after) = after else { break };
        reader = after;
    }
    reader
}

/// The end of a run of short fields that are not looked into.
#[inline]
fn bytes_run<'a, const BRIEF: bool>(table: &Table, mut reader: Reader<'a>) -> Reader<'a> {
    while let Some([tag, next]) = reader.peek()
        && matches!(table.first_look::<BRIEF>(tag), Look::Bytes)
        && let Some(after) = reader.past_short(next)
    {
        reader = after;
    }
    reader
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
