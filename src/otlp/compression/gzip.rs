//! Gzip, both ways. It decides what a member is and that nothing but members may stand in a body; it
//! never decides how long a body may become. Heads and trailers are read here and not by a library's
//! reader, which would need a zeroed buffer and a second, slower checksum.

use std::cell::Cell;

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress, Status};
use zlib_rs::{Inflate, InflateFlush, Status as Inflated};

use super::{InflateError, LEVEL, MOST_PARTS, Source, compressed_guess, make_room};

/// Blocks of which no length is asked.
pub(super) const FREE_BLOCKS: usize = 1_024;

/// Fewest compressed bytes for each further block, on average. Each can bring codes of its own, for which tables are built:
/// in 12 bytes without a byte of output, 4 MiB of which took 280 ms. Encoders end a block after thousands of symbols.
pub(super) const BYTES_PER_BLOCK: usize = 256;

/// How much output is lent at once. It has to be zeroed first, which is cheap as long as it stays in a near cache.
const SLICE: usize = 128 << 10;

/// Calls in a row that may take and give nothing: the bits that are left of the last byte taken hold fewer blocks.
const MOST_STILL: usize = 16;

thread_local! {
    static IN: Cell<Option<Inflate>> = const { Cell::new(None) };
    static OUT: Cell<Option<Compress>> = const { Cell::new(None) };
}

/// The length that the last member declares (its last four bytes); a hint, nothing more.
pub(super) fn declares(body: &[u8]) -> usize {
    body.last_chunk().map_or(0, |size| usize::try_from(u32::from_le_bytes(*size)).unwrap_or(0))
}

/// Flags of a member's head.
mod flag {
    pub(super) const HEAD_CRC: u8 = 2;
    pub(super) const EXTRA: u8 = 4;
    pub(super) const NAME: u8 = 8;
    pub(super) const COMMENT: u8 = 16;
    pub(super) const RESERVED: u8 = 0xE0;
}

/// The length of the head that a member begins with.
///
/// Source: RFC 1952, section 2.3; a reserved flag is an error, as section 2.3.1.2 demands.
fn head_len(member: &[u8]) -> Option<usize> {
    let (&[0x1F, 0x8B, 8, flags, ..], mut rest) = member.split_first_chunk::<10>()? else { return None };
    if flags & flag::RESERVED != 0 {
        return None;
    }
    if flags & flag::EXTRA != 0 {
        let (len, extra) = rest.split_first_chunk()?;
        rest = extra.get(u16::from_le_bytes(*len).into()..)?;
    }
    for text in [flag::NAME, flag::COMMENT] {
        if flags & text != 0 {
            let zero = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(zero..)?.get(1..)?;
        }
    }
    if flags & flag::HEAD_CRC != 0 {
        let head = member.get(..member.len().checked_sub(rest.len())?)?;
        let (crc, after) = rest.split_first_chunk()?;
        if crc32fast::hash(head) & 0xFFFF != u32::from(u16::from_le_bytes(*crc)) {
            return None;
        }
        rest = after;
    }
    member.len().checked_sub(rest.len())
}

/// Members, one after the other.
pub(super) struct Members<'a> {
    inflater: Option<Inflate>,
    pub(super) rest: &'a [u8],
    /// How many blocks may still come.
    blocks: usize,
    at: At,
    /// How many were begun.
    begun: usize,
    /// Of the member that is open.
    crc: Hasher,
    /// Of the member that is open, as its trailer counts it.
    len: u32,
}

#[derive(Clone, Copy)]
enum At {
    Head,
    Data,
    End,
}

