//! A scrap of paper in each identity, for whoever keeps states by its keys. It decides nothing, and nothing may rely on it.

use std::sync::atomic::AtomicU32;

/// Where the states that are kept by an identity's keys were found last: of its job, its runner and its project. A hint,
/// written by whoever keeps them and for its eyes only, which saves it the search; what it finds there may be another's.
#[derive(Debug)]
pub struct Places(pub [AtomicU32; 3]);

impl Default for Places {
    /// Nowhere yet.
    fn default() -> Self {
        Self([const { AtomicU32::new(u32::MAX) }; 3])
    }
}
