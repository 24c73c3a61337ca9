//! What was charged here and the store was not told of yet: advances by key, summed. It decides what is
//! dropped when there is too much, and never asks anybody.

use std::{
    collections::{HashMap, hash_map},
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::limit::{Entry, Level, Unit, keyed::AsItIs};

/// Most keys at once, about 4 MB; [`FLUSH`](super::step::FLUSH) has them empty again twenty times a second.
const MAX_KEYS: usize = 50_000;

/// Enough locks that cores seldom meet on one.
const SHARDS: usize = 16;

/// All that is counted of one sender, one level of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) level: Level,
    pub(super) key: u64,
}

/// Keys are keyed hashes already; those of the few listeners and of the whole are no trouble.
impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.key ^ self.level as u64);
    }
}

type Slots = HashMap<Slot, Advance, BuildHasherDefault<AsItIs>>;

/// Advances: nanoseconds of the three rates, spans of the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Advance {
    pub(super) rates: [i64; 3],
    pub(super) budget: i64,
}

impl Advance {
    fn add(&mut self, other: Self) {
        for (to, by) in self.rates.iter_mut().zip(other.rates) {
            *to = to.saturating_add(by);
        }
        self.budget = self.budget.saturating_add(other.budget);
    }

    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl From<(Unit, i64)> for Advance {
    fn from((unit, by): (Unit, i64)) -> Self {
        match unit {
            Unit::Requests => Self { rates: [by, 0, 0], budget: 0 },
            Unit::Spans => Self { rates: [0, by, 0], budget: 0 },
            Unit::Bytes => Self { rates: [0, 0, by], budget: 0 },
            Unit::Budget => Self { rates: [0; 3], budget: by },
        }
    }
}

/// Advances that wait for the next flush. Each request adds about five.
#[derive(Debug, Default)]
pub(super) struct Pending {
    shards: [Mutex<Slots>; SHARDS],
    /// Where the next flush begins, so that all have their turn when there is too much.
    turn: AtomicUsize,
}

impl Pending {
    /// Adds to what waits; `false` when there is no place for another key.
    pub(super) fn note(&self, entry: Entry, by: i64) -> bool {
        self.add(Slot { level: entry.level, key: entry.key }, (entry.unit, by).into())
    }

    fn add(&self, slot: Slot, advance: Advance) -> bool {
        let mut shard = self.shard(slot);
        let is_full = shard.len() >= MAX_KEYS.div_euclid(SHARDS);
        match shard.entry(slot) {
            hash_map::Entry::Occupied(mut known) => known.get_mut().add(advance),
            hash_map::Entry::Vacant(_) if is_full => return false,
            hash_map::Entry::Vacant(place) => drop(place.insert(advance)),
        }
        true
    }

    /// Takes out what waits, at most of so many keys; which ones stay for the next time is chance.
    pub(super) fn take(&self, most: usize) -> Vec<(Slot, Advance)> {
        let mut taken = Vec::new();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).rem_euclid(SHARDS);
        for shard in self.shards.iter().cycle().skip(turn).take(SHARDS) {
            let mut shard = lock(shard);
            let room = most.saturating_sub(taken.len());
            let there = shard.len();
            // A charge that was given back again is nothing to tell.
            let wanted = |(_, advance): &(Slot, Advance)| !advance.is_nothing();
            if there <= room {
                taken.extend(shard.drain().filter(wanted));
            } else {
                let mut left = room;
                let first = shard.extract_if(|_, _| {
                    let wants = left > 0;
                    left = left.saturating_sub(1);
                    wants
                });
                taken.extend(first.filter(wanted));
            }
        }
        taken
    }

    /// What waits of one sender.
    pub(super) fn of(&self, slot: Slot) -> Advance {
        self.shard(slot).get(&slot).copied().unwrap_or_default()
    }

    /// Forgets advances of rates, which time undoes; what was spent of budgets stays to be told. Returns how
    /// many keys this was about.
    pub(super) fn forget_rates(&self) -> u64 {
        let mut forgotten: u64 = 0;
        for shard in &self.shards {
            lock(shard).retain(|_, advance| {
                forgotten = forgotten.saturating_add(u64::from(advance.rates != [0; 3]));
                advance.rates = [0; 3];
                advance.budget != 0
            });
        }
        forgotten
    }

    fn shard(&self, slot: Slot) -> MutexGuard<'_, Slots> {
        // By other bits than the map itself goes by.
        let spread = slot.key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let place = usize::try_from(spread.rem_euclid(SHARDS as u64)).unwrap_or(0);
        let [first, ..] = &self.shards;
        lock(self.shards.get(place).unwrap_or(first))
    }
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: u64, unit: Unit) -> Entry {
        Entry { level: Level::Job, key, unit }
    }

    /// Scenario: charges of all units, some given back, of two jobs; a charge wholly given back.
    /// Guarantees: they are summed by key and unit, told once, and nothing is told of what came to nothing.
    #[test]
    fn advances_are_summed_and_taken_once() {
        let pending = Pending::default();
        for (key, unit, by) in [
            (1, Unit::Requests, 10),
            (1, Unit::Requests, 20),
            (1, Unit::Bytes, 7),
            (1, Unit::Budget, 5),
            (1, Unit::Budget, -2),
            (2, Unit::Spans, 4),
            (3, Unit::Spans, 9),
            (3, Unit::Spans, -9),
        ] {
            assert!(pending.note(entry(key, unit), by));
        }
        let slot = |key| Slot { level: Level::Job, key };
        assert_eq!(pending.of(slot(2)).rates, [0, 4, 0]);
        let mut taken = pending.take(10);
        taken.sort_by_key(|(slot, _)| *slot);
        let first = Advance { rates: [30, 0, 7], budget: 3 };
        assert_eq!(taken, [(slot(1), first), (slot(2), Advance { rates: [0, 4, 0], budget: 0 })]);
        assert_eq!(pending.take(10), []);
    }

    /// Scenario: more keys than have a place; all are taken in portions.
    /// Guarantees: memory is bounded, what is known still counts, a portion is no larger than asked for, and nothing
    /// is lost between portions.
    #[test]
    fn there_is_a_bound() {
        let pending = Pending::default();
        let most = MAX_KEYS as u64;
        let kept = (0..2 * most).filter(|key| pending.note(entry(*key, Unit::Spans), 1)).count();
        assert_eq!(kept, MAX_KEYS);
        assert!(pending.note(entry(0, Unit::Spans), 1));
        let mut told = 0;
        loop {
            let portion = pending.take(1_999);
            assert!(portion.len() <= 1_999);
            if portion.is_empty() {
                break;
            }
            told += portion.iter().map(|(_, advance)| advance.rates[1]).sum::<i64>();
        }
        assert_eq!(told, i64::try_from(kept).unwrap() + 1);
    }

    /// Scenario: rates and budgets wait while the store is away.
    /// Guarantees: rates are forgotten, what was spent of budgets is not.
    #[test]
    fn budgets_outlast_an_outage() {
        let pending = Pending::default();
        pending.note(entry(1, Unit::Requests), 10);
        pending.note(entry(1, Unit::Budget), 3);
        pending.note(entry(2, Unit::Bytes), 10);
        assert_eq!(pending.forget_rates(), 2);
        let slot = Slot { level: Level::Job, key: 1 };
        assert_eq!(pending.take(10), [(slot, Advance { rates: [0; 3], budget: 3 })]);
    }
}
