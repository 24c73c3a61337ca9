//! What the fuzz targets call: the properties of tests/it, which a plain test holds too, here under
//! an allocator that measures. It holds no property of its own.

mod meter;
pub mod mutate;

#[path = "../../tests/it/fuzzed"]
mod fuzzed {
    pub(crate) mod cache_control;
    pub(crate) mod credentials;
    pub(crate) mod grpc;
    pub(crate) mod inflate;
    pub(crate) mod json;
    pub(crate) mod response;
    pub(crate) mod service;
    mod signals;
    pub(crate) mod wire;

    use crate::meter::within;
}

#[path = "../../tests/it/otlp_property"]
mod otlp_property {
    pub(crate) mod fuzzed;
    mod judge;
}

pub use properties::*;

/// One function for each target.
#[expect(missing_docs, reason = "each is described where its property stands")]
mod properties {
    use crate::{fuzzed, otlp_property};

    pub fn cache_control(data: &[u8]) {
        fuzzed::cache_control::hold(data);
    }

    pub fn credentials(data: &[u8]) {
        fuzzed::credentials::hold(data);
    }

    pub fn grpc(data: &[u8]) {
        fuzzed::grpc::hold(data);
    }

    pub fn inflate(data: &[u8]) {
        fuzzed::inflate::hold(data);
    }

    pub fn json(data: &[u8]) {
        fuzzed::json::hold(data);
    }

    pub fn response(data: &[u8]) {
        fuzzed::response::hold(data);
    }

    pub fn rewrite(data: &[u8]) {
        otlp_property::fuzzed::hold(data);
    }

    pub fn service(data: &[u8]) {
        fuzzed::service::hold(data);
    }

    pub fn wire(data: &[u8]) {
        fuzzed::wire::hold(data);
    }
}
