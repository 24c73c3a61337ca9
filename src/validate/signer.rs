//! The gateway's own signature on its calls to GitLab: a short-lived HS256 JWT. It decides the
//! claims and their times; it never signs anything about a sender.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::config;

use super::{BuildError, credentials::own_header};

const SECRET_KEY: &str = "gitlab.secret_file";
/// Bytes of the shared secret: the convention of GitLab's KAS, Workhorse and Pages.
pub(super) const SECRET_LEN: usize = 32;
/// How far back a signature is good, for a GitLab whose clock is behind.
pub(super) const NOT_BEFORE: u64 = 5;
/// How long a signature is good: one call, its retry, and a GitLab whose clock is ahead.
pub(super) const LIFETIME: u64 = 30;

/// Signs calls with the secret that GitLab shares with the gateway.
#[derive(Debug)]
pub(super) struct Signer {
    header: HeaderName,
    key: EncodingKey,
    issuer: String,
    audience: String,
}

#[derive(Serialize)]
struct SignedClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
}

impl Signer {
    /// The signer that the configuration asks for; `None` without a secret file.
    pub(super) fn from_config(config: &config::Gitlab) -> Result<Option<Self>, BuildError> {
        if config.secret_file.as_os_str().is_empty() {
            return Ok(None);
        }
        let header = own_header("gitlab.secret_header", &config.secret_header)?;
        let secret = read_secret(SECRET_KEY, &config.secret_file)?;
        Ok(Some(Self {
            header,
            key: EncodingKey::from_secret(&secret),
            issuer: config.secret_issuer.clone(),
            audience: config.secret_audience.clone(),
        }))
    }

    pub(super) fn header(&self) -> &HeaderName {
        &self.header
    }

    /// The value of the signed header for a call at `now` (Unix seconds); `None` if it can't be made.
    pub(super) fn sign(&self, now: u64) -> Option<HeaderValue> {
        let claims = SignedClaims {
            iss: &self.issuer,
            aud: &self.audience,
            iat: now,
            nbf: now.saturating_sub(NOT_BEFORE),
            exp: now.saturating_add(LIFETIME),
        };
        let jwt = Zeroizing::new(encode(&Header::new(Algorithm::HS256), &claims, &self.key).ok()?);
        let mut value = HeaderValue::from_str(&jwt).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether a signature made at `signed` (ours) can be good by a clock that says `theirs`, both in
    /// Unix seconds.
    pub(super) fn is_timely(signed: u64, theirs: u64) -> bool {
        (signed.saturating_sub(NOT_BEFORE)..signed.saturating_add(LIFETIME)).contains(&theirs)
    }
}

/// The time of this machine in Unix seconds.
pub(super) fn unix_seconds() -> u64 {
    unix_seconds_of(SystemTime::now())
}

/// Unix seconds of a moment; 0 for one before 1970.
pub(super) fn unix_seconds_of(moment: SystemTime) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that turns moments into seconds, saturating"
    )]
    moment.duration_since(SystemTime::UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs)
}

/// The secret that the file of a key holds.
pub(super) fn read_secret(key: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, BuildError> {
    let problem = |problem: String| BuildError::file(key, path, problem);
    let text =
        fs::read(path).map(Zeroizing::new).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let secret = STANDARD.decode(text.trim_ascii()).map(Zeroizing::new).map_err(|_| {
        problem(format!("is not base64: write {SECRET_LEN} random bytes, as `openssl rand -base64 32` does"))
    })?;
    if secret.len() != SECRET_LEN {
        return Err(problem(format!(
            "holds {} bytes in base64 where {SECRET_LEN} are needed: write it as `openssl rand -base64 32` does",
            secret.len()
        )));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;

    fn config(content: &str) -> (tempfile::TempDir, config::Gitlab) {
        let folder = tempfile::tempdir().unwrap();
        let secret_file = folder.path().join("secret");
        fs::write(&secret_file, content).unwrap();
        (folder, config::Gitlab { secret_file, ..config::Gitlab::default() })
    }

    /// Scenario: a secret file with and without a newline at its end.
    /// Guarantees: the signature verifies with the raw bytes, names issuer and audience, and has the agreed times.
    #[test]
    fn signature_verifies() {
        let secret = [7_u8; 32];
        for end in ["", "\n", "\r\n"] {
            let (_folder, config) = config(&format!("{}{end}", STANDARD.encode(secret)));
            let signer = Signer::from_config(&config).unwrap().unwrap();
            let now = unix_seconds();
            let value = signer.sign(now).unwrap();
            assert!(value.is_sensitive());
            let mut validation = Validation::new(Algorithm::HS256);
            validation.set_audience(&["gitlab"]);
            validation.set_issuer(&["gitlab-ci-telemetry-gateway"]);
            validation.required_spec_claims = HashSet::from(["iss", "aud", "exp", "nbf"].map(String::from));
            validation.validate_nbf = true;
            let key = DecodingKey::from_secret(&secret);
            let claims =
                decode::<serde_json::Value>(value.to_str().unwrap(), &key, &validation).unwrap().claims;
            assert_eq!(claims["iat"], now);
            assert_eq!(claims["nbf"], now - 5);
            assert_eq!(claims["exp"], now + 30);
        }
    }

    /// Scenario: no secret file, and files that hold no secret of 32 bytes.
    /// Guarantees: none means unsigned; a bad one is an error that names key, file and remedy, never its content.
    #[test]
    fn bad_secrets_are_told() {
        assert!(Signer::from_config(&config::Gitlab::default()).unwrap().is_none());
        for content in
            ["", "not base64!canary", &STANDARD.encode([1; 31]), &STANDARD.encode([1; 33]), "canary=="]
        {
            let (_folder, config) = config(content);
            let told = Signer::from_config(&config).unwrap_err().to_string();
            assert!(told.starts_with("gitlab.secret_file: "), "{told}");
            assert!(told.contains("openssl rand -base64 32"), "{told}");
            assert!(!told.contains("canary"), "{told}");
        }
        let (folder, mut config) = config("x");
        config.secret_file = folder.path().join("absent");
        let told = Signer::from_config(&config).unwrap_err().to_string();
        assert!(told.contains("absent: cannot be read"), "{told}");
    }

    /// Scenario: what can be printed of a signer.
    /// Guarantees: the key is not in it.
    #[test]
    fn debug_hides_the_key() {
        let (_folder, config) = config(&STANDARD.encode([b'K'; 32]));
        let printed = format!("{:?}", Signer::from_config(&config).unwrap());
        assert!(
            printed.contains("redacted") && !printed.contains("75, 75") && !printed.contains("KKKK"),
            "{printed}"
        );
    }

    /// Scenario: GitLab's clock before, within and after the life of a signature.
    /// Guarantees: the bounds are those that were signed.
    #[test]
    fn clocks_are_compared() {
        for (theirs, timely) in [(994, false), (995, true), (1000, true), (1029, true), (1030, false)] {
            assert_eq!(Signer::is_timely(1000, theirs), timely, "{theirs}");
        }
    }
}
