//! The bytes of a connection: which HTTP they speak, and when a request head begins to come in.
//! It never interprets more than the HTTP/2 preface.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::watch::Activity;

/// What an HTTP/2 client with prior knowledge sends first.
///
/// Source: RFC 9113, section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Reads until the bytes are the HTTP/2 preface or can't become it. The bytes are handed back; none of them means that
/// the peer left.
pub(super) async fn detect(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Version, Bytes)> {
    let mut seen = Vec::with_capacity(PREFACE.len());
    loop {
        // No more than the preface is read, so that hyper reads the rest into its own buffer.
        let missing = PREFACE.len().saturating_sub(seen.len());
        let read = (&mut *stream).take(missing as u64).read_buf(&mut seen).await?;
        if seen == PREFACE {
            return Ok((Version::Http2, seen.into()));
        }
        if read == 0 || !PREFACE.starts_with(&seen) {
            return Ok((Version::Http1, seen.into()));
        }
    }
}

/// A stream that gives back the bytes that were looked at, and tells [`Activity`] when others come.
pub(super) struct Wire<T> {
    head: Bytes,
    stream: T,
    activity: Arc<Activity>,
}

impl<T> Wire<T> {
    pub(super) fn new(head: Bytes, stream: T, activity: Arc<Activity>) -> Self {
        Self { head, stream, activity }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.head.is_empty() {
            let length = self.head.len().min(buffer.remaining());
            buffer.put_slice(self.head.get(..length).unwrap_or_default());
            self.head.advance(length);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.activity.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
