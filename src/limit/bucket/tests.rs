//! One rate against what it promises, and against governor's.

use std::time::Duration;

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, FakeRelativeClock},
};
use proptest::prelude::*;

use super::{Bucket, Word};

const SECOND: u64 = 1_000_000_000;

fn per_second(rate: u64, burst: u64) -> Bucket {
    Bucket::new(rate, Duration::from_secs(1), burst)
}

/// Scenario: rates from 1/s to 4 GiB/s are used up as fast as they allow for a hundred seconds, in portions
/// of a tenth of the burst.
/// Guarantees: what passes is the rate times the time, and the burst, within 1 %.
#[test]
fn rates_are_right_within_one_percent() {
    for rate in [1, 7, 20, 500, 2_000, 999_983, 1_000_001, 2 << 20, 100 << 20, 4 << 30] {
        let bucket = per_second(rate, rate * 2);
        let portion = (rate / 5).max(1);
        let (mut state, mut taken, mut now) = (0, 0, 0);
        while now < 100 * SECOND {
            match bucket.take(&mut state, portion, now) {
                Word::Taken => taken += portion,
                Word::Wait(time) => now += u64::try_from(time.as_nanos()).unwrap(),
            }
        }
        let ideal = rate * 102;
        let off = taken.abs_diff(ideal);
        assert!(off <= portion.max(ideal / 100), "{rate}/s: {taken} of {ideal}");
    }
}

/// Scenario: a full bucket, an empty one, and a rate of zero.
/// Guarantees: the burst passes at once; the wait is exact; a rate of zero passes nothing, ever.
#[test]
fn words_are_exact() {
    let bucket = per_second(10, 20);
    let mut state = 0;
    assert_eq!(bucket.take(&mut state, 20, SECOND), Word::Taken);
    assert_eq!(bucket.take(&mut state, 1, SECOND), Word::Wait(Duration::from_millis(100)));
    assert_eq!(bucket.take(&mut state, 5, SECOND), Word::Wait(Duration::from_millis(500)));
    assert_eq!(bucket.take(&mut state, 5, SECOND + SECOND / 2), Word::Taken);
    assert_eq!(bucket.take(&mut state, 0, SECOND), Word::Taken);
    assert_eq!(per_second(0, 0).take(&mut 0, 1, SECOND), Word::Wait(Duration::MAX));
    assert_eq!(per_second(0, 0).take(&mut 0, u64::MAX, SECOND), Word::Wait(Duration::MAX));
}

/// Scenario: a cost above the burst meets a full bucket, its own debt, and a bucket that is not quite full; it is
/// given back.
/// Guarantees: it passes out of a full bucket only, all of it has to come back first, the waits are exact to the
/// nanosecond, and giving it back ends the debt.
#[test]
fn a_cost_above_the_burst_makes_a_debt() {
    let bucket = per_second(10, 20);
    let mut state = 0;
    assert_eq!(bucket.take(&mut state, 50, 100 * SECOND), Word::Taken);
    assert_eq!(bucket.take(&mut state, 50, 100 * SECOND), Word::Wait(Duration::from_secs(5)));
    assert_eq!(bucket.take(&mut state, 1, 100 * SECOND), Word::Wait(Duration::from_millis(3_100)));
    assert_eq!(bucket.take(&mut state, 1, 103 * SECOND + SECOND / 10), Word::Taken);
    assert_eq!(bucket.take(&mut state, 21, 105 * SECOND), Word::Wait(Duration::from_millis(100)));
    let last = 105 * SECOND + SECOND / 10;
    assert_eq!(bucket.take(&mut state, 21, last - 1), Word::Wait(Duration::from_nanos(1)));
    assert_eq!(bucket.take(&mut state, 21, last), Word::Taken);
    bucket.give_back(&mut state, 21);
    assert_eq!(bucket.take(&mut state, u64::MAX, last), Word::Taken);
    bucket.give_back(&mut state, u64::MAX);
    assert_eq!(bucket.take(&mut state, 20, last), Word::Taken);
}

/// Scenario: costs of half to eight times the burst, in turn, each as soon as it may pass, for a thousand seconds.
/// Guarantees: what passes is the rate times the time, and no more than the largest cost above it.
#[test]
fn debts_keep_the_rate() {
    for rate in [7, 500, 2 << 20] {
        let bucket = per_second(rate, rate * 2);
        let (mut state, mut taken, mut now) = (0, 0, 0);
        for cost in [rate, rate * 16, rate * 3].into_iter().cycle() {
            while let Word::Wait(time) = bucket.take(&mut state, cost, now) {
                now += u64::try_from(time.as_nanos()).unwrap();
            }
            if now >= 1_000 * SECOND {
                break;
            }
            taken += cost;
        }
        let ideal = rate * 1_000;
        assert!((ideal * 99 / 100..=ideal + rate * 16).contains(&taken), "{rate}/s: {taken} of {ideal}");
    }
}