impl<'a> Members<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        let inflater = IN.take().unwrap_or_else(|| Inflate::new(false, 15));
        let blocks = FREE_BLOCKS.saturating_add(body.len() / BYTES_PER_BLOCK);
        Self {
            inflater: Some(inflater),
            rest: body,
            blocks,
            at: At::Head,
            begun: 0,
            crc: Hasher::new(),
            len: 0,
        }
    }

    fn head(&mut self) -> Option<()> {
        self.rest = self.rest.get(head_len(self.rest)?..)?;
        self.begun = self.begun.saturating_add(1);
        self.inflater.as_mut()?.reset(false);
        self.crc.reset();
        self.len = 0;
        self.at = At::Data;
        Some(())
    }

    /// Inflates what there is room for.
    fn data(&mut self, out: &mut Vec<u8>) -> Result<usize, InflateError> {
        let before = out.len();
        out.resize(out.capacity().min(before.saturating_add(SLICE)), 0);
        let outcome = self.blocks(out.get_mut(before..).unwrap_or_default());
        let (written, is_end) = *outcome.as_ref().unwrap_or(&(0, false));
        out.truncate(before.saturating_add(written));
        outcome?;
        let fresh = out.get(before..).unwrap_or_default();
        self.crc.update(fresh);
        self.len = self.len.wrapping_add(u32::try_from(fresh.len()).map_err(|_| InflateError::Corrupt)?);
        if is_end {
            self.trailer().ok_or(InflateError::Corrupt)?;
        }
        Ok(fresh.len())
    }

    /// Inflates block after block until `room` is full or the member ends: how much was written, and whether it ended.
    fn blocks(&mut self, room: &mut [u8]) -> Result<(usize, bool), InflateError> {
        let inflater = self.inflater.as_mut().ok_or(InflateError::Corrupt)?;
        let (mut written, mut still) = (0_usize, 0_usize);
        loop {
            let (taken_before, written_before) = (inflater.total_in(), inflater.total_out());
            let to = room.get_mut(written..).unwrap_or_default();
            let status =
                inflater.decompress(self.rest, to, InflateFlush::Block).map_err(|_| InflateError::Corrupt)?;
            let since = |now: u64, before: u64| usize::try_from(now.saturating_sub(before)).unwrap_or(0);
            let taken = since(inflater.total_in(), taken_before);
            let fresh = since(inflater.total_out(), written_before);
            self.rest = self.rest.get(taken..).unwrap_or_default();
            written = written.saturating_add(fresh);
            if status == Inflated::StreamEnd {
                return Ok((written, true));
            }
            if written >= room.len() {
                return Ok((written, false));
            }
            // Room is left: a block has ended, or the input has.
            still = if taken == 0 && fresh == 0 { still.saturating_add(1) } else { 0 };
            if still > MOST_STILL {
                return Err(InflateError::Corrupt);
            }
            self.blocks = self.blocks.checked_sub(1).ok_or(InflateError::TooManyBlocks)?;
        }
    }

    /// Checks the trailer of the member that has just ended; whatever follows must be another.
    fn trailer(&mut self) -> Option<()> {
        let (trailer, rest) = self.rest.split_first_chunk()?;
        let found = u64::from(self.len) << 32 | u64::from(self.crc.clone().finalize());
        self.rest = rest;
        self.at = if rest.is_empty() { At::End } else { At::Head };
        (u64::from_le_bytes(*trailer) == found).then_some(())
    }
}

impl Source for Members<'_> {
    fn read(&mut self, out: &mut Vec<u8>) -> Result<usize, InflateError> {
        loop {
            match self.at {
                At::End => return Ok(0),
                At::Head if self.begun == MOST_PARTS => return Err(InflateError::TooManyParts),
                At::Head => self.head().ok_or(InflateError::Corrupt)?,
                At::Data => match self.data(out)? {
                    0 => {}
                    written => return Ok(written),
                },
            }
        }
    }
}

impl Drop for Members<'_> {
    fn drop(&mut self) {
        IN.set(self.inflater.take());
    }
}

/// One member.
#[expect(clippy::expect_used, reason = "the encoder has no failure but misuse and lack of memory")]
pub(super) fn compress(pieces: &[Bytes]) -> Vec<u8> {
    let mut encoder = OUT.take().unwrap_or_else(|| Compress::new_gzip(Compression::new(LEVEL.into()), 15));
    let mut out = Vec::with_capacity(compressed_guess(pieces));
    for piece in pieces {
        let mut rest = piece.as_ref();
        while !rest.is_empty() {
            make_room(&mut out);
            let before = encoder.total_in();
            encoder.compress_vec(rest, &mut out, FlushCompress::None).expect("deflate takes any bytes");
            let taken = usize::try_from(encoder.total_in().saturating_sub(before)).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
        }
    }
    loop {
        make_room(&mut out);
        let status = encoder.compress_vec(&[], &mut out, FlushCompress::Finish).expect("deflate ends");
        if status == Status::StreamEnd {
            break;
        }
    }
    encoder.reset();
    OUT.set(Some(encoder));
    out
}
