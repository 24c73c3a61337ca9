//! A row of values and its index, beside a map of the standard library.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, Hasher},
};

use proptest::prelude::*;

use super::Slots;

/// Keys that collide: only four hashes.
#[derive(Default)]
struct Few(u64);

impl Hasher for Few {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, key: u64) {
        self.0 = (key % 4).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u32),
    Remove(u64),
    Retain(u64),
    Shrink,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..600_u64, any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        3 => (0..600_u64).prop_map(Step::Remove),
        1 => (2..5_u64).prop_map(Step::Retain),
        1 => Just(Step::Shrink),
    ];
    prop::collection::vec(step, 1..900)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Scenario: keys, many of them with one hash, are put in, replaced, taken out one by one and by the third, in any order.
    /// Guarantees: the same is there as in a map of the standard library, each key is found at its place and nowhere else, and
    /// what went is told.
    #[test]
    fn nothing_is_lost(steps in steps()) {
        let hasher = BuildHasherDefault::<Few>::default();
        let (mut slots, mut model) = (Slots::new(hasher.clone()), HashMap::new());
        for step in steps {
            match step {
                Step::Insert(key, value) => {
                    let before = slots.insert(hasher.hash_one(key), key, (value, 1, 2)).map(|slot| slot.value);
                    prop_assert_eq!(before, model.insert(key, value));
                }
                Step::Remove(key) => {
                    let removed = slots.remove(hasher.hash_one(key), &key).map(|slot| slot.value);
                    prop_assert_eq!(removed, model.remove(&key));
                }
                Step::Retain(part) => {
                    slots.retain(|slot| !slot.key.is_multiple_of(part));
                    model.retain(|key, _| !key.is_multiple_of(part));
                }
                Step::Shrink => slots.shrink_to_fit(),
            }
            prop_assert_eq!(slots.len(), model.len());
        }
        for key in 0..600 {
            let place = slots.find(hasher.hash_one(key), &key);
            let found = place.and_then(|place| slots.at(place)).map(|slot| (slot.key, slot.value));
            prop_assert_eq!(found, model.get(&key).map(|value| (key, *value)));
        }
        let mut all: Vec<(u64, u32)> = slots.iter().map(|slot| (slot.key, slot.value)).collect();
        let mut expected: Vec<(u64, u32)> = model.into_iter().collect();
        all.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(all, expected);
    }
}
