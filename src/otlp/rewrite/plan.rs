//! What a new body is made of, before any of it is written: ranges of the old body, new message
//! heads, the stamp. It knows lengths, not fields, and never looks at a byte.

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::Stamp;
use crate::otlp::{
    inspect::Malformed,
    wire::{place_of, put_varint, varint_len},
};

/// Ranges of the old body shorter than this are copied into the owned pieces: a copy costs less
/// than another piece of the vectored write, and pieces cannot be made to outweigh the body.
const COPY_BELOW: usize = 1024;

/// How many bytes more than the body has may be spent on copies of the stamp. Beyond that, which
/// takes a request of nearly nothing but resources, the stamp is shared.
const STAMPS_BEYOND_BODY: usize = 4096;

/// A body may be cut into one part for so many of its bytes, beside [`PARTS_OF_ANY`]. A part takes 12 bytes
/// of the plan, thrice that while it grows: so planning stays below the body's size times nine. No request
/// of an exporter comes near it; one does that is nothing but crumbs of which every other one must go.
const BYTES_FOR_A_PART: usize = 4;

/// As many parts may be in a plan whatever the body's size.
const PARTS_OF_ANY: usize = 128;

/// Offsets are 32 bits wide, so that a part takes no more than 12 bytes.
#[derive(Clone, Copy)]
enum Op {
    Head { tag: u8, len: u32 },
    Input { start: u32, end: u32 },
    Stamp,
}

/// The new body so far.
pub(super) struct Plan {
    body: Bytes,
    ops: SmallVec<[Op; 32]>,
    len: usize,
    stamp_len: usize,
}

/// A message that is being written: its head is set when it is closed.
pub(super) struct Frame {
    op: usize,
    before: usize,
}

/// A place in the new body that it can be taken back to.
pub(super) struct Mark {
    ops: usize,
    last: Option<Op>,
    len: usize,
}

impl Plan {
    /// An empty plan for parts of this body; each [`Plan::stamp`] adds `stamp_len` bytes.
    pub(super) fn new(body: &Bytes, stamp_len: usize) -> Self {
        Self { body: body.clone(), ops: SmallVec::new(), len: 0, stamp_len }
    }

    /// Length of the new body so far, in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The place reached so far.
    pub(super) fn mark(&self) -> Mark {
        Mark { ops: self.ops.len(), last: self.ops.last().copied(), len: self.len }
    }

    /// Takes back all that was added since the mark was made; no frame that was opened before it may
    /// have been closed since.
    pub(super) fn rewind(&mut self, mark: &Mark) {
        self.ops.truncate(mark.ops);
        // The last range may have been made longer.
        if let (Some(last), Some(before)) = (self.ops.last_mut(), mark.last) {
            *last = before;
        }
        self.len = mark.len;
    }

    /// Begins a message as field `number` (1 to 15: all that are ever rewritten).
    pub(super) fn open(&mut self, number: u32) -> Result<Frame, Malformed> {
        let tag =
            u8::try_from(number).ok().filter(|number| (1..=15).contains(number)).ok_or(CANNOT)? << 3 | 2;
        let frame = Frame { op: self.ops.len(), before: self.len };
        self.push(Op::Head { tag, len: 0 })?;
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
    pub(super) fn input(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let at = place_of(bytes, &self.body).ok_or(CANNOT)?;
        let (start, end) = (offset(at)?, offset(at.saturating_add(bytes.len()))?);
        self.len = self.len.saturating_add(bytes.len());
        match self.ops.last_mut() {
            Some(Op::Input { end: last, .. }) if *last == start => *last = end,
            _ if start == end => {}
            _ => self.push(Op::Input { start, end })?,
        }
        Ok(())
    }

    fn push(&mut self, op: Op) -> Result<(), Malformed> {
        let most = (self.body.len() / BYTES_FOR_A_PART).saturating_add(PARTS_OF_ANY);
        if self.ops.len() >= most {
            return Err(Malformed("too much would have to be taken out of the request, piece by piece"));
        }
        self.ops.push(op);
        Ok(())
    }

    /// Adds the verified attributes.
    pub(super) fn stamp(&mut self) {
        self.len = self.len.saturating_add(self.stamp_len);
        self.ops.push(Op::Stamp);
    }

    /// The pieces of the new body: long ranges as slices of the old one, all else in one allocation.
    pub(super) fn assemble(&self, stamp: &Stamp) -> Vec<Bytes> {
        let body = &self.body;
        let stamps = self.ops.iter().filter(|op| matches!(op, Op::Stamp)).count();
        let outweighs = stamps.saturating_mul(stamp.len()) > body.len().saturating_add(STAMPS_BEYOND_BODY);
        // For one place it is written where it belongs; for several once, to be copied or, if it would outweigh the
        // body, to be shared.
        let whole = (stamps > 1).then(|| stamp.encoded());
        let source = |op: &Op| match *op {
            Op::Head { tag, len } => Source::Head(tag, len),
            Op::Stamp => match &whole {
                None => Source::Stamp,
                Some(whole) if outweighs => Source::Slice(whole, whole),
                Some(whole) => Source::Copy(whole),
            },
            // A range always lies in the body: `input` found it there.
            Op::Input { start, end } => match body.get(start as usize..end as usize).unwrap_or_default() {
                short if short.len() < COPY_BELOW => Source::Copy(short),
                long => Source::Slice(body, long),
            },
        };

        let (mut owned_len, mut slices) = (0_usize, 0_usize);
        for op in &self.ops {
            match source(op) {
                Source::Head(_, len) => owned_len = owned_len.saturating_add(head_len(len)),
                Source::Stamp => owned_len = owned_len.saturating_add(stamp.len()),
                Source::Copy(bytes) => owned_len = owned_len.saturating_add(bytes.len()),
                Source::Slice(..) => slices = slices.saturating_add(1),
            }
        }
        let mut owned = BytesMut::with_capacity(owned_len);
        let mut pieces = Vec::with_capacity(slices.saturating_mul(2).saturating_add(1));
        for op in &self.ops {
            match source(op) {
                Source::Head(tag, len) => {
                    owned.put_u8(tag);
                    put_varint(&mut owned, u64::from(len));
                }
                Source::Stamp => stamp.write(&mut owned),
                Source::Copy(bytes) => owned.put_slice(bytes),
                Source::Slice(whole, part) => {
                    if !owned.is_empty() {
                        pieces.push(owned.split().freeze());
                    }
                    if !part.is_empty() {
                        pieces.push(whole.slice_ref(part));
                    }
                }
            }
        }
        if !owned.is_empty() {
            pieces.push(owned.freeze());
        }
        pieces
    }
}

/// Where the bytes of a part of the new body come from.
enum Source<'a> {
    /// A tag and a length, to be written.
    Head(u8, u32),
    /// The verified attributes, to be written.
    Stamp,
    /// Bytes to be copied.
    Copy(&'a [u8]),
    /// A whole and the part of it that is shared.
    Slice(&'a Bytes, &'a [u8]),
}

const CANNOT: Malformed = Malformed("the message cannot be rewritten");

fn head_len(content: u32) -> usize {
    varint_len(u64::from(content)).saturating_add(1)
}

fn offset(at: usize) -> Result<u32, Malformed> {
    u32::try_from(at).map_err(|_| too_long())
}

fn too_long() -> Malformed {
    Malformed("the request is too long to be rewritten")
}
