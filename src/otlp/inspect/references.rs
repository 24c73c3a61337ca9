//! The places in the dictionary that attributes of resources and scopes of profiles name in place of
//! text. It decides whether each can be looked up and never what stands there. It reads only what
//! the walk has found well formed, so it goes no deeper than the walk did.
//!
//! Source: `common.proto`, `KeyValue.key_strindex` and `AnyValue.string_value_strindex`. The
//! Collector refuses the whole request for one that it can't look up.

use super::Malformed;
use crate::otlp::{
    schema::{INT32, Schema, number},
    wire::{Field, Payload, Reader},
};

/// Refuses a dictionary that does not begin with the empty string, and a request in which an attribute names
/// a place that the dictionary does not have, or a key and the place of one.
///
/// The place of a key of a resource's own attribute may be missing: the rewriter takes such an
/// attribute out, for it could have any key.
pub(super) fn resolve(schema: &Schema, body: &[u8]) -> Result<(), Malformed> {
    if !schema.request.knows(number::DICTIONARY) {
        return Ok(());
    }
    let mut places = Places { needed: 0 };
    let mut reader = Reader::new(body);
    while let Some(field) = reader.field()? {
        if field.number == number::ENTRIES {
            places.entry(&field)?;
        }
    }
    let (mut strings, mut begins_empty) = (0_u64, true);
    each_string(body, |string| {
        begins_empty &= strings > 0 || string.is_empty();
        strings = strings.saturating_add(1);
    })?;
    // `profiles.proto`, `ProfilesDictionary.string_table`: place 0 means "no key" to some readers and is
    // looked up by others, which must find nothing.
    if !begins_empty {
        return Err(Malformed("the dictionary's first string is not empty"));
    }
    if places.needed > strings {
        return Err(Malformed("an attribute names a place that the dictionary does not have"));
    }
    Ok(())
}

/// Shows each string of `ProfilesDictionary.string_table`, in the order of their places: all
/// dictionaries of a request are one, wherever they stand.
pub(in crate::otlp) fn each_string<'a>(
    body: &'a [u8],
    mut see: impl FnMut(&'a [u8]),
) -> Result<(), Malformed> {
    let mut reader = Reader::new(body);
    while let Some(field) = reader.field()? {
        if field.number != number::DICTIONARY {
            continue;
        }
        let mut reader = field.message()?;
        while let Some(field) = reader.field()? {
            if field.number == number::STRING_TABLE {
                see(field.bytes()?);
            }
        }
    }
    Ok(())
}

/// The places named so far.
struct Places {
    /// How many strings there must be.
    needed: u64,
}

impl Places {
    /// `ResourceProfiles`
    fn entry(&mut self, entry: &Field<'_>) -> Result<(), Malformed> {
        let mut reader = entry.message()?;
        while let Some(field) = reader.field()? {
            match field.number {
                number::RESOURCE => self.attributes(&field, number::RESOURCE_ATTRIBUTES)?,
                number::SCOPES => {
                    let mut reader = field.message()?;
                    while let Some(field) = reader.field()? {
                        if field.number == number::SCOPE {
                            self.attributes(&field, number::SCOPE_ATTRIBUTES)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `Resource` or `InstrumentationScope`
    fn attributes(&mut self, holder: &Field<'_>, attributes: u32) -> Result<(), Malformed> {
        let mut reader = holder.message()?;
        while let Some(field) = reader.field()? {
            if field.number == attributes {
                let key = self.key_value(field.bytes()?)?;
                if attributes == number::SCOPE_ATTRIBUTES {
                    self.key(key);
                }
            }
        }
        Ok(())
    }

    /// Reads a `KeyValue` and gives the place of its key; 0 stands for none. Of a key that comes
    /// twice the last one counts.
    fn key_value(&mut self, content: &[u8]) -> Result<u64, Malformed> {
        let (mut has_key, mut place) = (false, 0);
        let mut reader = Reader::new(content);
        while let Some(field) = reader.field()? {
            match (field.number, field.value) {
                (number::KEY, Payload::Len(key)) => has_key = !key.is_empty(),
                (number::KEY_STRINDEX, Payload::Varint(value)) => place = value & INT32,
                (number::VALUE, Payload::Len(value)) => self.any_value(value)?,
                _ => {}
            }
        }
        if has_key && place != 0 {
            return Err(Malformed("an attribute has both a key and the place of one in the dictionary"));
        }
        Ok(place)
    }

    fn any_value(&mut self, content: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(content);
        while let Some(field) = reader.field()? {
            match (field.number, field.value) {
                // Unlike a key's, a string's place is one at 0 too.
                (number::STRING_VALUE_STRINDEX, Payload::Varint(place)) => self.needs(place & INT32),
                (number::ARRAY_VALUE | number::KVLIST_VALUE, Payload::Len(list)) => {
                    let mut reader = Reader::new(list);
                    while let Some(element) = reader.field()? {
                        match (element.number, field.number) {
                            (number::VALUES, number::ARRAY_VALUE) => self.any_value(element.bytes()?)?,
                            (number::VALUES, _) => {
                                let key = self.key_value(element.bytes()?)?;
                                self.key(key);
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn key(&mut self, place: u64) {
        if place != 0 {
            self.needs(place);
        }
    }

    /// A negative place is a very large one here, past any dictionary.
    fn needs(&mut self, place: u64) {
        self.needed = self.needed.max(place.saturating_add(1));
    }
}
