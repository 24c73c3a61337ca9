//! Content encodings, in and out: bounded inflation and deflation of whole bodies in memory. It
//! decides how long an inflated body may become before a byte of it is written, and never holds a
//! buffer longer than that, whatever the body declares about itself. What a thread needs to work
//! with (contexts, windows) is kept for the next body; nothing of a body is.

use std::{cell::Cell, io::Read};

use bytes::{Buf, Bytes, buf::Reader};
use flate2::{Compress, Compression, FlushCompress, bufread::GzDecoder};
use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_frame_content_size,
};

/// Output that no ratio is asked of: short bodies of equal spans compress by far more than long ones.
const RATIO_FREE: usize = 64 << 10;

/// Longest buffer that is set up on a body's own word for its length; longer ones grow into it.
const LARGEST_GUESS: usize = 1 << 20;

/// Shortest buffer that is worth setting up.
const SMALLEST_GUESS: usize = 512;

/// Largest zstd window, as a power of two: 8 MiB, what every decoder is asked to support.
///
/// Source: RFC 8878, section 3.1.1.1.2.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Most memory of a zstd context that a thread keeps between bodies.
const ZSTD_CONTEXT_KEPT: usize = 2 << 20;

/// The cheapest level of both encodings: the collector is near, the processor is what is scarce.
const LEVEL: u8 = 1;

thread_local! {
    static GZIP_IN: Cell<Option<GzDecoder<Reader<Bytes>>>> = const { Cell::new(None) };
    static GZIP_OUT: Cell<Option<Compress>> = const { Cell::new(None) };
    static ZSTD_IN: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
    static ZSTD_OUT: Cell<Option<CCtx<'static>>> = const { Cell::new(None) };
}

/// A content encoding of OTLP.
///
/// Source: OTLP specification, "OTLP/HTTP Request"; gRPC `grpc-encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As it is.
    #[default]
    #[serde(rename = "none")]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Bounds on what an inflated body may become.
#[derive(Clone, Copy, Debug)]
pub struct InflateCaps {
    /// Longest inflated body, in bytes.
    pub max_size: usize,
    /// Most inflated bytes for one compressed byte, past the first 64 KiB of output.
    pub max_ratio: u32,
}

/// Why a body could not be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// Longer than the cap.
    #[error("the inflated body is longer than allowed")]
    TooLarge,
    /// A higher ratio than the cap.
    #[error("the body inflates by a higher ratio than allowed")]
    Ratio,
    /// Not what its encoding says, or cut short, or followed by other bytes.
    #[error("the body is not valid in its content encoding")]
    Corrupt,
}

impl Encoding {
    /// The token in `Content-Encoding` and `grpc-encoding`.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Reads one header value (a single token, any case, surrounding spaces allowed).
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        let token = token.trim();
        [Self::Identity, Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|encoding| token.eq_ignore_ascii_case(encoding.token()))
    }
}

/// Inflates a whole body within `caps`. `Identity` gives the input back (checked for size too).
///
/// Gzip bodies may have several members and zstd bodies several frames, as RFC 1952 (section 2.2)
/// and RFC 8878 (section 3) allow; checksums are verified. A body of no bytes is neither.
///
/// # Errors
/// See [`InflateError`].
pub fn inflate(encoding: Encoding, body: &Bytes, caps: InflateCaps) -> Result<Bytes, InflateError> {
    match encoding {
        Encoding::Identity if body.len() > caps.max_size => Err(InflateError::TooLarge),
        Encoding::Identity => Ok(body.clone()),
        Encoding::Gzip => {
            let mut source = GzipSource::new(body);
            gather(&mut source, gzip_declares(body), body.len(), caps)
        }
        Encoding::Zstd => {
            let mut source = ZstdSource::new(body);
            gather(&mut source, zstd_declares(body), body.len(), caps)
        }
    }
}