/// Scenario: rates whose units take no whole number of nanoseconds to come back, used up unit by unit at one moment.
/// Guarantees: the whole burst passes, and at most a thousandth more: of a usual burst, not one unit.
#[test]
fn a_burst_passes_unit_by_unit() {
    for rate in [3, 7, 30, 60, 999_983] {
        let (bucket, mut state) = (per_second(rate, rate * 2), 0);
        let taken = (0..rate * 3).take_while(|_| bucket.take(&mut state, 1, 0) == Word::Taken).count();
        assert!((rate * 2..=rate * 2 + rate * 2 / 1_000).contains(&(taken as u64)), "{taken} at {rate}/s");
        let quota = bucket.quota(state, 0);
        assert_eq!((quota.units, quota.left), (rate * 2, 0));
    }
}

/// Scenario: a minute's budget of sixty.
/// Guarantees: sixty at once, then one a second.
#[test]
fn a_rate_may_be_per_minute() {
    let bucket = Bucket::new(60, Duration::from_mins(1), 60);
    let mut state = 0;
    assert_eq!(bucket.take(&mut state, 60, 0), Word::Taken);
    assert_eq!(bucket.take(&mut state, 1, 0), Word::Wait(Duration::from_secs(1)));
    assert_eq!(bucket.take(&mut state, 1, SECOND), Word::Taken);
}

/// Scenario: the largest numbers that a configuration and a peer can bring.
/// Guarantees: no overflow, whatever the answer.
#[test]
fn extremes_do_not_overflow() {
    for rate in [1, u64::MAX] {
        for per in [Duration::from_nanos(1), Duration::from_mins(1), Duration::MAX] {
            for burst in [0, 1, u64::MAX] {
                let bucket = Bucket::new(rate, per, burst);
                for units in [0, 1, u64::from(u32::MAX), u64::MAX] {
                    for now in [0, u64::MAX / 4] {
                        let mut state = now;
                        let _word = bucket.take(&mut state, units, now);
                        bucket.give_back(&mut state, units);
                    }
                }
            }
        }
    }
}

/// Scenario: governor's limiter and ours, side by side under one clock: any rate and burst that governor can
/// tell in whole nanoseconds, any costs that fit into the burst, at any times.
/// Guarantees: the same word each time, and the same wait.
#[test]
fn governor_says_the_same() {
    let quotas = (1_u32..1_000_000, 1_u32..5_000);
    let uses = prop::collection::vec((1_u32..6_000, 0..SECOND / 50), 1..60);
    proptest!(|((interval, burst) in quotas, uses in uses)| {
        let clock = FakeRelativeClock::default();
        let period = Duration::from_nanos(u64::from(interval) * 1_000);
        let quota = Quota::with_period(period).unwrap().allow_burst(burst.try_into().unwrap());
        let theirs = RateLimiter::direct_with_clock(quota, clock.clone());
        let ours = Bucket::new(1, period, u64::from(burst));
        let (mut state, mut now) = (0, 0);
        for (cost, later) in uses {
            clock.advance(Duration::from_nanos(later));
            now += later;
            let Ok(word) = theirs.check_n(cost.try_into().unwrap()) else { continue };
            let word = word.map_or_else(|wait| Word::Wait(wait.wait_time_from(clock.now())), |()| Word::Taken);
            prop_assert_eq!(ours.take(&mut state, u64::from(cost), now), word);
        }
    });
}

proptest! {
    /// Scenario: any rate and burst, from nothing to more than can be told, and any costs at any times, taken the short
    /// way and the long one.
    /// Guarantees: the short one takes just what the long one takes out of the bucket, and makes no debts.
    #[test]
    fn both_ways_take_the_same(
        rate in prop_oneof![0_u64..10, 0_u64..10_000_000_000, Just(u64::MAX)],
        burst in prop_oneof![0_u64..10, 0_u64..3_000_000_000_000, Just(u64::MAX)],
        costs in prop::collection::vec((prop_oneof![1_u64..100, 1_u64..10_000_000, any::<u64>()], 0..SECOND), 1..20),
    ) {
        let bucket = per_second(rate, burst);
        let (mut state, mut now) = (0, 0);
        for (units, later) in costs {
            now += later;
            let (mut short, mut long) = (state, state);
            let word = bucket.take(&mut long, units, now);
            let held = bucket.take_held(&mut short, units, now);
            let is_debt = long.saturating_sub(now) > bucket.capacity();
            // Of times of years the short way knows nothing.
            let is_short = units <= bucket.burst && bucket.nanos_of(units) < super::MAX_BURST_NANOS;
            prop_assert_eq!(held, word == Word::Taken && !is_debt && is_short);
            if held {
                prop_assert_eq!(short, long);
            }
            state = long;
        }
    }

    /// Scenario: any rate takes any costs at any times, and one charge is given back at once.
    /// Guarantees: the state is exactly as if that charge had not been.
    #[test]
    fn giving_back_undoes_a_charge(
        rate in 1_u64..10_000_000, costs in prop::collection::vec((0_u64..50_000, 0_u64..SECOND), 1..20),
        cost in 1_u64..500_000,
    ) {
        let bucket = per_second(rate, 100_000);
        let (mut state, mut now) = (0, 0);
        for (units, later) in costs {
            now += later;
            let _word = bucket.take(&mut state, units, now);
        }
        let before = state.max(now);
        if bucket.take(&mut state, cost, now) == Word::Taken {
            prop_assert!(state > before);
            bucket.give_back(&mut state, cost);
        }
        prop_assert_eq!(state.max(now), before);
    }
}
