//! The walk behind [`super::rewrite()`]: which fields stay, which go, where the stamp comes in. It
//! looks no deeper than it has to, so it holds only for bodies that were inspected before; any
//! other is refused or comes out as malformed as it came in, but never breaks the walk.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    Policy, Rewritten, Stamp,
    dictionary::Dictionary,
    plan::{Frame, Plan},
};
use crate::otlp::{
    inspect::Malformed,
    schema::{ENTITY_REF, Kind, LEN, MAX_RESOURCES, RESOURCE, SCOPE, Schema, Table, number},
    wire::{Field, Reader, place_of},
};

/// The tag of a `ScopeX`'s items.
const ITEM: u32 = number::ITEMS << 3 | LEN;

/// The tag of an attribute of a resource.
const RESOURCE_ATTRIBUTE: u32 = number::RESOURCE_ATTRIBUTES << 3 | LEN;

/// One pass over one request.
pub(super) struct Editor<'a> {
    policy: &'a Policy,
    schema: &'static Schema,
    dictionary: Dictionary,
    budget: u64,
    plan: Plan,
    done: Rewritten,
    /// The messages that the walk is in and that may have to lose something, the outermost first.
    open: SmallVec<[Edit<'a>; 8]>,
}

/// A message that stays one range of the old body until the first of its fields has to go.
struct Edit<'a> {
    number: u32,
    content: &'a [u8],
    /// The field that the walk is in.
    at: &'a [u8],
    frame: Option<Frame>,
}

impl<'a> Editor<'a> {
    /// `budget`: most items that are kept.
    pub(super) fn new(
        policy: &'a Policy,
        schema: &'static Schema,
        dictionary: Dictionary,
        budget: u64,
        body: &Bytes,
        stamp_len: usize,
    ) -> Self {
        let plan = Plan::new(body, stamp_len);
        Self { policy, schema, dictionary, budget, plan, done: Rewritten::default(), open: SmallVec::new() }
    }

    /// What leaves, and the counts.
    pub(super) fn end(&mut self, stamp: &Stamp) -> Rewritten {
        let done = std::mem::take(&mut self.done);
        Rewritten { pieces: self.plan.assemble(stamp), len: self.plan.len(), ..done }
    }

    /// `ExportXServiceRequest`
    pub(super) fn request(&mut self, body: &'a [u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(body);
        let mut entries = 0_u64;
        while let Some(field) = reader.field()? {
            match self.schema.request.row(field.number).map(|row| row.kind) {
                Some(Kind::Entry(_)) => {
                    entries = entries.saturating_add(1);
                    if entries > MAX_RESOURCES {
                        return Err(Malformed("the request holds more than 1000 resources"));
                    }
                    self.entry(&field)?;
                }
                Some(_) if self.policy.strip_items => self.dictionary(&field)?,
                Some(_) => self.plan.input(field.raw)?,
                None => self.count_unknown(),
            }
        }
        Ok(())
    }

    /// `ResourceX`: first its one resource, made of all that it had, then the rest as it came. One
    /// without items does not leave: it says nothing, and a stamp on it would outweigh it by far.
    fn entry(&mut self, entry: &Field<'a>) -> Result<(), Malformed> {
        let (mark, kept) = (self.plan.mark(), self.done.kept);
        let frame = self.plan.open(entry.number)?;
        let resource = self.plan.open(number::RESOURCE)?;
        let mut reader = entry.message()?;
        while let Some(field) = reader.field()? {
            if field.number == number::RESOURCE {
                self.resource(&field)?;
            }
        }
        self.plan.stamp();
        self.plan.close(&resource)?;

        let mut reader = entry.message()?;
        while let Some(field) = reader.field()? {
            match field.number {
                number::RESOURCE => {}
                number::SCOPES => self.scopes(&field)?,
                other => match self.schema.entry.row(other).map(|row| row.kind) {
                    Some(Kind::Legacy(_)) => {
                        return Err(Malformed("the request uses a field that OTLP removed"));
                    }
                    Some(_) => self.plan.input(field.raw)?,
                    None => self.count_unknown(),
                },
            }
        }
        if self.done.kept == kept {
            self.plan.rewind(&mark);
            return Ok(());
        }
        self.plan.close(&frame)
    }

