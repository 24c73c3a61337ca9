//! Which JWKs are keys, and which sets are sets.

use serde_json::{Value, json};

use super::*;
use crate::validate::oidc::tests::tokens::{Key as Pair, jwks};

const ALL: [SignatureAlgorithm; 3] =
    [SignatureAlgorithm::RS256, SignatureAlgorithm::ES256, SignatureAlgorithm::EdDSA];

fn read(set: &Value) -> Result<usize, &'static str> {
    KeySet::read(set.to_string().as_bytes(), &ALL).map(|set| set.0.len())
}

/// One key with a member in place of another, or taken away by `null`.
fn with(key: &Value, name: &str, value: Value) -> Value {
    let mut key = key.clone();
    if value.is_null() {
        key.as_object_mut().unwrap().remove(name);
    } else {
        key[name] = value;
    }
    json!({ "keys": [key] })
}

/// Scenario: keys of each kind, with and without `use`, `alg` and `key_ops`, and a modulus with a leading zero.
/// Guarantees: they are keys.
#[test]
fn what_is_a_key() {
    let (rsa, p256, ed) = (Pair::rsa("a"), Pair::p256("b"), Pair::ed25519("c"));
    assert_eq!(read(&jwks(&[&rsa, &p256, &ed])), Ok(3));
    for key in [rsa.jwk(), p256.jwk(), ed.jwk()] {
        for name in ["use", "alg", "kid"] {
            assert_eq!(read(&with(&key, name, Value::Null)), Ok(1), "{key} without {name}");
        }
        assert_eq!(read(&with(&key, "key_ops", json!(["verify"]))), Ok(1));
        assert_eq!(read(&with(&key, "x5c", json!(["MII"]))), Ok(1));
    }
    assert_eq!(read(&with(&ed.jwk(), "alg", json!("Ed25519"))), Ok(1));
    let padded = format!("AA{}", rsa.jwk()["n"].as_str().unwrap());
    // Two letters are twelve bits: only whole triples of zero bytes keep the rest in place.
    assert_eq!(read(&with(&rsa.jwk(), "n", json!(format!("AA{padded}")))), Ok(1));
}

/// Scenario: secrets, private keys, keys for encryption, for other algorithms, too short or too long ones, points off
/// their curve, and odd members.
/// Guarantees: none of them is a key, and a set of nothing else is an error.
#[test]
fn what_is_no_key() {
    let (rsa, p256, ed) = (Pair::rsa("a").jwk(), Pair::p256("b").jwk(), Pair::ed25519("c").jwk());
    let short = rsa["n"].as_str().unwrap().get(..170);
    let long = "_".repeat(1368);
    let x = p256["x"].clone();
    for set in [
        json!({ "keys": [{ "kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "alg": "HS256", "kid": "a" }] }),
        json!({ "keys": [{ "kty": "oct", "k": "AAAA", "alg": "ES256" }] }),
        with(&rsa, "n", json!(short)),
        with(&rsa, "n", json!(long)),
        with(&rsa, "n", json!("not base64!")),
        with(&rsa, "e", json!("AQABAQAB")),
        with(&rsa, "e", json!("AQ")),
        with(&rsa, "e", json!("BA")),
        with(&rsa, "e", Value::Null),
        with(&rsa, "d", json!("AQAB")),
        with(&rsa, "use", json!("enc")),
        with(&rsa, "use", json!(1)),
        with(&rsa, "alg", json!("RSA-OAEP")),
        with(&rsa, "alg", json!("HS256")),
        with(&rsa, "alg", json!("RS512")),
        with(&rsa, "alg", json!("ES256")),
        with(&rsa, "key_ops", json!(["sign", "encrypt"])),
        with(&rsa, "key_ops", json!("verify")),
        with(&rsa, "kid", json!(7)),
        with(&rsa, "kid", json!("k".repeat(257))),
        with(&rsa, "kty", json!("rsa")),
        with(&p256, "y", x),
        with(&p256, "x", json!("AAAA")),
        with(&p256, "crv", json!("P-384")),
        with(&p256, "crv", json!("secp256k1")),
        with(&ed, "crv", json!("X25519")),
        with(&ed, "x", json!("AAAA")),
        json!({ "keys": [] }),
        json!({ "keys": ["a", 1, null, []] }),
    ] {
        assert!(read(&set).is_err(), "{set}");
    }
}

/// Scenario: a secret, a broken key and a good one in one set.
/// Guarantees: the good one is used, and the secret is no key for anything.
#[test]
fn a_good_key_beside_others() {
    let good = Pair::p256("b").jwk();
    let set = json!({ "keys": [{ "kty": "oct", "k": "AAAA", "kid": "b" }, { "kty": "EC" }, good, { "kty": "PQ" }] });
    assert_eq!(read(&set), Ok(1));
}

/// Scenario: 64 keys and 65, a set that is no object, one that has its keys twice.
/// Guarantees: bounded, and read in one way only.
#[test]
fn sets_are_bounded_and_strict() {
    let key = Pair::p256("b").jwk();
    let set = |count: usize| json!({ "keys": vec![key.clone(); count] });
    assert_eq!(read(&set(64)), Ok(64));
    assert_eq!(read(&set(65)), Err("the JWKS has more than 64 keys"));
    let twice = format!(r#"{{"keys":[{key}],"keys":[{key}]}}"#);
    for text in [twice.as_str(), "", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
        assert!(KeySet::read(text.as_bytes(), &ALL).is_err(), "{text}");
    }
}
