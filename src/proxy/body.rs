//! Request bodies: bounded in bytes, time and memory while they stream in; read on after a refusal.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use tokio::time::Instant;

/// The budget of body bytes held at once, over all requests.
#[derive(Clone, Debug)]
pub struct InFlight {}

impl InFlight {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(_bytes: u64) -> Self {
        unimplemented!()
    }
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub struct Permit {}

/// A whole body, held under a permit.
#[derive(Debug)]
pub struct Collected {
    /// The bytes as they came over the wire.
    pub bytes: Bytes,
    /// Their share of the budget; grown by [`Permit::grow`] when the body is inflated.
    pub permit: Permit,
}

impl Permit {
    /// Takes `bytes` more of the budget.
    ///
    /// # Errors
    /// [`BodyError::Overload`] when the budget is used up.
    pub fn grow(&mut self, _bytes: usize) -> Result<(), BodyError> {
        unimplemented!()
    }
}

/// Why a body could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than allowed.
    #[error("the body is longer than allowed")]
    TooLarge,
    /// Did not come in time.
    #[error("the body did not come in time")]
    Timeout,
    /// The sender went away or broke the protocol.
    #[error("the body broke off")]
    Broken,
    /// The budget of bytes in flight is used up.
    #[error("too many body bytes are in flight")]
    Overload,
}

/// Reads a whole body: at most `max` bytes (a larger `Content-Length` is refused before the first
/// byte), until `deadline`, under the budget.
///
/// # Errors
/// See [`BodyError`]; the rest of the body is left in `body`, for [`read_on`].
pub async fn collect(
    _body: &mut Incoming,
    _max: usize,
    _deadline: Instant,
    _budget: &InFlight,
) -> Result<Collected, BodyError> {
    unimplemented!()
}

/// Reads what is left of a refused HTTP/1 upload in the background and throws it away, so that the
/// answer is not lost: at most `max` bytes and `time`. HTTP/2 needs none.
pub fn read_on(_body: Incoming, _max: usize, _time: Duration) {
    unimplemented!()
}
