//! Credentials as they arrive: strict shape, keyed digest, redacted in every output. It decides
//! shape only, never whether a token is good.

mod shared;
mod trusted;

use std::fmt;

use aws_lc_rs::{hmac, rand::SystemRandom};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, GetAll},
};
use zeroize::Zeroizing;

use crate::config::{self, check::TAKEN_HEADERS};

use super::BuildError;

pub use shared::Mark;
pub(in crate::validate) use trusted::Sender;

/// Longest runner token in bytes. Routable ones reach 333.
pub(super) const MAX_RUNNER_TOKEN: usize = 512;
/// Longest job token in bytes. Signed ones are about 0.8 to 1.2 KB.
pub(super) const MAX_JOB_TOKEN: usize = 4096;
/// Longest bearer token in bytes. Cloud providers' and GitLab's own are about 1 to 2 KB.
const MAX_BEARER_TOKEN: usize = 8192;

/// The names of the two headers (or metadata keys) that carry the token pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderNames {
    /// Carries the runner token.
    pub runner_token: HeaderName,
    /// Carries the job token.
    pub job_token: HeaderName,
}

impl HeaderNames {
    /// The names that the configuration gives.
    ///
    /// # Errors
    /// [`BuildError::Setting`] for what is no header name, for one name given to both tokens, and for a
    /// name that already means something else.
    pub fn from_config(config: &config::Gitlab) -> Result<Self, BuildError> {
        let runner_token = own_header("gitlab.runner_token_header", &config.runner_token_header)?;
        let job_token = own_header("gitlab.job_token_header", &config.job_token_header)?;
        if runner_token == job_token {
            return Err(BuildError::setting(
                "gitlab.job_token_header",
                "is the same as gitlab.runner_token_header: each token needs a header of its own",
            ));
        }
        Ok(Self { runner_token, job_token })
    }
}

/// A header name that is free for a purpose of our own.
pub(in crate::validate) fn own_header(key: &'static str, name: &str) -> Result<HeaderName, BuildError> {
    let name: HeaderName =
        name.parse().map_err(|_| BuildError::setting(key, format!("{name:?} is no HTTP header name")))?;
    if TAKEN_HEADERS.contains(&name.as_str()) {
        return Err(BuildError::setting(
            key,
            format!("\"{name}\" already has a meaning: use a name of its own"),
        ));
    }
    Ok(name)
}

/// A keyed hash with a random key of this process: equal for equal input, useless elsewhere.
///
/// Keyed, so that a leaked digest can't be tried against guessed tokens. What limits are kept by has a key of
/// its own, which replicas may share ([`Self::sharing`]).
pub struct Digester {
    key: hmac::Key,
    limits: hmac::Key,
}

/// What a hash is for: one input never gives the same hash for two purposes.
#[derive(Clone, Copy)]
enum Purpose {
    Pair = 1,
    Runner = 2,
    Key = 3,
    Bearer = 4,
    Trusted = 5,
    Job = 6,
    Denial = 7,
    Seal = 8,
}

impl Digester {
    /// A digester with a fresh random key.
    ///
    /// # Panics
    /// When the system gives no random bytes: there is nothing safe to go on with.
    #[must_use]
    pub fn random() -> Self {
        #[expect(clippy::expect_used, reason = "at start only, and no peer has a part in it")]
        let fresh = || {
            hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
                .expect("the system must give random bytes")
        };
        Self { key: fresh(), limits: fresh() }
    }

    /// A 64-bit key for limits, of parts that can't run into each other.
    #[must_use]
    pub fn key(&self, parts: &[&[u8]]) -> u64 {
        self.hash64(Purpose::Key, parts)
    }

    /// For limits only: 64 bits tell senders apart, and no credential.
    fn hash64(&self, purpose: Purpose, parts: &[&[u8]]) -> u64 {
        let hash = hash(&self.limits, purpose, parts);
        hash.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }

    fn hash(&self, purpose: Purpose, parts: &[&[u8]]) -> [u8; 32] {
        hash(&self.key, purpose, parts)
    }
}

