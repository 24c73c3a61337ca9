//! The verdicts that are kept, and what each is worth at a given moment. It asks nobody, reads no clock
//! and never turns an error into a verdict: errors are not kept at all.
//!
//! A positive verdict is held to two clocks on every hit. The monotonic one times what the authority
//! allowed; it may stand still while the machine is suspended. So the wall clock ends it too: with the
//! credential's own end and grace, and when its whole time has passed by that clock. A wall clock that is
//! set forward costs questions, one that is set back gains nothing.

use std::{
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use crate::{
    config,
    validate::{Allowed, Denial, Identity, Verdict, credentials::Digest},
};

use super::{
    freshness::{self, Caps, Keep},
    table::Table,
};

/// Most denials kept. Kept for seconds only, they need no more than the authority can give in that time.
const MAX_DENIALS: usize = 16_384;

/// How long after a refresh that failed a hit may cause the next one.
pub(super) const REFRESH_PAUSE: Duration = Duration::from_secs(5);

/// One moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Nanoseconds since the cache was made; never goes back, and may stand still in a suspended machine.
    pub(super) nanos: u64,
    /// Unix seconds; may be set forward and back.
    pub(super) unix: u64,
}

/// How verdicts are kept; a reload may change it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    caps: Caps,
    negative_ttl: Duration,
    refresh_ahead: f64,
}

impl Rules {
    /// As configured, with the grace of the authority.
    pub(super) fn new(config: &config::Cache, grace: Duration) -> Self {
        Self {
            caps: Caps::of(config, grace),
            negative_ttl: config.negative_ttl,
            refresh_ahead: if config.refresh_ahead > 0.0 { config.refresh_ahead.min(1.0) } else { 0.0 },
        }
    }
}

/// Positive verdicts and denials, each in a bounded table of its own: a flood of bad tokens can't push
/// out good verdicts.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) positive: Table<Key, Good, Spread>,
    pub(super) negative: Table<Key, Denied, Spread>,
    jitter: RandomState,
}

/// [`Digest::half`].
type Key = [u8; 16];

/// Such a key is keyed at random and evenly spread already: a part of it is its hash.
type Spread = BuildHasherDefault<FirstBytes>;

#[derive(Default)]
pub(super) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk().copied().map_or(self.0, u64::from_le_bytes);
    }

    /// The length, which is the same for all.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A positive verdict; times in nanoseconds of [`Moment`] unless they say otherwise. With its key it
/// takes 64 bytes in the table, because in a large one memory is what a hit waits for.
pub(super) struct Good {
    identity: Arc<Identity>,
    /// When a hit asks again in the background.
    refresh_from: u64,
    fresh_until: u64,
    /// Milliseconds past `fresh_until`.
    while_revalidate: u32,
    /// Milliseconds past `fresh_until`.
    if_error: u32,
    /// Unix seconds: from here on it is of no use whatever the other clock says.
    ends_at: u32,
}

pub(super) struct Denied {
    denial: Denial,
    until: u64,
}

/// What is known of a key at one moment.
#[derive(Debug)]
pub(super) enum Known {
    /// Good, and to be asked about again where `refresh` says so.
    Good {
        identity: Arc<Identity>,
        refresh: bool,
        /// Past its end, within the time for asking anew.
        stale: bool,
    },
    Denied(Denial),
    Nothing,
}

impl Good {
    fn new(allowed: &Allowed, keep: Keep, rules: &Rules, now: Moment) -> Self {
        let fresh_until = now.nanos.saturating_add(nanos(keep.ttl));
        let longest = keep.ttl.saturating_add(keep.while_revalidate.max(keep.if_error));
        let dead_from =
            allowed.expires_at.map_or(u64::MAX, |end| end.saturating_add(rules.caps.grace.as_secs()));
        Self {
            identity: Arc::clone(&allowed.identity),
            refresh_from: fresh_until.saturating_sub(nanos(keep.ttl.mul_f64(rules.refresh_ahead))),
            fresh_until,
            while_revalidate: millis(keep.while_revalidate),
            if_error: millis(keep.if_error),
            // The present second has begun already, and so will the last one have: one is added.
            ends_at: u32::try_from(
                now.unix.saturating_add(longest.as_secs()).saturating_add(1).min(dead_from),
            )
            .unwrap_or(u32::MAX),
        }
    }

    fn is_fresh(&self, now: Moment) -> bool {
        self.serves(now, Duration::ZERO)
    }

    /// A reload that shortens a bound holds at once for what is kept, too.
    fn may_revalidate(&self, now: Moment, caps: Caps) -> bool {
        let told = Duration::from_millis(self.while_revalidate.into());
        self.serves(now, told.min(caps.stale_while_revalidate))
    }

