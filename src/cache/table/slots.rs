//! The values of one shard, side by side, and an index that finds a key among them. It decides how little room that takes,
//! never what is forgotten.
//!
//! An index entry is a place and not a value: a hash map of whole values has up to half of its places empty, and values
//! that are in use together would be spread over all of them.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;

use super::rows::Rows;

/// Values with their keys.
#[derive(Debug)]
pub(super) struct Slots<K, V, S> {
    rows: Rows<Slot<K, V>>,
    /// Where a key's slot is.
    places: HashTable<u32>,
    hasher: S,
}

/// What is kept of a key.
#[derive(Debug)]
pub(super) struct Slot<K, V> {
    pub(super) key: K,
    pub(super) value: V,
    /// The tick of its last use.
    pub(super) used: u32,
    pub(super) weight: u32,
}

impl<K: Hash + Eq, V, S: BuildHasher> Slots<K, V, S> {
    /// What a value takes here at the most where there are many, whatever it holds elsewhere: with as many empty places in
    /// the index as there are just after it doubled (9 in 16), each with a byte of control.
    pub(super) const PLACE: usize = size_of::<Slot<K, V>>() + ((size_of::<u32>() + 1) * 16).div_ceil(7);

    /// What it takes besides at the most: room to grow, and the smallest index. Values that are removed one by one leave
    /// their room to the next ones, or until the next sweep.
    pub(super) const EMPTY: usize = Rows::<Slot<K, V>>::EMPTY + 16 + 4 * (size_of::<u32>() + 1);

    pub(super) fn new(hasher: S) -> Self {
        Self { rows: Rows::new(), places: HashTable::new(), hasher }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot<K, V>> {
        self.rows.iter()
    }

    /// `hash` is that of the key, here and below.
    pub(super) fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut Slot<K, V>> {
        let place = self.find(hash, key)?;
        self.at(place)
    }

    /// Where a key's slot is, until the next one is removed.
    pub(super) fn find(&self, hash: u64, key: &K) -> Option<u32> {
        self.places.find(hash, |place| is_at(&self.rows, *place, key)).copied()
    }

    /// The slot at a place, whosever it is.
    pub(super) fn at(&mut self, place: u32) -> Option<&mut Slot<K, V>> {
        self.rows.get_mut(place as usize)
    }

    /// Puts a value in the place of whatever the key had, which is returned.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        key: K,
        (value, used, weight): (V, u32, u32),
    ) -> Option<Slot<K, V>> {
        let slot = Slot { key, value, used, weight };
        if let Some(before) = self.get_mut(hash, &slot.key) {
            return Some(std::mem::replace(before, slot));
        }
        // More than that are in no shard.
        let Ok(place) = u32::try_from(self.rows.len()) else { return None };
        let Self { rows, places, hasher } = self;
        rows.push(slot);
        let room = places.capacity();
        places.insert_unique(hash, place, |place| hash_at(rows, hasher, *place));
        if places.capacity() > room {
            // Keys that went leave marks, and an index doubles for those too: back, if the keys alone fit.
            places.shrink_to_fit(|place| hash_at(rows, hasher, *place));
        }
        None
    }

    pub(super) fn remove(&mut self, hash: u64, key: &K) -> Option<Slot<K, V>> {
        let place = self.places.find_entry(hash, |place| is_at(&self.rows, *place, key)).ok()?.remove().0;
        self.take(place as usize)
    }

    /// Forgets the values that are not to stay. They are asked for in no order that means anything.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(&Slot<K, V>) -> bool) {
        // From the end, so that what fills a gap has been asked for.
        for place in (0..self.rows.len()).rev() {
            let Some(slot) = self.rows.get(place) else { continue };
            if stays(slot) {
                continue;
            }
            let hash = self.hasher.hash_one(&slot.key);
            if let Ok(found) = self.places.find_entry(hash, |other| *other as usize == place) {
                found.remove();
            }
            self.take(place);
        }
    }

    /// Gives back what is not needed.
    pub(super) fn shrink_to_fit(&mut self) {
        let Self { rows, places, hasher } = self;
        rows.shrink_to_fit();
        places.shrink_to_fit(|place| hash_at(rows, hasher, *place));
    }

    /// Takes out a slot that the index does not know any more; the last one fills its place.
    fn take(&mut self, place: usize) -> Option<Slot<K, V>> {
        let last = self.rows.len().checked_sub(1)?;
        let taken = self.rows.swap_remove(place)?;
        if let Some(moved) = self.rows.get(place) {
            let hash = self.hasher.hash_one(&moved.key);
            if let Some(known) = self.places.find_mut(hash, |other| *other as usize == last) {
                *known = u32::try_from(place).unwrap_or(*known);
            }
        }
        Some(taken)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes().saturating_add(self.places.allocation_size())
    }
}

fn is_at<K: Eq, V>(rows: &Rows<Slot<K, V>>, place: u32, key: &K) -> bool {
    rows.get(place as usize).is_some_and(|slot| slot.key == *key)
}

fn hash_at<K: Hash, V, S: BuildHasher>(rows: &Rows<Slot<K, V>>, hasher: &S, place: u32) -> u64 {
    rows.get(place as usize).map_or(0, |slot| hasher.hash_one(&slot.key))
}

#[cfg(test)]
mod tests;
