//! Verdicts at chosen moments of both clocks, and the bounds of the tables.

use std::{sync::Arc, time::Duration};

use super::{Good, Kept, Key, Known, Moment, Rules, Spread, Table};
use crate::{
    config::{self, Outage},
    otlp::TraceId,
    validate::{
        Allowed, Denial, GRACE, Verdict,
        cache_control::Stale,
        credentials::{Credentials, Digest},
        testing::identity,
    },
};

const SECOND: u64 = 1_000_000_000;
const PAUSE: Duration = Duration::from_secs(10);
const START: Moment = Moment { nanos: 0, unix: 1_800_000_000 };

fn key(number: u32) -> Digest {
    Credentials::for_test(number).digest()
}

fn allowed(max_age: u64, expires_at: Option<u64>) -> Verdict {
    let trace_id = TraceId::from_lower_hex("000000000000000000000000001e240a").unwrap();
    let (max_age, stale) = (Some(Duration::from_secs(max_age)), Stale::default());
    Verdict::Allow(Allowed { identity: identity(trace_id, 1, 2), max_age, stale, expires_at })
}

fn count(kept: &Kept) -> (usize, usize) {
    (kept.positive.len(), kept.negative.len())
}

/// So many seconds later, by each clock.
fn later(monotonic: u64, wall: u64) -> Moment {
    Moment { nanos: monotonic.saturating_mul(SECOND), unix: START.unix.saturating_add(wall) }
}

/// Scenario: a verdict for 100 s about a credential that ends in 10 s, while the machine sleeps: the wall clock goes on
/// and the other one stands still.
/// Guarantees: with the credential's end and grace it neither answers nor bridges, whatever the other clock says; it did so
/// until then.
#[test]
fn a_credentials_end_holds_by_the_wall_clock() {
    let config = config::Cache::default();
    let (kept, rules) = (Kept::new(&config), Rules::new(&config, GRACE));
    kept.keep(key(1), &allowed(100, Some(START.unix + 10)), &rules, START);
    let is_good = |now| matches!(kept.look(key(1), &rules, PAUSE, now), Known::Good { stale: false, .. });
    for (monotonic, wall, good) in [(0, 0, true), (1, 69, true), (1, 70, false), (1, 5_000, false)] {
        assert_eq!(is_good(later(monotonic, wall)), good, "{wall} s by the wall clock");
        assert_eq!(kept.bridge(key(1), &rules, later(monotonic, wall)).is_some(), good);
    }
}

/// Scenario: a verdict for 100 s about a credential without an end; the machine sleeps for ten minutes, or its wall clock is
/// set back by an hour.
/// Guarantees: after the sleep the whole of its time has passed, the stale bound included; a clock that is set back
/// lengthens nothing.
#[test]
fn a_verdicts_time_holds_by_both_clocks() {
    let config = config::Cache::default();
    let (kept, rules) = (Kept::new(&config), Rules::new(&config, GRACE));
    kept.keep(key(1), &allowed(100, None), &rules, START);
    assert!(kept.bridge(key(1), &rules, later(1, 100)).is_some());
    assert!(kept.bridge(key(1), &rules, later(1, 600)).is_none());
    assert!(matches!(kept.look(key(1), &rules, PAUSE, later(1, 600)), Known::Nothing));
    let set_back = |seconds| Moment { unix: START.unix - 3_600, ..later(seconds, 0) };
    assert!(matches!(kept.look(key(1), &rules, PAUSE, set_back(80)), Known::Good { stale: false, .. }));
    assert!(matches!(kept.look(key(1), &rules, PAUSE, set_back(101)), Known::Nothing));
    assert!(kept.bridge(key(1), &rules, set_back(161)).is_none());
}

