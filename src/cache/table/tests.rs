//! Bounds, in number and in weight, and who has to go when one is passed.

use std::{
    hash::RandomState,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::Table;

const SECOND: u64 = 1_000_000_000;
const MINUTE: Duration = Duration::from_mins(1);

/// Scenario: a small, a middling and a large table take ten times as many keys as they may hold.
/// Guarantees: the bound holds at every moment, and nearly all of it is used.
#[test]
fn never_more_than_the_bound() {
    for max in [1, 2, 100, 5_000, 40_000] {
        let table = Table::<u64, u64>::new(max, MINUTE);
        for key in 0..max as u64 * 10 {
            table.insert(key, key, key, 0);
            assert!(table.len() <= max);
        }
        assert!(table.len() * 10 >= max * 9, "{} of {max}", table.len());
    }
}

/// Scenario: a table is filled to its bound with keys that all stay in use, then one key more comes.
/// Guarantees: a working set as large as the bound is not thinned out before it is passed, and then the idlest go.
#[test]
fn the_idlest_go_first() {
    let table = Table::<u64, ()>::new(20_000, MINUTE * 60);
    for key in 0..20_000 {
        table.insert(key, 0, (), 0);
    }
    for key in 10_000..20_000 {
        assert_eq!(table.with_existing(&key, 10 * SECOND, |()| ()), Some(()));
    }
    assert_eq!(table.len(), 20_000);
    for key in 100_000..105_000 {
        table.insert(key, 20 * SECOND, (), 0);
    }
    let held = |keys: std::ops::Range<u64>| {
        keys.filter(|key| table.with_existing(key, 20 * SECOND, |()| ()).is_some()).count()
    };
    assert_eq!(held(10_000..20_000), 10_000);
    assert_eq!(held(100_000..105_000), 5_000);
    assert!((3_700..=5_000).contains(&held(0..10_000)));
}

/// Scenario: keys come past the bound; others are forgotten after their time, removed, or replaced.
/// Guarantees: just the values that made room are told of, each once.
#[test]
fn who_makes_room_is_told_of() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    let table =
        Table::<u64, u64>::new(1_000, MINUTE).telling(move |value| hears.lock().unwrap().push(*value));
    for key in 0..1_000 {
        table.insert(key, 0, key, 0);
    }
    table.remove(&5);
    table.insert(6, 0, 6_000, 0);
    table.sweep(3_600 * SECOND);
    assert_eq!((table.len(), told.lock().unwrap().len()), (0, 0));
    for key in 0..1_500 {
        table.insert(key, 3_600 * SECOND, key, 0);
    }
    let mut told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 1_500 - table.len());
    told.dedup();
    assert!(told.iter().all(|key| table.with_existing(key, 3_600 * SECOND, |_| ()).is_none()), "{told:?}");
    assert_eq!(told.len(), 1_500 - table.len());
}

/// Scenario: a value is worked on that is to stay, one that is to go, and one that is not there; then a shorter time for
/// idle values is set.
/// Guarantees: only the second goes; the new time holds from the next sweep on.
#[test]
fn values_go_when_they_are_done() {
    let table = Table::<u64, u64>::new(1_000, MINUTE);
    for key in [1, 2] {
        table.insert(key, 0, key, 0);
    }
    for key in 1..=3 {
        table.retain_existing(&key, 30 * SECOND, |value| {
            *value *= 10;
            *value < 20
        });
    }
    assert_eq!(table.with_existing(&1, 30 * SECOND, |value| *value), Some(10));
    assert_eq!((table.with_existing(&2, 30 * SECOND, |_| ()), table.len()), (None, 1));
    table.set_idle(Duration::from_secs(5));
    table.sweep(70 * SECOND);
    assert_eq!(table.len(), 0);
}

/// Scenario: values that nobody touches, beside one that is touched now and then.
/// Guarantees: within half as long again as their idle time the former are forgotten and their memory is given
/// back; the latter stays.
#[test]
fn the_idle_are_forgotten_in_time() {
    let table = Table::<u64, u64>::new(2_000, MINUTE);
    for key in 0..1_000 {
        table.insert(key, 0, key, 0);
    }
    for second in [0, 30, 59, 95, 120] {
        table.with_existing(&7, second * SECOND, |_| ());
        table.sweep(second * SECOND);
        assert_eq!(table.len(), if second <= 60 { 1_000 } else { 1 });
    }
    assert_eq!(table.with_existing(&7, 120 * SECOND, |value| *value), Some(7));
    let room: usize = table.shards.iter().map(|shard| super::lock(shard).slots.bytes()).sum();
    assert!(room < 500, "{room}");
}

/// Scenario: values are made, changed, replaced, removed and cleared.
/// Guarantees: each does what it says and the count stays right.
#[test]
fn values_live_and_die() {
    let table = Table::<&str, u32>::new(10, MINUTE);
    assert_eq!(table.with_existing(&"a", 0, |value| *value), None);
    assert_eq!(table.with("a", 0, |value| std::mem::replace(value, 4)), 0);
    assert_eq!(table.with("a", 0, |value| *value), 4);
    table.insert("a", 0, 5, 0);
    table.insert("b", 0, 6, 0);
    assert_eq!((table.len(), table.with_existing(&"a", 0, |value| *value)), (2, Some(5)));
    table.remove(&"a");
    table.remove(&"a");
    assert_eq!((table.len(), table.with_existing(&"a", 0, |value| *value)), (1, None));
    table.clear();
    assert_eq!((table.len(), table.with_existing(&"b", 0, |value| *value)), (0, None));
}