    /// One occurrence of `ResourceX.resource`: its fields into the resource that is open.
    fn resource(&mut self, resource: &Field<'a>) -> Result<(), Malformed> {
        let mut reader = resource.message()?;
        // All from here on stays so far.
        let mut run = reader;
        loop {
            while let Some(mut rest) = reader.after(RESOURCE_ATTRIBUTE) {
                if self.is_protected(rest.bytes()?)? {
                    self.count_stripped();
                    self.plan.input(run.upto(&reader))?;
                    run = rest;
                }
                reader = rest;
            }
            let before = reader;
            let Some(field) = reader.field()? else { return self.plan.input(run.upto(&reader)) };
            let stays = match field.number {
                // Its tag is written with more bytes than it needs.
                number::RESOURCE_ATTRIBUTES if self.is_protected(field.bytes()?)? => {
                    self.count_stripped();
                    false
                }
                number::ENTITY_REFS => false,
                known if RESOURCE.knows(known) => true,
                _ => {
                    self.count_unknown();
                    false
                }
            };
            if !stays {
                self.plan.input(run.upto(&before))?;
                run = reader;
            }
            if field.number == number::ENTITY_REFS {
                self.entity_ref(&field)?;
            }
        }
    }

    /// A reference that is identified by a protected key goes whole, because with fewer keys it
    /// would name another entity; one that is only described by it loses the key.
    ///
    /// It does so whether or not the resource had such an attribute: after the stamp it would tie
    /// the sender's entity to what the gateway vouches for.
    fn entity_ref(&mut self, entity: &Field<'a>) -> Result<(), Malformed> {
        let mark = self.plan.mark();
        let mut forged = false;
        let mut reader = self.enter(entity)?;
        while let Some(field) = reader.field()? {
            let is_protected = match field.number {
                number::ID_KEYS | number::DESCRIPTION_KEYS => self.policy.protected.contains(field.bytes()?),
                _ => false,
            };
            forged |= is_protected && field.number == number::ID_KEYS;
            if !ENTITY_REF.knows(field.number) {
                self.count_unknown();
                self.cut(&field)?;
            } else if is_protected {
                self.cut(&field)?;
            } else {
                self.keep(field.raw)?;
            }
        }
        self.leave(entity)?;
        if forged {
            self.plan.rewind(&mark);
        }
        Ok(())
    }

    /// `ScopeX`: items are kept or left out whole, or only lose protected attributes. One without
    /// items does not leave.
    fn scopes(&mut self, scopes: &Field<'a>) -> Result<(), Malformed> {
        let (mark, kept) = (self.plan.mark(), self.done.kept);
        let Policy { max_item_size, strip_scope, strip_items, .. } = *self.policy;
        let mut reader = self.enter(scopes)?;
        loop {
            if !strip_items {
                reader = self.items(reader)?;
            }
            let Some(field) = reader.field()? else { break };
            match field.number {
                number::ITEMS => {
                    if field.bytes()?.len() > max_item_size {
                        self.done.oversize = self.done.oversize.saturating_add(1);
                        self.cut(&field)?;
                    } else if self.done.kept >= self.budget {
                        self.done.over_budget = self.done.over_budget.saturating_add(1);
                        self.cut(&field)?;
                    } else {
                        self.done.kept = self.done.kept.saturating_add(1);
                        if strip_items {
                            self.strip(&field, self.schema.item, true)?;
                        } else {
                            self.keep(field.raw)?;
                        }
                    }
                }
                number::SCOPE => self.strip(&field, &SCOPE, strip_scope)?,
                known if self.schema.scopes.knows(known) => self.keep(field.raw)?,
                _ => {
                    self.count_unknown();
                    self.cut(&field)?;
                }
            }
        }
        self.leave(scopes)?;
        if self.done.kept == kept {
            self.plan.rewind(&mark);
        }
        Ok(())
    }

