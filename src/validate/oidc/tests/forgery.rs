//! What a forger can write. Each test is one attack, and holds that a good token passes where it does not.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{tokens::after, *};

fn world() -> World {
    World::of(Key::p256("k1"), |_| {})
}

fn good() -> Value {
    gitlab_claims(ISSUER, AUDIENCE)
}

/// A token of three parts, the last of which need not be a signature.
fn joined(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Scenario: `alg: none` in any case, with an empty signature and with some bytes.
/// Guarantees: never taken.
#[test]
fn alg_none() {
    let world = world();
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({ "alg": name, "typ": "JWT", "kid": "k1" });
        world.refuses(&joined(&header, &good(), b"x"), Refusal::Algorithm);
        world.refuses(&joined(&header, &good(), b""), Refusal::Algorithm);
    }
    world.allows(&world.key.token(&good()));
}

/// Scenario: HS256 with the provider's public key as the secret, in the forms in which it is published.
/// Guarantees: a public key is never a secret.
#[test]
fn hs256_with_the_public_key() {
    let world = World::of(Key::rsa("k1"), |_| {});
    let jwk = world.key.jwk();
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    for secret in [modulus, jwk["n"].as_str().unwrap().into(), jwk.to_string().into_bytes()] {
        for name in ["HS256", "HS384", "HS512"] {
            let unsigned = joined(&json!({ "alg": name, "kid": "k1" }), &good(), b"");
            let message = unsigned.strip_suffix('.').unwrap();
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
            let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
            world.refuses(&forged, Refusal::Algorithm);
        }
    }
    world.allows(&world.key.token(&good()));
}

/// Scenario: a good signature by an algorithm that the provider is not configured for.
/// Guarantees: refused; the list is the operator's, not the token's.
#[test]
fn alg_not_listed() {
    let (key, listed) = (Key::p256("k1"), Key::rsa("k2"));
    let rs256 = provider(|provider| provider.algorithms = vec![SignatureAlgorithm::RS256]);
    let both = jwks(&[&key, &listed]);
    let world = World::with(key, vec![(rs256, both)]);
    world.refuses(&world.key.token(&good()), Refusal::UnlistedAlgorithm);
    world.allows(&listed.token(&good()));
}

/// Scenario: a token that names another algorithm than the one that its key is for.
/// Guarantees: a key checks by its own algorithm only, whatever the token says.
#[test]
fn alg_of_another_kind_of_key() {
    let world = world();
    for name in ["RS256", "EdDSA"] {
        let forged = world.key.sign(&json!({ "alg": name, "kid": "k1" }), &good());
        world.refuses(&forged, Refusal::UnknownKey);
    }
}

/// Scenario: no issuer, others, one that only begins or ends like the configured one, and two at once.
/// Guarantees: the issuer is compared to the letter.
#[test]
fn wrong_or_missing_issuer() {
    let world = world();
    for issuer in [
        Value::Null,
        json!(""),
        json!(7),
        json!([ISSUER]),
        json!("https://evil.example.com"),
        json!("https://gitlab.example.com/"),
        json!("https://gitlab.example.com.evil.org"),
        json!("https://GITLAB.example.com"),
    ] {
        world.refuses(&world.key.token(&claims("iss", issuer)), Refusal::Issuer);
    }
}

/// Scenario: no audience, others, an empty list, a list without ours, and the like of a text.
/// Guarantees: refused; ours alone or among others is taken.
#[test]
fn wrong_or_missing_audience() {
    let world = world();
    for audience in [
        Value::Null,
        json!(""),
        json!([]),
        json!("spangate2"),
        json!("Spangate"),
        json!(["a", "b"]),
        json!([["spangate"]]),
        json!({ "spangate": true }),
        json!("a spangate"),
    ] {
        world.refuses(&world.key.token(&claims("aud", audience)), Refusal::Audience);
    }
    world.allows(&world.key.token(&claims("aud", json!(["a", AUDIENCE]))));
}

