//! The limiter of failed attempts under a clock that the test moves.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use governor::clock::FakeRelativeClock;

use super::{Attempt, Failures, HOLD, MAX_FOLLOWED, MAX_HELD, MAX_PREFIXES};
use crate::{
    config::{Mode, PerClientFailures},
    limit::{Limit, Refusal},
    metrics::Metrics,
};

type Limiter = Arc<Failures<FakeRelativeClock>>;

fn config(per_minute: u32, mode: Mode) -> PerClientFailures {
    PerClientFailures { per_minute, mode, ..PerClientFailures::default() }
}

fn failures(per_minute: u32, mode: Mode) -> (Limiter, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    (Arc::new(Failures::with_clock(&config(per_minute, mode), &Metrics::new(), clock.clone())), clock)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn fail(failures: &Limiter, client: IpAddr, times: u32) {
    for _ in 0..times {
        failures.record(client);
    }
}

/// Whether an attempt that ends at once may be made.
fn check(failures: &Limiter, client: IpAddr) -> Result<(), (Limit, u64)> {
    let refused = |refusal: Refusal| (refusal.limit, refusal.retry_after.as_secs());
    failures.admit(client).map(drop).map_err(refused)
}

/// Scenario: a client that only succeeds, one that fails 59 times and one that fails 60 times.
/// Guarantees: only the last is blocked, for a second until one attempt is free again.
#[test]
fn only_failures_are_charged() {
    let (failures, clock) = failures(60, Mode::Enforce);
    for _ in 0..1_000 {
        assert_eq!(check(&failures, ip("192.0.2.1")), Ok(()));
    }
    fail(&failures, ip("192.0.2.2"), 59);
    assert_eq!(check(&failures, ip("192.0.2.2")), Ok(()));
    fail(&failures, ip("192.0.2.3"), 60);
    assert!(check(&failures, ip("192.0.2.3")).is_err());
    clock.advance(Duration::from_millis(999));
    assert!(check(&failures, ip("192.0.2.3")).is_err());
    clock.advance(Duration::from_millis(1));
    assert_eq!(check(&failures, ip("192.0.2.3")), Ok(()));
    fail(&failures, ip("192.0.2.3"), 1);
    assert!(check(&failures, ip("192.0.2.3")).is_err());
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
            assert_eq!(check(&failures, client), Err((Limit::ClientFailures, seconds)));
        }
        clock.advance(Duration::from_secs(1));
        assert_eq!(check(&failures, client), Ok(()));
        fail(&failures, client, 1);
        assert_eq!(check(&failures, client), Err((Limit::ClientFailures, 15)));
        clock.advance(Duration::from_mins(1));
        assert_eq!(check(&failures, client), Ok(()));
    }
}

/// Scenario: one address begins attempts without end while none has ended: with no failure before, with half of the
/// minute's failures used up, and with all but one.
/// Guarantees: as many as `max_in_flight` are let through, half of them, and a sixtieth; the rest are refused
/// for 2 s; another address feels nothing; each attempt that ends makes room for one.
#[test]
fn attempts_under_way_are_bounded() {
    for (failed, most) in [(0, 512), (30, 256), (59, 8)] {
        let (failures, _clock) = failures(60, Mode::Enforce);
        let client = ip("192.0.2.1");
        fail(&failures, client, failed);
        let mut under_way: Vec<_> = (0..most).map(|_| failures.admit(client).unwrap()).collect();
        for _ in 0..3 {
            assert_eq!(check(&failures, client), Err((Limit::ClientInFlight, 2)));
        }
        assert_eq!(check(&failures, ip("192.0.2.2")), Ok(()));
        drop(under_way.pop());
        under_way.push(failures.admit(client).unwrap());
        assert!(failures.admit(client).is_err());
        drop(under_way);
        assert_eq!(check(&failures, client), Ok(()));
    }
}

/// Scenario: a fleet starts behind one address: 500 good pairs a second for ten minutes, each under way for 100 ms
/// to a second, some undetermined, and one in 500 fails.
/// Guarantees: not one attempt is refused, and nothing is kept of the address in the end.
#[test]
fn a_cold_start_behind_one_address_is_let_through() {
    let (failures, clock) = failures(60, Mode::Enforce);
    let client = ip("192.0.2.1");
    let mut under_way = VecDeque::new();
    for pair in 0..300_000_u64 {
        while under_way.front().is_some_and(|(end, _)| *end <= pair) {
            let (end, attempt) = under_way.pop_front().unwrap();
            let attempt: Attempt<'_, _> = attempt;
            if end % 500 == 0 { attempt.fail() } else { drop(attempt) }
        }
        // 2 ms apart, so that 500 pairs are a second.
        under_way.push_back((pair + 50 + pair / 1_000 % 450, failures.admit(client).unwrap()));
        clock.advance(Duration::from_millis(2));
    }
    drop(under_way);
    clock.advance(Duration::from_mins(2));
    assert_eq!(check(&failures, client), Ok(()));
    assert_eq!(failures.clients.len(), 0);
}

/// Scenario: an address makes as many attempts as it is let, all under way at once, and all of them fail, for an hour.
/// Guarantees: after each such crowd it is blocked until what it owes is paid, so that no more fail than 60 a
/// minute and one crowd; never more are under way than the failures have left places for.
#[test]
fn a_crowd_that_fails_pays_for_all() {
    let (failures, clock) = failures(60, Mode::Enforce);
    let client = ip("192.0.2.1");
    let mut failed = 0_usize;
    for second in 0..3_600_usize {
        let crowd: Vec<_> = std::iter::from_fn(|| failures.admit(client).ok()).collect();
        assert!(crowd.len() <= 512);
        failed += crowd.len();
        crowd.into_iter().for_each(Attempt::fail);
        assert!(failed <= second + 60 + 512, "{failed} in {second} s");
        clock.advance(Duration::from_secs(1));
    }
    assert!(failed > 3_000, "{failed}");
}

