//! Tokens end in the gateway: the real process at its most talkative is fed with recognisable
//! tokens in every kind of trouble, and nothing that it says may hold a piece of one.

use std::{fmt::Write as _, time::Duration};

use base64::Engine as _;
use bytes::Bytes;
use prost::Message as _;
use serde_json::json;
use spangate::config::{Authentication, LogLevel, OidcProvider};

use crate::support::{
    authority::{Authority, Script},
    client::{Export, Form},
    collector::{Collector, Reply},
    issuer::Issuer,
    job::Job,
    process::Spangate,
    spans,
    tokens::{Key, after, gitlab_claims},
    world::{config, get, text, unlimited},
};

/// A part of every canary token that occurs nowhere else, and no shorter part is looked for.
const CANARY: &str = "CanaryZq7vX2";

fn canary(seed: u64) -> Job {
    let mut job = Job::new(seed);
    job.runner_token = format!("glrt-t1_{CANARY}Runner{seed}");
    job.job_token = format!("glcbt-64_{CANARY}Job{seed}");
    job
}

/// Scenario: canary tokens in good, denied, malformed and refused exports, with the authority and the collector up, down and
/// talkative, in every form, at log level debug; then a scrape and a drain.
/// Guarantees: no part of a token in stdout, stderr, metrics, answers (headers and bodies) or at the collector; the log is not empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_leaves() {
    let (authority, collector) = (Authority::start().await, Collector::http().await);
    let mut config = config(&authority.url(), &collector.url());
    unlimited(&mut config);
    config.log.level = LogLevel::Debug;
    config.gitlab.timeout = Duration::from_millis(500);
    let mut spangate = Spangate::start(&config).await;
    let address = spangate.address();
    let good = canary(1);
    authority.allow(&good);
    let mut said = String::new();
    let mut seed = 10;
    for form in Form::ALL {
        let request = spans::export(&good, 2);
        let export = Export::of(form, &good, &request);
        let mut foreign = request.clone();
        foreign.resource_spans[0].scope_spans[0].spans[0].trace_id = vec![1; 16];
        let mut exports = vec![
            export.clone(),
            Export::of(form, &good, &foreign),
            Export::bare(form, Bytes::from_static(b"\xff\xff\xff\xff\xff\xff")).tokens(&good),
            export.clone().header("job-token", &good.job_token),
            export.clone().header("authorization", format!("Bearer {CANARY}.{CANARY}.{CANARY}")),
            export.clone().replace("runner-token", &format!("{CANARY} with a space")),
            export.clone().without("job-token"),
            export.clone().path(&format!("/v1/traces?token={CANARY}")).without("job-token"),
            export.clone().path(&format!("/{CANARY}")),
            export.clone().replace("content-type", CANARY),
        ];
        seed += 1;
        exports.push(Export::of(form, &canary(seed), &request));
        for export in exports {
            said += &heard(&export, address).await;
        }
        for script in [
            Script::status(403),
            Script::status(500).body(format!("{{\"message\":\"{CANARY}\"}}")),
            Script::status(200).body(format!("not JSON but {CANARY}")),
            Script::status(302).header("location", format!("/{CANARY}")),
            Script::reset(),
            Script::hang(),
        ] {
            seed += 1;
            authority.always(script);
            said += &heard(&Export::of(form, &canary(seed), &request), address).await;
        }
        authority.always(None);
        let refusal = Reply::Refuse { http: 503, grpc: 14, retry_after: None };
        for reply in [Reply::Reset, Reply::Html(500), refusal] {
            collector.next(reply);
            said += &heard(&export, address).await;
        }
    }
    nothing_holds(&needles(), &mut spangate, &said, &collector).await;
}

