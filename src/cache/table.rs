//! A table of small values, bounded in number and, where their weights are told, in bytes; it forgets
//! the idlest first. It decides only what is forgotten, never what a value means, and reads no clock of
//! its own.
//!
//! Values stand side by side, with an index and a lock for each shard, so that a million small ones
//! take little more than their own size. There is no list of who was used when: each value bears a
//! coarse stamp, and whenever the table is full one shard, each in its turn, is looked through and
//! loses the idlest sixteenth of its values. That costs about 0.1 ms, once for that many new keys.

mod rows;
mod slots;

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use self::slots::{Slot, Slots};

/// What one shard is meant to hold: an index of 16,384 places takes 14,336 keys before it doubles,
/// and keys that fall on shards by chance vary by some hundreds.
const SHARD: usize = 13_700;

/// Enough locks that cores seldom meet on one.
const MIN_SHARDS: usize = 16;

/// A shard loses one value in this many at a time.
const FORGOTTEN: usize = 16;

/// How often a shard that takes in new keys is looked through for idle ones, in the time after which they are idle.
const SWEEPS: u32 = 8;

pub(crate) struct Table<K, V, S = RandomState> {
    shards: Box<[Mutex<Shard<K, V, S>>]>,
    /// Keyed at random, unless the keys are: nobody outside can aim keys at one shard.
    hasher: S,
    len: AtomicUsize,
    /// Of all values together.
    weight: AtomicUsize,
    /// The shard whose turn it is to lose values.
    turn: AtomicUsize,
    max: usize,
    max_weight: usize,
    idle: AtomicU32,
    /// Hears of each value that has to make room before its time.
    pushed_out: Option<PushedOut<V>>,
}

/// The hash of a key, and its shard.
type Place<'a, K, V, S> = (u64, MutexGuard<'a, Shard<K, V, S>>);

type PushedOut<V> = Box<dyn Fn(&V) + Send + Sync>;

struct Shard<K, V, S> {
    slots: Slots<K, V, S>,
    next_sweep: u32,
}

/// About 0.134 s; 32 bits of them last 18 years.
fn tick(nanos: u64) -> u32 {
    u32::try_from(nanos >> 27).unwrap_or(u32::MAX)
}

/// Rounded up.
fn ticks(time: Duration) -> u32 {
    tick(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).saturating_add(1)
}

impl<K: Hash + Eq, V, S: BuildHasher + Clone + Default> Table<K, V, S> {
    /// A table of at most `max` values, each of which is forgotten some time after it was not touched
    /// for `idle`, and never sooner unless the table is full. Times are nanoseconds since any fixed moment, never going back.
    pub(crate) fn new(max: usize, idle: Duration) -> Self {
        let max = max.max(1);
        let shards = max.div_ceil(SHARD).max(MIN_SHARDS.min(max / 64)).max(1);
        let hasher = S::default();
        let shard = || Mutex::new(Shard { slots: Slots::new(hasher.clone()), next_sweep: 0 });
        Self {
            shards: std::iter::repeat_with(shard).take(shards).collect(),
            len: AtomicUsize::new(0),
            weight: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            max,
            max_weight: usize::MAX,
            idle: AtomicU32::new(ticks(idle)),
            pushed_out: None,
            hasher,
        }
    }

    /// The most bytes that a value takes in the table, whatever it holds elsewhere.
    pub(crate) const PLACE: usize = Slots::<K, V, S>::PLACE;

    /// The most bytes that the table takes besides what its values do, as they come and go.
    pub(crate) fn overhead(&self) -> usize {
        self.shards.len().saturating_mul(Slots::<K, V, S>::EMPTY)
    }

    /// The same table with another bound beside the one on the number: on the weights of all values together.
    pub(crate) fn with_max_weight(self, max_weight: usize) -> Self {
        Self { max_weight, ..self }
    }

