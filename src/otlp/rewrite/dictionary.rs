//! Whose key an attribute has, where the key may stand in the dictionary of a profile. It decides
//! "protected or not" and nothing else.

use super::ProtectedKeys;
use crate::otlp::{
    inspect::{Malformed, each_string},
    schema::{INT32, Schema, number},
    wire::{Field, Payload, Reader},
};

/// The dictionary of a request, as far as keys go.
#[derive(Debug)]
pub(super) enum Dictionary {
    /// The signal has none.
    None,
    /// Whether each string of `ProfilesDictionary.string_table` is a protected key.
    Strings(Vec<bool>),
}

impl Dictionary {
    /// Reads the string tables of a request.
    pub(super) fn of(schema: &Schema, body: &[u8], protected: &ProtectedKeys) -> Result<Self, Malformed> {
        if !schema.request.knows(number::DICTIONARY) {
            return Ok(Self::None);
        }
        let mut strings = Vec::new();
        each_string(body, |string| strings.push(protected.contains(string)))?;
        Ok(Self::Strings(strings))
    }

    /// Whether a `KeyValue` has a protected key. Its key is the last one, as for every reader.
    #[inline]
    pub(super) fn is_forged(&self, attribute: &[u8], protected: &ProtectedKeys) -> Result<bool, Malformed> {
        let reader = Reader::new(attribute);
        match plain_key(reader) {
            Some(key) => Ok(protected.contains(key)),
            None => self.is_forged_somehow(reader, protected),
        }
    }

    #[cold]
    #[inline(never)]
    fn is_forged_somehow(
        &self,
        mut reader: Reader<'_>,
        protected: &ProtectedKeys,
    ) -> Result<bool, Malformed> {
        let (mut key, mut index) = (&[][..], 0);
        while let Some(field) = reader.field()? {
            match (field.number, field.value) {
                (number::KEY, Payload::Len(bytes)) => key = bytes,
                (number::KEY_STRINDEX, Payload::Varint(value)) => index = value,
                _ => {}
            }
        }
        Ok(protected.contains(key) || self.is_protected(index))
    }

    /// Whether a `KeyValueAndUnit` has a protected key. It has no other key than the string at its place.
    pub(super) fn is_forged_unit(&self, attribute: &Field<'_>) -> Result<bool, Malformed> {
        let mut index = 0;
        let mut reader = attribute.message()?;
        while let Some(field) = reader.field()? {
            if let (number::UNIT_KEY_STRINDEX, Payload::Varint(value)) = (field.number, field.value) {
                index = value;
            }
        }
        Ok(self.is_protected(index))
    }

    /// Whether the string at a place is a protected key. Place 0 stands for no key: what was inspected
    /// has the empty string there. A place that
    /// does not exist could be anything to a reader, as could any place where there is no
    /// dictionary: both count as protected.
    fn is_protected(&self, index: u64) -> bool {
        match (index & INT32, self) {
            (0, _) => false,
            (_, Self::None) => true,
            (index, Self::Strings(strings)) => {
                usize::try_from(index).ok().and_then(|index| strings.get(index)).copied().unwrap_or(true)
            }
        }
    }
}

/// The key of a `KeyValue` that is nothing but a key and then a value, as nearly every one is.
#[inline]
fn plain_key(reader: Reader<'_>) -> Option<&[u8]> {
    let (key, rest) = if reader.after(0x0A).is_some() { reader.content()? } else { return None };
    let (_, rest) = if rest.after(0x12).is_some() { rest.content()? } else { return None };
    rest.is_empty().then_some(key)
}
