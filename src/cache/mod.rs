//! Verdicts kept: how long, how many, and one question to the authority whoever asks. It never
//! judges a credential and never turns "could not decide" into a denial.

pub mod freshness;
mod kept;
pub(crate) mod table;
pub mod verdict;