/// Scenario: a million values of 32 bytes, as the limits keep for jobs.
/// Guarantees: rows and indices, filled or not, take at most 60 MiB.
#[test]
fn a_million_small_values_fit_in_60_mib() {
    let table = Table::<u64, [u64; 4]>::new(1_000_000, MINUTE);
    for key in 0..1_000_000 {
        table.insert(key, 0, [key; 4], 0);
    }
    let bytes: usize = table.shards.iter().map(|shard| super::lock(shard).slots.bytes()).sum();
    assert!(bytes <= 60 << 20, "{} MiB", bytes >> 20);
}

/// Scenario: ten times as many keys as fit pass through a table with a bound on weights; then heavy ones take their places.
/// Guarantees: no shard keeps places that its keys do not need: neither the marks of keys that went nor lighter values
/// before them leave any behind.
#[test]
fn places_are_given_back() {
    let table = Table::<u64, u64>::new(100_000, MINUTE).with_max_weight(2_500);
    let check = || {
        for shard in &table.shards {
            let slots = &super::lock(shard).slots;
            let needed =
                slots.len() * Table::<u64, u64>::PLACE + super::Slots::<u64, u64, RandomState>::EMPTY;
            assert!(slots.bytes() <= needed, "{} bytes for {} values", slots.bytes(), slots.len());
        }
    };
    for key in 0..25_000 {
        table.insert(key, key, key, 1);
        check();
    }
    for key in 25_000..27_000 {
        table.insert(key, key, key, 10);
    }
    check();
}

/// Scenario: light values fill a table of 1,000 units; then heavier ones come, the heaviest as heavy as a hundred light ones;
/// some values are replaced by lighter and by heavier ones, removed, swept and cleared.
/// Guarantees: the sum of weights never passes the bound and is always the sum of what is there; the idlest go first.
#[test]
fn weights_are_bounded() {
    let table = Table::<u64, u64>::new(10_000, MINUTE).with_max_weight(1_000);
    let sum = |keys: std::ops::Range<u64>| -> u64 {
        keys.filter_map(|key| table.with_existing(&key, 30 * SECOND, |weight| *weight)).sum()
    };
    for key in 0..2_000 {
        table.insert(key, key * SECOND / 100, 1, 1);
        assert!(table.weight() <= 1_000);
    }
    assert!(table.weight() > 900 && table.len() == table.weight());
    for (key, weight) in [(5_000, 100), (5_001, 100), (5_002, 1), (5_001, 7), (5_002, 50)] {
        table.insert(key, 30 * SECOND, weight, usize::try_from(weight).unwrap());
        assert!((800..=1_000).contains(&table.weight()), "{}", table.weight());
    }
    assert_eq!(sum(5_000..6_000), 157);
    table.remove(&5_000);
    assert_eq!(u64::try_from(table.weight()).unwrap(), sum(0..6_000));
    table.sweep(500 * SECOND);
    assert_eq!((table.len(), table.weight()), (0, 0));
    table.insert(1, 500 * SECOND, 5, 5);
    assert_eq!((table.clear(), table.len(), table.weight()), (1, 0, 0));
}

/// Scenario: a value is heavier than all of the table may be; one is exactly as heavy.
/// Guarantees: the former is not kept, takes the older value of its key with it and pushes out nobody; the latter is kept
/// and pushes out all others.
#[test]
fn a_value_too_heavy_for_the_table_is_not_kept() {
    let table = Table::<u64, ()>::new(100, MINUTE).with_max_weight(1_000);
    table.insert(1, 0, (), 500);
    table.insert(2, 0, (), 300);
    table.insert(2, 0, (), 1_001);
    table.insert(3, 0, (), usize::MAX);
    assert_eq!((table.len(), table.weight()), (1, 500));
    table.insert(4, SECOND, (), 1_000);
    assert_eq!((table.len(), table.weight()), (1, 1_000));
    assert_eq!(table.with_existing(&4, SECOND, |()| ()), Some(()));
}

/// Scenario: values are looked for with every hint there may be: none, the right one, that of another key, of one that moved,
/// and one beyond the end; for a key that is there and one that is not.
/// Guarantees: the key's own value or none, and a hint that is right from then on.
#[test]
fn a_hint_is_never_trusted() {
    let mut table = Table::<u64, u64>::new(50, MINUTE);
    for key in 0..50 {
        table.insert(key, 0, key * 10, 0);
    }
    table.remove(&0);
    let nowhere = u32::MAX;
    for hint in (0..60).chain([nowhere]) {
        for key in 0..60 {
            let place = AtomicU32::new(hint);
            let value = table.get_mut(&key, &place, SECOND).copied();
            assert_eq!(value, (1..50).contains(&key).then_some(key * 10), "{key} at {hint}");
            let found = place.load(Ordering::Relaxed);
            if value.is_some() {
                assert_eq!(table.get_mut(&key, &place, SECOND).copied(), value);
                assert_eq!(place.load(Ordering::Relaxed), found);
            } else {
                assert_eq!(found, hint);
            }
        }
    }
    for second in 0..100 {
        table.get_mut(&7, &AtomicU32::new(nowhere), second * SECOND);
        table.sweep(second * SECOND);
    }
    assert_eq!((table.len(), table.get_mut(&7, &AtomicU32::new(3), 100 * SECOND).copied()), (1, Some(70)));
}
