//! Zstandard, both ways. It decides which windows are accepted and what a thread keeps of a context;
//! it never decides how long a body may become.

use std::cell::Cell;

use bytes::Bytes;
use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_frame_content_size,
};

use super::{InflateError, LEVEL, MOST_PARTS, Source, compressed_guess, make_room};

/// Largest window, as a power of two: 8 MiB, what every decoder is asked to support.
///
/// Source: RFC 8878, section 3.1.1.1.2.
const WINDOW_LOG: u32 = 23;

/// Most memory of a context that a thread keeps between bodies.
pub(super) const CONTEXT_KEPT: usize = 2 << 20;

thread_local! {
    pub(super) static IN: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
    pub(super) static OUT: Cell<Option<CCtx<'static>>> = const { Cell::new(None) };
}

/// The length that the first frame declares; a hint, nothing more.
pub(super) fn declares(body: &[u8]) -> usize {
    let size = get_frame_content_size(body).ok().flatten();
    size.map_or(0, |size| usize::try_from(size).unwrap_or(usize::MAX))
}

/// Frames, one after the other.
pub(super) struct Frames<'a> {
    context: Option<DCtx<'static>>,
    pub(super) body: InBuffer<'a>,
    is_between: bool,
    /// How many have ended.
    ended: usize,
}

impl<'a> Frames<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        let context = IN.take().or_else(|| {
            let mut context = DCtx::try_create()?;
            context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).ok()?;
            Some(context)
        });
        Self { context, body: InBuffer::around(body), is_between: false, ended: 0 }
    }
}

impl Source for Frames<'_> {
    fn read(&mut self, out: &mut Vec<u8>) -> Result<usize, InflateError> {
        let context = self.context.as_mut().ok_or(InflateError::Corrupt)?;
        let at = out.len();
        let mut out = OutBuffer::around_pos(out, at);
        while !(self.is_between && self.body.pos() == self.body.src.len()) {
            if self.ended == MOST_PARTS {
                return Err(InflateError::TooManyParts);
            }
            let before = self.body.pos();
            let wanted =
                context.decompress_stream(&mut out, &mut self.body).map_err(|_| InflateError::Corrupt)?;
            self.is_between = wanted == 0;
            self.ended = self.ended.saturating_add(usize::from(self.is_between));
            if out.pos() > at {
                break;
            }
            if !self.is_between && self.body.pos() == before {
                // No byte taken and none given with room for it: the frame is cut short.
                return Err(InflateError::Corrupt);
            }
        }
        Ok(out.pos().saturating_sub(at))
    }
}

impl Drop for Frames<'_> {
    fn drop(&mut self) {
        // A context that needed a large window gives it back, or every thread would end up with one.
        if let Some(mut context) = self.context.take()
            && context.sizeof() <= CONTEXT_KEPT
            && context.reset(ResetDirective::SessionOnly).is_ok()
        {
            IN.set(Some(context));
        }
    }
}

/// One frame that declares its length.
#[expect(clippy::expect_used, reason = "the encoder has no failure but misuse and lack of memory")]
pub(super) fn compress(pieces: &[Bytes]) -> Vec<u8> {
    let mut context = OUT.take().unwrap_or_else(|| {
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
    OUT.set(Some(context));
    out
}
