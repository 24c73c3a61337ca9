//! Protobuf written in one pass: a message's length is noted when the message ends and put in its
//! place at the end of all, so that nothing is moved and no message needs a buffer of its own.

use crate::otlp::wire::{put_varint, varint_len};

const VARINT: u32 = 0;
const I64: u32 = 1;
const LEN: u32 = 2;
const I32: u32 = 5;

/// Longest document that is taken: positions are kept in 32 bits, and what is written is never more
/// than twice what was read.
pub(super) const MAX_INPUT: usize = 1 << 30;

/// A length that is missing in `flat`, and the position that it belongs to.
struct Missing {
    at: u32,
    len: u32,
}

/// An unfinished message.
pub(super) struct Open {
    index: usize,
    lengths_before: usize,
}

/// The output so far.
#[derive(Default)]
pub(super) struct Encoder {
    /// All fields, without the lengths of messages.
    flat: Vec<u8>,
    /// In the order of their positions.
    missing: Vec<Missing>,
    /// Bytes that the lengths known so far will take.
    lengths: usize,
}

impl Encoder {
    /// Begins a message field; what is written until [`Self::close`] is its content.
    pub(super) fn open(&mut self, number: u32) -> Open {
        self.tag(number, LEN);
        self.missing.push(Missing { at: narrow(self.flat.len()), len: 0 });
        Open { index: self.missing.len().saturating_sub(1), lengths_before: self.lengths }
    }

    /// Ends the message that was begun last.
    pub(super) fn close(&mut self, open: &Open) {
        if let Some(missing) = self.missing.get_mut(open.index) {
            let own = narrow(self.flat.len()).saturating_sub(missing.at);
            let inner = narrow(self.lengths.saturating_sub(open.lengths_before));
            missing.len = own.saturating_add(inner);
            self.lengths = self.lengths.saturating_add(varint_len(u64::from(missing.len)));
        }
    }

    /// Where bytes of an unfinished field go.
    pub(super) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.flat
    }

    /// A string field.
    pub(super) fn string(&mut self, number: u32, value: &str) {
        self.tag(number, LEN);
        put_varint(&mut self.flat, value.len() as u64);
        self.flat.extend_from_slice(value.as_bytes());
    }

    /// A varint field; a negative number is to be given as the 64-bit number that it is on the wire.
    pub(super) fn varint(&mut self, number: u32, value: u64) {
        self.tag(number, VARINT);
        put_varint(&mut self.flat, value);
    }

    /// A fixed64 or double field.
    pub(super) fn fixed64(&mut self, number: u32, value: u64) {
        self.tag(number, I64);
        self.flat.extend_from_slice(&value.to_le_bytes());
    }

    /// A fixed32 field.
    pub(super) fn fixed32(&mut self, number: u32, value: u32) {
        self.tag(number, I32);
        self.flat.extend_from_slice(&value.to_le_bytes());
    }

    /// The whole output.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.flat.len().saturating_add(self.lengths));
        let mut rest = self.flat.as_slice();
        let mut done = 0_u32;
        for Missing { at, len } in self.missing {
            let upto = usize::try_from(at.saturating_sub(done)).unwrap_or(usize::MAX);
            let (before, after) = rest.split_at_checked(upto).unwrap_or((rest, &[]));
            out.extend_from_slice(before);
            put_varint(&mut out, u64::from(len));
            (rest, done) = (after, at);
        }
        out.extend_from_slice(rest);
        out
    }

    fn tag(&mut self, number: u32, wire_type: u32) {
        put_varint(&mut self.flat, u64::from(number << 3 | wire_type));
    }
}

/// A position in an output that `MAX_INPUT` keeps below 4 GiB.
fn narrow(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
