//! The proxy.

pub mod gateway;
pub mod rejection;
