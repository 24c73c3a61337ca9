//! A bounded table of small values that forgets the idlest first. It decides only what is
//! forgotten, never what a value means, and reads no clock of its own.
//!
//! Values stand inline in hash maps, one map and one lock a shard, so that a million small ones
//! take little more than their own size. There is no list of who was used when: each value bears a
//! coarse stamp, and whenever the table is full one shard, each in its turn, is looked through and
//! loses the idlest sixteenth of its values. That costs about 0.1 ms, once for that many new keys.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What one shard is meant to hold: a hash map of 16,384 places takes 14,336 keys before it doubles,
/// and keys that fall on shards by chance vary by some hundreds.
const SHARD: usize = 13_700;

/// Enough locks that cores seldom meet on one.
const MIN_SHARDS: usize = 16;

/// A shard loses one value in this many at a time.
const FORGOTTEN: usize = 16;

pub(crate) struct Table<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    /// Keyed at random: nobody outside can aim keys at one shard.
    hasher: RandomState,
    len: AtomicUsize,
    /// The shard whose turn it is to lose values.
    turn: AtomicUsize,
    max: usize,
    idle: u32,
}

struct Shard<K, V> {
    slots: HashMap<K, Slot<V>, RandomState>,
    next_sweep: u32,
}

struct Slot<V> {
    value: V,
    used: u32,
}

/// About 0.134 s; 32 bits of them last 18 years.
fn tick(nanos: u64) -> u32 {
    u32::try_from(nanos >> 27).unwrap_or(u32::MAX)
}

