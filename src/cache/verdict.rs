//! The verdict cache.