    /// Keeps a run of items that need no closer look, as nearly all do.
    fn items(&mut self, from: Reader<'a>) -> Result<Reader<'a>, Malformed> {
        let (mut reader, mut kept) = (from, self.done.kept);
        while kept < self.budget
            && let Some(mut rest) = reader.after(ITEM)
            && rest.bytes()?.len() <= self.policy.max_item_size
        {
            kept = kept.saturating_add(1);
            reader = rest;
        }
        self.done.kept = kept;
        self.keep(from.upto(&reader))?;
        Ok(reader)
    }

    /// A message without unknown fields if it stands outside the items and, if `claims` are to go,
    /// without protected ones among its attributes and those of the messages in it.
    ///
    /// It descends as far as the tables of claims do.
    fn strip(&mut self, message: &Field<'a>, table: &'static Table, claims: bool) -> Result<(), Malformed> {
        let mut reader = self.enter(message)?;
        while let Some(field) = reader.field()? {
            match table.row(field.number).map(|row| row.kind) {
                None if table.frame => {
                    self.count_unknown();
                    self.cut(&field)?;
                }
                Some(Kind::KeyValue) if claims && self.is_protected(field.bytes()?)? => {
                    self.count_stripped();
                    self.cut(&field)?;
                }
                Some(Kind::Message(inner)) if claims && inner.claims => self.strip(&field, inner, true)?,
                _ => self.keep(field.raw)?,
            }
        }
        self.leave(message)
    }

    /// `ProfilesDictionary`: an attribute with a protected key is replaced by an empty one, because
    /// profiles name attributes by their place.
    fn dictionary(&mut self, dictionary: &Field<'a>) -> Result<(), Malformed> {
        let mut reader = self.enter(dictionary)?;
        while let Some(field) = reader.field()? {
            if field.number == number::ATTRIBUTE_TABLE && self.dictionary.is_forged_unit(&field)? {
                self.count_stripped();
                self.cut(&field)?;
                let empty = self.plan.open(field.number)?;
                self.plan.close(&empty)?;
            } else {
                self.keep(field.raw)?;
            }
        }
        self.leave(dictionary)
    }

    fn is_protected(&self, attribute: &[u8]) -> Result<bool, Malformed> {
        self.dictionary.is_forged(attribute, &self.policy.protected)
    }

    /// Goes into a message.
    fn enter(&mut self, message: &Field<'a>) -> Result<Reader<'a>, Malformed> {
        let content = message.bytes()?;
        if let Some(outer) = self.open.last_mut() {
            outer.at = message.raw;
        }
        self.open.push(Edit { number: message.number, content, at: content, frame: None });
        Ok(Reader::new(content))
    }

    /// Keeps fields of the message that the walk is in.
    #[inline]
    fn keep(&mut self, fields: &'a [u8]) -> Result<(), Malformed> {
        match self.open.last() {
            Some(Edit { frame: None, .. }) => Ok(()),
            _ => self.plan.input(fields),
        }
    }

    /// Leaves a field out. From here on only what is kept expressly goes into the new message, and
    /// into all that it stands in.
    fn cut(&mut self, field: &Field<'a>) -> Result<(), Malformed> {
        if let Some(inner) = self.open.last_mut() {
            inner.at = field.raw;
        }
        for edit in &mut self.open {
            if edit.frame.is_none() {
                edit.frame = Some(self.plan.open(edit.number)?);
                let before = place_of(edit.at, edit.content).unwrap_or_default();
                self.plan.input(edit.content.get(..before).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    /// Comes out of a message.
    fn leave(&mut self, message: &Field<'a>) -> Result<(), Malformed> {
        match self.open.pop() {
            Some(Edit { frame: Some(frame), .. }) => self.plan.close(&frame),
            _ => self.keep(message.raw),
        }
    }

    fn count_unknown(&mut self) {
        self.done.unknown_dropped = self.done.unknown_dropped.saturating_add(1);
    }

    fn count_stripped(&mut self) {
        self.done.stripped = self.done.stripped.saturating_add(1);
    }
}