/// Scenario: no end, an end that is no number, ends before 1970 and past any number.
/// Guarantees: a token without a clear end is refused.
#[test]
fn missing_or_odd_expiry() {
    let world = world();
    for exp in
        [Value::Null, json!("4102444800"), json!([4_102_444_800_u64]), json!(-1), json!(1e30), json!(true)]
    {
        world.refuses(&world.key.token(&claims("exp", exp)), Refusal::Times);
    }
    let whole = after(1000);
    let fraction: Value = serde_json::from_str(&format!("{whole}.5")).unwrap();
    let allowed = world.allows(&world.key.token(&claims("exp", fraction)));
    assert_eq!(allowed.expires_at, u64::try_from(whole).ok());
}

/// Scenario: tokens past their end, within the leeway for clocks and beyond it.
/// Guarantees: beyond it refused; within it taken and never kept.
#[test]
fn expired() {
    let world = world();
    for ago in [31, 3600] {
        world.refuses(&world.key.token(&claims("exp", json!(after(-ago)))), Refusal::Expired);
    }
    let allowed = world.allows(&world.key.token(&claims("exp", json!(after(-20)))));
    assert_eq!(allowed.max_age, Some(Duration::ZERO));
}

/// Scenario: tokens that begin in the future, within the leeway and beyond it, and one without a beginning.
/// Guarantees: beyond it refused; an `nbf` that is no number is never passed over.
#[test]
fn not_yet_valid() {
    let world = world();
    world.refuses(&world.key.token(&claims("nbf", json!(after(40)))), Refusal::Early);
    world.refuses(&world.key.token(&claims("nbf", json!("soon"))), Refusal::Times);
    world.allows(&world.key.token(&claims("nbf", json!(after(20)))));
    world.allows(&world.key.token(&claims("nbf", Value::Null)));
}

/// Scenario: no subject, or an odd one.
/// Guarantees: refused: limits are kept by it.
#[test]
fn missing_subject() {
    let world = world();
    for sub in [Value::Null, json!(""), json!(7)] {
        world.refuses(&world.key.token(&claims("sub", sub)), Refusal::Subject);
    }
}

/// Scenario: the name of a key that the provider does not have, an empty one, one of 257 bytes, one that is no text.
/// Guarantees: refused.
#[test]
fn wrong_key_id() {
    let world = world();
    let named = |id: Value| world.key.sign(&json!({ "alg": "ES256", "kid": id }), &good());
    world.refuses(&named(json!("k2")), Refusal::UnknownKey);
    world.refuses(&named(json!("K1")), Refusal::UnknownKey);
    for id in [json!(""), json!("k".repeat(257)), json!(1), json!(null), json!(["k1"]), json!("k\n1")] {
        world.refuses(&named(id), Refusal::KeyId);
    }
}

/// Scenario: no key id, where the provider has one key for the algorithm, and where it has two.
/// Guarantees: taken only where there is no choice.
#[test]
fn no_key_id() {
    let (first, second) = (Key::p256("k1"), Key::p256("k2"));
    let nameless = first.sign(&json!({ "alg": "ES256" }), &good());
    let both = jwks(&[&first, &second]);
    World::with(second, vec![(provider(|_| {}), both)]).refuses(&nameless, Refusal::UnknownKey);
    let world = World::of(first, |_| {});
    world.allows(&world.key.sign(&json!({ "alg": "ES256" }), &good()));
    world.refuses(&Key::p256("k3").sign(&json!({ "alg": "ES256" }), &good()), Refusal::UnknownKey);
}

/// Scenario: two providers; a token in the name of one, signed by the other's key, under that key's id.
/// Guarantees: a provider speaks for itself only.
#[test]
fn key_of_another_provider() {
    let (key, other) = (Key::p256("k1"), Key::p256("k2"));
    let evil = OidcProvider { issuer: "https://evil.example.com".into(), ..provider(|_| {}) };
    let (own, foreign) = (jwks(&[&key]), jwks(&[&other]));
    let world = World::with(key, vec![(provider(|_| {}), own), (evil, foreign)]);
    world.refuses(&other.token(&good()), Refusal::UnknownKey);
    world.allows(&other.token(&claims("iss", json!("https://evil.example.com"))));
}

