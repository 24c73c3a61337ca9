//! How long a positive verdict may be kept: the least of what the authority allows, what the
//! operator allows and what the credential itself has left. Pure arithmetic; it reads no clock
//! and no header.

use std::time::Duration;

use crate::{
    config::{self, Outage},
    validate::cache_control::Stale,
};

pub use crate::validate::GRACE;

/// The operator's bounds, and the authority's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Longest time to keep, whatever the authority says.
    pub max_ttl: Duration,
    /// How long past its end a verdict still serves at once while it is asked about anew, where the
    /// authority wants that.
    pub stale_while_revalidate: Duration,
    /// How long past its end a verdict still serves while the authority gives no word.
    pub stale_if_error: Duration,
    /// How long past its own end a credential is still good.
    pub grace: Duration,
}

impl Caps {
    /// The operator's bounds, and the grace of the authority.
    #[must_use]
    pub fn of(config: &config::Cache, grace: Duration) -> Self {
        let stale = |time| if config.outage == Outage::Strict { Duration::ZERO } else { time };
        Self {
            max_ttl: config.max_ttl,
            stale_while_revalidate: stale(config.stale_while_revalidate),
            stale_if_error: stale(config.stale_if_error),
            grace,
        }
    }
}

/// How long a verdict is kept, from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// It answers alone for this long; never zero.
    pub ttl: Duration,
    /// After that it answers at once for this long more, while it is asked about anew.
    pub while_revalidate: Duration,
    /// After its time it answers for this long more, only while the authority gives no word.
    pub if_error: Duration,
}

/// How long to keep a positive verdict; `None`: not at all.
///
/// `max_age` and `stale` are the authority's word, `expires_at` the end of the credential itself and
/// `now` the present, both in Unix seconds. `jitter` takes off between nothing (0) and a tenth
/// (`u16::MAX`), so that verdicts given together do not end together. It only ever shortens. Neither
/// the time nor its stale parts pass the end of the credential and its grace: past that, the
/// credential is known to be dead whether or not the authority can be reached.
#[must_use]
pub fn keep(
    max_age: Option<Duration>,
    stale: Stale,
    expires_at: Option<u64>,
    caps: Caps,
    jitter: u16,
    now: u64,
) -> Option<Keep> {
    let left = expires_at.map_or(Duration::MAX, |end| {
        Duration::from_secs(end.saturating_add(caps.grace.as_secs()).saturating_sub(now))
    });
    let ttl = shorten(max_age?.min(caps.max_ttl).min(left), jitter);
    let rest = left.saturating_sub(ttl);
    let while_revalidate = stale.while_revalidate.min(caps.stale_while_revalidate).min(rest);
    let if_error = stale.if_error.unwrap_or(Duration::MAX).min(caps.stale_if_error).min(rest);
    (!ttl.is_zero()).then_some(Keep { ttl, while_revalidate, if_error })
}

/// Divides a time by jitter's full scale, and by ten.
const FULL_JITTER: u128 = 655_350;

