//! What the constructor refuses, and the signature on the wire.

use std::fs;

use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

use super::*;

fn refused(config: &config::Gitlab) -> String {
    let policy = IdentityPolicy::new("x");
    let built = Gitlab::new(config, policy, Arc::new(Digester::random()), Arc::new(Metrics::new()));
    built.unwrap_err().to_string()
}

/// Scenario: settings that no question could be asked under.
/// Guarantees: each is refused with the key to mend, and without a password that was written into a URL.
#[test]
fn bad_settings_name_their_key() {
    let good = || config("https://gitlab.example.com");
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, STANDARD.encode([1; 32])).unwrap();
    let signed =
        |header: &str| config::Gitlab { secret_file: secret.clone(), secret_header: header.into(), ..good() };
    for (config, key) in [
        (config(""), "gitlab.url: "),
        (config("gitlab.example.com"), "gitlab.url: "),
        (config("ftp://gitlab.example.com"), "gitlab.url: "),
        (config("https://user:canary@gitlab.example.com"), "gitlab.url: "),
        (config("https://gitlab.example.com/?a=canary"), "gitlab.url: "),
        (config::Gitlab { auth_path: "/".into(), ..good() }, "gitlab.auth_path: "),
        (config::Gitlab { auth_path: "/auth?x=1".into(), ..good() }, "gitlab.auth_path: "),
        (config::Gitlab { job_token_header: "Job Token".into(), ..good() }, "gitlab.job_token_header: "),
        (config::Gitlab { timeout: Duration::ZERO, ..good() }, "gitlab.timeout: "),
        (config::Gitlab { max_concurrency: 0, ..good() }, "gitlab.max_concurrency: "),
        (config::Gitlab { ca_file: "/absent/ca".into(), ..good() }, "gitlab.ca_file: /absent/ca: "),
        (config::Gitlab { secret_file: "/absent/s".into(), ..good() }, "gitlab.secret_file: /absent/s: "),
        (signed("Job-Token"), "gitlab.secret_header: "),
        (signed("Host"), "gitlab.secret_header: "),
    ] {
        let told = refused(&config);
        assert!(told.starts_with(key), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

/// Scenario: the ways to write a base URL.
/// Guarantees: a relative URL root and a trailing slash give the same endpoint below it.
#[test]
fn the_endpoint_lies_below_the_url() {
    let path = "/api/v4/internal/ci/telemetry/auth";
    for (url, base) in [
        ("https://gitlab.example.com", "https://gitlab.example.com"),
        ("https://gitlab.example.com/", "https://gitlab.example.com"),
        ("http://[::1]:8080/git/lab//", "http://[::1]:8080/git/lab"),
    ] {
        assert_eq!(endpoint(&config(url)).unwrap().as_str(), format!("{base}{path}"));
    }
}

/// Scenario: a secret is configured, under other names for header, issuer and audience.
/// Guarantees: the header verifies with the raw secret, and nothing else is added to the request.
#[tokio::test]
async fn the_signature_verifies() {
    let secret: Vec<u8> = (0..32).collect();
    let folder = tempfile::tempdir().unwrap();
    let secret_file = folder.path().join("secret");
    fs::write(&secret_file, format!("{}\n", STANDARD.encode(&secret))).unwrap();
    let fake = Fake::start([Reply::good()]).await;
    let config = config::Gitlab {
        secret_file,
        secret_header: "Gitlab-Other-Api-Request".into(),
        secret_issuer: "me".into(),
        secret_audience: "you".into(),
        ..config(&fake.url(""))
    };
    allowed(authority(&config).validate(&question()).await);
    let seen = fake.seen().remove(0);
    let (_, jwt) = seen.headers.iter().find(|(name, _)| name == "gitlab-other-api-request").unwrap();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&["you"]);
    validation.set_issuer(&["me"]);
    validation.set_required_spec_claims(&["iss", "aud", "exp", "nbf"]);
    validation.validate_nbf = true;
    let claims = decode::<serde_json::Value>(jwt, &DecodingKey::from_secret(&secret), &validation);
    let claims = claims.unwrap().claims;
    let now = unix_seconds();
    assert!((now - 5..=now).contains(&claims["iat"].as_u64().unwrap()), "{claims}");
    assert_eq!(seen.headers.len(), 10, "{:?}", seen.headers);
}

/// Scenario: a request that has been built and not sent yet.
/// Guarantees: both tokens are marked, so that neither `Debug` nor HTTP/2's compression tables hold them.
#[test]
fn tokens_are_marked_sensitive() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let question = question();
    let pair = question.credentials.pair().unwrap();
    let request = authority(&config("https://gitlab.example.com")).request(&question, pair, 0).unwrap();
    let marked = request.headers().iter().filter(|(_, value)| value.is_sensitive());
    let marked: Vec<_> = marked.map(|(name, _)| name.as_str()).collect();
    assert_eq!(marked, ["runner-token", "job-token"]);
    assert!(!format!("{request:?}").contains("canary"));
}