/// Scenario: two issuers that use the same key id for different keys.
/// Guarantees: each token is held against its own issuer's key.
#[test]
fn two_issuers_with_the_same_key_id() {
    let (key, other) = (Key::p256("1"), Key::p256("1"));
    let second = OidcProvider { issuer: "https://second.example.com".into(), ..provider(|_| {}) };
    let (own, foreign) = (jwks(&[&key]), jwks(&[&other]));
    let world = World::with(key, vec![(provider(|_| {}), own), (second, foreign)]);
    let of_second = claims("iss", json!("https://second.example.com"));
    world.allows(&world.key.token(&good()));
    world.allows(&other.token(&of_second));
    world.refuses(&other.token(&good()), Refusal::Signature);
    world.refuses(&world.key.token(&of_second), Refusal::Signature);
}

/// Scenario: a token that is signed by a key of the forger's own, which its header brings or says where to find.
/// Guarantees: none of these headers is ever followed.
#[test]
fn embedded_jwk_jku_x5u_x5c() {
    let (world, own) = (world(), Key::p256("k1"));
    for (name, value) in [
        ("jwk", own.jwk()),
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/cert")),
        ("x5c", json!(["MIIB"])),
        ("jwk", Value::Null),
    ] {
        let mut header = json!({ "alg": "ES256", "typ": "JWT", "kid": "k1" });
        header[name] = value;
        world.refuses(&own.sign(&header, &good()), Refusal::OwnKey);
        // Nor where the signature is good: a token that tries is not one of the provider's.
        world.refuses(&world.key.sign(&header, &good()), Refusal::OwnKey);
    }
}

/// Scenario: critical extensions, and a payload that is not in base64.
/// Guarantees: what we do not know and must understand is refused.
#[test]
fn critical_extensions() {
    let world = world();
    for (name, value) in
        [("crit", json!(["exp"])), ("crit", json!([])), ("b64", json!(false)), ("b64", json!(true))]
    {
        let mut header = json!({ "alg": "ES256", "kid": "k1" });
        header[name] = value;
        world.refuses(&world.key.sign(&header, &good()), Refusal::Critical);
    }
}

/// Scenario: tokens of other kinds that the same provider signs: a logout token, a security event, a nested one.
/// Guarantees: refused; an ID token and an access token are taken, in any case of letters.
#[test]
fn other_kinds_of_tokens() {
    let world = world();
    let typed = |name: &str, value: Value| {
        let mut header = json!({ "alg": "ES256", "kid": "k1" });
        header[name] = value;
        world.key.sign(&header, &good())
    };
    for kind in ["logout+jwt", "secevent+jwt", "dpop+jwt", "JOSE", "JWE", ""] {
        world.refuses(&typed("typ", json!(kind)), Refusal::Type);
    }
    world.refuses(&typed("typ", json!(7)), Refusal::Type);
    world.refuses(&typed("cty", json!("JWT")), Refusal::Type);
    for kind in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        world.allows(&typed("typ", json!(kind)));
    }
}