/// Whole nanoseconds throughout: a longer time never comes out shorter, which floats can't promise.
fn shorten(time: Duration, jitter: u16) -> Duration {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let cut = u128::from(nanos).saturating_mul(u128::from(jitter)) / FULL_JITTER;
    Duration::from_nanos(nanos.saturating_sub(u64::try_from(cut).unwrap_or(nanos)))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test, as it should")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Caps, GRACE, Keep, Stale};
    use crate::config::{self, Outage};

    const CAPS: Caps = Caps {
        max_ttl: Duration::from_mins(5),
        stale_while_revalidate: Duration::from_secs(30),
        stale_if_error: Duration::from_mins(1),
        grace: GRACE,
    };
    const NOW: u64 = 1_800_000_000;

    fn seconds(ttl: u64, stale: u64) -> Keep {
        let [ttl, if_error] = [ttl, stale].map(Duration::from_secs);
        Keep { ttl, while_revalidate: Duration::ZERO, if_error }
    }

    /// Under an authority that says nothing of the time past the end.
    fn keep(age: Option<Duration>, end: Option<u64>, caps: Caps, jitter: u16, now: u64) -> Option<Keep> {
        super::keep(age, Stale::default(), end, caps, jitter, now)
    }

    /// Scenario: each of the three bounds is the least one in turn, without jitter.
    /// Guarantees: the least one wins, and the stale part ends with the credential's grace.
    #[test]
    fn the_least_bound_wins() {
        let age = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(keep(age(100), None, CAPS, 0, NOW), Some(seconds(100, 60)));
        assert_eq!(keep(age(900), None, CAPS, 0, NOW), Some(seconds(300, 60)));
        assert_eq!(keep(age(900), Some(NOW + 40), CAPS, 0, NOW), Some(seconds(100, 0)));
        assert_eq!(keep(age(90), Some(NOW + 40), CAPS, 0, NOW), Some(seconds(90, 10)));
        assert_eq!(keep(age(10), Some(NOW + 40), CAPS, 0, NOW), Some(seconds(10, 60)));
    }

    /// Scenario: no max-age, a zero one, a zero cap, and credentials at and past the end of their grace.
    /// Guarantees: nothing is kept for no time at all; one second of grace left is still kept.
    #[test]
    fn what_may_not_be_kept_is_not() {
        let age = Some(Duration::from_mins(1));
        assert_eq!(keep(None, None, CAPS, 0, NOW), None);
        assert_eq!(keep(None, Some(NOW + 1000), CAPS, 0, NOW), None);
        assert_eq!(keep(Some(Duration::ZERO), None, CAPS, 0, NOW), None);
        assert_eq!(keep(age, None, Caps { max_ttl: Duration::ZERO, ..CAPS }, 0, NOW), None);
        assert_eq!(keep(age, Some(NOW - 59), CAPS, 0, NOW), Some(seconds(1, 0)));
        assert_eq!(keep(age, Some(NOW - 60), CAPS, 0, NOW), None);
        assert_eq!(keep(age, Some(0), CAPS, 0, NOW), None);
    }

    /// Scenario: a credential whose authority gives no grace, before its end, at it and past it.
    /// Guarantees: neither the time nor its stale part passes the end.
    #[test]
    fn without_grace_the_end_is_the_end() {
        let caps = Caps { grace: Duration::ZERO, ..CAPS };
        let until = |end| {
            let kept = super::keep(Some(Duration::from_secs(30)), Stale::default(), Some(end), caps, 0, NOW);
            kept.map(|kept| (kept.ttl.as_secs(), kept.if_error.as_secs()))
        };
        assert_eq!(until(NOW + 40), Some((30, 10)));
        assert_eq!(until(NOW + 1), Some((1, 0)));
        assert_eq!((until(NOW), until(NOW - 1)), (None, None));
    }

    /// Scenario: an authority that asks for less, as much and more time past the end than the operator allows, for
    /// credentials without an end and with 10 s left after the verdict's time.
    /// Guarantees: the least of the three holds, for each of the two uses by itself; without a word for errors the
    /// operator's bound holds.
    #[test]
    fn the_authority_bounds_the_time_past_the_end() {
        let kept = |revalidate, error: Option<u64>, end| {
            let if_error = error.map(Duration::from_secs);
            let stale = Stale { while_revalidate: Duration::from_secs(revalidate), if_error };
            let kept = super::keep(Some(Duration::from_secs(100)), stale, end, CAPS, 0, NOW).unwrap();
            (kept.while_revalidate.as_secs(), kept.if_error.as_secs())
        };
        assert_eq!(kept(0, None, None), (0, 60));
        assert_eq!(kept(5, Some(20), None), (5, 20));
        assert_eq!(kept(30, Some(60), None), (30, 60));
        assert_eq!(kept(9_000, Some(9_000), None), (30, 60));
        assert_eq!(kept(5, Some(0), None), (5, 0));
        assert_eq!(kept(9_000, None, Some(NOW + 50)), (10, 10));
        assert_eq!(kept(5, Some(5), Some(NOW + 50)), (5, 5));
        let never = super::keep(Some(Duration::from_secs(100)), Stale::NEVER, None, CAPS, 0, NOW);
        assert_eq!(never, Some(seconds(100, 0)));
    }

    /// Scenario: both outage policies over the same other keys.
    /// Guarantees: resilient is the default and takes the keys; strict leaves no time past the end, and the rest as it is.
    #[test]
    fn a_strict_policy_has_no_stale_time() {
        let config = config::Cache::default();
        let caps = Caps::of(&config, GRACE);
        let times = (config.max_ttl, config.stale_while_revalidate, config.stale_if_error);
        assert_eq!((caps.max_ttl, caps.stale_while_revalidate, caps.stale_if_error), times);
        assert!(!times.1.is_zero() && !times.2.is_zero());
        let strict = Caps::of(&config::Cache { outage: Outage::Strict, ..config }, GRACE);
        let zero = Duration::ZERO;
        assert_eq!(strict, Caps { stale_while_revalidate: zero, stale_if_error: zero, ..caps });
    }

    /// Scenario: no jitter, half of it and all of it.
    /// Guarantees: it takes off nothing, a twentieth and a tenth.
    #[test]
    fn jitter_takes_off_up_to_a_tenth() {
        let ttl = |jitter| keep(Some(Duration::from_secs(200)), None, CAPS, jitter, NOW).unwrap().ttl;
        assert_eq!(ttl(0), Duration::from_secs(200));
        assert_eq!(ttl(u16::MAX / 2).as_secs(), 190);
        assert_eq!(ttl(u16::MAX), Duration::from_mins(3));
    }

    /// Scenario: the largest values that each input can hold.
    /// Guarantees: no overflow, and a result within the bounds.
    #[test]
    fn extremes_do_not_overflow() {
        let max = Duration::MAX;
        let caps = Caps { max_ttl: max, stale_while_revalidate: max, stale_if_error: max, ..CAPS };
        let stale = Stale { while_revalidate: max, if_error: Some(max) };
        let kept = super::keep(Some(max), stale, Some(u64::MAX), caps, u16::MAX, 0).unwrap();
        assert!(kept.ttl > Duration::from_secs(1 << 33));
        assert_eq!(keep(Some(Duration::MAX), Some(0), caps, 0, u64::MAX), None);
    }

    prop_compose! {
        fn duration()(nanos in prop_oneof![0_u64..5, 0_u64..400_000_000_000, any::<u64>()]) -> Duration {
            Duration::from_nanos(nanos)
        }
    }

    proptest! {
        /// Scenario: any bounds, any jitter, any clock.
        /// Guarantees: never longer than any bound, never cut by more than a tenth, never zero, and the stale
        /// parts end with the credential's grace.
        #[test]
        fn never_longer_than_any_bound(
            max_age in duration(), max_ttl in duration(), stale_if_error in duration(),
            stale_while_revalidate in duration(), while_revalidate in duration(),
            if_error in proptest::option::of(duration()),
            expires_at in proptest::option::of(prop_oneof![NOW - 100..NOW + 1000, any::<u64>()]),
            jitter: u16, now in prop_oneof![Just(NOW), any::<u64>()],
        ) {
            let left = expires_at.map(|end| end.saturating_add(60).saturating_sub(now));
            let least = left.map_or(max_age.min(max_ttl), |left| {
                max_age.min(max_ttl).min(Duration::from_secs(left))
            });
            let caps = Caps { max_ttl, stale_while_revalidate, stale_if_error, ..CAPS };
            let stale = Stale { while_revalidate, if_error };
            match super::keep(Some(max_age), stale, expires_at, caps, jitter, now) {
                None => prop_assert!(least.is_zero()),
                Some(kept @ Keep { ttl, .. }) => {
                    prop_assert!(!ttl.is_zero() && ttl <= least);
                    prop_assert!(ttl.as_nanos() >= least.as_nanos() * 9 / 10);
                    prop_assert!(kept.if_error <= stale_if_error.min(if_error.unwrap_or(stale_if_error)));
                    prop_assert!(kept.while_revalidate <= stale_while_revalidate.min(while_revalidate));
                    if let Some(left) = left {
                        let longest = ttl + kept.if_error.max(kept.while_revalidate);
                        prop_assert!(longest <= Duration::from_secs(left));
                    }
                }
            }
        }

        /// Scenario: one input grows, the rest stays.
        /// Guarantees: a longer max-age, a longer cap or a later end never keeps for a shorter time; a later
        /// clock or more jitter never for a longer one.
        #[test]
        fn monotone(
            low in duration(), more in duration(), max_ttl in duration(), end in NOW - 100..NOW + 1000,
            later in 0_u64..1000, jitter: u16, other: u16,
        ) {
            let caps = Caps { max_ttl, ..CAPS };
            let ttl = |age, end, caps, jitter, now| {
                keep(Some(age), Some(end), caps, jitter, now).map_or(Duration::ZERO, |kept| kept.ttl)
            };
            let base = ttl(low, end, caps, jitter, NOW);
            prop_assert!(ttl(low.saturating_add(more), end, caps, jitter, NOW) >= base);
            prop_assert!(ttl(low, end + later, caps, jitter, NOW) >= base);
            let wider = Caps { max_ttl: max_ttl.saturating_add(more), ..CAPS };
            prop_assert!(ttl(low, end, wider, jitter, NOW) >= base);
            prop_assert!(ttl(low, end, caps, jitter, NOW + later) <= base);
            prop_assert!(ttl(low, end, caps, jitter.max(other), NOW) <= base);
        }
    }
}
