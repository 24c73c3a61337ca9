//! UNIX signals.
