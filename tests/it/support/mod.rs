//! Honest fakes on real sockets, a raw client, and the worlds that tests are run in. Nothing here
//! knows how the gateway works; it knows the contract.

pub(crate) mod answer;
pub(crate) mod authority;
pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod issuer;
pub(crate) mod job;
pub(crate) mod json;
pub(crate) mod logs;
pub(crate) mod process;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod rpc;
pub(crate) mod selftest;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod signal;
pub(crate) mod spans;
pub(crate) mod tls;
pub(crate) mod tokens;
pub(crate) mod world;