/// Scenario: a thousand verdicts of the same length, given at the same moment.
/// Guarantees: they end spread over nearly a tenth of their time, and none after it.
#[test]
fn verdicts_that_come_together_do_not_end_together() {
    let config = config::Cache::default();
    let (kept, rules) = (Kept::new(&config), Rules::new(&config, GRACE));
    for number in 0..1_000 {
        kept.keep(key(number), &allowed(100, None), &rules, START);
    }
    let left = |seconds| {
        let now = later(seconds, seconds);
        let is_good = |number| matches!(kept.look(key(number), &rules, PAUSE, now), Known::Good { .. });
        (0..1_000).filter(|number| is_good(*number)).count()
    };
    assert_eq!((left(89), left(100)), (1_000, 0));
    for (seconds, wanted) in [(91, 900), (95, 500), (99, 100)] {
        assert!(left(seconds).abs_diff(wanted) < 100, "{} after {seconds} s", left(seconds));
    }
}

/// Scenario: the size of what a hit reads in the table.
/// Guarantees: with its key a verdict takes one cache line's worth.
#[test]
fn a_verdict_is_as_short_as_a_cache_line() {
    assert_eq!(Table::<Key, Good, Spread>::PLACE, 64 + 12);
}

/// Scenario: a hit is told to refresh and never comes back; the next ones come within its time and after it.
/// Guarantees: one at a time is told to refresh.
#[test]
fn one_hit_at_a_time_refreshes() {
    let config = config::Cache { refresh_ahead: 0.5, outage: Outage::Strict, ..config::Cache::default() };
    let (kept, rules) = (Kept::new(&config), Rules::new(&config, GRACE));
    kept.keep(key(1), &allowed(100, None), &rules, START);
    let refreshes: Vec<u64> = (0..85)
        .filter(|second| {
            let known = kept.look(key(1), &rules, PAUSE, later(*second, *second));
            matches!(known, Known::Good { refresh: true, .. })
        })
        .collect();
    assert!((45..=50).contains(&refreshes[0]), "{refreshes:?}");
    assert!(refreshes.windows(2).all(|two| two[1] - two[0] == PAUSE.as_secs()), "{refreshes:?}");
}

/// Scenario: both kinds of word about one pair, in turn, and a denial under `negative_ttl: 0`.
/// Guarantees: only the newest word is kept, of whichever kind; each is counted once, and a purge counts both kinds.
#[test]
fn the_newest_word_holds() {
    let config = config::Cache::default();
    let (kept, rules) = (Kept::new(&config), Rules::new(&config, GRACE));
    let deny = Verdict::Deny(Denial::Forbidden);
    kept.keep(key(1), &allowed(100, None), &rules, START);
    kept.keep(key(1), &deny, &rules, START);
    assert!(matches!(kept.look(key(1), &rules, PAUSE, START), Known::Denied(Denial::Forbidden)));
    assert!(kept.bridge(key(1), &rules, START).is_none());
    kept.keep(key(1), &allowed(100, None), &rules, START);
    assert!(matches!(kept.look(key(1), &rules, PAUSE, START), Known::Good { .. }));
    kept.keep(key(2), &deny, &rules, START);
    assert_eq!(count(&kept), (1, 1));
    assert_eq!((kept.clear(), kept.clear()), (2, 0));
    let rules = Rules { negative_ttl: Duration::ZERO, ..rules };
    kept.keep(key(1), &deny, &rules, START);
    assert!(matches!(kept.look(key(1), &rules, PAUSE, START), Known::Nothing));
    assert_eq!(count(&kept), (0, 0));
}

/// Scenario: an identity is kept, answered with and bridged with.
/// Guarantees: it is the very one that the authority proved.
#[test]
fn the_identity_is_the_one_that_was_proved() {
    let config = config::Cache::default();
    let (kept, rules) = (Kept::new(&config), Rules::new(&config, GRACE));
    let verdict = allowed(100, None);
    kept.keep(key(1), &verdict, &rules, START);
    let Verdict::Allow(Allowed { identity: proved, .. }) = verdict else { panic!("{verdict:?}") };
    let Known::Good { identity, .. } = kept.look(key(1), &rules, PAUSE, START) else { panic!("a hit") };
    assert!(Arc::ptr_eq(&identity, &proved));
    assert!(kept.bridge(key(1), &rules, START).is_some_and(|identity| Arc::ptr_eq(&identity, &proved)));
}
