//! One strict pass over an export request: is it well formed, does every item belong to the trace,
//! how many items are there and how many are too long. It never changes a byte.

mod references;
mod rules;
mod text;
mod walk;

pub(super) use references::each_string;

use super::{
    TraceId, schema,
    signal::Signal,
    wire::{Reader, WireError},
};

/// What an export request is held to.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The trace that every span must belong to, and every log record, exemplar and profile that
    /// names one; `None`: not looked at.
    pub trace_id: Option<TraceId>,
    /// Longest encoded item, in bytes.
    pub max_item_size: usize,
    /// Whether an unknown field outside the items is an error (`transparent` mode) or only noted.
    pub refuse_unknown: bool,
    /// How much of an item is read.
    pub depth: Depth,
}

/// How much of an item is read. Everything outside the items is always read to the last byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Every message in it, every string for UTF-8, every value for its depth.
    #[default]
    Full,
    /// Its fields, and below them only the messages in which there are ids for the trace gate.
    /// Strings that are no UTF-8, values nested without end and oneofs set twice are left for the
    /// collector to judge.
    Structure,
}

/// What a well-formed export request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Items (spans, metrics, log records, profiles), the too long ones included.
    pub items: u64,
    /// Items longer than the limit.
    pub oversize: u64,
    /// Items that are of another trace, or spans of none (only counted when a trace is expected).
    /// An item that names several trace ids is foreign if any of them is. The dictionary of
    /// profiles counts as one more item.
    pub foreign: u64,
    /// `ResourceX` entries.
    pub resources: u64,
    /// Unknown fields outside the items: in the request, `ResourceX`, `Resource`, `EntityRef`,
    /// `ScopeX` and `InstrumentationScope`. Those inside an attribute belong to the attribute.
    pub unknown_fields: u64,
}

/// Why a request is malformed: one sentence, never naming what the sender sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

impl From<WireError> for Malformed {
    fn from(error: WireError) -> Self {
        Self(error.sentence())
    }
}

/// Reads a whole request once, every message of it, without allocating; of profiles the attributes of
/// resources and scopes a second time, for what they name of the dictionary.
///
/// # Errors
/// [`Malformed`] for anything that two readers could read differently, and for a place in the dictionary
/// that no reader can look up.
pub fn inspect(signal: Signal, body: &[u8], rules: &Rules) -> Result<Inspection, Malformed> {
    let schema = schema::of(signal);
    let mut walk = walk::Walk::new(rules, schema.item.owns_trace, body.len());
    walk.message::<false>(schema.request, Reader::new(body), 0)?;
    // After the walk: what it has not read to the last byte could be nested without end.
    references::resolve(schema, body)?;
    Ok(walk.end())
}

#[cfg(test)]
mod tests;
