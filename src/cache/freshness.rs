//! How long a verdict may be kept.
