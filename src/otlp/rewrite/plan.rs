//! What a new body is made of, before any of it is written: ranges of the old body, new message
//! heads, the stamp. It knows lengths, not fields, and never looks at a byte.

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::otlp::{
    inspect::Malformed,
    wire::{Field, put_varint, varint_len},
};

/// Ranges of the old body shorter than this are copied into the owned pieces: a copy costs less
/// than another piece of the vectored write, and pieces cannot be made to outweigh the body.
const COPY_BELOW: usize = 1024;

/// Offsets are 32 bits wide, so that the plan for the most scattered body stays below its size
/// times three.
#[derive(Clone, Copy)]
enum Op {
    Head { tag: u8, len: u32 },
    Input { start: u32, end: u32 },
    Stamp,
}

/// The new body so far.
pub(super) struct Plan {
    ops: SmallVec<[Op; 32]>,
    len: usize,
    stamp_len: usize,
}

/// A message that is being written: its head is set when it is closed.
pub(super) struct Frame {
    op: usize,
    before: usize,
}

impl Plan {
    /// An empty plan; each [`Plan::stamp`] adds `stamp_len` bytes.
    pub(super) fn new(stamp_len: usize) -> Self {
        Self { ops: SmallVec::new(), len: 0, stamp_len }
    }

    /// Length of the new body so far, in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Begins a message as field `number` (1 to 15: all that are ever rewritten).
    pub(super) fn open(&mut self, number: u32) -> Result<Frame, Malformed> {
        let tag = u8::try_from(number)
            .ok()
            .filter(|number| (1..=15).contains(number))
            .ok_or(Malformed("the message cannot be rewritten"))?
            << 3
            | 2;
        let frame = Frame { op: self.ops.len(), before: self.len };
        self.ops.push(Op::Head { tag, len: 0 });
        Ok(frame)
    }

    /// Ends a message: what was added since it was opened is its content.
    pub(super) fn close(&mut self, frame: &Frame) -> Result<(), Malformed> {
        let content = u32::try_from(self.len.saturating_sub(frame.before)).map_err(|_| too_long())?;
        if let Some(Op::Head { len, .. }) = self.ops.get_mut(frame.op) {
            *len = content;
        }
        self.len = self.len.saturating_add(head_len(content));
        Ok(())
    }

    /// Adds bytes of the old body; what follows on the last range only makes it longer.
    pub(super) fn input(&mut self, from: usize, to: usize) -> Result<(), Malformed> {
        let (start, end) = (offset(from)?, offset(to)?);
        self.len = self.len.saturating_add(to.saturating_sub(from));
        match self.ops.last_mut() {
            Some(Op::Input { end: last, .. }) if *last == start => *last = end,
            _ if start == end => {}
            _ => self.ops.push(Op::Input { start, end }),
        }
        Ok(())
    }

    /// Adds a whole field of the old body.
    pub(super) fn field(&mut self, field: &Field<'_>) -> Result<(), Malformed> {
        self.input(field.start, field.end)
    }

    /// Adds the verified attributes.
    pub(super) fn stamp(&mut self) {
        self.len = self.len.saturating_add(self.stamp_len);
        self.ops.push(Op::Stamp);
    }

    /// The pieces of the new body: long ranges as slices of the old one, all else in one allocation.
    pub(super) fn assemble(&self, body: &Bytes, stamp: &[u8]) -> Vec<Bytes> {
        let (mut owned_len, mut slices) = (0_usize, 0_usize);
        for op in &self.ops {
            let here = match *op {
                Op::Head { len, .. } => head_len(len),
                Op::Stamp => stamp.len(),
                Op::Input { start, end } => {
                    let copied = range(body, start, end);
                    slices = slices.saturating_add(usize::from(copied.is_err()));
                    copied.map_or(0, <[u8]>::len)
                }
            };
            owned_len = owned_len.saturating_add(here);
        }
        let mut owned = BytesMut::with_capacity(owned_len);
        let mut pieces = Vec::with_capacity(slices.saturating_mul(2).saturating_add(1));
        for op in &self.ops {
            match *op {
                Op::Head { tag, len } => {
                    owned.put_u8(tag);
                    put_varint(&mut owned, u64::from(len));
                }
                Op::Stamp => owned.put_slice(stamp),
                Op::Input { start, end } => match range(body, start, end) {
                    Ok(short) => owned.put_slice(short),
                    Err(long) => {
                        if !owned.is_empty() {
                            pieces.push(owned.split().freeze());
                        }
                        pieces.push(body.slice_ref(long));
                    }
                },
            }
        }
        if !owned.is_empty() {
            pieces.push(owned.freeze());
        }
        pieces
    }
}

/// A range of the old body: `Ok` if it is to be copied, `Err` if it is to be sliced.
fn range(body: &Bytes, start: u32, end: u32) -> Result<&[u8], &[u8]> {
    // A range always lies in the body, because a reader of that body gave it.
    let bytes = body.get(start as usize..end as usize).unwrap_or_default();
    if bytes.len() < COPY_BELOW { Ok(bytes) } else { Err(bytes) }
}

fn head_len(content: u32) -> usize {
    varint_len(u64::from(content)).saturating_add(1)
}

fn offset(at: usize) -> Result<u32, Malformed> {
    u32::try_from(at).map_err(|_| too_long())
}

fn too_long() -> Malformed {
    Malformed("the request is too long to be rewritten")
}
