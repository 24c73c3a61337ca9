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

/// Keys that many stamps share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedKeys(Arc<Vec<Box<str>>>);

impl SharedKeys {
    /// These keys. More than 255 are of no use: those behind stand in each stamp itself.
    #[must_use]
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self(Arc::new(keys.into_iter().map(Box::from).collect()))
    }

    fn place(&self, key: &str) -> Option<u8> {
        let place = self.0.iter().position(|known| **known == *key)?;
        u8::try_from(place).ok().filter(|place| *place != OWN_KEY)
    }
}

/// In place of a shared key's place: the key follows, its length first.
const OWN_KEY: u8 = u8::MAX;

/// The verified attributes of one verdict as `Resource.attributes` fields, their values encoded once.
#[derive(Clone, Debug, Default)]
pub struct Stamp {
    keys: SharedKeys,
    /// For each attribute: the place of its key, the length of its `AnyValue`, the `AnyValue`.
    packed: Box<[u8]>,
    /// Length of the fields, written out.
    len: u32,
}

/// One attribute of a stamp.
struct Attribute<'a> {
    key: &'a [u8],
    any_value: &'a [u8],
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
        let [mut packed, mut any_value] = [256, 64].map(BytesMut::with_capacity);
        for (key, value) in attributes {
            any_value.clear();
            match value {
                Value::Int(number) => {
                    any_value.put_u8(3 << 3);
                    put_varint(&mut any_value, number.cast_unsigned());
                }
                Value::String(text) => put_bytes(&mut any_value, 1, text.as_bytes()),
            }
            if let Some(place) = keys.place(key) {
                packed.put_u8(place);
            } else {
                packed.put_u8(OWN_KEY);
                put_varint(&mut packed, key.len() as u64);
                packed.put_slice(key.as_bytes());
            }
            put_varint(&mut packed, any_value.len() as u64);
            packed.put_slice(&any_value);
        }
        let mut stamp = Self { keys: keys.clone(), packed: packed.to_vec().into_boxed_slice(), len: 0 };
        let len = stamp.attributes().map(|attribute| attribute.field().0).fold(0, usize::saturating_add);
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
            let (_, key_value) = attribute.field();
            out.put_u8(1 << 3 | 2);
            put_varint(out, key_value as u64);
            put_bytes(out, 1, attribute.key);
            put_bytes(out, 2, attribute.any_value);
        }
    }

    /// What was packed above; nothing else can stand there, so the ends of the reader are its end only.
    fn attributes(&self) -> impl Iterator<Item = Attribute<'_>> {
        let mut packed = Reader::new(&self.packed);
        std::iter::from_fn(move || {
            let &[place] = packed.array::<1>()?.0;
            packed = packed.past(1)?;
            let key = match place {
                OWN_KEY => packed.bytes().ok()?,
                place => self.keys.0.get(usize::from(place))?.as_bytes(),
            };
            Some(Attribute { key, any_value: packed.bytes().ok()? })
        })
    }
}

impl Attribute<'_> {
    /// Length of the whole field and of the `KeyValue` in it.
    fn field(&self) -> (usize, usize) {
        let key_value = field_len(self.key.len()).saturating_add(field_len(self.any_value.len()));
        (field_len(key_value), key_value)
    }
}

/// Two stamps are equal if they write the same.
impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        self.encoded() == other.encoded()
    }
}

impl Eq for Stamp {}

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