    /// The same table, which tells of each value that makes room for others, with the lock of its shard held; not of
    /// those that were idle for their time.
    pub(crate) fn telling(self, pushed_out: impl Fn(&V) + Send + Sync + 'static) -> Self {
        Self { pushed_out: Some(Box::new(pushed_out)), ..self }
    }

    /// Another time after which untouched values are forgotten.
    pub(crate) fn set_idle(&self, idle: Duration) {
        self.idle.store(ticks(idle), Ordering::Relaxed);
    }

    /// Works on the value of a key, made new if there is none.
    pub(crate) fn with<R>(&self, key: K, now: u64, work: impl FnOnce(&mut V) -> R) -> R
    where
        V: Default,
    {
        let (hash, mut shard) = self.shard(&key);
        if let Some(slot) = shard.slots.get_mut(hash, &key) {
            slot.used = tick(now);
            return work(&mut slot.value);
        }
        let mut value = V::default();
        let result = work(&mut value);
        self.add((hash, shard), key, (value, tick(now), 0));
        result
    }

    /// The value of a key if there is one, for whoever has the table alone: no lock is taken. `place` is where it was found
    /// last, a hint that makes the search short; whatever it was, it is true after this.
    pub(crate) fn get_mut(&mut self, key: &K, place: &AtomicU32, now: u64) -> Option<&mut V> {
        let hash = self.hasher.hash_one(key);
        let index = self.shard_of(hash);
        let shard = self.shards.get_mut(index)?.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut at = place.load(Ordering::Relaxed);
        if shard.slots.at(at).is_none_or(|slot| slot.key != *key) {
            at = shard.slots.find(hash, key)?;
            place.store(at, Ordering::Relaxed);
        }
        let slot = shard.slots.at(at)?;
        slot.used = tick(now);
        Some(&mut slot.value)
    }

    /// Works on the value of a key if there is one.
    pub(crate) fn with_existing<R>(&self, key: &K, now: u64, work: impl FnOnce(&mut V) -> R) -> Option<R> {
        let (hash, mut shard) = self.shard(key);
        let slot = shard.slots.get_mut(hash, key)?;
        slot.used = tick(now);
        Some(work(&mut slot.value))
    }

    /// Works on the value of a key if there is one, which goes where the answer is `false`.
    pub(crate) fn retain_existing(&self, key: &K, now: u64, work: impl FnOnce(&mut V) -> bool) {
        let (hash, mut shard) = self.shard(key);
        let Some(slot) = shard.slots.get_mut(hash, key) else { return };
        slot.used = tick(now);
        if !work(&mut slot.value)
            && let Some(slot) = shard.slots.remove(hash, key)
        {
            self.subtract(1, slot.weight as usize);
        }
    }

    /// Puts a value in the place of whatever the key had. `weight` counts towards the bound on weights;
    /// in bytes, it is [`Self::PLACE`] and all that the value holds elsewhere.
    pub(crate) fn insert(&self, key: K, now: u64, value: V, weight: usize) {
        if weight > self.max_weight {
            // It would push out all others and then itself.
            return self.remove(&key);
        }
        let place = self.shard(&key);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        self.add(place, key, (value, tick(now), weight));
    }

    pub(crate) fn remove(&self, key: &K) {
        let (hash, mut shard) = self.shard(key);
        if let Some(slot) = shard.slots.remove(hash, key) {
            self.subtract(1, slot.weight as usize);
        }
    }

    /// Forgets everything; returns how many values that were.
    pub(crate) fn clear(&self) -> usize {
        let mut forgotten: usize = 0;
        for shard in &self.shards {
            let mut shard = lock(shard);
            let slots = std::mem::replace(&mut shard.slots, Slots::new(self.hasher.clone()));
            self.subtract(slots.len(), slots.iter().map(|slot| slot.weight as usize).sum());
            forgotten = forgotten.saturating_add(slots.len());
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

    /// The weights of all values together.
    pub(crate) fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed)
    }

    fn subtract(&self, values: usize, weight: usize) {
        self.len.fetch_sub(values, Ordering::Relaxed);
        self.weight.fetch_sub(weight, Ordering::Relaxed);
    }

