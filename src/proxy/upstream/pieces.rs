//! A request's body on its way out: the pieces as they are, with their exact length known, ready to be sent a second
//! time. It never joins pieces over HTTP/1, where one vectored write takes them all.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

/// The payload of the largest frame that every HTTP/2 peer takes.
///
/// Source: RFC 9113, section 6.5.2, `SETTINGS_MAX_FRAME_SIZE`.
const HTTP2_FRAME: usize = 16 << 10;

/// The pieces that are still to be sent.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    /// Sent before the first of `rest`.
    head: Option<Bytes>,
    /// Shared by the first try and the second.
    all: Arc<Vec<Bytes>>,
    /// How many of `all` are sent.
    sent: usize,
    /// Bytes that are left, `head` included.
    left: u64,
    /// Small pieces are joined up to this length; 0: never.
    join: usize,
}

impl Pieces {
    /// For HTTP/1: one frame a piece.
    pub(super) fn new(all: &Arc<Vec<Bytes>>) -> Self {
        Self { head: None, all: Arc::clone(all), sent: 0, left: length(all.iter()), join: 0 }
    }

    /// For HTTP/2: every frame costs a header and a write of its own, so that copying small pieces together is
    /// cheaper.
    pub(super) fn framed(head: Bytes, all: &Arc<Vec<Bytes>>) -> Self {
        let left = length(all.iter().chain([&head]));
        Self { head: Some(head), all: Arc::clone(all), sent: 0, left, join: HTTP2_FRAME }
    }

    fn take(&mut self) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        let piece = self.all.get(self.sent).cloned()?;
        self.sent = self.sent.saturating_add(1);
        Some(piece)
    }

    /// Whether the next piece and `length` bytes go into one frame.
    fn fits(&self, length: usize) -> bool {
        self.all
            .get(self.sent)
            .is_some_and(|next| next.len().checked_add(length).is_some_and(|sum| sum <= self.join))
    }
}

fn length<'a>(pieces: impl Iterator<Item = &'a Bytes>) -> u64 {
    pieces.fold(0, |sum, piece| sum.saturating_add(piece.len() as u64))
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let Some(mut piece) = this.take() else { return Poll::Ready(None) };
        if this.fits(piece.len()) {
            let left = usize::try_from(this.left).unwrap_or(usize::MAX);
            let mut joined = BytesMut::with_capacity(left.min(this.join));
            joined.extend_from_slice(&piece);
            while this.fits(joined.len()) {
                joined.extend_from_slice(&this.take().unwrap_or_default());
            }
            piece = joined.freeze();
        }
        this.left = this.left.saturating_sub(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
