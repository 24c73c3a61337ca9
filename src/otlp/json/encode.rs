//! Protobuf written in one pass. A message gets one byte for its length when it begins. If it turns
//! out longer when it ends, its content moves by one byte; from 16 KiB on it waits for the one pass at
//! the end that puts in all lengths of more than two bytes, so that nothing big moves once a level.

use crate::otlp::wire::{put_varint, varint_len};

const LEN: u32 = 2;

/// Longest document that is taken: what is written is never more than four times what was read, and
/// protobuf ends at 2 GiB of message in any case.
pub(super) const MAX_INPUT: usize = 1 << 30;

/// From this length on a length takes more than two bytes.
const LONG: usize = 1 << 14;

/// A number as it goes on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    /// A negative number is the 64-bit number that it is in two's complement.
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
}

impl Number {
    /// Whether it is what a field that is not there stands for.
    #[inline]
    pub(super) fn is_default(self) -> bool {
        matches!(self, Self::Varint(0) | Self::Fixed64(0) | Self::Fixed32(0))
    }

    #[inline]
    fn wire_type(self) -> u32 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Fixed32(_) => 5,
        }
    }
}

/// A length of more than two bytes, which is not in its place yet.
struct Late {
    /// Where the byte is that stands in for it.
    at: usize,
    len: usize,
}

/// An unfinished message.
#[derive(Clone, Copy)]
pub(super) struct Open {
    /// Where its content begins.
    content: usize,
    late_bytes: usize,
}

/// The output so far.
pub(super) struct Encoder {
    out: Vec<u8>,
    late: Vec<Late>,
    /// Bytes that `late` will add.
    late_bytes: usize,
}

impl Encoder {
    /// An encoder of what a document of that many bytes says. Doubled twice, this is enough for any.
    pub(super) fn for_input(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), late: Vec::new(), late_bytes: 0 }
    }

    /// Begins a message, string or bytes field; what is written until [`Self::close`] is its content.
    #[expect(clippy::inline_always, reason = "it is called for every message, and is a few stores")]
    #[inline(always)]
    pub(super) fn open(&mut self, number: u32) -> Open {
        if let Some(tag) = short_tag(number, LEN) {
            self.out.extend_from_slice(&[tag, 0]);
        } else {
            put_varint(&mut self.out, u64::from(number << 3 | LEN));
            self.out.push(0);
        }
        Open { content: self.out.len(), late_bytes: self.late_bytes }
    }

    /// Ends the field that was begun last.
    #[inline]
    pub(super) fn close(&mut self, open: Open) {
        let len = self.out.len().wrapping_sub(open.content);
        match u8::try_from(len) {
            Ok(len @ 0..0x80) => {
                if let Some(place) = self.out.get_mut(open.content.wrapping_sub(1)) {
                    *place = len;
                }
            }
            _ => self.close_long(open),
        }
    }

    #[inline(never)]
    fn close_long(&mut self, open: Open) {
        let inner = self.late_bytes.saturating_sub(open.late_bytes);
        let len = self.out.len().saturating_sub(open.content).saturating_add(inner);
        let at = open.content.saturating_sub(1);
        if len < LONG {
            let end = self.out.len();
            self.out.push(0);
            self.out.copy_within(open.content..end, open.content.saturating_add(1));
            self.put_length(at, len);
        } else {
            self.late.push(Late { at, len });
            self.late_bytes = self.late_bytes.saturating_add(varint_len(len as u64)).saturating_sub(1);
        }
    }

    /// Writes a length over the bytes that were made room for.
    fn put_length(&mut self, at: usize, len: usize) {
        if let Some(mut place) = self.out.get_mut(at..at.saturating_add(varint_len(len as u64))) {
            put_varint(&mut place, len as u64);
        }
    }

    /// Where bytes of an unfinished field go.
    #[inline]
    pub(super) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// A field that is a number.
    #[inline]
    pub(super) fn number(&mut self, field: u32, value: Number) {
        match short_tag(field, value.wire_type()) {
            Some(tag) => self.out.push(tag),
            None => put_varint(&mut self.out, u64::from(field << 3 | value.wire_type())),
        }
        self.packed(value);
    }

    /// A number in an unfinished field that holds nothing else.
    #[inline]
    pub(super) fn packed(&mut self, value: Number) {
        match value {
            Number::Varint(value) => put_varint(&mut self.out, value),
            Number::Fixed64(value) => self.out.extend_from_slice(&value.to_le_bytes()),
            Number::Fixed32(value) => self.out.extend_from_slice(&value.to_le_bytes()),
        }
    }

    /// The whole output.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.late.sort_unstable_by_key(|late| late.at);
        let mut end = self.out.len();
        let mut to = end.saturating_add(self.late_bytes);
        self.out.resize(to, 0);
        for Late { at, len } in std::mem::take(&mut self.late).into_iter().rev() {
            let content = at.saturating_add(1);
            to = to.saturating_sub(end.saturating_sub(content));
            self.out.copy_within(content..end, to);
            to = to.saturating_sub(varint_len(len as u64));
            self.put_length(to, len);
            end = at;
        }
        self.out
    }
}

/// A tag of one byte.
#[inline]
pub(super) fn short_tag(number: u32, wire_type: u32) -> Option<u8> {
    if number < 16 { u8::try_from(number << 3 | wire_type).ok() } else { None }
}