    /// Forgets the values of a shard that are not to stay.
    fn retain(&self, shard: &mut Shard<K, V, S>, mut stays: impl FnMut(&Slot<K, V>) -> bool) {
        let (mut values, mut weight) = (0_usize, 0_usize);
        shard.slots.retain(|slot| {
            let stays = stays(slot);
            if !stays {
                values = values.saturating_add(1);
                weight = weight.saturating_add(slot.weight as usize);
            }
            stays
        });
        self.subtract(values, weight);
    }

    /// Bits 16..48 of the hash choose the shard: the index inside goes by the lowest and the highest.
    fn shard_of(&self, hash: u64) -> usize {
        let fraction = u128::from((hash >> 16) & u64::from(u32::MAX));
        let index = fraction.saturating_mul(self.shards.len() as u128) >> 32;
        usize::try_from(index).unwrap_or(0)
    }

    #[expect(clippy::indexing_slicing, reason = "a 32-bit fraction of the number of shards is below it")]
    fn shard(&self, key: &K) -> Place<'_, K, V, S> {
        let hash = self.hasher.hash_one(key);
        (hash, lock(&self.shards[self.shard_of(hash)]))
    }

    fn add(&self, (hash, mut shard): Place<'_, K, V, S>, key: K, slot: (V, u32, u32)) {
        let (_, now, weight) = slot;
        self.sweep_shard(&mut shard, now);
        self.weight.fetch_add(weight as usize, Ordering::Relaxed);
        match shard.slots.insert(hash, key, slot) {
            Some(before) => self.subtract(0, before.weight as usize),
            None => drop(self.len.fetch_add(1, Ordering::Relaxed)),
        }
        // No thread ever holds two shards.
        drop(shard);
        self.make_room();
    }

    /// The bounds are on the whole table, so that an uneven spread over shards costs nothing; threads
    /// that add at the same moment may pass them by their number for that moment.
    fn make_room(&self) {
        // A heavy value may need the places of many light ones: round after round, until there are none.
        while self.len() > 0 && (self.len() > self.max || self.weight() > self.max_weight) {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(self.shards.len());
            if let Some(shard) = turn.and_then(|turn| self.shards.get(turn)) {
                self.forget_the_idlest(&mut lock(shard));
            }
        }
    }

    fn forget_the_idlest(&self, shard: &mut Shard<K, V, S>) {
        let before = shard.slots.len();
        if before == 0 {
            return;
        }
        let due = before.div_ceil(FORGOTTEN).saturating_sub(1);
        let mut stamps: Vec<u32> = shard.slots.iter().map(|slot| slot.used).collect();
        let (older, &mut last, _) = stamps.select_nth_unstable(due);
        // Many may bear the same stamp as the last one due: of those, no more go than are due.
        let mut same = older.iter().filter(|stamp| **stamp == last).count().saturating_add(1);
        self.retain(shard, |slot| {
            let goes = slot.used < last || (slot.used == last && same > 0);
            same = same.saturating_sub(usize::from(goes && slot.used == last));
            if let (true, Some(pushed_out)) = (goes, &self.pushed_out) {
                pushed_out(&slot.value);
            }
            !goes
        });
        // What is forgotten for its memory must give it back: places that lighter values had too.
        shard.slots.shrink_to_fit();
    }

    fn sweep_shard(&self, shard: &mut Shard<K, V, S>, now: u32) {
        if now < shard.next_sweep {
            return;
        }
        let idle = self.idle.load(Ordering::Relaxed);
        shard.next_sweep = now.saturating_add(idle.div_ceil(SWEEPS));
        self.retain(shard, |slot| now.saturating_sub(slot.used) <= idle);
        shard.slots.shrink_to_fit();
    }
}

/// A panic while one was held left a whole value behind: going on beats failing every later request.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, V, S> fmt::Debug for Table<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("len", &self.len)
            .field("max", &self.max)
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
