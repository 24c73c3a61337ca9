//! What a store can be asked, whoever it is: the seam between the engine and the client of Redis. It holds
//! no state and decides nothing.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::validate::credentials::Mark;

use super::pending::Slot;

/// Why a store gave no usable answer. The text never holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("no answer within the time allowed")]
    Timeout,
    #[error("{0}")]
    #[cfg_attr(
        not(any(feature = "redis", test)),
        expect(dead_code, reason = "without a client there is nobody to fail")
    )]
    Failed(String),
}

impl Trouble {
    /// The metric label `outcome`.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Failed(_) => "error",
        }
    }
}

/// One key's advances: microseconds of its three rates, spans of its budget. All zero: only look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) slot: Slot,
    pub(super) rates: [i64; 3],
    pub(super) budget: i64,
}

/// What all replicas together have charged to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) slot: Slot,
    /// How many microseconds each rate's state is ahead of the present.
    pub(super) ahead: [u64; 3],
    /// Spans of the budget that are spent.
    pub(super) spent: u64,
}

type Asked<'a, T> = BoxFuture<'a, Result<T, Trouble>>;

/// A connection to a store; many calls may be under way at once. Whoever calls sets the time.
pub(super) trait Line: fmt::Debug + Send + Sync {
    /// Charges every row and tells what came of it.
    fn charge(&self, rows: Vec<Row>) -> Asked<'_, Vec<Seen>>;

    /// Says that this replica lives, for so long; how many do.
    fn register<'a>(&'a self, replica: &'a str, life: Duration) -> Asked<'a, u32>;

    /// Keeps a word about a mark for so long.
    fn remember(&self, mark: Mark, word: Vec<u8>, life: Duration) -> Asked<'_, ()>;

    /// The word about a mark, if there is one.
    fn recall(&self, mark: Mark) -> Asked<'_, Option<Vec<u8>>>;
}

/// Makes connections.
pub(super) trait Dial: fmt::Debug + Send + Sync {
    fn dial(&self) -> Asked<'_, Arc<dyn Line>>;
}
