//! Why a bearer token was refused: for the operator's log, never for the sender, who is told no more than
//! that. No text holds anything of the token.

use crate::validate::Denial;

/// Why a bearer token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum Refusal {
    #[error("it is not three parts in base64url")]
    Parts,
    #[error("its header or its payload is no JSON object with each key once")]
    Json,
    #[error("its algorithm is none, one with a shared secret, or not known")]
    Algorithm,
    #[error("it brings its own key, or a place to take it from (jwk, jku, x5u, x5c)")]
    OwnKey,
    #[error("it relies on an extension (crit, b64), and none is known here")]
    Critical,
    #[error("its kid is empty, too long, or no text")]
    KeyId,
    #[error("its typ or cty is not that of an ID token or an access token")]
    Type,
    #[error("its iss is that of no provider in oidc.providers")]
    Issuer,
    #[error("its algorithm is not in the provider's `algorithms`")]
    UnlistedAlgorithm,
    #[error("its aud has none of the provider's `audiences`")]
    Audience,
    #[error("it has no sub")]
    Subject,
    #[error("it has no exp, or its exp or nbf is no number")]
    Times,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet (nbf)")]
    Early,
    #[error("its key is none of the provider's")]
    UnknownKey,
    #[error("its signature does not fit its key")]
    Signature,
    #[error("a claim in the provider's `require` is missing or has another value")]
    Required,
    #[error("the claim in the provider's `trace_id_claim` is no trace id")]
    TraceId,
}

impl Refusal {
    /// What the sender gets: 403 for a good token of somebody who may not, 401 for one that is not good.
    #[must_use]
    pub fn denial(self) -> Denial {
        match self {
            Self::Required | Self::TraceId => Denial::Forbidden,
            _ => Denial::Unauthenticated,
        }
    }

    /// A name out of a closed set, for what counts refusals by their kind.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Parts => "parts",
            Self::Json => "json",
            Self::Algorithm => "algorithm",
            Self::OwnKey => "own_key",
            Self::Critical => "critical",
            Self::KeyId => "key_id",
            Self::Type => "type",
            Self::Issuer => "issuer",
            Self::UnlistedAlgorithm => "unlisted_algorithm",
            Self::Audience => "audience",
            Self::Subject => "subject",
            Self::Times => "times",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Required => "required",
            Self::TraceId => "trace_id",
        }
    }
}
