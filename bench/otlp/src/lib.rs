//! The gateway's `src/otlp` by itself, so that its kernels can be measured without building the rest
//! of the gateway. Not a copy: the very files, as the module that they are in the gateway.

#[path = "../../../src/otlp/mod.rs"]
pub mod otlp;