impl<K: Hash + Eq, V> Table<K, V> {
    /// A table of at most `max` values, each of which is forgotten some time after it was not touched
    /// for `idle`, and never sooner unless the table is full. Times are nanoseconds since any fixed moment, never going back.
    pub(crate) fn new(max: usize, idle: Duration) -> Self {
        let max = max.max(1);
        let shards = max.div_ceil(SHARD).max(MIN_SHARDS.min(max / 64)).max(1);
        let hasher = RandomState::new();
        let shard = || Mutex::new(Shard { slots: HashMap::with_hasher(hasher.clone()), next_sweep: 0 });
        Self {
            shards: std::iter::repeat_with(shard).take(shards).collect(),
            len: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            max,
            idle: tick(u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX)).saturating_add(1),
            hasher,
        }
    }

    /// Works on the value of a key, made new if there is none.
    pub(crate) fn with<R>(&self, key: K, now: u64, work: impl FnOnce(&mut V) -> R) -> R
    where
        V: Default,
    {
        let mut shard = self.shard(&key);
        if let Some(slot) = shard.slots.get_mut(&key) {
            slot.used = tick(now);
            return work(&mut slot.value);
        }
        let mut value = V::default();
        let result = work(&mut value);
        self.add(shard, key, Slot { value, used: tick(now) });
        result
    }

    /// Works on the value of a key if there is one.
    pub(crate) fn with_existing<R>(&self, key: &K, now: u64, work: impl FnOnce(&mut V) -> R) -> Option<R> {
        let mut shard = self.shard(key);
        let slot = shard.slots.get_mut(key)?;
        slot.used = tick(now);
        Some(work(&mut slot.value))
    }

    /// Puts a value in the place of whatever the key had.
    pub(crate) fn insert(&self, key: K, now: u64, value: V) {
        let shard = self.shard(&key);
        self.add(shard, key, Slot { value, used: tick(now) });
    }

    pub(crate) fn remove(&self, key: &K) {
        if self.shard(key).slots.remove(key).is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets everything; returns how many values that were.
    pub(crate) fn clear(&self) -> usize {
        let mut forgotten: usize = 0;
        for shard in &self.shards {
            let mut shard = lock(shard);
            self.len.fetch_sub(shard.slots.len(), Ordering::Relaxed);
            forgotten = forgotten.saturating_add(shard.slots.len());
            shard.slots = HashMap::with_hasher(self.hasher.clone());
        }
        forgotten
    }

    /// Forgets what is idle, which else happens only where new keys come in.
    pub(crate) fn sweep(&self, now: u64) {
        for shard in &self.shards {
            self.sweep_shard(&mut lock(shard), tick(now));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Bits 16..48 of the hash choose the shard: the map inside goes by the lowest and the highest.
    #[expect(clippy::indexing_slicing, reason = "a 32-bit fraction of the number of shards is below it")]
    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, V>> {
        let fraction = u128::from((self.hasher.hash_one(key) >> 16) & u64::from(u32::MAX));
        let index = fraction.saturating_mul(self.shards.len() as u128) >> 32;
        lock(&self.shards[usize::try_from(index).unwrap_or(0)])
    }

    fn add(&self, mut shard: MutexGuard<'_, Shard<K, V>>, key: K, slot: Slot<V>) {
        let now = slot.used;
        self.sweep_shard(&mut shard, now);
        if shard.slots.insert(key, slot).is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        // No thread ever holds two shards.
        drop(shard);
        self.make_room();
    }

    /// The bound is on the whole table, so that an uneven spread over shards costs nothing; threads
    /// that add at the same moment may pass it by their number for that moment.
    fn make_room(&self) {
        for _ in 0..self.shards.len() {
            if self.len() <= self.max {
                return;
            }
            let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(self.shards.len());
            if let Some(shard) = turn.and_then(|turn| self.shards.get(turn)) {
                self.forget_the_idlest(&mut lock(shard));
            }
        }
    }

    fn forget_the_idlest(&self, shard: &mut Shard<K, V>) {
        let before = shard.slots.len();
        if before == 0 {
            return;
        }
        let due = before.div_ceil(FORGOTTEN).saturating_sub(1);
        let mut stamps: Vec<u32> = shard.slots.values().map(|slot| slot.used).collect();
        let (older, &mut last, _) = stamps.select_nth_unstable(due);
        // Many may bear the same stamp as the last one due: of those, no more go than are due.
        let mut same = older.iter().filter(|stamp| **stamp == last).count().saturating_add(1);
        shard.slots.retain(|_, slot| {
            let goes = slot.used < last || (slot.used == last && same > 0);
            same = same.saturating_sub(usize::from(goes && slot.used == last));
            !goes
        });
        self.len.fetch_sub(before.saturating_sub(shard.slots.len()), Ordering::Relaxed);
    }

    fn sweep_shard(&self, shard: &mut Shard<K, V>, now: u32) {
        if now < shard.next_sweep {
            return;
        }
        shard.next_sweep = now.saturating_add(self.idle.div_ceil(2));
        let before = shard.slots.len();
        shard.slots.retain(|_, slot| now.saturating_sub(slot.used) <= self.idle);
        self.len.fetch_sub(before.saturating_sub(shard.slots.len()), Ordering::Relaxed);
        if shard.slots.len() < shard.slots.capacity() / 4 {
            shard.slots.shrink_to_fit();
        }
    }
}

/// A panic while one was held left a whole value behind: going on beats failing every later request.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("len", &self.len).field("max", &self.max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, hash::RandomState, time::Duration};

    use super::{Slot, Table};

    const SECOND: u64 = 1_000_000_000;
    const MINUTE: Duration = Duration::from_mins(1);

    /// Scenario: a small, a middling and a large table take ten times as many keys as they may hold.
    /// Guarantees: the bound holds at every moment, and nearly all of it is used.
    #[test]
    fn never_more_than_the_bound() {
        for max in [1, 2, 100, 5_000, 40_000] {
            let table = Table::<u64, u64>::new(max, MINUTE);
            for key in 0..max as u64 * 10 {
                table.insert(key, key, key);
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
            table.insert(key, 0, ());
        }
        for key in 10_000..20_000 {
            assert_eq!(table.with_existing(&key, 10 * SECOND, |()| ()), Some(()));
        }
        assert_eq!(table.len(), 20_000);
        for key in 100_000..105_000 {
            table.insert(key, 20 * SECOND, ());
        }
        let held = |keys: std::ops::Range<u64>| {
            keys.filter(|key| table.with_existing(key, 20 * SECOND, |()| ()).is_some()).count()
        };
        assert_eq!(held(10_000..20_000), 10_000);
        assert_eq!(held(100_000..105_000), 5_000);
        assert!((3_700..=5_000).contains(&held(0..10_000)));
    }

    /// Scenario: values that nobody touches, beside one that is touched now and then.
    /// Guarantees: within half as long again as their idle time the former are forgotten and their memory is given
    /// back; the latter stays.
    #[test]
    fn the_idle_are_forgotten_in_time() {
        let table = Table::<u64, u64>::new(2_000, MINUTE);
        for key in 0..1_000 {
            table.insert(key, 0, key);
        }
        for second in [0, 30, 59, 95, 120] {
            table.with_existing(&7, second * SECOND, |_| ());
            table.sweep(second * SECOND);
            assert_eq!(table.len(), if second <= 60 { 1_000 } else { 1 });
        }
        assert_eq!(table.with_existing(&7, 120 * SECOND, |value| *value), Some(7));
        let room: usize = table.shards.iter().map(|shard| super::lock(shard).slots.capacity()).sum();
        assert!(room < 50, "{room}");
    }

    /// Scenario: values are made, changed, replaced, removed and cleared.
    /// Guarantees: each does what it says and the count stays right.
    #[test]
    fn values_live_and_die() {
        let table = Table::<&str, u32>::new(10, MINUTE);
        assert_eq!(table.with_existing(&"a", 0, |value| *value), None);
        assert_eq!(table.with("a", 0, |value| std::mem::replace(value, 4)), 0);
        assert_eq!(table.with("a", 0, |value| *value), 4);
        table.insert("a", 0, 5);
        table.insert("b", 0, 6);
        assert_eq!((table.len(), table.with_existing(&"a", 0, |value| *value)), (2, Some(5)));
        table.remove(&"a");
        table.remove(&"a");
        assert_eq!((table.len(), table.with_existing(&"a", 0, |value| *value)), (1, None));
        table.clear();
        assert_eq!((table.len(), table.with_existing(&"b", 0, |value| *value)), (0, None));
    }

    /// Scenario: a million values of 32 bytes, as the limits keep for jobs.
    /// Guarantees: places of the hash maps, filled or not, with a byte of control each, take at most 60 MiB.
    #[test]
    fn a_million_small_values_fit_in_60_mib() {
        let table = Table::<u64, [u64; 4]>::new(1_000_000, MINUTE);
        for key in 0..1_000_000 {
            table.insert(key, 0, [key; 4]);
        }
        // hashbrown: a power of two of places, of which 7 in 8 may be filled.
        let places = |map: &HashMap<u64, Slot<[u64; 4]>, RandomState>| map.capacity() / 7 * 8;
        let places: usize = table.shards.iter().map(|shard| places(&super::lock(shard).slots)).sum();
        let bytes = places * (size_of::<(u64, Slot<[u64; 4]>)>() + 1);
        assert!(bytes <= 60 << 20, "{} MiB", bytes >> 20);
    }
}