/// Scenario: a key twice in the header, in the payload and within a claim, with two values that differ.
/// Guarantees: what two readers could read in two ways is refused, under a good signature too.
#[test]
fn duplicate_keys() {
    let world = world();
    let (header, payload) = (r#"{"alg":"ES256","kid":"k1"}"#, good().to_string());
    let twice = |text: &str, more: &str| format!("{{{more},{}", text.strip_prefix('{').unwrap());
    world.refuses(&world.key.sign_text(&twice(header, r#""alg":"none""#), &payload), Refusal::Json);
    world.refuses(&world.key.sign_text(&twice(header, r#""k\u0069d":"k2""#), &payload), Refusal::Json);
    world.refuses(&world.key.sign_text(header, &twice(&payload, r#""aud":"other""#)), Refusal::Json);
    world.refuses(&world.key.sign_text(header, &twice(&payload, r#""x":{"a":1,"a":2}"#)), Refusal::Json);
    world.refuses(&world.key.sign_text(header, &twice(&payload, r#""x":[[{"a":1,"a":2}]]"#)), Refusal::Json);
    world.allows(&world.key.sign_text(header, &twice(&payload, r#""x":[{"a":1},{"a":1}]"#)));
}

/// Scenario: a signature cut short by bytes and wholly, one with bytes more, and one with each byte changed in turn.
/// Guarantees: refused.
#[test]
fn truncated_and_changed_signatures() {
    for key in [Key::p256("k1"), Key::rsa("k1"), Key::ed25519("k1")] {
        let world = World::of(key, |_| {});
        let token = world.key.token(&good());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let with = |signature: &[u8]| format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        for len in [1, signature.len() / 2, signature.len() - 1] {
            world.refuses(&with(&signature[..len]), Refusal::Signature);
        }
        world.refuses(&with(&[&signature[..], &[0]].concat()), Refusal::Signature);
        world.refuses(&with(&[]), Refusal::Parts);
        for at in 0..signature.len() {
            let mut changed = signature.clone();
            changed[at] ^= 0x10;
            world.refuses(&with(&changed), Refusal::Signature);
        }
        world.allows(&token);
    }
}

/// Scenario: a token signed by another key under the id of the provider's.
/// Guarantees: refused.
#[test]
fn signature_of_another_key() {
    for (key, other) in [
        (Key::p256("k1"), Key::p256("k1")),
        (Key::rsa("k1"), Key::rsa("k1")),
        (Key::ed25519("k1"), Key::ed25519("k1")),
    ] {
        World::of(key, |_| {}).refuses(&other.token(&good()), Refusal::Signature);
    }
}

/// Scenario: ES256 with r and s in ASN.1, of 31 and 33 bytes, as zeros, and as the bytes of a signature that is good.
/// Guarantees: only r and s side by side, of full length and within range, are a signature.
#[test]
fn es256_signatures_of_wrong_length() {
    let world = world();
    let token = world.key.token(&good());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let asn1 = [&[0x30, 0x44, 2, 0x20], r, &[2, 0x20], s].concat();
    let padded = [&[0], r, &[0], s].concat();
    for forged in [asn1, padded, [&r[1..], &s[1..]].concat(), vec![0; 64], vec![0xff; 64], r.to_vec()] {
        world.refuses(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(forged)), Refusal::Signature);
    }
}

/// Scenario: another payload, and another header, under the signature of a good token.
/// Guarantees: refused: both are signed.
#[test]
fn tampered_payload_and_header() {
    let world = world();
    let token = world.key.token(&good());
    let parts: Vec<_> = token.split('.').collect();
    let payload = URL_SAFE_NO_PAD.encode(claims("project_path", json!("victim/project")).to_string());
    world.refuses(&format!("{}.{payload}.{}", parts[0], parts[2]), Refusal::Signature);
    let header = URL_SAFE_NO_PAD.encode(r#"{"kid":"k1","alg":"ES256"}"#);
    world.refuses(&format!("{header}.{}.{}", parts[1], parts[2]), Refusal::Signature);
}

/// Scenario: what is no JWT: other numbers of parts, padding, base64 of the other alphabet, stray bits, no JSON, lists.
/// Guarantees: refused for its form.
#[test]
fn no_jwt_at_all() {
    let world = world();
    let token = world.key.token(&good());
    for broken in [
        "a",
        "a.b",
        "..",
        "a..b",
        ".a.b",
        "a.b.c.d",
        "abc=.abc.abc",
        &format!("{token}.x"),
        &format!("{token}="),
    ] {
        world.refuses(broken, Refusal::Parts);
    }
    // The last letter of 64 bytes has four bits that mean nothing: another letter is another text of the same bytes.
    let mut stray = token.clone();
    let other = if stray.pop() == Some('B') { 'C' } else { 'B' };
    stray.push(other);
    assert!(matches!(Token::read(stray.as_bytes()), Err(Refusal::Parts)));
    for (header, payload) in
        [("[]", "{}"), ("{}x", "{}"), (r#"{"alg":"ES256"}"#, "[]"), (r#"{"alg":"ES256"}"#, "\"x\"")]
    {
        world.refuses(&world.key.sign_text(header, payload), Refusal::Json);
    }
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
    world.refuses(&world.key.sign_text(r#"{"alg":"ES256","kid":"k1"}"#, &deep), Refusal::Json);
}
