//! Failed attempts per client address: the one limit before a sender is known. It charges failures
//! only, and never asks who a sender is.
//!
//! An address may stand for many senders behind one NAT, so a block must not lock out those who are
//! known: a line that asks here passes what it knows of the credentials ([`Failures::check_unless`]),
//! and a cached verdict goes through whatever the neighbours did.
//!
//! Bounded by forgetting the idlest addresses first. Whoever owns more prefixes than are kept here
//! gains nothing by that: each of them has a bucket of its own anyway.

use std::{net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use governor::clock::{Clock, MonotonicClock};

use crate::{
    cache::table::Table,
    config::{self, Mode},
    metrics::Metrics,
};

use super::{
    Limit,
    bucket::{Bucket, Watch, Word},
};

/// Most client prefixes that state is kept for.
const MAX_PREFIXES: usize = 100_000;

/// A bucket of one minute's failures is full again after a minute of silence.
const IDLE: Duration = Duration::from_mins(2);

/// The first hint to a blocked client; it doubles with each refusal. An OTLP exporter drops a batch
/// whose hint passes its own time, so the hints stay within 2 to 15 s.
const FIRST_RETRY: Duration = Duration::from_secs(2);

/// The longest hint.
const MAX_RETRY: Duration = Duration::from_secs(15);

/// The limiter of failed attempts.
#[derive(Debug)]
pub struct Failures<C: Clock = MonotonicClock> {
    rule: ArcSwap<Rule>,
    clients: Table<Prefix, Client>,
    watch: Watch<C>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Rule {
    mode: Mode,
    bucket: Bucket,
}

/// What one sender can be assumed to own: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// The whole address.
    V4(u32),
    /// Its first half.
    V6(u64),
}

#[derive(Debug, Default)]
struct Client {
    bucket: u64,
    /// Since the bucket was last full.
    refusals: u32,
}

impl Failures {
    /// A limiter as configured, with empty state.
    #[must_use]
    pub fn new(config: &config::PerClientFailures, metrics: Arc<Metrics>) -> Self {
        Self::with_clock(config, metrics, MonotonicClock)
    }
}

impl<C: Clock> Failures<C> {
    fn with_clock(config: &config::PerClientFailures, metrics: Arc<Metrics>, clock: C) -> Self {
        Self {
            rule: ArcSwap::from_pointee(Rule::new(config)),
            clients: Table::new(MAX_PREFIXES, IDLE),
            watch: Watch::new(clock),
            metrics,
        }
    }

    /// Takes another rate from the next attempt on; what was charged stays charged.
    pub fn reconfigure(&self, config: &config::PerClientFailures) {
        self.rule.store(Arc::new(Rule::new(config)));
    }

    /// Whether a client may try.
    ///
    /// # Errors
    /// When to try again, 2 to 15 s, growing with each refusal, while the client's failures have
    /// used up what a minute allows.
    pub fn check(&self, client: IpAddr) -> Result<(), Duration> {
        self.check_unless(client, || false)
    }

    /// Whether a client may try, where `known` (asked only of a blocked client) lets it pass.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_unless(&self, client: IpAddr, known: impl FnOnce() -> bool) -> Result<(), Duration> {
        let (word, result) = self.judge(client, known);
        if let Some(word) = word {
            self.metrics.limit_decision(Limit::ClientFailures.label(), word);
        }
        result
    }

    /// Charges one failed attempt: malformed or refused credentials, and nothing that was our fault
    /// or the authority's.
    pub fn record(&self, client: IpAddr) {
        let rule = self.rule.load();
        if rule.mode != Mode::Off {
            let now = self.watch.now();
            self.clients.with(Prefix::from(client), now, |client| {
                // An empty bucket takes no more: attempts that ran at once don't prolong the block.
                rule.bucket.take(&mut client.bucket, 1, now);
            });
        }
    }

    fn judge(
        &self,
        client: IpAddr,
        known: impl FnOnce() -> bool,
    ) -> (Option<&'static str>, Result<(), Duration>) {
        let rule = self.rule.load();
        if rule.mode == Mode::Off {
            return (None, Ok(()));
        }
        let (prefix, now) = (Prefix::from(client), self.watch.now());
        let blocked = self.clients.with_existing(&prefix, now, |client| {
            let mut copy = client.bucket;
            match rule.bucket.take(&mut copy, 1, now) {
                Word::Taken => {
                    client.refusals = if client.bucket <= now { 0 } else { client.refusals };
                    None
                }
                Word::Wait(time) => Some(time),
            }
        });
        // Asked without a lock held: the answer may come from another table.
        let Some(time) = blocked.flatten().filter(|_| !known()) else {
            return (Some("allowed"), Ok(()));
        };
        if rule.mode == Mode::Shadow {
            return (Some("would_refuse"), Ok(()));
        }
        let earlier = self.clients.with_existing(&prefix, now, |client| {
            let earlier = client.refusals;
            client.refusals = earlier.saturating_add(1);
            earlier
        });
        let grown = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(earlier.unwrap_or(0)));
        (Some("refused"), Err(time.max(grown).min(MAX_RETRY)))
    }
}

impl Rule {
    fn new(config: &config::PerClientFailures) -> Self {
        let each_minute = u64::from(config.per_minute);
        Self { mode: config.mode, bucket: Bucket::new(each_minute, Duration::from_mins(1), each_minute) }
    }
}

