//! The verified attributes of one verdict, encoded once and kept small: a cache holds a hundred thousand
//! of them. Keys that all verdicts share stand in one list; a stamp holds its values and the places of
//! its keys. It never decides which attributes there are.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::otlp::wire::{Reader, put_varint, varint_len};

/// A verified value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `int_value`
    Int(i64),
    /// `string_value`
    String(&'a str),
}

/// Keys that many stamps share, each encoded as `KeyValue.key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedKeys(Arc<Vec<Box<[u8]>>>);

impl SharedKeys {
    /// These keys. More than 255 are of no use: those behind stand in each stamp itself.
    #[must_use]
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut field = BytesMut::new();
        let encoded = keys.into_iter().map(|key| {
            field.clear();
            put_bytes(&mut field, 1, key.as_bytes());
            Box::from(&field[..])
        });
        Self(Arc::new(encoded.collect()))
    }

    fn place(&self, key_field: &[u8]) -> Option<u8> {
        let place = self.0.iter().position(|known| **known == *key_field)?;
        u8::try_from(place).ok().filter(|place| *place != OWN_KEY)
    }
}

/// In place of a shared key's place: the encoded key follows, its length first.
const OWN_KEY: u8 = u8::MAX;

/// The verified attributes of one verdict as `Resource.attributes` fields, their values encoded once.
#[derive(Clone, Debug, Default)]
pub struct Stamp {
    keys: SharedKeys,
    /// For each attribute: the place of its key, `KeyValue.value` as it is written.
    packed: Box<[u8]>,
    /// Length of the fields, written out.
    len: u32,
}

/// One attribute of a stamp: the two fields of its `KeyValue`.
struct Attribute<'a> {
    key: &'a [u8],
    value: &'a [u8],
}

impl Stamp {
    /// Encodes the attributes, in this order, each with a key of its own.
    #[must_use]
    pub fn new<'a>(attributes: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Self {
        Self::with_keys(&SharedKeys::default(), attributes)
    }

    /// The same, without a copy of those keys that are shared.
    #[must_use]
    pub fn with_keys<'a>(
        keys: &SharedKeys,
        attributes: impl IntoIterator<Item = (&'a str, Value<'a>)>,
    ) -> Self {
        let [mut packed, mut key_field, mut any_value] = [256, 64, 64].map(BytesMut::with_capacity);
        for (key, value) in attributes {
            key_field.clear();
            put_bytes(&mut key_field, 1, key.as_bytes());
            any_value.clear();
            match value {
                Value::Int(number) => {
                    any_value.put_u8(3 << 3);
                    put_varint(&mut any_value, number.cast_unsigned());
                }
                Value::String(text) => put_bytes(&mut any_value, 1, text.as_bytes()),
            }
            if let Some(place) = keys.place(&key_field) {
                packed.put_u8(place);
            } else {
                packed.put_u8(OWN_KEY);
                put_varint(&mut packed, key_field.len() as u64);
                packed.put_slice(&key_field);
            }
            put_bytes(&mut packed, 2, &any_value);
        }
        let mut stamp = Self { keys: keys.clone(), packed: packed.to_vec().into_boxed_slice(), len: 0 };
        let len =
            stamp.attributes().map(|attribute| field_len(attribute.len())).fold(0, usize::saturating_add);
        stamp.len = u32::try_from(len).unwrap_or(u32::MAX);
        stamp
    }

    /// Length of the encoded fields, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no attribute.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// How much memory it takes beside itself, in bytes.
    #[must_use]
    pub fn heap(&self) -> usize {
        self.packed.len()
    }

    /// The encoded `Resource.attributes` fields.
    #[must_use]
    pub fn encoded(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.len());
        self.write(&mut out);
        out.freeze()
    }

    /// Writes [`Self::encoded`].
    pub(super) fn write(&self, out: &mut BytesMut) {
        for attribute in self.attributes() {
            // Nearly always the length takes one byte.
            if let Ok(len @ ..0x80) = u8::try_from(attribute.len()) {
                out.put_slice(&[TAG, len]);
            } else {
                out.put_u8(TAG);
                put_varint(out, attribute.len() as u64);
            }
            out.put_slice(attribute.key);
            out.put_slice(attribute.value);
        }
    }

    /// What was packed above; nothing else can stand there, so that reading it never breaks off early.
    fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        let mut packed = Reader::new(&self.packed);
        std::iter::from_fn(move || {
            let &[place] = packed.array::<1>()?.0;
            packed = packed.past(1)?;
            let key = match place {
                OWN_KEY => packed.bytes().ok()?,
                place => self.keys.0.get(usize::from(place))?,
            };
            let (_, behind) = packed.content()?;
            let value = packed.upto(&behind);
            packed = behind;
            Some(Attribute { key, value })
        })
    }
}

impl Attribute<'_> {
    /// Length of the `KeyValue`.
    fn len(&self) -> usize {
        self.key.len().saturating_add(self.value.len())
    }
}

/// Two stamps are equal if they write the same.
impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        self.encoded() == other.encoded()
    }
}

impl Eq for Stamp {}

/// The tag of `Resource.attributes`.
const TAG: u8 = 1 << 3 | 2;

/// Length of a length-delimited field with a number below 16.
fn field_len(content: usize) -> usize {
    varint_len(content as u64).saturating_add(content).saturating_add(1)
}

/// Writes such a field.
fn put_bytes(out: &mut BytesMut, number: u8, content: &[u8]) {
    out.put_u8((number & 0x0F) << 3 | 2);
    put_varint(out, content.len() as u64);
    out.put_slice(content);
}
