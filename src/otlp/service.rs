//! Whether every resource of a request names a service that its sender may speak for. It holds for a body
//! that was inspected before; it decides yes or no, changes nothing, and looks into no scope and no item.

use super::{
    inspect::{Malformed, each_string},
    rewrite::ProtectedKeys,
    schema::{self, INT32, Kind, Schema, number},
    signal::Signal,
    wire::{Field, Payload, Reader},
};

/// The one key that readers look for.
const SERVICE_NAME: &str = "service.name";

/// The values that `service.name` may have.
#[derive(Clone, Debug)]
pub struct ServiceNames {
    allowed: Vec<Box<str>>,
    /// `service.name` and what could pass for it further down: the folding that takes forged keys out of
    /// other senders' resources.
    look_alikes: ProtectedKeys,
}

impl ServiceNames {
    /// Exactly these, compared byte by byte.
    #[must_use]
    pub fn new<'a>(allowed: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            allowed: allowed.into_iter().map(Box::from).collect(),
            look_alikes: ProtectedKeys::new([SERVICE_NAME], []),
        }
    }

    fn allow(&self, value: &[u8]) -> bool {
        self.allowed.iter().any(|name| name.as_bytes() == value)
    }

    fn key(&self, key: &[u8]) -> Key {
        match key {
            _ if key == SERVICE_NAME.as_bytes() => Key::Service,
            _ if self.look_alikes.contains(key) => Key::LookAlike,
            _ => Key::Other,
        }
    }
}

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// `service.name`
    Service,
    /// Another spelling, which some store may fold to it: held to the same values, but no reader of OTLP
    /// finds a name in it.
    LookAlike,
    Other,
}

/// What one attribute says.
enum Said {
    /// Nothing about a service.
    Nothing,
    /// An allowed name, under the one key.
    Name,
    /// An allowed name, under a key that looks like it.
    LookAlike,
    /// Another name, none, or something that readers could take for one.
    Wrong,
}

/// Whether each `ResourceX` of an inspected request has a `service.name` and none but allowed ones.
///
/// Every occurrence counts: of `resource` in its `ResourceX` (readers merge them), of the attribute in the
/// resource (readers take the first or the last), of `value` in the attribute and of its members. It allocates
/// nothing but, for profiles, two bytes for each string of the dictionary.
///
/// # Errors
/// [`Malformed`] if the body was not accepted before and breaks where this looks.
pub fn all_allowed(signal: Signal, body: &[u8], names: &ServiceNames) -> Result<bool, Malformed> {
    let schema = schema::of(signal);
    let check = Check { names, strings: strings(schema, body, names)? };
    let mut reader = Reader::new(body);
    while let Some(field) = reader.field()? {
        let is_entry = matches!(schema.request.row(field.number).map(|row| row.kind), Some(Kind::Entry(_)));
        if is_entry && !check.entry(&field)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a string of a profile's dictionary is good for.
#[derive(Clone, Copy)]
struct Meaning {
    key: Key,
    is_allowed: bool,
}

/// The string table of a profile; none in other signals.
fn strings(schema: &Schema, body: &[u8], names: &ServiceNames) -> Result<Vec<Meaning>, Malformed> {
    let mut strings = Vec::new();
    if !schema.request.knows(number::DICTIONARY) {
        return Ok(strings);
    }
    each_string(body, |text| {
        strings.push(Meaning { key: names.key(text), is_allowed: names.allow(text) });
    })?;
    Ok(strings)
}

struct Check<'a> {
    names: &'a ServiceNames,
    strings: Vec<Meaning>,
}

impl Check<'_> {
    /// `ResourceX`
    fn entry(&self, entry: &Field<'_>) -> Result<bool, Malformed> {
        let mut is_named = false;
        let mut reader = entry.message()?;
        while let Some(field) = reader.field()? {
            if field.number != number::RESOURCE {
                continue;
            }
            let mut reader = field.message()?;
            while let Some(field) = reader.field()? {
                if field.number == number::RESOURCE_ATTRIBUTES {
                    match self.attribute(field.bytes()?)? {
                        Said::Name => is_named = true,
                        Said::Nothing | Said::LookAlike => {}
                        Said::Wrong => return Ok(false),
                    }
                }
            }
        }
        Ok(is_named)
    }

    /// `KeyValue`: its key is the last one, in words or by its place in the dictionary.
    fn attribute(&self, attribute: &[u8]) -> Result<Said, Malformed> {
        let (mut text, mut index) = (&[][..], 0);
        let mut reader = Reader::new(attribute);
        while let Some(field) = reader.field()? {
            match (field.number, field.value) {
                (number::KEY, Payload::Len(bytes)) => text = bytes,
                (number::KEY_STRINDEX, Payload::Varint(value)) => index = value,
                _ => {}
            }
        }
        let key = match index & INT32 {
            // Place 0 stands for no key.
            0 => self.names.key(text),
            index => match self.string(index) {
                Some(string) if text.is_empty() => string.key,
                // A place that does not exist could be any key, and of two keys a reader may take either.
                _ => return Ok(Said::Wrong),
            },
        };
        Ok(match key {
            Key::Other => Said::Nothing,
            _ if !self.has_allowed_value(attribute)? => Said::Wrong,
            Key::LookAlike => Said::LookAlike,
            Key::Service => Said::Name,
        })
    }

    /// Whether a `KeyValue` has a value, and all its values are allowed strings and nothing else.
    fn has_allowed_value(&self, attribute: &[u8]) -> Result<bool, Malformed> {
        let mut is_set = false;
        let mut reader = Reader::new(attribute);
        while let Some(field) = reader.field()? {
            if field.number != number::VALUE {
                continue;
            }
            // An occurrence without a member is a value of none to a reader that takes the last one.
            is_set = false;
            let mut reader = field.message()?;
            while let Some(member) = reader.field()? {
                is_set = match (member.number, member.value) {
                    (number::STRING_VALUE, Payload::Len(text)) => self.names.allow(text),
                    (number::STRING_VALUE_STRINDEX, Payload::Varint(index)) => {
                        // Place 0 is the empty string to one reader and what stands there to another.
                        index & INT32 != 0
                            && self.string(index & INT32).is_some_and(|string| string.is_allowed)
                    }
                    _ => false,
                };
                if !is_set {
                    return Ok(false);
                }
            }
            if !is_set {
                return Ok(false);
            }
        }
        Ok(is_set)
    }

    fn string(&self, index: u64) -> Option<Meaning> {
        self.strings.get(usize::try_from(index).ok()?).copied()
    }
}

#[cfg(test)]
mod tests;
