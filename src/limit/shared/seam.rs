//! Stands in for the hierarchy until it is merged. It holds nothing.
#![expect(missing_docs, reason = "replaced by the real ones")]

use futures_util::future::BoxFuture;

use super::super::Subject;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    Job,
    Runner,
    Project,
    Listener,
    Global,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    Requests,
    Spans,
    Bytes,
    Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub level: Level,
    pub key: u64,
    pub unit: Unit,
}

pub trait Ledger: std::fmt::Debug + Send + Sync + 'static {
    fn note(&self, entry: Entry, nanos: i64);
    fn first_sight(&self, subject: Subject) -> Option<BoxFuture<'_, ()>> {
        let _ = subject;
        None
    }
}
