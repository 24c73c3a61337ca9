//! The refusals.