/// Scenario: bearer tokens of every kind, good, expired, for another audience, forged, with a key that nobody has, not signed, twice
/// in one head, beside a token pair, of the right form but no JSON; then the provider is down; in every form, at log level debug.
/// Guarantees: no part of a payload or a signature in stdout, stderr, metrics, answers or at the collector; the log is not empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bearer_token_leaves() {
    let (key, forger, unknown) = (Key::p256("k1"), Key::p256("k1"), Key::ed25519("k2"));
    let (issuer, collector) = (Issuer::start(&[&key]).await, Collector::http().await);
    let mut config = config("", &collector.url());
    unlimited(&mut config);
    config.log.level = LogLevel::Debug;
    config.listeners[0].authentication = vec![Authentication::Oidc];
    let audience = "https://telemetry.example.com";
    config.oidc.providers = vec![OidcProvider {
        issuer: issuer.url(),
        audiences: vec![audience.into()],
        ..OidcProvider::default()
    }];
    let mut spangate = Spangate::start(&config).await;
    let address = spangate.address();
    let claims = |name: &str, value: serde_json::Value| {
        let mut claims = gitlab_claims(&issuer.url(), audience);
        claims[name] = value;
        claims
    };
    let plain = claims("jti", json!("of this test"));
    let mut tokens = vec![
        key.token(&plain),
        key.token(&claims("exp", json!(after(-7_200)))),
        key.token(&claims("aud", json!("https://another.example.com"))),
        key.token(&claims("iss", json!("https://another.example.com"))),
        forger.token(&plain),
        key.sign(&json!({ "alg": "none", "kid": "k1" }), &plain),
        key.sign(&json!({ "alg": "HS256", "kid": "k1" }), &plain),
        key.sign_text(r#"{"alg":"ES256","kid":"k1"}"#, &format!("no JSON but {}", CANARY.repeat(4))),
    ];
    let mut said = String::new();
    for round in 0..2 {
        for form in Form::ALL {
            let job = Job::new(1);
            let export = Export::new(form, &spans::export(&job, 2));
            for token in &tokens {
                let bearer = format!("Bearer {token}");
                let export = export.clone().header("authorization", &bearer);
                said += &heard(&export, address).await;
                said += &heard(&export.clone().header("authorization", &bearer), address).await;
                said += &heard(&export.clone().tokens(&job), address).await;
                said +=
                    &heard(&export.clone().path(&format!("/v1/traces?access_token={token}")), address).await;
            }
        }
        if round == 0 {
            // Nobody has this key, and from here on nobody can be asked.
            tokens.push(unknown.token(&plain));
            issuer.is_down();
        }
    }
    assert!(collector.received().len() >= Form::ALL.len(), "the good token came through");
    // What is the same in all tokens, the header, tells nothing; payloads and signatures do.
    let parts = tokens.iter().flat_map(|token| token.split('.').skip(1)).filter(|part| part.len() > 60);
    let parts = parts.flat_map(|part| [&part[..24], &part[24..48], &part[part.len() - 24..]]);
    let needles: Vec<_> = parts.map(str::to_owned).chain(needles()).collect();
    assert!(needles.len() > 6 * tokens.len(), "{needles:?}");
    nothing_holds(&needles, &mut spangate, &said, &collector).await;
}

/// Scrapes and drains it; then none of this may be in anything that it said, and it must have said something.
async fn nothing_holds(needles: &[String], spangate: &mut Spangate, said: &str, collector: &Collector) {
    let metrics = text(&get(spangate.admin(), "/metrics").await);
    spangate.terminate();
    assert!(spangate.ended(Duration::from_secs(20)).await.is_some());
    let log = spangate.output();
    assert!(log.lines().count() > 20, "a debug log with nothing in it:\n{log}");
    assert!(metrics.contains("spangate_requests_total"), "{metrics}");
    let mut arrived = String::new();
    for received in collector.received() {
        let body = received.request().encode_to_vec();
        writeln!(arrived, "{:?} {}", received.headers, String::from_utf8_lossy(&body)).unwrap();
    }
    let places =
        [("the log", &*log), ("metrics", &*metrics), ("answers", said), ("the collector", &*arrived)];
    for (place, content) in places {
        for needle in needles {
            let found = content.lines().find(|line| line.contains(needle));
            assert_eq!(found, None, "a token in {place}");
        }
    }
}

/// The canary as it is, reversed in case, and in the encodings that a log or an error could put it into.
fn needles() -> Vec<String> {
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    let bytes = CANARY.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>();
    let mut needles = vec![
        CANARY.to_owned(),
        CANARY.to_lowercase(),
        crate::support::job::hex(CANARY.as_bytes()),
        // A Vec<u8> under Debug.
        bytes.join(", "),
    ];
    // Base64 of a text that holds the canary at any offset holds one of these middles.
    for offset in 0..3 {
        let padded = format!("{}{CANARY}", "x".repeat(offset));
        let whole = engine.encode(padded);
        needles.push(whole[4..whole.len() - 3].to_owned());
    }
    needles
}

/// Everything that an answer says.
async fn heard(export: &Export, address: std::net::SocketAddr) -> String {
    let answer = export.send(address).await;
    let details = answer.header("grpc-status-details-bin").map(|details| {
        base64::engine::general_purpose::STANDARD_NO_PAD.decode(details.trim_end_matches('=')).unwrap()
    });
    format!(
        "{:?} {:?} {} {}\n",
        answer.headers,
        answer.trailers,
        String::from_utf8_lossy(&answer.body),
        String::from_utf8_lossy(&details.unwrap_or_default())
    )
}
