//! The protobuf wire format, read strictly: varints, tags, lengths. It never allocates and never
//! looks past the slice that it was given; it knows nothing of fields and what they mean.
//!
//! Stricter than the format itself in one point: groups, which no OTLP message has, are refused
//! instead of skipped, because readers differ in how they find a group's end.

use bytes::BufMut;

/// Why bytes are not what the wire format allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// A varint that is cut short, or longer than ten bytes, or has bits past 64.
    Varint,
    /// A tag with field number 0, or past 32 bits. The Collector cuts a longer tag down to 32 bits
    /// and so reads another field than a reader that does not.
    Tag,
    /// A group (wire types 3 and 4), or wire types 6 and 7 that do not exist.
    WireType,
    /// A length that reaches beyond the message it stands in.
    Length,
    /// A known field in another wire type than its own.
    Mismatch,
}

impl WireError {
    /// One sentence for the sender.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Varint => "a protobuf varint is cut short or longer than 64 bits",
            Self::Tag => "a protobuf tag has no field number or is longer than 32 bits",
            Self::WireType => "a protobuf group or an undefined wire type is used",
            Self::Length => "a protobuf field reaches beyond the message that holds it",
            Self::Mismatch => "a protobuf field has another wire type than its own",
        }
    }
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for WireError {}

/// The wire types that OTLP uses.
///
/// Source: Protocol Buffers, "Encoding", "Message Structure".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireType {
    /// 0
    Varint,
    /// 1: eight bytes.
    Fixed64,
    /// 2: a length and so many bytes.
    Len,
    /// 5: four bytes.
    Fixed32,
}

/// A field's number (1 to 2^29 - 1) and wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The field number.
    pub number: u32,
    /// How its value is written.
    pub wire: WireType,
}

/// One whole field and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The field number.
    pub number: u32,
    /// Its value.
    pub value: Payload<'a>,
    /// All its bytes, tag and length included.
    pub raw: &'a [u8],
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A number, decoded.
    Varint(u64),
    /// Eight bytes, skipped.
    Fixed64,
    /// Bytes, a string or a message.
    Len(&'a [u8]),
    /// Four bytes, skipped.
    Fixed32,
}

impl Tag {
    /// Takes a tag apart.
    ///
    /// # Errors
    /// [`WireError::Tag`] for field number 0, [`WireError::WireType`] for a wire type OTLP has not.
    pub const fn of(raw: u32) -> Result<Self, WireError> {
        let wire = match raw & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Len,
            5 => WireType::Fixed32,
            _ => return Err(WireError::WireType),
        };
        match raw >> 3 {
            0 => Err(WireError::Tag),
            number => Ok(Self { number, wire }),
        }
    }
}

impl<'a> Field<'a> {
    /// The bytes of a length-delimited field.
    ///
    /// # Errors
    /// [`WireError::Mismatch`] if it is none.
    pub fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Payload::Len(bytes) => Ok(bytes),
            _ => Err(WireError::Mismatch),
        }
    }

    /// A reader of the message that this field holds.
    ///
    /// # Errors
    /// [`WireError::Mismatch`] if it holds none.
    pub fn message(&self) -> Result<Reader<'a>, WireError> {
        self.bytes().map(Reader::new)
    }
}