/// Compresses a body given as pieces, for the way out.
///
/// # Panics
/// Only where memory runs out: both encoders write into memory and take any input.
#[must_use]
pub fn deflate(encoding: Encoding, pieces: &[Bytes]) -> Vec<Bytes> {
    match encoding {
        Encoding::Identity => pieces.to_vec(),
        Encoding::Gzip => vec![gzip(pieces).into()],
        Encoding::Zstd => vec![zstd(pieces).into()],
    }
}

/// A body being inflated.
trait Source {
    /// Writes the next bytes into `out`, which is not empty; 0 is a proper end of the whole body.
    fn read(&mut self, out: &mut [u8]) -> Result<usize, InflateError>;
}

/// The longest output that `caps` leave to a body of this length, and what a longer one breaks.
fn limit(body_len: usize, caps: InflateCaps) -> (usize, InflateError) {
    let ratio = usize::try_from(caps.max_ratio).unwrap_or(usize::MAX);
    let by_ratio = body_len.saturating_mul(ratio).max(RATIO_FREE);
    if by_ratio < caps.max_size {
        (by_ratio, InflateError::Ratio)
    } else {
        (caps.max_size, InflateError::TooLarge)
    }
}

/// Reads a source to its end. The buffer starts at what the body declares, within bounds, doubles,
/// and never passes the limit: a full one is tried with one byte beside it before it grows.
fn gather(
    source: &mut impl Source,
    declared: usize,
    body_len: usize,
    caps: InflateCaps,
) -> Result<Bytes, InflateError> {
    let (limit, over) = limit(body_len, caps);
    let mut out = vec![0; declared.clamp(SMALLEST_GUESS, LARGEST_GUESS).min(limit)];
    let mut filled = 0_usize;
    loop {
        match out.get_mut(filled..) {
            Some(room) if !room.is_empty() => {
                let written = source.read(room)?;
                filled = filled.saturating_add(written);
                if written == 0 {
                    break;
                }
            }
            _ => {
                let mut beside = [0];
                if source.read(&mut beside)? == 0 {
                    break;
                }
                if filled >= limit {
                    return Err(over);
                }
                let longer = filled.saturating_mul(2).max(SMALLEST_GUESS).min(limit);
                out.reserve_exact(longer.saturating_sub(filled));
                out.extend_from_slice(&beside);
                out.resize(longer, 0);
                filled = filled.saturating_add(1);
            }
        }
    }
    out.truncate(filled);
    Ok(out.into())
}

/// The length that the last gzip member declares (its last four bytes); a hint, nothing more.
fn gzip_declares(body: &[u8]) -> usize {
    body.last_chunk().map_or(0, |size| usize::try_from(u32::from_le_bytes(*size)).unwrap_or(0))
}

/// The length that the first zstd frame declares; a hint, nothing more.
fn zstd_declares(body: &[u8]) -> usize {
    let size = get_frame_content_size(body).ok().flatten();
    size.map_or(0, |size| usize::try_from(size).unwrap_or(usize::MAX))
}

/// Gzip members, one after the other.
struct GzipSource {
    decoder: Option<GzDecoder<Reader<Bytes>>>,
    ended: bool,
}

impl GzipSource {
    fn new(body: &Bytes) -> Self {
        let mut decoder = GZIP_IN.take().unwrap_or_else(|| GzDecoder::new(Bytes::new().reader()));
        decoder.reset(body.clone().reader());
        Self { decoder: Some(decoder), ended: false }
    }
}

impl Source for GzipSource {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, InflateError> {
        while let Some(decoder) = self.decoder.as_mut().filter(|_| !self.ended) {
            let written = decoder.read(out).map_err(|_| InflateError::Corrupt)?;
            if written > 0 {
                return Ok(written);
            }
            // One member has ended and its checksum held: whatever follows must be another.
            let rest = decoder.reset(Bytes::new().reader());
            self.ended = rest.get_ref().is_empty();
            decoder.reset(rest);
        }
        Ok(0)
    }
}

impl Drop for GzipSource {
    fn drop(&mut self) {
        if let Some(mut decoder) = self.decoder.take() {
            decoder.reset(Bytes::new().reader());
            GZIP_IN.set(Some(decoder));
        }
    }
}

