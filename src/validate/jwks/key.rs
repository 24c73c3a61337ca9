//! One JWK, made ready to check signatures by the algorithms that it is for. It decides what a usable key is:
//! public, for signatures, of a sound size. Anything else is no key at all.

use aws_lc_rs::{
    encoding::AsDer as _,
    signature::{self, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{
    config::SignatureAlgorithm::{
        self, ES256, ES384, ES512, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512,
    },
    validate::oidc::token::{algorithm, is_key_id},
};

/// Bits of an RSA key: fewer can be factored, more make each check a burden.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Longest public exponent, in bytes; nearly all are 65537.
const MAX_EXPONENT: usize = 4;

/// A public key for signatures.
pub(super) struct Key {
    id: Option<Box<str>>,
    /// One for each algorithm, because a key checks by one algorithm only: what a token says can't change it.
    uses: Vec<(SignatureAlgorithm, ParsedPublicKey)>,
}

impl Key {
    /// Reads a JWK; `None` if it is of no use for these algorithms.
    pub(super) fn read(jwk: &Map<String, Value>, algorithms: &[SignatureAlgorithm]) -> Option<Self> {
        let id = match jwk.get("kid") {
            None => None,
            Some(Value::String(id)) if is_key_id(id) => Some(id.as_str().into()),
            Some(_) => return None,
        };
        let is_for_signatures = jwk.get("use").is_none_or(|purpose| purpose == "sig")
            && jwk.get("key_ops").is_none_or(|operations| {
                operations.as_array().is_some_and(|list| list.iter().any(|operation| operation == "verify"))
            });
        // A secret or private key that is published is everybody's.
        let is_public = !jwk.contains_key("d") && !jwk.contains_key("k");
        if !is_for_signatures || !is_public {
            return None;
        }
        let only = match jwk.get("alg") {
            None => None,
            Some(name) => Some(algorithm(name.as_str()?)?),
        };
        let (family, material) = material(jwk)?;
        let uses: Vec<_> = algorithms
            .iter()
            .filter(|algorithm| family.contains(algorithm) && only.is_none_or(|only| only == **algorithm))
            .filter_map(|algorithm| {
                Some((*algorithm, ParsedPublicKey::new(verification(*algorithm), &material).ok()?))
            })
            .collect();
        (!uses.is_empty()).then_some(Self { id, uses })
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The key, ready for this algorithm; `None` if it is not for it.
    pub(super) fn for_algorithm(&self, algorithm: SignatureAlgorithm) -> Option<&ParsedPublicKey> {
        self.uses.iter().find(|(own, _)| *own == algorithm).map(|(_, key)| key)
    }
}

/// What the key is made of, in the form that it is parsed from, and the algorithms of its kind. A shared secret
/// (`oct`) is none.
fn material(jwk: &Map<String, Value>) -> Option<(&'static [SignatureAlgorithm], Vec<u8>)> {
    let text = |name: &str| jwk.get(name)?.as_str();
    let number = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    match (text("kty")?, text("crv")) {
        ("RSA", None) => {
            let (n, e) = (number("n")?, number("e")?);
            // Some providers write a leading zero byte that the standard forbids.
            let (n, e) = (without_zeros(&n), without_zeros(&e));
            let top = n.first()?.leading_zeros();
            let bits = n.len().checked_mul(8)?.checked_sub(usize::try_from(top).ok()?)?;
            if !RSA_BITS.contains(&bits) || e.len() > MAX_EXPONENT {
                return None;
            }
            let der = RsaPublicKeyComponents { n, e }.as_der().ok()?;
            Some((&[RS256, RS384, RS512, PS256, PS384, PS512], der.as_ref().to_vec()))
        }
        ("EC", Some(curve)) => {
            let (family, len): (&[SignatureAlgorithm], usize) = match curve {
                "P-256" => (&[ES256], 32),
                "P-384" => (&[ES384], 48),
                "P-521" => (&[ES512], 66),
                _ => return None,
            };
            let (x, y) = (number("x")?, number("y")?);
            (x.len() == len && y.len() == len).then(|| (family, [&[4], &x[..], &y[..]].concat()))
        }
        ("OKP", Some("Ed25519")) => {
            let x = number("x")?;
            (x.len() == 32).then_some((&[EdDSA], x))
        }
        _ => None,
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Signatures on curves are r and s side by side, each of full length (RFC 7518, section 3.4), never ASN.1.
fn verification(algorithm: SignatureAlgorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        ES256 => &signature::ECDSA_P256_SHA256_FIXED,
        ES384 => &signature::ECDSA_P384_SHA384_FIXED,
        ES512 => &signature::ECDSA_P521_SHA512_FIXED,
        EdDSA => &signature::ED25519,
    }
}
