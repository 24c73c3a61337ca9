//! A cap on lines that peers can provoke: so many a second for each reason, the rest counted. It
//! never decides what happens to a request.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// More reasons than any closed set of ours has; further ones share the last place.
const MAX_REASONS: usize = 64;

/// So many lines a second for each reason.
#[derive(Debug)]
pub struct RateCap {
    per_second: u32,
    reasons: Mutex<Vec<Reason>>,
}

#[derive(Debug)]
struct Reason {
    name: &'static str,
    since: Instant,
    used: u32,
    suppressed: u64,
}

impl RateCap {
    /// A cap of `per_second` lines for each reason, counted in whole seconds.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self { per_second, reasons: Mutex::default() }
    }

    /// Whether a line for `reason` (out of a closed set) may be written now. `Some` holds how many were
    /// not written since the last one that was.
    #[must_use]
    pub fn allow(&self, reason: &'static str) -> Option<u64> {
        self.allow_at(reason, Instant::now())
    }

    pub(super) fn allow_at(&self, name: &'static str, now: Instant) -> Option<u64> {
        // Refusals only, and a few instructions: a lock is no cost here.
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match reasons.iter().position(|reason| reason.name == name) {
            Some(at) => at,
            None if reasons.len() >= MAX_REASONS => MAX_REASONS.saturating_sub(1),
            None => {
                reasons.push(Reason { name, since: now, used: 0, suppressed: 0 });
                reasons.len().saturating_sub(1)
            }
        };
        let reason = reasons.get_mut(at)?;
        if now.saturating_duration_since(reason.since) >= Duration::from_secs(1) {
            reason.since = now;
            reason.used = 0;
        }
        if reason.used < self.per_second {
            reason.used = reason.used.saturating_add(1);
            Some(std::mem::take(&mut reason.suppressed))
        } else {
            reason.suppressed = reason.suppressed.saturating_add(1);
            None
        }
    }
}
