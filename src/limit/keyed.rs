//! The states of one level's keys, bounded in number. It decides what a key starts with that is not here:
//! a full bucket, or as little as the fullest of those that had to make room for others before their time.
//!
//! So cycling through more keys than are kept gains nothing: a key that was pushed out while it owed comes
//! back to a state at least as empty, up to an empty bucket, and so does every other new key. In honest use
//! the idlest owe nothing when they are pushed out, and nobody notices.

use std::{
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::cache::table::Table;

use super::rules::{LevelRules, Three};

/// What a key of a level has.
pub(super) trait Account: Copy + Default + PartialEq + Send + Sync + 'static {
    /// The states of its buckets.
    fn states(&mut self) -> &mut Three;
}

impl Account for Three {
    fn states(&mut self) -> &mut Three {
        self
    }
}

/// All accounts of a level.
#[derive(Debug)]
pub(super) struct Keyed<V> {
    table: Table<u64, V, BuildHasherDefault<AsItIs>>,
    floor: Arc<Floor>,
}

/// The latest states that were pushed out.
#[derive(Debug, Default)]
struct Floor([AtomicU64; 3]);

/// Keys are keyed hashes already, spread evenly and known to nobody outside.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    /// For completeness: no key is written as bytes.
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk().copied().map_or(self.0, u64::from_le_bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<V: Account> Keyed<V> {
    pub(super) fn new(max: usize, idle: Duration) -> Self {
        let floor = Arc::new(Floor::default());
        let pushed = Arc::clone(&floor);
        let table = Table::new(max, idle).telling(move |account: &V| {
            let mut account = *account;
            pushed.raise(*account.states());
        });
        Self { table, floor }
    }

    /// The account of a key if there is one; `place`: where it was found last.
    pub(super) fn get_mut(&mut self, key: u64, place: &AtomicU32, now: u64) -> Option<&mut V> {
        self.table.get_mut(&key, place, now)
    }

    /// The same for whoever does not remember.
    pub(super) fn search(&mut self, key: u64, now: u64) -> Option<&mut V> {
        self.get_mut(key, &AtomicU32::new(u32::MAX), now)
    }

    /// Makes an account for a key if there is none.
    pub(super) fn add(&mut self, key: u64, now: u64, rules: &LevelRules) {
        if self.search(key, now).is_none() {
            let mut account = V::default();
            self.floor.start(&mut account, now, rules);
            self.table.insert(key, now, account, 0);
        }
    }

    /// Forgets accounts that were not touched for another time from now on.
    pub(super) fn set_idle(&self, idle: Duration) {
        self.table.set_idle(idle);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

impl Floor {
    fn start<V: Account>(&self, account: &mut V, now: u64, rules: &LevelRules) {
        let floors = self.states();
        if floors.iter().any(|floor| *floor > now) {
            rules.raise(account.states(), &floors, now);
        }
    }

    fn raise(&self, states: Three) {
        for (floor, state) in self.0.iter().zip(states) {
            floor.fetch_max(state, Ordering::Relaxed);
        }
    }

    fn states(&self) -> Three {
        self.0.each_ref().map(|floor| floor.load(Ordering::Relaxed))
    }
}
