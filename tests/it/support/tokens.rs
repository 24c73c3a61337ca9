//! Keys of an OpenID provider that a test plays, and tokens signed with them: good ones, and any header and
//! payload that a forger could write. It knows the standards, and nothing of the gateway.

use aws_lc_rs::{
    encoding::{AsBigEndian as _, EcPublicKeyUncompressedBin},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key pair with the id under which it is published.
pub(crate) struct Key {
    pub(crate) id: String,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    /// RSA with 2048 bits.
    pub(crate) fn rsa(id: &str) -> Self {
        Self { id: id.into(), pair: Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()) }
    }

    /// The curve P-256.
    pub(crate) fn p256(id: &str) -> Self {
        Self {
            id: id.into(),
            pair: Pair::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
        }
    }

    /// The curve Ed25519.
    pub(crate) fn ed25519(id: &str) -> Self {
        Self { id: id.into(), pair: Pair::Ed25519(Ed25519KeyPair::generate().unwrap()) }
    }

    /// The public half, as providers publish it.
    pub(crate) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (kind, algorithm) = (self.kind(), self.algorithm());
        let mut jwk = json!({ "kid": self.id, "use": "sig", "alg": algorithm, "kty": kind });
        match &self.pair {
            Pair::Rsa(pair) => {
                jwk["n"] = text(pair.public_key().modulus().big_endian_without_leading_zero()).into();
                jwk["e"] = text(pair.public_key().exponent().big_endian_without_leading_zero()).into();
            }
            Pair::P256(pair) => {
                let point: EcPublicKeyUncompressedBin<'_> = pair.public_key().as_be_bytes().unwrap();
                let (x, y) = point.as_ref().get(1..).unwrap().split_at(32);
                jwk["crv"] = "P-256".into();
                jwk["x"] = text(x).into();
                jwk["y"] = text(y).into();
            }
            Pair::Ed25519(pair) => {
                jwk["crv"] = "Ed25519".into();
                jwk["x"] = text(pair.public_key().as_ref()).into();
            }
        }
        jwk
    }

    /// A token with the usual header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": self.algorithm(), "typ": "JWT", "kid": self.id }), claims)
    }

    /// A token with any header, which may lie.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// The same with header and payload as text, which may be no JSON.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Pair::P256(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn kind(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RSA",
            Pair::P256(_) => "EC",
            Pair::Ed25519(_) => "OKP",
        }
    }

    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
        }
    }
}

/// A JWKS of these keys.
pub(crate) fn jwks(keys: &[&Key]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
}

/// Seconds from now, in Unix seconds.
pub(crate) fn after(seconds: i64) -> i64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    i64::try_from(now).unwrap().checked_add(seconds).unwrap()
}

/// The claims of a GitLab CI ID token, as GitLab 18 writes them: ids are texts, but for the runner's.
pub(crate) fn gitlab_claims(issuer: &str, audience: &str) -> Value {
    json!({
        "namespace_id": "72", "namespace_path": "my-group", "project_id": "20", "project_path": "my-group/my-project",
        "user_id": "1", "user_login": "sample-user", "user_email": "sample-user@example.com", "user_access_level": "developer",
        "user_identities": [{ "provider": "github", "extern_uid": "2435223452345" }],
        "pipeline_id": "574", "pipeline_source": "push", "job_id": "302", "ref": "feature-branch-1", "ref_type": "branch",
        "ref_path": "refs/heads/feature-branch-1", "ref_protected": "false", "groups_direct": ["mygroup/mysubgroup"],
        "environment": "test-environment2", "environment_protected": "false", "deployment_tier": "testing",
        "environment_action": "start", "runner_id": 1, "runner_environment": "self-hosted",
        "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc", "project_visibility": "public",
        "ci_config_ref_uri": "gitlab.example.com/my-group/my-project//.gitlab-ci.yml@refs/heads/main",
        "ci_config_sha": "714a629c0b401fdce83e847fc9589983fc6f46bc", "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b",
        "iss": issuer, "aud": audience, "iat": after(-5), "nbf": after(-10), "exp": after(3600),
        "sub": "project_path:my-group/my-project:ref_type:branch:ref:feature-branch-1",
    })
}

/// The claims of an identity token of Google Compute Engine, in the format `full`.
pub(crate) fn google_claims(audience: &str) -> Value {
    json!({
        "iss": "https://accounts.google.com", "aud": audience, "azp": "104029292853099978293",
        "sub": "104029292853099978293", "email": "123456789012-compute@developer.gserviceaccount.com", "email_verified": true,
        "iat": after(-5), "exp": after(3595),
        "google": { "compute_engine": {
            "project_id": "my-project", "project_number": 739_419_398_126_u64, "zone": "us-west1-a",
            "instance_id": "152986662232938449", "instance_name": "runner-7", "instance_creation_timestamp": 1_496_952_205,
            "instance_confidentiality": 1, "license_id": ["1000204"],
        } },
    })
}
