//! The walk behind [`super::rewrite()`]: which fields stay, which go, where the stamp comes in. It
//! looks no deeper than it has to, so it holds only for bodies that were inspected before; any
//! other is refused or comes out as malformed as it came in, but never breaks the walk.

use super::{
    Policy, Rewritten,
    plan::{Frame, Plan},
};
use crate::otlp::{
    inspect::Malformed,
    schema::{ENTITY_REF, MAX_RESOURCES, RESOURCE, SCOPE, Schema, Table, number},
    wire::{Field, Payload, Reader},
};

/// One pass over one request.
pub(super) struct Editor<'a> {
    pub(super) policy: &'a Policy,
    pub(super) schema: &'static Schema,
    pub(super) budget: u64,
    pub(super) plan: Plan,
    pub(super) done: Rewritten,
}

/// A message that stays one range of the old body until the first of its fields has to go.
struct Edit {
    number: u32,
    content: usize,
    frame: Option<Frame>,
}

impl Edit {
    fn of(field: &Field<'_>, reader: &Reader<'_>) -> Self {
        Self { number: field.number, content: reader.position(), frame: None }
    }

    fn keep(&self, plan: &mut Plan, field: &Field<'_>) -> Result<(), Malformed> {
        if self.frame.is_some() { plan.field(field) } else { Ok(()) }
    }

    /// From the byte `at` on, only what is kept expressly goes into the new message.
    fn cut(&mut self, plan: &mut Plan, at: usize) -> Result<(), Malformed> {
        if self.frame.is_none() {
            self.frame = Some(plan.open(self.number)?);
            plan.input(self.content, at)?;
        }
        Ok(())
    }
}

