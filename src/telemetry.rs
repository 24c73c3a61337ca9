//! Its own log.