/// Zstd frames, one after the other.
struct ZstdSource<'a> {
    context: Option<DCtx<'static>>,
    body: InBuffer<'a>,
    between_frames: bool,
}

impl<'a> ZstdSource<'a> {
    fn new(body: &'a [u8]) -> Self {
        let context = ZSTD_IN.take().or_else(|| {
            let mut context = DCtx::try_create()?;
            context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).ok()?;
            Some(context)
        });
        Self { context, body: InBuffer::around(body), between_frames: false }
    }
}

impl Source for ZstdSource<'_> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, InflateError> {
        let context = self.context.as_mut().ok_or(InflateError::Corrupt)?;
        let mut out = OutBuffer::around(out);
        while !(self.between_frames && self.body.pos() == self.body.src.len()) {
            let before = self.body.pos();
            let wanted =
                context.decompress_stream(&mut out, &mut self.body).map_err(|_| InflateError::Corrupt)?;
            self.between_frames = wanted == 0;
            if out.pos() > 0 {
                break;
            }
            if !self.between_frames && self.body.pos() == before {
                // No byte taken and none given with room for it: the frame is cut short.
                return Err(InflateError::Corrupt);
            }
        }
        Ok(out.pos())
    }
}

impl Drop for ZstdSource<'_> {
    fn drop(&mut self) {
        // A context that needed a large window gives it back, or every thread would end up with one.
        if let Some(mut context) = self.context.take()
            && context.sizeof() <= ZSTD_CONTEXT_KEPT
            && context.reset(ResetDirective::SessionOnly).is_ok()
        {
            ZSTD_IN.set(Some(context));
        }
    }
}

/// A first guess at the compressed length of pieces, so that most bodies need one buffer.
fn compressed_guess(pieces: &[Bytes]) -> usize {
    let len: usize = pieces.iter().map(Bytes::len).fold(0, usize::saturating_add);
    (len / 4).clamp(SMALLEST_GUESS, LARGEST_GUESS)
}

/// Doubles a buffer that has no room left.
fn make_room(out: &mut Vec<u8>) {
    if out.len() == out.capacity() {
        out.reserve(out.len().max(SMALLEST_GUESS));
    }
}

#[expect(clippy::expect_used, reason = "the encoder has no failure but misuse and lack of memory")]
fn gzip(pieces: &[Bytes]) -> Vec<u8> {
    let mut encoder =
        GZIP_OUT.take().unwrap_or_else(|| Compress::new_gzip(Compression::new(LEVEL.into()), 15));
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
        if status == flate2::Status::StreamEnd {
            break;
        }
    }
    encoder.reset();
    GZIP_OUT.set(Some(encoder));
    out
}

#[expect(clippy::expect_used, reason = "the encoder has no failure but misuse and lack of memory")]
fn zstd(pieces: &[Bytes]) -> Vec<u8> {
    let mut context = ZSTD_OUT.take().unwrap_or_else(|| {
        let mut context = CCtx::create();
        context.set_parameter(CParameter::CompressionLevel(LEVEL.into())).expect("level 1 is a level");
        context
    });
    let len = pieces.iter().map(|piece| piece.len() as u64).fold(0, u64::saturating_add);
    // The length in the frame lets the reader set up one buffer of the right size.
    context.set_pledged_src_size(Some(len)).expect("no frame is open");
    let mut out = Vec::with_capacity(compressed_guess(pieces));
    for piece in pieces {
        let mut rest = InBuffer::around(piece);
        while rest.pos() < piece.len() {
            make_room(&mut out);
            let at = out.len();
            let mut room = OutBuffer::around_pos(&mut out, at);
            context.compress_stream(&mut room, &mut rest).expect("zstd takes any bytes");
        }
    }
    loop {
        make_room(&mut out);
        let at = out.len();
        let left = context.end_stream(&mut OutBuffer::around_pos(&mut out, at)).expect("zstd ends");
        if left == 0 {
            break;
        }
    }
    ZSTD_OUT.set(Some(context));
    out
}

#[cfg(test)]
mod tests;