/// Each part is preceded by its length, so that ("ab", "c") and ("a", "bc") differ; the parts are
/// fed one by one, so that no second copy of a token is ever made.
fn hash(key: &hmac::Key, purpose: Purpose, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    context.update(&[purpose as u8]);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    hash
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

impl Digest {
    pub(in crate::validate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its first half, for tables of many: 128 bits under a key that nobody outside knows can't be aimed at
    /// another's, and two of a hundred thousand never meet by chance.
    #[must_use]
    pub fn half(&self) -> [u8; 16] {
        self.0.first_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [whole @ .., half] = self.0.first_chunk::<5>().unwrap_or(&[0; 5]);
        whole.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "{:x}", half >> 4)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which kinds of tokens are taken where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepts {
    /// A runner token and a job token.
    pub pair: bool,
    /// A bearer token: a JWT of an `OpenID` provider.
    pub bearer: bool,
}

impl Accepts {
    /// Token pairs only.
    pub const PAIR: Self = Self { pair: true, bearer: false };
}

/// What a sender that brought nothing is told to bring.
impl fmt::Display for Accepts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.pair, self.bearer) {
            (true, true) => "send a runner token and a job token, or a bearer token",
            (false, true) => "send a bearer token",
            _ => "send a runner token and a job token",
        })
    }
}

/// A kind of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A runner token and a job token.
    Pair,
    /// A bearer token.
    Bearer,
    /// No token: a client certificate, or a network that only trusted services reach.
    Trusted,
}

/// Parsed credentials. Tokens live in buffers that are wiped when the last owner lets go.
pub struct Credentials {
    digest: Digest,
    runner_key: u64,
    proof: Proof,
}

/// What a sender shows.
enum Proof {
    Pair { runner_token: Zeroizing<Vec<u8>>, job_token: Zeroizing<Vec<u8>> },
    Bearer(Zeroizing<Vec<u8>>),
    Trusted(Sender),
}

/// A token pair, for the authority only.
#[derive(Clone, Copy)]
pub(in crate::validate) struct Pair<'a> {
    pub(in crate::validate) runner_token: &'a [u8],
    pub(in crate::validate) job_token: &'a [u8],
}

impl Credentials {
    /// Reads the credentials of one request.
    ///
    /// What else is in the headers is not looked at. A bearer token beside the pair is refused: which of
    /// the two speaks for the sender must not depend on who reads. An `Authorization` of another scheme
    /// is no credential of ours; a proxy on the way may have added it.
    ///
    /// # Errors
    /// [`CredentialError`] for none, half a pair, two kinds at once, one header twice, a kind that is not
    /// taken here, or a shape that no token has.
    pub fn from_headers(
        headers: &HeaderMap,
        names: &HeaderNames,
        accepts: Accepts,
        digester: &Digester,
    ) -> Result<Self, CredentialError> {
        let runner = at_most_one(headers.get_all(&names.runner_token))?;
        let job = at_most_one(headers.get_all(&names.job_token))?;
        let authorization = at_most_one(headers.get_all(header::AUTHORIZATION))?;
        match (runner, job, authorization) {
            (_, _, Some(authorization))
                if (runner.is_some() || job.is_some()) && is_bearer(authorization) =>
            {
                Err(CredentialError::Ambiguous)
            }
            (Some(_), Some(_), _) if !accepts.pair => Err(CredentialError::PairNotAccepted),
            (Some(runner), Some(job), _) => Self::from_pair(runner.as_bytes(), job.as_bytes(), digester),
            (None, None, Some(authorization)) if is_bearer(authorization) => {
                if accepts.bearer {
                    Self::from_bearer(authorization.as_bytes(), digester)
                } else {
                    Err(CredentialError::BearerNotAccepted)
                }
            }
            // Another scheme is no credential of ours: the sender has to be told what is.
            (None, None, _) => Err(CredentialError::Missing(accepts)),
            (Some(_), None, _) | (None, Some(_), _) => Err(CredentialError::HalfPair),
        }
    }

    fn from_pair(runner: &[u8], job: &[u8], digester: &Digester) -> Result<Self, CredentialError> {
        if !has_token_shape(runner, MAX_RUNNER_TOKEN) || !has_token_shape(job, MAX_JOB_TOKEN) {
            return Err(CredentialError::BadShape);
        }
        Ok(Self {
            digest: Digest(digester.hash(Purpose::Pair, &[runner, job])),
            runner_key: digester.hash64(Purpose::Runner, &[runner]),
            proof: Proof::Pair {
                runner_token: Zeroizing::new(runner.to_vec()),
                job_token: Zeroizing::new(job.to_vec()),
            },
        })
    }

