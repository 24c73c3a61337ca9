//! What comes back from a collector: a head, at most 64 KiB of body, trailers. It decides what can be read, never
//! what it means for the sender.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::otlp::compression::{Encoding, InflateCaps, inflate};

/// Longest body that is read of an answer, compressed or not.
pub const MAX_ANSWER: usize = 64 << 10;

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The head.
    pub headers: HeaderMap,
    /// The body as it came, at most [`MAX_ANSWER`] bytes.
    pub body: Result<Bytes, BadBody>,
    /// The trailers, where gRPC has its status.
    pub trailers: Option<HeaderMap>,
}

/// Why an answer's body can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadBody {
    /// Longer than [`MAX_ANSWER`].
    TooLong,
    /// The connection broke, and why.
    BrokeOff(String),
}

/// Reads an answer. The body is read even where only the status counts: an unread one would cost the connection.
pub(super) async fn read(response: Response<Incoming>) -> Answer {
    let (head, mut incoming) = response.into_parts();
    let mut whole = Vec::new();
    let mut trailers = None;
    let body = loop {
        match incoming.frame().await {
            None => break Ok(whole.into()),
            Some(Err(error)) => break Err(BadBody::BrokeOff(deepest(&error))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(chunk) if whole.len().saturating_add(chunk.len()) > MAX_ANSWER => {
                    break Err(BadBody::TooLong);
                }
                Ok(chunk) => whole.extend_from_slice(&chunk),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    };
    Answer { status: head.status, headers: head.headers, body, trailers }
}

/// Undoes the content encoding that `header` names; `None` when that can't be done within [`MAX_ANSWER`].
pub(super) fn inflated(headers: &HeaderMap, header: &HeaderName, body: &Bytes) -> Option<Bytes> {
    let encoding = match headers.get(header) {
        Some(token) => Encoding::from_token(token.to_str().ok()?)?,
        None => Encoding::Identity,
    };
    if encoding == Encoding::Identity {
        return Some(body.clone());
    }
    inflate(encoding, body, InflateCaps { max_size: MAX_ANSWER, max_ratio: u32::MAX }).ok()
}

/// `Retry-After`, as seconds or as a date; a date that is past is no wait.
///
/// Source: RFC 9110, section 10.2.3.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are a very long time, not none.
        return Some(Duration::from_secs(text.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    // `elapsed` fails for what lies ahead, and its error says how far.
    let ahead = httpdate::parse_http_date(text).ok()?.elapsed().err();
    Some(ahead.map_or(Duration::ZERO, |ahead| ahead.duration()))
}

/// What the innermost cause of an error says, bounded: a peer can put words into some of them.
pub(super) fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string().chars().take(200).collect()
}
