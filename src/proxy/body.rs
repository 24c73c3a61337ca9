//! Request bodies: bounded in bytes, time and memory while they stream in; read on after a refusal.
//! It never waits for memory: when the budget is used up, it says so at once.

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};

use crate::metrics::Metrics;

/// Most bytes that are set aside for a body on its `Content-Length`'s word alone.
const MAX_RESERVE: usize = 256 << 10;

/// The budget of body bytes held at once, over all requests.
#[derive(Clone, Debug)]
pub struct InFlight(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    all: u64,
    left: AtomicU64,
    metrics: Option<Arc<Metrics>>,
}

impl InFlight {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Budget { all: bytes, left: bytes.into(), metrics: None }))
    }

    /// A budget of `bytes` that tells [`Metrics::in_flight_bytes`] what is held.
    #[must_use]
    pub fn metered(bytes: u64, metrics: Arc<Metrics>) -> Self {
        metrics.in_flight_bytes_limit(bytes);
        Self(Arc::new(Budget { all: bytes, left: bytes.into(), metrics: Some(metrics) }))
    }

    /// Bytes that are not held by anybody.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.0.left.load(Ordering::Relaxed)
    }

    /// The whole budget.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.0.all
    }

    /// Bytes that are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.all().saturating_sub(self.left())
    }

    /// A permit for nothing yet.
    #[must_use]
    pub fn permit(&self) -> Permit {
        Permit { budget: self.clone(), bytes: 0 }
    }
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: InFlight,
    bytes: u64,
}

impl Permit {
    /// Takes `bytes` more of the budget.
    ///
    /// # Errors
    /// [`BodyError::Overload`] when the budget is used up; what was held stays held.
    pub fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let bytes = u64::try_from(bytes).map_err(|_| BodyError::Overload)?;
        let held = self.bytes.checked_add(bytes).ok_or(BodyError::Overload)?;
        let budget = &*self.budget.0;
        budget
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .map_err(|_| BodyError::Overload)?;
        self.bytes = held;
        budget.tell(bytes, 1);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.0.left.fetch_add(self.bytes, Ordering::Relaxed);
            self.budget.0.tell(self.bytes, -1);
        }
    }
}

impl Budget {
    fn tell(&self, bytes: u64, sign: i64) {
        if let Some(metrics) = &self.metrics {
            metrics.in_flight_bytes(i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(sign));
        }
    }
}

/// A whole body, held under a permit.
#[derive(Debug)]
pub struct Collected {
    /// The bytes as they came over the wire.
    pub bytes: Bytes,
    /// Their share of the budget; grown by [`Permit::grow`] when the body is inflated.
    pub permit: Permit,
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
    /// The budget of bytes in flight is used up, or the processors for long work are until the deadline.
    #[error("too many body bytes are in flight or at work")]
    Overload,
}

/// Reads a whole body: at most `max` bytes (a larger `Content-Length` is refused before the first
/// byte), until `deadline`, under the budget. Trailers are ignored.
///
/// The budget is charged as bytes arrive, not by `Content-Length`: a promise costs its sender nothing. `received` has how
/// many came, also when they were in vain.
///
/// # Errors
/// See [`BodyError`]; the rest of the body is left in `body`, for [`read_on`].
pub async fn collect(
    body: &mut Incoming,
    max: usize,
    deadline: Instant,
    budget: &InFlight,
    received: &mut usize,
) -> Result<Collected, BodyError> {
    let announced = match body.size_hint().exact().map(usize::try_from) {
        Some(Ok(length)) if length <= max => Some(length),
        Some(_) => return Err(BodyError::TooLarge),
        None => None,
    };
    timeout_at(deadline, gather(body, max, announced, budget, received))
        .await
        .unwrap_or(Err(BodyError::Timeout))
}

async fn gather<B>(
    body: &mut B,
    max: usize,
    announced: Option<usize>,
    budget: &InFlight,
    received: &mut usize,
) -> Result<Collected, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut permit = budget.permit();
    let mut total = 0_usize;
    let mut first = Bytes::new();
    // Copied as they come, not kept as a list: one-byte chunks would cost their sender 1 and us 40 bytes each.
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        total = total.checked_add(chunk.len()).filter(|total| *total <= max).ok_or(BodyError::TooLarge)?;
        *received = total;
        permit.grow(chunk.len())?;
        if chunk.is_empty() {
            continue;
        }
        if total == chunk.len() {
            first = chunk;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(announced.unwrap_or(total).min(MAX_RESERVE));
            whole.extend_from_slice(&first);
            first = Bytes::new();
        }
        whole.extend_from_slice(&chunk);
    }
    let bytes = if whole.is_empty() { first } else { Bytes::from(whole) };
    Ok(Collected { bytes, permit })
}

/// Reads what is left of a refused HTTP/1 upload in the background and throws it away, so that the
/// answer is not lost: at most `max` bytes and `time`. HTTP/2 needs none.
///
/// Not for a request that waits for `100 Continue`: reading would ask it to send what nobody wants.
pub fn read_on(mut body: Incoming, max: usize, time: Duration) {
    if body.is_end_stream() {
        return;
    }
    drop(tokio::spawn(timeout(time, async move {
        let mut left = max;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    })));
}