    /// Reads the value of an `Authorization` header whose scheme is Bearer (RFC 6750 section 2.1).
    fn from_bearer(authorization: &[u8], digester: &Digester) -> Result<Self, CredentialError> {
        let space = authorization.iter().position(|byte| *byte == b' ');
        let token = space.and_then(|at| authorization.get(at..)).unwrap_or_default().trim_ascii_start();
        if !has_token_shape(token, MAX_BEARER_TOKEN) {
            return Err(CredentialError::BadShape);
        }
        let digest = digester.hash(Purpose::Bearer, &[token]);
        Ok(Self {
            digest: Digest(digest),
            runner_key: digest.first_chunk().copied().map_or(0, u64::from_be_bytes),
            proof: Proof::Bearer(Zeroizing::new(token.to_vec())),
        })
    }

    /// The digest of the whole credential: the cache's key.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Of which kind they are.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.proof {
            Proof::Pair { .. } => Kind::Pair,
            Proof::Bearer(_) => Kind::Bearer,
            Proof::Trusted(_) => Kind::Trusted,
        }
    }

    /// A key that is the same for all requests with one runner token, or with one bearer token.
    #[must_use]
    pub fn runner_key(&self) -> u64 {
        self.runner_key
    }

    /// The token pair, for the authority only; `None` for another kind of credentials.
    pub(in crate::validate) fn pair(&self) -> Option<Pair<'_>> {
        match &self.proof {
            Proof::Pair { runner_token, job_token } => Some(Pair { runner_token, job_token }),
            Proof::Bearer(_) | Proof::Trusted(_) => None,
        }
    }

    /// The bearer token, for the authority only; `None` for another kind of credentials.
    pub(in crate::validate) fn bearer(&self) -> Option<&[u8]> {
        match &self.proof {
            Proof::Bearer(token) => Some(token),
            Proof::Pair { .. } | Proof::Trusted(_) => None,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("digest", &self.digest).finish_non_exhaustive()
    }
}

fn at_most_one(values: GetAll<'_, HeaderValue>) -> Result<Option<&HeaderValue>, CredentialError> {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(CredentialError::Repeated),
    }
}

/// Whether the scheme is Bearer (RFC 9110 section 11.1: compared without regard to case).
fn is_bearer(authorization: &HeaderValue) -> bool {
    let scheme = authorization.as_bytes().split(|byte| *byte == b' ').next();
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
}

/// The characters of every kind of token that GitLab mints; no prefix is required, because
/// instances choose their own.
fn has_token_shape(token: &[u8], max: usize) -> bool {
    (1..=max).contains(&token.len())
        && token.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.=-".contains(byte))
}

/// What is wrong with the shape of the credentials; the text is safe to show and never quotes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum CredentialError {
    #[error("no credentials: {0}")]
    Missing(Accepts),
    #[error("only one token of the pair: send a runner token and a job token")]
    HalfPair,
    #[error("two kinds of credentials at once: send either a token pair or a bearer token")]
    Ambiguous,
    #[error("a credential header came twice")]
    Repeated,
    #[error("a bearer token is not accepted here: send a runner token and a job token")]
    BearerNotAccepted,
    #[error("a token pair is not accepted here: send a bearer token")]
    PairNotAccepted,
    #[error("a token has a character or a length that no token has")]
    BadShape,
}

#[cfg(test)]
impl Credentials {
    /// Credentials with a digest of their own for each number, spread as real ones are, and no tokens.
    pub(crate) fn for_test(number: u32) -> Self {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &number.to_be_bytes());
        Self {
            digest: Digest(hash.as_ref().try_into().unwrap()),
            runner_key: 0,
            proof: Proof::Pair {
                runner_token: Zeroizing::new(Vec::new()),
                job_token: Zeroizing::new(Vec::new()),
            },
        }
    }
}

/// Credentials for the tests of this module's neighbours.
#[cfg(test)]
pub(in crate::validate) mod test_support {
    use super::{Credentials, Digester};

    pub(in crate::validate) fn pair(digester: &Digester, runner: &str, job: &str) -> Credentials {
        Credentials::from_pair(runner.as_bytes(), job.as_bytes(), digester).unwrap()
    }

    pub(in crate::validate) fn bearer(digester: &Digester, token: &str) -> Credentials {
        Credentials::from_bearer(format!("Bearer {token}").as_bytes(), digester).unwrap()
    }
}

#[cfg(test)]
mod tests;