impl Editor<'_> {
    /// `ExportXServiceRequest`
    pub(super) fn request(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(body);
        let mut entries = 0_u64;
        while let Some(field) = reader.field()? {
            if field.number == number::ENTRY {
                entries = entries.saturating_add(1);
                if entries > MAX_RESOURCES {
                    return Err(Malformed("the request holds more than 1000 resources"));
                }
                self.entry(&field)?;
            } else if self.schema.request.knows(field.number) {
                self.plan.field(&field)?;
            } else {
                self.count_unknown();
            }
        }
        Ok(())
    }

    /// `ResourceX`: first its one resource, made of all that it had, then the rest as it came.
    fn entry(&mut self, entry: &Field<'_>) -> Result<(), Malformed> {
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
                other if self.schema.entry.legacy == Some(other) => {
                    return Err(Malformed("the request uses a field that OTLP removed"));
                }
                other if self.schema.entry.knows(other) => self.plan.field(&field)?,
                _ => self.count_unknown(),
            }
        }
        self.plan.close(&frame)
    }

    /// One occurrence of `ResourceX.resource`: its fields into the resource that is open.
    fn resource(&mut self, resource: &Field<'_>) -> Result<(), Malformed> {
        let mut reader = resource.message()?;
        while let Some(field) = reader.field()? {
            match field.number {
                number::RESOURCE_ATTRIBUTES if self.is_protected(&field)? => self.count_stripped(),
                number::ENTITY_REFS => self.entity_ref(&field)?,
                known if RESOURCE.knows(known) => self.plan.field(&field)?,
                _ => self.count_unknown(),
            }
        }
        Ok(())
    }

    /// A reference that is identified by a protected key goes whole, because with fewer keys it
    /// would name another entity; one that is only described by it loses the key.
    ///
    /// It does so whether or not the resource had such an attribute: after the stamp it would tie
    /// the sender's entity to what the gateway vouches for.
    fn entity_ref(&mut self, entity: &Field<'_>) -> Result<(), Malformed> {
        let mut reader = entity.message()?;
        let mut forged = false;
        while let Some(field) = reader.field()? {
            forged |= field.number == number::ID_KEYS && self.policy.protected.contains(field.bytes()?);
        }
        let mut reader = entity.message()?;
        let mut edit = Edit::of(entity, &reader);
        while let Some(field) = reader.field()? {
            let unknown = !ENTITY_REF.knows(field.number);
            if unknown {
                self.count_unknown();
            }
            let described =
                field.number == number::DESCRIPTION_KEYS && self.policy.protected.contains(field.bytes()?);
            match () {
                () if forged => {}
                () if unknown || described => edit.cut(&mut self.plan, field.start)?,
                () => edit.keep(&mut self.plan, &field)?,
            }
        }
        match edit.frame {
            Some(frame) => self.plan.close(&frame),
            None if forged => Ok(()),
            None => self.plan.field(entity),
        }
    }

    /// `ScopeX`: items are kept or left out whole, or only lose protected attributes.
    fn scopes(&mut self, scopes: &Field<'_>) -> Result<(), Malformed> {
        let mut reader = scopes.message()?;
        let mut edit = Edit::of(scopes, &reader);
        let Policy { max_item_size, strip_scope, strip_items, .. } = *self.policy;
        while let Some(field) = reader.field()? {
            match field.number {
                number::ITEMS => {
                    if field.bytes()?.len() > max_item_size {
                        self.done.oversize = self.done.oversize.saturating_add(1);
                        edit.cut(&mut self.plan, field.start)?;
                    } else if self.done.kept >= self.budget {
                        self.done.over_budget = self.done.over_budget.saturating_add(1);
                        edit.cut(&mut self.plan, field.start)?;
                    } else {
                        self.done.kept = self.done.kept.saturating_add(1);
                        if strip_items {
                            let schema = self.schema;
                            self.strip(&mut edit, &field, schema.item, Some(schema.item_attributes))?;
                        } else {
                            edit.keep(&mut self.plan, &field)?;
                        }
                    }
                }
                number::SCOPE => {
                    let attributes = strip_scope.then_some(number::SCOPE_ATTRIBUTES);
                    self.strip(&mut edit, &field, &SCOPE, attributes)?;
                }
                known if self.schema.scopes.knows(known) => edit.keep(&mut self.plan, &field)?,
                _ => {
                    self.count_unknown();
                    edit.cut(&mut self.plan, field.start)?;
                }
            }
        }
        match edit.frame {
            Some(frame) => self.plan.close(&frame),
            None => self.plan.field(scopes),
        }
    }

    /// A message inside `outer` without the protected ones among its fields `attributes`, and
    /// without unknown fields if it stands outside the items.
    fn strip(
        &mut self,
        outer: &mut Edit,
        message: &Field<'_>,
        table: &Table,
        attributes: Option<u32>,
    ) -> Result<(), Malformed> {
        let mut reader = message.message()?;
        let mut edit = Edit::of(message, &reader);
        while let Some(field) = reader.field()? {
            if table.frame && !table.knows(field.number) {
                self.count_unknown();
            } else if attributes == Some(field.number) && self.is_protected(&field)? {
                self.count_stripped();
            } else {
                edit.keep(&mut self.plan, &field)?;
                continue;
            }
            // The outer head must stand before the inner one.
            outer.cut(&mut self.plan, message.start)?;
            edit.cut(&mut self.plan, field.start)?;
        }
        match edit.frame {
            Some(frame) => self.plan.close(&frame),
            None => outer.keep(&mut self.plan, message),
        }
    }

    /// Whether a `KeyValue` goes. Its key is the last one, as for every reader.
    ///
    /// A `key_strindex` points into the dictionary of a profile, which no other signal has: a
    /// reader that found one would take the key from there. Every reader cuts it to 32 bits.
    fn is_protected(&self, attribute: &Field<'_>) -> Result<bool, Malformed> {
        let mut reader = attribute.message()?;
        if let Some(key) = plain_key(reader) {
            return Ok(self.policy.protected.contains(key));
        }
        let (mut key, mut index) = (&[][..], 0_u64);
        while let Some(field) = reader.field()? {
            match (field.number, field.value) {
                (number::KEY, Payload::Len(bytes)) => key = bytes,
                (number::KEY_STRINDEX, Payload::Varint(value)) => index = value & 0xFFFF_FFFF,
                _ => {}
            }
        }
        Ok(index != 0 || self.policy.protected.contains(key))
    }

    fn count_unknown(&mut self) {
        self.done.unknown_dropped = self.done.unknown_dropped.saturating_add(1);
    }

    fn count_stripped(&mut self) {
        self.done.stripped = self.done.stripped.saturating_add(1);
    }
}

/// The key of a `KeyValue` that is nothing but a short key and then a short value, as nearly every
/// one is.
fn plain_key(reader: Reader<'_>) -> Option<&[u8]> {
    let Some((0x0A, key_len @ 0..0x80, mut rest)) = reader.short() else { return None };
    let key = rest.take(key_len).ok()?;
    let Some((0x12, value_len @ 0..0x80, mut rest)) = rest.short() else { return None };
    rest.take(value_len).ok()?;
    rest.is_empty().then_some(key)
}
