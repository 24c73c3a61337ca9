//! Limits in this process.