/// Reads one message from its first field to its last.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads a message.
    #[inline]
    #[must_use]
    pub const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The bytes from here to `later`, a reader of the same message that is further on.
    #[inline]
    #[must_use]
    pub fn upto(&self, later: &Self) -> &'a [u8] {
        self.rest.get(..self.rest.len().saturating_sub(later.rest.len())).unwrap_or_default()
    }

    /// The bytes from here to the end of the message.
    #[inline]
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether the message ends here.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next two bytes: nearly every field begins with a tag and a length of one byte each.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<[u8; 2]> {
        self.rest.first_chunk().copied()
    }

    /// What is left after so many bytes.
    #[inline]
    #[must_use]
    pub fn past(&self, bytes: usize) -> Option<Self> {
        self.rest.get(bytes..).map(Self::new)
    }

    /// What is left after a tag of one byte and a field of this length, if that is a whole varint.
    #[inline]
    #[must_use]
    pub fn past_short(&self, length: u8) -> Option<Self> {
        if length < 0x80 { self.past(usize::from(length).saturating_add(2)) } else { None }
    }

    /// The content of the length-delimited field whose tag is the next byte, and a reader of what
    /// follows it; `None` if its length is none or reaches beyond the message.
    #[inline]
    #[must_use]
    pub fn content(&self) -> Option<(&'a [u8], Self)> {
        let mut rest = self.past(1)?;
        let content = rest.bytes().ok()?;
        Some((content, rest))
    }

    /// The next `N` bytes and a reader of what follows them.
    #[inline]
    #[must_use]
    pub const fn array<const N: usize>(&self) -> Option<(&'a [u8; N], Self)> {
        match self.rest.split_first_chunk() {
            Some((bytes, rest)) => Some((bytes, Self { rest })),
            None => None,
        }
    }

    /// A reader of what follows the tag, if the next field has this one, in one byte.
    #[inline]
    #[must_use]
    pub fn after(&self, tag: u32) -> Option<Self> {
        match *self.rest {
            [first @ 0..0x80, ref rest @ ..] if u32::from(first) == tag => Some(Self { rest }),
            _ => None,
        }
    }

    /// The next tag, not yet taken apart (see [`Tag::of`]); `None` at the end of the message.
    ///
    /// # Errors
    /// [`WireError::Varint`], [`WireError::Tag`]
    #[inline]
    pub fn raw_tag(&mut self) -> Result<Option<u32>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        u32::try_from(self.varint()?).map(Some).map_err(|_| WireError::Tag)
    }

    /// The next tag; `None` at the end of the message.
    ///
    /// # Errors
    /// [`WireError`] for anything that is no tag.
    #[inline]
    pub fn tag(&mut self) -> Result<Option<Tag>, WireError> {
        self.raw_tag()?.map(Tag::of).transpose()
    }

    /// A varint, at most ten bytes and 64 bits; more bytes than it needs are legal.
    ///
    /// # Errors
    /// [`WireError::Varint`]
    #[inline]
    pub fn varint(&mut self) -> Result<u64, WireError> {
        // Nearly every varint of an export is a tag or a short length: one byte, at times two.
        match *self.rest {
            [low, ref rest @ ..] if low < 0x80 => {
                self.rest = rest;
                Ok(u64::from(low))
            }
            [low, high, ref rest @ ..] if high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(low & 0x7F) | (u64::from(high) << 7))
            }
            _ => {
                let (value, rest) = long_varint(self.rest)?;
                self.rest = rest;
                Ok(value)
            }
        }
    }

    /// A length and so many bytes.
    ///
    /// # Errors
    /// [`WireError`]
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireError::Length)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(WireError::Length)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Passes over so many bytes.
    ///
    /// # Errors
    /// [`WireError::Length`]
    #[inline]
    pub fn fixed(&mut self, bytes: usize) -> Result<(), WireError> {
        self.rest = self.rest.get(bytes..).ok_or(WireError::Length)?;
        Ok(())
    }

    /// Passes over a value.
    ///
    /// # Errors
    /// [`WireError`]
    #[inline]
    pub fn skip(&mut self, wire: WireType) -> Result<(), WireError> {
        self.payload(wire).map(|_| ())
    }

    #[expect(
        clippy::inline_always,
        reason = "a whole field returned through memory costs more than reading it"
    )]
    #[inline(always)]
    fn payload(&mut self, wire: WireType) -> Result<Payload<'a>, WireError> {
        Ok(match wire {
            WireType::Varint => Payload::Varint(self.varint()?),
            WireType::Len => Payload::Len(self.bytes()?),
            WireType::Fixed64 => {
                self.fixed(8)?;
                Payload::Fixed64
            }
            WireType::Fixed32 => {
                self.fixed(4)?;
                Payload::Fixed32
            }
        })
    }

    /// The next whole field; `None` at the end of the message.
    ///
    /// # Errors
    /// [`WireError`]
    #[expect(
        clippy::inline_always,
        reason = "a whole field returned through memory costs more than reading it"
    )]
    #[inline(always)]
    pub fn field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        let start = *self;
        let Some(tag) = self.tag()? else { return Ok(None) };
        let value = self.payload(tag.wire)?;
        Ok(Some(Field { number: tag.number, value, raw: start.upto(self) }))
    }
}

/// Takes and gives slices, not the reader: one that is lent out cannot stay in registers.
#[cold]
fn long_varint(mut rest: &[u8]) -> Result<(u64, &[u8]), WireError> {
    let mut value = 0_u64;
    for shift in (0_u32..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(WireError::Varint)?;
        rest = after;
        let bits = u64::from(byte & 0x7F);
        let shifted = bits << shift;
        if shifted >> shift != bits {
            return Err(WireError::Varint);
        }
        value |= shifted;
        if byte < 0x80 {
            return Ok((value, rest));
        }
    }
    Err(WireError::Varint)
}

/// Where `part` stands in `whole`, in bytes from its beginning, if it is a part of it.
#[inline]
#[must_use]
pub fn place_of(part: &[u8], whole: &[u8]) -> Option<usize> {
    let place = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    (place.checked_add(part.len())? <= whole.len()).then_some(place)
}

/// How many bytes `value` takes as a varint: one to ten.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    match value.checked_ilog2() {
        None => 1,
        Some(highest_bit) => (highest_bit / 7).saturating_add(1) as usize,
    }
}

/// Writes `value` as the shortest varint.
pub fn put_varint(out: &mut impl BufMut, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.put_u8(low);
        }
        out.put_u8(low | 0x80);
    }
}

#[cfg(test)]
mod tests;
