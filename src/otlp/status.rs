//! The answers of OTLP: `google.rpc.Status` for refusals, `ExportXServiceResponse` with
//! `partial_success` for the rest, in protobuf and JSON. It decides forms only, never codes.

use std::time::Duration;

use bytes::Bytes;

use super::signal::Signal;

/// gRPC status codes that the gateway gives.
///
/// Source: gRPC, "Status codes and their use in gRPC".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are gRPC's own")]
pub enum Code {
    Ok = 0,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// A `google.rpc.Status`, with `google.rpc.RetryInfo` when a retry makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// A sentence for the sender's log.
    pub message: String,
    /// How long the sender should wait; `None`: no `RetryInfo`.
    pub retry_after: Option<Duration>,
}

impl Status {
    /// Encoded as protobuf.
    #[must_use]
    pub fn to_protobuf(&self) -> Bytes {
        unimplemented!()
    }

    /// Encoded as proto3 JSON.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        unimplemented!()
    }
}

/// What an `ExportXServiceResponse` says: how many items were refused, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    /// Items refused.
    pub rejected: i64,
    /// A sentence; it may be there with nothing refused (a warning).
    pub message: String,
}

/// A collector's answer that is no `ExportXServiceResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the collector's answer is no OTLP export response")]
pub struct BadResponse;

impl PartialSuccess {
    /// Reads an `ExportXServiceResponse` (all signals have one shape). Empty is a full success.
    ///
    /// # Errors
    /// [`BadResponse`] for anything that is not one.
    pub fn from_response(_body: &[u8]) -> Result<Self, BadResponse> {
        unimplemented!()
    }

    /// Adds another one: counts add up, sentences are joined.
    pub fn merge(&mut self, _other: Self) {
        unimplemented!()
    }

    /// An `ExportXServiceResponse` in protobuf; empty when all went well.
    #[must_use]
    pub fn to_protobuf(&self) -> Bytes {
        unimplemented!()
    }

    /// An `ExportXServiceResponse` in JSON; `{}` when all went well.
    #[must_use]
    pub fn to_json(&self, _signal: Signal) -> Bytes {
        unimplemented!()
    }
}
