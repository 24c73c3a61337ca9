//! The verified identity into every resource: protected keys out, verified attributes in, items
//! kept byte for byte or dropped whole. It never re-encodes an item.

use std::sync::Arc;

use bytes::Bytes;

use super::{inspect::Malformed, schema, signal::Signal};

mod dictionary;
mod edit;
mod plan;
mod protected;
mod stamp;

pub use protected::ProtectedKeys;
pub use stamp::{SharedKeys, Stamp, Value};

/// How requests are rewritten; the same for all requests under one configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Keys that are removed from every resource.
    pub protected: Arc<ProtectedKeys>,
    /// Whether they are removed from scope attributes too.
    pub strip_scope: bool,
    /// Whether they are removed from item attributes too: of spans (those of events and links stay,
    /// which claim nothing about the job), log records, metrics, data points and exemplars. In the
    /// dictionary of profiles they are emptied, for there an attribute is known by its place.
    pub strip_items: bool,
    /// Longest encoded item; longer ones are dropped.
    pub max_item_size: usize,
}

impl Policy {
    /// One that takes nothing out of resources, scopes and items, which may be so long.
    #[must_use]
    pub fn keep_all(max_item_size: usize) -> Self {
        Self { protected: Arc::default(), strip_scope: false, strip_items: false, max_item_size }
    }
}

/// What leaves.
#[derive(Clone, Debug, Default)]
pub struct Rewritten {
    /// The new body in pieces: slices of the old one and small owned heads.
    pub pieces: Vec<Bytes>,
    /// Its whole length.
    pub len: usize,
    /// Items that were kept.
    pub kept: u64,
    /// Items dropped because they were too long.
    pub oversize: u64,
    /// Items dropped because the budget was used up.
    pub over_budget: u64,
    /// Protected attributes removed.
    pub stripped: u64,
    /// Unknown fields outside the items dropped.
    pub unknown_dropped: u64,
}

/// Rewrites a request that [`super::inspect::inspect`] accepted, keeping at most `budget` items
/// (counted over the items that are not too long, in order).
///
/// In every `ResourceX` all `resource` fields become one, without protected attributes, without
/// entity references that rest on them, and with the stamp once at its end. Fields outside the
/// items that are not known go, and each `ScopeX` and `ResourceX` in which no item is left: what
/// leaves stays in proportion to what came. All the rest leaves byte for byte, in its order, but for
/// the lengths of messages that lost something.
///
/// # Errors
/// [`Malformed`] if the body was not accepted before and breaks where the rewriter looks; nothing
/// is ever half written.
pub fn rewrite(
    signal: Signal,
    body: &Bytes,
    policy: &Policy,
    stamp: &Stamp,
    budget: u64,
) -> Result<Rewritten, Malformed> {
    let schema = schema::of(signal);
    let dictionary = dictionary::Dictionary::of(schema, body, &policy.protected)?;
    let mut editor = edit::Editor::new(policy, schema, dictionary, budget, body, stamp.len());
    editor.request(body)?;
    Ok(editor.end(stamp))
}

#[cfg(test)]
mod tests;
