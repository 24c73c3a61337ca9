//! The verified identity into every resource: protected keys out, verified attributes in, items
//! kept byte for byte or dropped whole. It never re-encodes an item.

use std::sync::Arc;

use bytes::Bytes;

use super::signal::Signal;

/// A verified value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `int_value`
    Int(i64),
    /// `string_value`
    String(&'a str),
}

/// Keys that no sender may set: exact keys and prefixes, compared on the folded key (lower case,
/// `_` and `-` read as `.`).
#[derive(Clone, Debug, Default)]
pub struct ProtectedKeys {}

impl ProtectedKeys {
    /// A set of whole keys and of beginnings of keys.
    #[must_use]
    pub fn new<'a>(
        _keys: impl IntoIterator<Item = &'a str>,
        _prefixes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        unimplemented!()
    }

    /// Whether a sender's key is protected.
    #[must_use]
    pub fn contains(&self, _key: &[u8]) -> bool {
        unimplemented!()
    }
}

/// The verified attributes of one verdict, encoded once as `Resource.attributes` fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    encoded: Bytes,
}

impl Stamp {
    /// Encodes the attributes, in this order.
    #[must_use]
    pub fn new<'a>(_attributes: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Self {
        unimplemented!()
    }

    /// The encoded `Resource.attributes` fields.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }
}

/// How requests are rewritten; the same for all requests under one configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Keys that are removed from every resource.
    pub protected: Arc<ProtectedKeys>,
    /// Whether they are removed from scope attributes too.
    pub strip_scope: bool,
    /// Whether they are removed from item (span) attributes too.
    pub strip_items: bool,
    /// Longest encoded item; longer ones are dropped.
    pub max_item_size: usize,
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
/// # Errors
/// [`super::inspect::Malformed`] if the body was not accepted before; nothing is ever half written.
pub fn rewrite(
    _signal: Signal,
    _body: &Bytes,
    _policy: &Policy,
    _stamp: &Stamp,
    _budget: u64,
) -> Result<Rewritten, super::inspect::Malformed> {
    unimplemented!()
}
