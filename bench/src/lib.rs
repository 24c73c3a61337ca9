//! What the figures share: payloads in the shape of CI job telemetry, the gateway's kernels on
//! them, and the same work done the easy way beside them. It never measures; the benches, the
//! reports and the load generator do, each in its own way on the same bytes.

pub mod kernels;
pub mod payload;
pub mod peers;
pub mod samples;
mod signals;