    fn may_bridge(&self, now: Moment, caps: Caps) -> bool {
        let told = Duration::from_millis(self.if_error.into());
        self.serves(now, told.min(caps.stale_if_error))
    }

    /// Whether it is of use within so much time past its end.
    fn serves(&self, now: Moment, past: Duration) -> bool {
        now.nanos < self.fresh_until.saturating_add(nanos(past)) && now.unix < self.ends_at.into()
    }
}

impl Kept {
    /// Empty tables within the configured bounds.
    pub(super) fn new(config: &config::Cache) -> Self {
        let longest_stale = config.stale_if_error.max(config.stale_while_revalidate);
        let max = usize::try_from(config.max_entries).unwrap_or(usize::MAX);
        let max_size = config.max_size.as_usize();
        // More can't be kept, and shards for more would take what the verdicts need.
        let most = max.min(max_size / Table::<Key, Good, Spread>::PLACE);
        let positive = Table::new(most, config.max_ttl.saturating_add(longest_stale));
        let max_size = max_size.saturating_sub(positive.overhead());
        Self {
            positive: positive.with_max_weight(max_size),
            negative: Table::new(max.min(MAX_DENIALS), config.negative_ttl),
            jitter: RandomState::new(),
        }
    }

    /// What answers by itself at this moment. Whoever is told to refresh is the only one for `pause`: if
    /// it never comes back, another hit may try.
    pub(super) fn look(&self, key: Digest, rules: &Rules, pause: Duration, now: Moment) -> Known {
        let key = key.half();
        let good = self.positive.with_existing(&key, now.nanos, |good| {
            let fresh = good.is_fresh(now);
            if !fresh && !good.may_revalidate(now, rules.caps) {
                return None;
            }
            let refresh = now.nanos >= good.refresh_from;
            if refresh {
                good.refresh_from = now.nanos.saturating_add(nanos(pause));
            }
            Some(Known::Good { identity: Arc::clone(&good.identity), refresh, stale: !fresh })
        });
        good.flatten().unwrap_or_else(|| {
            let denied = self
                .negative
                .with_existing(&key, now.nanos, |kept| (now.nanos < kept.until).then_some(kept.denial));
            denied.flatten().map_or(Known::Nothing, Known::Denied)
        })
    }

    /// A positive verdict that still serves while the authority gives no word.
    pub(super) fn bridge(&self, key: Digest, rules: &Rules, now: Moment) -> Option<Arc<Identity>> {
        let caps = rules.caps;
        self.positive
            .with_existing(&key.half(), now.nanos, |good| {
                let serves =
                    good.is_fresh(now) || good.may_revalidate(now, caps) || good.may_bridge(now, caps);
                serves.then(|| Arc::clone(&good.identity))
            })
            .flatten()
    }

    /// Keeps what the authority said, for as long as it may be kept. The newest word holds: one that may
    /// not be kept takes the older one with it.
    pub(super) fn keep(&self, key: Digest, verdict: &Verdict, rules: &Rules, now: Moment) {
        let key = key.half();
        match verdict {
            Verdict::Allow(allowed) => {
                self.negative.remove(&key);
                let [high, low, ..] = self.jitter.hash_one((key, now.nanos)).to_le_bytes();
                let jitter = u16::from_le_bytes([high, low]);
                let Allowed { max_age, stale, expires_at, .. } = *allowed;
                match freshness::keep(max_age, stale, expires_at, rules.caps, jitter, now.unix) {
                    Some(keep) => {
                        let good = Good::new(allowed, keep, rules, now);
                        let weight = Table::<Key, Good, Spread>::PLACE.saturating_add(good.identity.weight());
                        self.positive.insert(key, now.nanos, good, weight);
                    }
                    None => self.positive.remove(&key),
                }
            }
            Verdict::Deny(denial) => {
                self.positive.remove(&key);
                if !rules.negative_ttl.is_zero() {
                    let until = now.nanos.saturating_add(nanos(rules.negative_ttl));
                    self.negative.insert(key, now.nanos, Denied { denial: *denial, until }, 0);
                }
            }
        }
    }

    /// The authority gave no word: what is kept stays, and is asked about again after [`REFRESH_PAUSE`].
    pub(super) fn no_word(&self, key: Digest, now: Moment) {
        self.positive.with_existing(&key.half(), now.nanos, |good| {
            good.refresh_from = now.nanos.saturating_add(nanos(REFRESH_PAUSE));
        });
    }

    /// Forgets everything; returns how many verdicts that were.
    pub(super) fn clear(&self) -> usize {
        self.positive.clear().saturating_add(self.negative.clear())
    }

    /// Forgets what is long past its use.
    pub(super) fn sweep(&self, now: Moment) {
        self.positive.sweep(now.nanos);
        self.negative.sweep(now.nanos);
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
