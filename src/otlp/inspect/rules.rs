//! The rules that need a memory of what went before: the trace gate, and oneofs that are set twice.
//! Each sees what the walk shows it and keeps its own count; none reads the wire.

use super::Malformed;
use crate::otlp::{TraceId, schema::Id};

/// The trace gate: every occurrence of an id counts, for readers take the
/// last one and a gate that looked at the first would be looking at another span.
pub(super) struct Gate {
    expected: Option<TraceId>,
    /// Whether an item without a trace id is foreign; never if no trace is expected.
    required: bool,
    own: bool,
    other: bool,
    foreign: u64,
}

impl Gate {
    pub(super) fn new(expected: Option<TraceId>, required: bool) -> Self {
        Self { expected, required: required && expected.is_some(), own: false, other: false, foreign: 0 }
    }

    /// Sees an id. An empty one is proto3's default, the same as no field: well formed, but of no
    /// trace. One of zeros equals no verdict's (see [`TraceId`]); where a trace need not be named,
    /// it names none.
    ///
    /// Source of the lengths: `trace.proto` and its kin; the Collector takes an empty id for absent
    /// and refuses the whole request for any other length, wherever the id stands.
    #[inline]
    pub(super) fn id(&mut self, id: Id, bytes: &[u8]) -> Result<(), Malformed> {
        if bytes.len() != id.len() && !bytes.is_empty() {
            return Err(wrong_length(id));
        }
        if id.is_gated()
            && let Some(expected) = &self.expected
        {
            let is_own = bytes == expected.as_bytes();
            match id {
                Id::OwnTrace => {
                    self.own |= is_own;
                    self.other |= !is_own;
                }
                _ => self.other |= !is_own && bytes.iter().any(|&byte| byte != 0),
            }
        }
        Ok(())
    }

    /// Sees a whole id of [`Id::OwnTrace`], as [`Gate::id`] would.
    #[inline]
    pub(super) fn own_trace(&mut self, bytes: &[u8; 16]) {
        if let Some(expected) = &self.expected {
            let is_own = bytes == expected.as_bytes();
            self.own |= is_own;
            self.other |= !is_own;
        }
    }

    /// Begins a run of items; gives what is to be handed back to [`Gate::leave_items`].
    pub(super) fn enter_items(&mut self) -> bool {
        self.own = false;
        std::mem::take(&mut self.other)
    }

    /// Ends an item and begins the next.
    #[inline]
    pub(super) fn end_item(&mut self) {
        let is_foreign = self.other || (self.required && !self.own);
        self.foreign = self.foreign.saturating_add(u64::from(is_foreign));
        (self.own, self.other) = (false, false);
    }

    /// Ends a run of items. What was seen outside the items before it is remembered.
    pub(super) fn leave_items(&mut self, outside: bool) {
        self.other = outside;
    }

    /// Items of another trace; all that stands outside the items counts as one more.
    pub(super) fn end(&self) -> u64 {
        self.foreign.saturating_add(u64::from(self.other))
    }
}

#[cold]
fn wrong_length(id: Id) -> Malformed {
    Malformed(match id {
        Id::OwnTrace | Id::SetTrace | Id::OtherTrace => "a trace id is not 16 bytes long",
        Id::Span => "a span id is not 8 bytes long",
        Id::Profile => "a profile id is not 16 bytes long",
    })
}

/// What was set of one oneof that can hold messages, over all the occurrences that merge into it.
#[derive(Default)]
pub(super) struct Members {
    all: u32,
    contested: u32,
}

impl Members {
    /// A member was set. It is contested if it holds a message, or a place in the dictionary.
    #[inline]
    pub(super) fn set(&mut self, contested: bool) {
        self.all = self.all.saturating_add(1);
        self.contested = self.contested.saturating_add(u32::from(contested));
    }

    /// Readers agree that the last member wins, but not on more. One that comes twice and holds a
    /// message is merged by prost and replaced by the Collector; `string_value_strindex` is no
    /// member at all to a reader that is older than it.
    #[inline]
    pub(super) fn agreed(&self) -> Result<(), Malformed> {
        if self.contested > 0 && self.all > 1 {
            return Err(Malformed("a value is set more than once, in ways that readers differ on"));
        }
        Ok(())
    }
}
