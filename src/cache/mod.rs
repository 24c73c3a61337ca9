//! Verdicts kept.

pub mod freshness;
pub mod verdict;
