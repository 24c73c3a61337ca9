//! Credentials as they arrive: strict shape, keyed digest, redacted in every output. It decides
//! shape only, never whether a token is good.

use std::fmt;

use http::{HeaderMap, HeaderName};
use zeroize::Zeroizing;

/// The names of the two headers (or metadata keys) that carry the token pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderNames {
    /// Carries the runner token.
    pub runner_token: HeaderName,
    /// Carries the job token.
    pub job_token: HeaderName,
}

/// A keyed hash with a random key of this process: equal for equal input, useless elsewhere.
pub struct Digester {}

impl Digester {
    /// A digester with a fresh random key.
    #[must_use]
    pub fn random() -> Self {
        unimplemented!()
    }

    /// A 64-bit key for limits, of parts that can't run into each other.
    #[must_use]
    pub fn key(&self, _parts: &[&[u8]]) -> u64 {
        unimplemented!()
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

/// A keyed digest of a whole credential. `Display` and `Debug` show its first 9 hex digits, the
/// form that is safe to log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A parsed token pair.
pub struct Credentials {
    digest: Digest,
    runner_key: u64,
    runner_token: Zeroizing<Vec<u8>>,
    job_token: Zeroizing<Vec<u8>>,
}

impl Credentials {
    /// Reads the credentials of one request.
    ///
    /// # Errors
    /// [`CredentialError`] for none, half a pair, two kinds at once, one header twice, or a shape
    /// that no token has.
    pub fn from_headers(
        _headers: &HeaderMap,
        _names: &HeaderNames,
        _digester: &Digester,
    ) -> Result<Self, CredentialError> {
        unimplemented!()
    }

    /// The digest of the pair: the cache's key.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// A key that is the same for all requests with one runner token.
    #[must_use]
    pub fn runner_key(&self) -> u64 {
        self.runner_key
    }

    /// The runner token, for the authority only.
    pub(in crate::validate) fn runner_token(&self) -> &[u8] {
        &self.runner_token
    }

    /// The job token, for the authority only.
    pub(in crate::validate) fn job_token(&self) -> &[u8] {
        &self.job_token
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// What is wrong with the shape of the credentials; the text is safe to show and never quotes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum CredentialError {
    #[error("no credentials: send a runner token and a job token")]
    Missing,
    #[error("only one token of the pair: send a runner token and a job token")]
    HalfPair,
    #[error("two kinds of credentials at once: send either a token pair or a bearer token")]
    Ambiguous,
    #[error("a credential header came twice")]
    Repeated,
    #[error("a bearer token is not accepted here: send a runner token and a job token")]
    BearerNotAccepted,
    #[error("a token has a character or a length that no token has")]
    BadShape,
}
