//! Content encodings, in and out: bounded inflation and deflation of whole bodies in memory.

use bytes::Bytes;

/// A content encoding of OTLP.
///
/// Source: OTLP specification, "OTLP/HTTP Request"; gRPC `grpc-encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As it is.
    #[default]
    #[serde(rename = "none")]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Bounds on what an inflated body may become.
#[derive(Clone, Copy, Debug)]
pub struct InflateCaps {
    /// Longest inflated body, in bytes.
    pub max_size: usize,
    /// Most inflated bytes for one compressed byte, past the first 64 KiB of output.
    pub max_ratio: u32,
}

/// Why a body could not be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// Longer than the cap.
    #[error("the inflated body is longer than allowed")]
    TooLarge,
    /// A higher ratio than the cap.
    #[error("the body inflates by a higher ratio than allowed")]
    Ratio,
    /// Not what its encoding says, or cut short, or followed by other bytes.
    #[error("the body is not valid in its content encoding")]
    Corrupt,
}

impl Encoding {
    /// The token in `Content-Encoding` and `grpc-encoding`.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Reads one header value (a single token, any case, surrounding spaces allowed).
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        let token = token.trim();
        [Self::Identity, Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|encoding| token.eq_ignore_ascii_case(encoding.token()))
    }
}

/// Inflates a whole body within `caps`. `Identity` gives the input back (checked for size too).
///
/// # Errors
/// See [`InflateError`].
pub fn inflate(_encoding: Encoding, _body: &Bytes, _caps: InflateCaps) -> Result<Bytes, InflateError> {
    unimplemented!()
}

/// Compresses a body given as pieces, for the way out.
#[must_use]
pub fn deflate(_encoding: Encoding, _pieces: &[Bytes]) -> Vec<Bytes> {
    unimplemented!()
}
