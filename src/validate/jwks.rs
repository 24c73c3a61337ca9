//! The public keys of an OpenID provider: read from a JWKS, and a signature held against them. It decides which
//! key may check which token, never what a token's claims are worth.

mod fetch;
mod key;
mod source;

use crate::config::SignatureAlgorithm;

use super::oidc::token::{Token, object};

use self::key::Key;

pub(super) use self::source::{Fit, KeySource};

/// Most keys in one set: what a provider rotates through is a handful.
const MAX_KEYS: usize = 64;

/// Keys that can be used.
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a JWKS (RFC 7517, section 5). What is no public key for these algorithms is left out, as the
    /// standard asks; a set of which nothing is left is an error, so that it never takes the place of a good one.
    pub(super) fn read(json: &[u8], algorithms: &[SignatureAlgorithm]) -> Result<Self, &'static str> {
        let set = object(json).ok_or("the JWKS is no JSON object with each key once")?;
        let keys = set.get("keys").and_then(|keys| keys.as_array()).ok_or("the JWKS has no list of keys")?;
        if keys.len() > MAX_KEYS {
            return Err("the JWKS has more than 64 keys");
        }
        let keys: Vec<_> = keys.iter().filter_map(|key| Key::read(key.as_object()?, algorithms)).collect();
        if keys.is_empty() {
            return Err("the JWKS has no public key for any of the algorithms that are taken");
        }
        Ok(Self(keys))
    }

    /// Holds a token's signature against the keys that it may be of.
    ///
    /// A token that names no key is held against the one key that it can be of, if there is only one. Since
    /// nothing says that it was this key, a signature that does not fit may be of one that is not known yet.
    fn check(&self, token: &Token<'_>) -> Fit {
        let mut candidates = self
            .0
            .iter()
            .filter(|key| token.key_id.is_none() || key.id() == token.key_id.as_deref())
            .filter_map(|key| key.for_algorithm(token.algorithm));
        let Some(first) = candidates.next() else { return Fit::Unknown };
        let fits = |key: &aws_lc_rs::signature::ParsedPublicKey| {
            key.verify_sig(token.message, &token.signature).is_ok()
        };
        if token.key_id.is_none() {
            return if candidates.next().is_none() && fits(first) { Fit::Good } else { Fit::Unknown };
        }
        if fits(first) || candidates.any(fits) { Fit::Good } else { Fit::Bad }
    }
}

#[cfg(test)]
mod tests;