/// Scenario: threads begin and end attempts from one address, a third of them failures, while another thread counts.
/// Guarantees: never more are under way than places, and all places are free in the end.
#[test]
fn threads_never_hold_too_many_places() {
    let (failures, _clock) = failures(1_000_000_000, Mode::Enforce);
    let client = ip("192.0.2.1");
    let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (failures, under_way, most) = (&failures, &under_way, &most);
            scope.spawn(move || {
                for round in 0..200 {
                    let held: Vec<_> = (0..100).filter_map(|_| failures.admit(client).ok()).collect();
                    let now = under_way.fetch_add(held.len(), Ordering::SeqCst) + held.len();
                    most.fetch_max(now, Ordering::SeqCst);
                    // Counted as ended before they are, so that the count is never too high.
                    under_way.fetch_sub(held.len(), Ordering::SeqCst);
                    for attempt in held {
                        if (round + thread) % 3 == 0 { attempt.fail() } else { drop(attempt) }
                    }
                }
            });
        }
    });
    assert!(most.into_inner() <= 512);
    let places = std::iter::from_fn(|| failures.admit(client).ok()).collect::<Vec<_>>().len();
    assert!((511..=512).contains(&places), "{places}");
}

/// Scenario: failures in shadow mode, in off mode, and after a reload to enforce.
/// Guarantees: shadow only counts, off does not even charge, and what shadow charged holds at once after the reload.
#[test]
fn modes_are_kept() {
    let (client, metrics) = (ip("192.0.2.1"), Metrics::new());
    let shadow =
        Arc::new(Failures::with_clock(&config(60, Mode::Shadow), &metrics, FakeRelativeClock::default()));
    fail(&shadow, client, 60);
    assert_eq!(check(&shadow, client), Ok(()));
    assert!(metrics.render().contains("{limit=\"client_failures\",decision=\"would_refuse\"} 1\n"));
    shadow.reconfigure(&config(60, Mode::Enforce));
    assert_eq!(check(&shadow, client), Err((Limit::ClientFailures, 2)));
    assert!(metrics.render().contains("{limit=\"client_failures\",decision=\"refused\"} 1\n"));

    let (off, _clock) = failures(60, Mode::Off);
    fail(&off, client, 60);
    assert_eq!((check(&off, client), off.clients.len()), (Ok(()), 0));
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
        assert_eq!(check(&failures, ip(asking)).is_err(), blocked, "{failing} {asking}");
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
    assert!(check(&failures, newest).is_err());
}

/// Scenario: attempts that were given up end in failures and otherwise; then come more than are followed.
/// Guarantees: each keeps its place until its end; failures alone are charged, once they are known; what can't be followed
/// is charged at once.
#[tokio::test]
async fn attempts_that_were_given_up_are_followed() {
    let (failures, _clock) = failures(2, Mode::Enforce);
    let (client, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
    for failed in [true, false, false, true] {
        failures.admit(client).unwrap().follow(async move { failed });
        assert_eq!(failures.followed.available_permits(), MAX_FOLLOWED - 1);
        while failures.followed.available_permits() < MAX_FOLLOWED {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(check(&failures, client).map_err(|(limit, _)| limit), Err(Limit::ClientFailures));
    let places = Arc::clone(&failures.followed).acquire_many_owned(1024).await.unwrap();
    assert_eq!(check(&failures, other), Ok(()));
    (0..2).for_each(|_| failures.admit(other).unwrap().follow(std::future::pending()));
    assert_eq!(check(&failures, other).map_err(|(limit, _)| limit), Err(Limit::ClientFailures));
    drop(places);
}

/// Scenario: more refused answers than are held wait at once; one of them is given up; one more comes.
/// Guarantees: each is held for its time, those over the bound not at all, and the place of one that was given up is free.
#[tokio::test(start_paused = true)]
async fn refusals_are_held_within_bounds() {
    let (failures, _clock) = failures(1, Mode::Enforce);
    let mut held: VecDeque<_> = (0..MAX_HELD).map(|_| Box::pin(failures.hold())).collect();
    for hold in &mut held {
        assert_eq!(hold.now_or_never(), None);
    }
    assert_eq!(failures.hold().now_or_never(), Some(()));
    drop(held.pop_back());
    let began = tokio::time::Instant::now();
    let mut last = Box::pin(failures.hold());
    assert_eq!((&mut last).now_or_never(), None);
    assert_eq!(failures.hold().now_or_never(), Some(()));
    last.await;
    assert_eq!(began.elapsed(), HOLD);
}

/// Scenario: credentials of no shape come, with the limiter on, in shadow and off, until the budget is used up and longer.
/// Guarantees: only where it is enforced is somebody told to have failed too often, and only then.
#[test]
fn who_failed_too_often_is_told() {
    for (mode, expected) in
        [(Mode::Enforce, [false, false, true, true]), (Mode::Shadow, [false; 4]), (Mode::Off, [false; 4])]
    {
        let (failures, _clock) = failures(2, mode);
        assert_eq!([(); 4].map(|()| failures.record(IpAddr::from([192, 0, 2, 1]))), expected, "{mode:?}");
    }
}
