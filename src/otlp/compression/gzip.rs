//! Gzip, both ways. It decides what a member is and that nothing but members may stand in a body; it
//! never decides how long a body may become. Heads and trailers are read here and not by a library's
//! reader, which would need a zeroed buffer and a second, slower checksum.

use std::cell::Cell;

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{InflateError, LEVEL, MOST_PARTS, Source, compressed_guess, make_room};

/// How much compressed data may give nothing. Each deflate block can bring codes of its own, for which tables are built, in
/// 12 bytes without a byte of output: 4 MiB of them took 280 ms.
pub(super) const SLACK: usize = 64 << 10;

/// How much of a member is inflated before what it gave is compared with what it took.
const WINDOW: usize = 32 << 10;

thread_local! {
    static IN: Cell<Option<Decompress>> = const { Cell::new(None) };
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
    inflater: Option<Decompress>,
    pub(super) rest: &'a [u8],
    /// How much more may be taken than is given.
    slack: usize,
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
        let inflater = IN.take().unwrap_or_else(|| Decompress::new(false));
        let crc = Hasher::new();
        Self { inflater: Some(inflater), rest: body, slack: SLACK, at: At::Head, begun: 0, crc, len: 0 }
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

    /// Inflates a part of what there is room for, and holds what it took against what it gave.
    fn data(&mut self, out: &mut Vec<u8>) -> Result<usize, InflateError> {
        let (taken, given) = self.part(out).ok_or(InflateError::Corrupt)?;
        // Encoders lose nothing but a few bytes for thousands; they may lose a quarter here.
        let earned = given.saturating_add(given / 3);
        let slack = self.slack.saturating_add(earned).checked_sub(taken).ok_or(InflateError::Empty)?;
        self.slack = slack.min(SLACK);
        Ok(given)
    }

    /// How much was taken and given; `None` if the member is corrupt or cut short.
    fn part(&mut self, out: &mut Vec<u8>) -> Option<(usize, usize)> {
        let inflater = self.inflater.as_mut()?;
        let (before, taken_before) = (out.len(), inflater.total_in());
        let window = self.rest.get(..WINDOW).unwrap_or(self.rest);
        let status = inflater.decompress_vec(window, out, FlushDecompress::None).ok()?;
        let taken = usize::try_from(inflater.total_in().saturating_sub(taken_before)).ok()?;
        self.rest = self.rest.get(taken..)?;
        let fresh = out.get(before..)?;
        self.crc.update(fresh);
        self.len = self.len.wrapping_add(u32::try_from(fresh.len()).ok()?);
        match status {
            Status::StreamEnd => self.trailer()?,
            _ if taken == 0 && fresh.is_empty() => return None,
            _ => {}
        }
        Some((taken, fresh.len()))
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
