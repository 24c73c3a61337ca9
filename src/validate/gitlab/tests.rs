//! The call to GitLab against a server on loopback that answers by a script.

mod budget;
mod fake;
mod log;
mod setup;
mod tls;

use std::{collections::BTreeMap, net::Ipv4Addr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;
use crate::validate::{Claims, credentials::test_support};
use fake::{Fake, Reply, TRACE};

const RUNNER: &str = "t1_canary-runner";
const JOB: &str = "glcbt-64_canary-job";

fn config(url: &str) -> config::Gitlab {
    config::Gitlab { url: url.into(), timeout: Duration::from_secs(5), ..config::Gitlab::default() }
}

fn authority(config: &config::Gitlab) -> Gitlab {
    let policy = IdentityPolicy::new("gitlab-ci-runner").keeping_claims();
    Gitlab::new(config, policy, Arc::new(Digester::random()), Arc::new(Metrics::new())).unwrap()
}

fn question_about(job: &str) -> Question {
    Question {
        credentials: Arc::new(test_support::pair(&Digester::random(), RUNNER, job)),
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        correlation_id: "corr-1".into(),
        deadline: Instant::now().checked_add(Duration::from_secs(30)).unwrap(),
    }
}

fn question() -> Question {
    question_about(JOB)
}

fn allowed(verdict: Result<Verdict, Undetermined>) -> Allowed {
    match verdict {
        Ok(Verdict::Allow(allowed)) => allowed,
        other => panic!("not allowed: {other:?}"),
    }
}

fn signed_job_token(payload: &str) -> String {
    format!("glcbt-eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
}

/// Scenario: one question to a GitLab under a relative URL root, with the default header names.
/// Guarantees: method, path, body and the whole set of headers are those of the contract, no more.
#[tokio::test]
async fn the_request_is_exact() {
    let fake = Fake::start([Reply::good()]).await;
    let authority = authority(&config(&fake.url("/gitlab/")));
    allowed(authority.validate(&question()).await);
    let [seen] = &fake.seen()[..] else { panic!("{:?}", fake.seen()) };
    assert_eq!(seen.line, "POST /gitlab/api/v4/internal/ci/telemetry/auth HTTP/1.1");
    assert_eq!(seen.body, "{}");
    let headers: BTreeMap<_, _> = seen.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let agent = concat!("spangate/", env!("CARGO_PKG_VERSION"));
    let host = fake.address.to_string();
    let expected = [
        ("accept", "application/json"),
        ("content-length", "2"),
        ("content-type", "application/json"),
        ("host", &host),
        ("job-token", JOB),
        ("runner-token", RUNNER),
        ("user-agent", agent),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-request-id", "corr-1"),
    ];
    assert_eq!(headers, BTreeMap::from(expected));
    assert_eq!(seen.headers.len(), expected.len(), "no header twice");
}

/// Scenario: other header names in the configuration, and a client address that is IPv4 in IPv6's clothes.
/// Guarantees: the tokens travel under those names, the address in its plain form.
#[tokio::test]
async fn names_follow_the_configuration() {
    let fake = Fake::start([Reply::good()]).await;
    let config = config::Gitlab {
        runner_token_header: "X-Runner".into(),
        job_token_header: "X-Job".into(),
        auth_path: "internal/auth".into(),
        ..config(&fake.url(""))
    };
    let mut question = question();
    question.client = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped());
    question.correlation_id = "line\nbreak".into();
    allowed(authority(&config).validate(&question).await);
    let seen = fake.seen().remove(0);
    assert_eq!(seen.line, "POST /internal/auth HTTP/1.1");
    let header =
        |name: &str| seen.headers.iter().find(|(seen, _)| seen == name).map(|(_, value)| value.clone());
    assert_eq!(header("x-runner").as_deref(), Some(RUNNER));
    assert_eq!(header("x-job").as_deref(), Some(JOB));
    assert_eq!(header("x-forwarded-for").as_deref(), Some("192.0.2.7"));
    assert_eq!(header("x-request-id"), None, "an id that no header can hold is left out");
    assert_eq!(header("runner-token"), None);
}

/// Scenario: a 200 with the trace id, some facts and a bound, about a signed job token; others that name an end after
/// and before the token's own, and one about a token without an end.
/// Guarantees: the facts, completed by the token's claims, and the bounds are in the verdict; of two ends the first.
#[tokio::test]
async fn a_positive_answer_is_a_verdict() {
    let body = format!(r#"{{"trace_id":"{TRACE}","project_id":77,"runner_type":"group_type"}}"#);
    let fake = Fake::start([
        Reply::json(200, &body).with("cache-control", "private, max-age=90"),
        Reply::json(200, &format!(r#"{{"trace_id":"{TRACE}","expires_at":"1950000000"}}"#)),
        Reply::json(200, &format!(r#"{{"trace_id":"{TRACE}","expires_at":"1850000000"}}"#)),
        Reply::json(200, &format!(r#"{{"trace_id":"{TRACE}","expires_at":"1950000000"}}"#)),
    ])
    .await;
    let authority = authority(&config(&fake.url("")));
    let job = signed_job_token(r#"{"sub":"gid://gitlab/Ci::Build/42","g":"a","exp":1900000000}"#);
    let first = allowed(authority.validate(&question_about(&job)).await);
    assert_eq!(first.identity.trace_id().unwrap().to_string(), TRACE);
    let expected = Claims {
        job_id: Some(42),
        project_id: Some(77),
        namespace_id: Some(10),
        runner_type: Some("group_type".into()),
        ..Claims::default()
    };
    assert_eq!(first.identity.claims(), Some(&expected));
    assert_eq!(first.max_age, Some(Duration::from_secs(90)));
    assert_eq!(first.expires_at, Some(1_900_000_000));
    let second = allowed(authority.validate(&question_about(&job)).await);
    assert_eq!((second.max_age, second.expires_at), (None, Some(1_900_000_000)));
    assert_eq!(second.identity.job_key(), first.identity.job_key());
    assert_eq!(allowed(authority.validate(&question_about(&job)).await).expires_at, Some(1_850_000_000));
    assert_eq!(allowed(authority.validate(&question()).await).expires_at, Some(1_950_000_000));
}

/// Scenario: each row of the contract's table, a redirect to a server that would say yes included.
/// Guarantees: each means what the table says, costs one request (502 and 503: two), and no redirect is followed.
#[tokio::test]
async fn rows_of_the_table() {
    let elsewhere = Fake::start([Reply::good()]).await;
    let to = elsewhere.url("/yes");
    for (code, expected) in [
        (401, Ok(Denial::Unauthenticated)),
        (403, Ok(Denial::Forbidden)),
        (429, Err(Undetermined::Throttled)),
        (201, Err(Undetermined::Status(201))),
        (204, Err(Undetermined::Status(204))),
        (301, Err(Undetermined::Status(301))),
        (302, Err(Undetermined::Status(302))),
        (307, Err(Undetermined::Status(307))),
        (308, Err(Undetermined::Status(308))),
        (400, Err(Undetermined::Status(400))),
        (404, Err(Undetermined::Status(404))),
        (407, Err(Undetermined::Status(407))),
        (422, Err(Undetermined::Status(422))),
        (500, Err(Undetermined::Status(500))),
        (502, Err(Undetermined::Status(502))),
        (503, Err(Undetermined::Status(503))),
        (504, Err(Undetermined::Status(504))),
    ] {
        let reply = || Reply::json(code, r#"{"message":"x"}"#).with("location", &to);
        let fake = Fake::start([reply(), reply(), reply()]).await;
        let verdict = authority(&config(&fake.url(""))).validate(&question()).await;
        let verdict = verdict.map(|verdict| match verdict {
            Verdict::Deny(denial) => denial,
            Verdict::Allow(_) => panic!("{code} let a sender in"),
        });
        assert_eq!(verdict, expected, "{code}");
        let asked = if [502, 503].contains(&code) { 2 } else { 1 };
        assert_eq!(fake.seen().len(), asked, "{code}");
    }
    assert!(elsewhere.seen().is_empty());
}

/// Scenario: a 200 whose body is not the contract's, or is over 64 KiB with and without a declared length.
/// Guarantees: it is no verdict and is not asked again; 64 KiB to the byte still are read.
#[tokio::test]
async fn a_bad_body_is_no_verdict() {
    let padded = |len: usize| {
        let body = format!(r#"{{"trace_id":"{TRACE}","pad":""}}"#);
        let pad = "x".repeat(len - body.len());
        body.replace(r#""pad":"""#, &format!(r#""pad":"{pad}""#))
    };
    for reply in [
        Reply::json(200, ""),
        Reply::json(200, "<html>sign in</html>"),
        Reply::json(200, "{}"),
        Reply::json(200, &format!(r#"{{"trace_id":"{}"}}"#, "0".repeat(32))),
        Reply::json(200, &padded(70 << 10)),
        Reply::json(200, &padded(70 << 10)).chunked(),
        Reply::json(200, &padded((64 << 10) + 1)),
        Reply::json(401, "<html></html>").with("content-type", "text/html"),
    ] {
        let fake = Fake::start([reply]).await;
        let verdict = authority(&config(&fake.url(""))).validate(&question()).await;
        let is_none = matches!(verdict, Err(Undetermined::BadAnswer(_) | Undetermined::ForeignRefusal));
        assert!(is_none, "{verdict:?}");
        assert_eq!(fake.seen().len(), 1);
    }
    for reply in [Reply::json(200, &padded(64 << 10)), Reply::json(200, &padded(64 << 10)).chunked()] {
        let fake = Fake::start([reply]).await;
        allowed(authority(&config(&fake.url(""))).validate(&question()).await);
    }
}