impl From<IpAddr> for Prefix {
    /// An IPv4 address in its IPv6-mapped form is the IPv4 address.
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d].into_iter().fold(0, |bits, part| (bits << 16) | u64::from(part)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc, time::Duration};

    use governor::clock::FakeRelativeClock;

    use super::{Failures, MAX_PREFIXES};
    use crate::{
        config::{Mode, PerClientFailures},
        metrics::Metrics,
    };

    fn failures(per_minute: u32, mode: Mode) -> (Failures<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let config = PerClientFailures { per_minute, mode };
        (Failures::with_clock(&config, Arc::new(Metrics::new()), clock.clone()), clock)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fail(failures: &Failures<FakeRelativeClock>, client: IpAddr, times: u32) {
        (0..times).for_each(|_| failures.record(client));
    }

    /// Scenario: a client that only succeeds, one that fails 59 times and one that fails 60 times.
    /// Guarantees: only the last is blocked, for a second until one attempt is free again.
    #[test]
    fn only_failures_are_charged() {
        let (failures, clock) = failures(60, Mode::Enforce);
        for _ in 0..1_000 {
            assert_eq!(failures.check(ip("192.0.2.1")), Ok(()));
        }
        fail(&failures, ip("192.0.2.2"), 59);
        assert_eq!(failures.check(ip("192.0.2.2")), Ok(()));
        fail(&failures, ip("192.0.2.3"), 60);
        assert!(failures.check(ip("192.0.2.3")).is_err());
        clock.advance(Duration::from_millis(999));
        assert!(failures.check(ip("192.0.2.3")).is_err());
        clock.advance(Duration::from_millis(1));
        assert_eq!(failures.check(ip("192.0.2.3")), Ok(()));
        fail(&failures, ip("192.0.2.3"), 1);
        assert!(failures.check(ip("192.0.2.3")).is_err());
    }

    /// Scenario: a blocked client asks on, waits until its bucket is full, and is blocked again.
    /// Guarantees: hints grow from 2 to 15 s and start over after a quiet minute; asking costs nothing.
    #[test]
    fn hints_grow_to_15_seconds() {
        let (failures, clock) = failures(60, Mode::Enforce);
        let client = ip("192.0.2.1");
        for _ in 0..2 {
            fail(&failures, client, 60);
            for seconds in [2, 4, 8, 15, 15] {
                assert_eq!(failures.check(client), Err(Duration::from_secs(seconds)));
            }
            clock.advance(Duration::from_secs(1));
            assert_eq!(failures.check(client), Ok(()));
            fail(&failures, client, 1);
            assert_eq!(failures.check(client), Err(Duration::from_secs(15)));
            clock.advance(Duration::from_mins(1));
            assert_eq!(failures.check(client), Ok(()));
        }
    }

    /// Scenario: a bad neighbour behind the same NAT uses up all attempts; a known and an unknown sender come.
    /// Guarantees: the known one passes, counted as allowed and at no cost to others' hints; the other does not; and
    /// who is known is asked only of a blocked client.
    #[test]
    fn a_bad_neighbour_locks_out_nobody_who_is_known() {
        let (failures, _clock) = failures(60, Mode::Enforce);
        let client = ip("192.0.2.1");
        assert_eq!(failures.check_unless(client, || panic!("not blocked")), Ok(()));
        fail(&failures, client, 1_000);
        for _ in 0..10 {
            assert_eq!(failures.judge(client, || true), (Some("allowed"), Ok(())));
        }
        assert_eq!(failures.judge(client, || false), (Some("refused"), Err(Duration::from_secs(2))));
    }

    /// Scenario: failures in shadow mode, in off mode, and after a reload to enforce.
    /// Guarantees: shadow only counts, off does not even charge, and what shadow charged holds at once after the reload.
    #[test]
    fn modes_are_kept() {
        let client = ip("192.0.2.1");
        let (shadow, _clock) = failures(60, Mode::Shadow);
        fail(&shadow, client, 60);
        assert_eq!(shadow.judge(client, || false), (Some("would_refuse"), Ok(())));
        shadow.reconfigure(&PerClientFailures { per_minute: 60, mode: Mode::Enforce });
        assert_eq!(shadow.judge(client, || false).0, Some("refused"));

        let (off, _clock) = failures(60, Mode::Off);
        fail(&off, client, 60);
        assert_eq!((off.judge(client, || false), off.clients.len()), ((None, Ok(())), 0));
    }

    /// Scenario: addresses of one IPv6 network of 64 bits and of the next one, neighbours in IPv4, and both spellings of
    /// an IPv4 address.
    /// Guarantees: /64 and /32 share a bucket, mapped IPv4 is IPv4, and no IPv6 network meets an IPv4 address.
    #[test]
    fn clients_are_networks() {
        for (failing, asking, blocked) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("0.0.0.1", "0:0:0:1::1", false),
        ] {
            let (failures, _clock) = failures(5, Mode::Enforce);
            fail(&failures, ip(failing), 5);
            assert_eq!(failures.check(ip(asking)).is_err(), blocked, "{failing} {asking}");
        }
    }

    /// Scenario: failures from three times as many networks as are kept.
    /// Guarantees: the table stays within its bound, and the newest client is still blocked.
    #[test]
    fn state_is_bounded() {
        let (failures, clock) = failures(1, Mode::Enforce);
        for network in 0..300_000_u128 {
            if network % 1_000 == 0 {
                clock.advance(Duration::from_millis(200));
            }
            failures.record(IpAddr::V6(((0x2001_0db8 << 96) | (network << 64)).into()));
        }
        assert!((90_000..=MAX_PREFIXES).contains(&failures.clients.len()));
        let newest = IpAddr::V6(((0x2001_0db8 << 96) | (299_999_u128 << 64) | 7).into());
        assert!(failures.check(newest).is_err());
    }
}
