//! Integration tests: one binary, one file a topic, real sockets on loopback. Each test says which
//! situation it makes and what it guarantees.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected must fail at that line"
)]

mod admin;
mod allocation;
mod architecture;
mod attempts;
mod attribute_sets;
mod authority;
mod cache;
mod cache_size;
mod canary;
mod collector_queue;
mod conform;
mod connections;
mod credentials;
mod differential;
mod docs;
mod drain;
mod early_answer;
mod explain;
mod fuzzed;
mod gate;
mod guard;
mod hostile;
mod identity;
mod limit_levels;
mod limits;
mod oidc;
mod otlp_property;
mod overload;
mod protocols;
mod refusals;
mod service_names;
#[cfg(feature = "redis")]
mod shared_limits;
mod signals;
mod support;
mod trusted;
mod unjudged;
