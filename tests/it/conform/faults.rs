//! Endpoints with one fault each, and the checks that must find it. Each fault bends the right answer, so that
//! all else about the endpoint keeps the contract.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use base64::Engine as _;
use http::Method;
use serde_json::{Value, json};

use crate::support::{authority::Script, job::Job, server::Seen};

fn is(seen: &Seen, header: &str, token: &str) -> bool {
    seen.headers.get(header).is_some_and(|value| value == token)
}

/// Whether the good pair is asked about, signed in whatever way.
fn is_good(seen: &Seen) -> bool {
    let job = Job::new(1);
    let is_pair = is(seen, "runner-token", &job.runner_token) && is(seen, "job-token", &job.job_token);
    is_pair && seen.method == Method::POST
}

fn is_long(seen: &Seen) -> bool {
    seen.headers.get("job-token").is_some_and(|value| value.len() > 4096)
}

/// Whether header and claims of the signature are those of a good one; its bytes are not looked at.
fn is_signed_well(seen: &Seen) -> bool {
    claims(seen).is_some_and(|(header, claims)| {
        header["alg"] == "HS256" && claims["iss"] == "gitlab-ci-telemetry-gateway"
    })
}

fn claims(seen: &Seen) -> Option<(Value, Value)> {
    let jwt = seen.headers.get("gitlab-ci-telemetry-api-request")?.to_str().unwrap();
    let mut parts = jwt.split('.').map(|part| {
        base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(part)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
    });
    Some((parts.next()??, parts.next()??))
}

fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn allow() -> Script {
    Script::allow(&Job::new(1), 300)
}

pub(super) fn on_yes(script: Script, change: impl FnOnce(Script) -> Script) -> Script {
    if script.code() == 200 { change(script) } else { script }
}

fn on_no(script: Script, change: impl FnOnce(Script) -> Script) -> Script {
    if [401, 403].contains(&script.code()) { change(script) } else { script }
}

fn trace_id(script: Script, value: Value) -> Script {
    on_yes(script, |script| script.edit(|body| body["trace_id"] = value))
}

pub(super) fn kept(script: Script, value: Option<&str>) -> Script {
    on_yes(script, |script| {
        let bare = script.without("cache-control");
        value.iter().fold(bare, |script, value| script.header("cache-control", *value))
    })
}

/// Every check whose due answer is a 401 or 403.
const DENIALS: &[&str] = &[
    "swapped-pair",
    "other-runners-job",
    "unknown-pair",
    "unknown-runner-token",
    "unknown-job-token",
    "no-runner-token",
    "no-job-token",
    "no-tokens",
    "empty-runner-token",
    "empty-job-token",
    "signature-missing",
    "signature-wrong-key",
    "signature-expired",
    "signature-alg-none",
    "signature-issuer",
];

/// The question and the right answer in, the wrong answer out.
pub(super) type Fault = Box<dyn Fn(&Seen, Script) -> Script + Send + Sync>;

pub(super) fn fault(fault: impl Fn(&Seen, Script) -> Script + Send + Sync + 'static) -> Fault {
    Box::new(fault)
}

/// A fault that depends on how many questions came before.
fn counted(change: fn(usize, Script) -> Script) -> Fault {
    let count = AtomicUsize::new(0);
    fault(move |_, script| change(count.fetch_add(1, Ordering::SeqCst), script))
}

const SIGNATURES: &[&str] = &[
    "signature-missing",
    "signature-wrong-key",
    "signature-expired",
    "signature-alg-none",
    "signature-issuer",
];

/// What is wrong with an endpoint, and the checks that must fail over it.
type Row = (&'static str, Fault, &'static [&'static str]);

/// All of them.
pub(super) fn faults() -> Vec<Row> {
    [
        faults_of_a_yes(),
        faults_of_a_no(),
        faults_about_tokens(),
        faults_about_signatures(),
        faults_about_other_questions(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A yes that can't be read or kept.
fn faults_of_a_yes() -> Vec<Row> {
    vec![
        ("short trace", fault(|_, script| trace_id(script, json!("1e240a"))), &["trace-id"]),
        (
            "upper-case trace",
            fault(|_, script| trace_id(script, json!("000000000000000000000000001E240A"))),
            &["trace-id"],
        ),
        ("zero trace", fault(|_, script| trace_id(script, json!("0".repeat(32)))), &["trace-id"]),
        ("trace as a number", fault(|_, script| trace_id(script, json!(123_456))), &["trace-id"]),
        ("no trace", fault(|_, script| trace_id(script, Value::Null)), &["trace-id"]),
        ("no Cache-Control", fault(|_, script| kept(script, None)), &["cache-control", "cache-private"]),
        (
            "no-store",
            fault(|_, script| kept(script, Some("private, no-store, max-age=300"))),
            &["cache-control"],
        ),
        ("zero max-age", fault(|_, script| kept(script, Some("private, max-age=0"))), &["cache-control"]),
        ("public", fault(|_, script| kept(script, Some("public, max-age=300"))), &["cache-private"]),
        (
            "job_id as a list",
            fault(|_, script| on_yes(script, |script| script.edit(|body| body["job_id"] = json!([1])))),
            &["field-forms"],
        ),
        (
            "expires_at in words",
            fault(|_, script| {
                on_yes(script, |script| script.edit(|body| body["expires_at"] = json!("soon")))
            }),
            &["field-forms"],
        ),
        (
            "HTML",
            fault(|_, script| {
                on_yes(script, |script| script.body("<html>").header("content-type", "text/html"))
            }),
            &["json-body"],
        ),
        (
            "a field twice",
            fault(|_, script| on_yes(script, |script| script.body(r#"{"trace_id":"1","trace_id":"2"}"#))),
            &["json-body"],
        ),
        (
            "70 KiB",
            fault(|_, script| on_yes(script, |script| script.body(format!("{{}}{}", " ".repeat(70 << 10))))),
            &["body-size"],
        ),
    ]
}

/// Refusals that are none.
fn faults_of_a_no() -> Vec<Row> {
    vec![
        ("redirect", fault(|_, _| Script::status(302).header("location", "/elsewhere")), &["good-pair"]),
        ("not there", fault(|_, _| Script::status(404)), &["good-pair"]),
        (
            "refusals in text",
            fault(|_, script| on_no(script, |script| script.header("content-type", "text/plain"))),
            DENIALS,
        ),
        (
            "a clock that is years behind",
            fault(|_, script| on_no(script, |script| script.header("date", "Mon, 01 Jan 2024 00:00:00 GMT"))),
            // A 403 is no word about the signature, and a bad signature has no time to be judged by.
            &[
                "swapped-pair",
                "unknown-pair",
                "unknown-runner-token",
                "unknown-job-token",
                "no-runner-token",
                "no-job-token",
                "no-tokens",
                "empty-runner-token",
                "empty-job-token",
            ],
        ),
        (
            "a proxy's challenge",
            fault(|_, script| on_no(script, |script| script.header("www-authenticate", "Basic realm=\"x\""))),
            DENIALS,
        ),
    ]
}

/// Tokens and the assignment of jobs taken too easily, or refused in another way than is due.
fn faults_about_tokens() -> Vec<Row> {
    vec![
        (
            "the pair in any order",
            fault(|seen, script| {
                let job = Job::new(1);
                let is_swapped =
                    is(seen, "runner-token", &job.job_token) && is(seen, "job-token", &job.runner_token);
                if is_swapped { allow() } else { script }
            }),
            &["swapped-pair"],
        ),
        (
            "the runner token unread",
            fault(|seen, script| {
                let is_job = is(seen, "job-token", &Job::new(1).job_token) && seen.method == Method::POST;
                if is_job && is_signed_well(seen) && !is_good(seen) { allow() } else { script }
            }),
            &["unknown-runner-token", "no-runner-token", "empty-runner-token"],
        ),
        (
            "the assignment unread",
            fault(|_, script| if script.code() == 403 { allow() } else { script }),
            &["other-runners-job"],
        ),
        (
            "401 for another runner's job",
            fault(|_, script| if script.code() == 403 { Script::status(401) } else { script }),
            &["other-runners-job"],
        ),
        (
            "403 for everything",
            fault(|_, script| if script.code() == 401 { Script::status(403) } else { script }),
            &[
                "unknown-pair",
                "signature-missing",
                "signature-wrong-key",
                "signature-expired",
                "signature-alg-none",
                "signature-issuer",
            ],
        ),
        (
            "500 without a header",
            fault(|seen, script| {
                let is_there =
                    ["runner-token", "job-token"].iter().all(|name| seen.headers.contains_key(*name));
                if is_there { script } else { Script::status(500) }
            }),
            &["no-runner-token", "no-job-token", "no-tokens"],
        ),
        (
            "500 for a long token",
            fault(|seen, script| if is_long(seen) { Script::status(500) } else { script }),
            &["oversize-token"],
        ),
        (
            "reset for a long token",
            fault(|seen, script| if is_long(seen) { Script::reset() } else { script }),
            &["oversize-token", "in-time"],
        ),
    ]
}

/// Signatures taken too easily.
fn faults_about_signatures() -> Vec<Row> {
    vec![
        (
            "the signature unread",
            fault(|seen, script| if is_good(seen) { allow() } else { script }),
            SIGNATURES,
        ),
        (
            "the signature's bytes unread",
            fault(|seen, script| {
                let is_timely =
                    claims(seen).is_some_and(|(_, claims)| claims["exp"].as_u64().unwrap() >= now());
                if is_good(seen) && is_signed_well(seen) && is_timely { allow() } else { script }
            }),
            &["signature-wrong-key"],
        ),
        (
            "alg believed",
            fault(|seen, script| {
                if claims(seen).is_some_and(|(header, _)| header["alg"] == "none") { allow() } else { script }
            }),
            &["signature-alg-none"],
        ),
        (
            "times unread",
            fault(|seen, script| {
                if claims(seen).is_some_and(|(_, claims)| claims["exp"].as_u64().unwrap() < now()) {
                    allow()
                } else {
                    script
                }
            }),
            &["signature-expired"],
        ),
        (
            "issuer unread",
            fault(|seen, script| {
                if claims(seen).is_some_and(|(_, claims)| claims["iss"] != "gitlab-ci-telemetry-gateway") {
                    allow()
                } else {
                    script
                }
            }),
            &["signature-issuer"],
        ),
    ]
}

/// Answers that depend on what was asked before, and forms of questions.
fn faults_about_other_questions() -> Vec<Row> {
    vec![
        (
            "a trace for each answer",
            counted(|count, script| trace_id(script, json!(format!("{:032x}", count + 1)))),
            &["same-answer", "unknown-fields", "http1", "good-after-bad"],
        ),
        (
            "strict about the body",
            fault(|seen, script| if seen.body.len() > 2 { Script::status(400) } else { script }),
            &["unknown-fields"],
        ),
        (
            "GET served",
            fault(|seen, script| if seen.method == Method::GET { allow() } else { script }),
            &["get"],
        ),
        (
            "GET fails",
            fault(|seen, script| if seen.method == Method::GET { Script::status(500) } else { script }),
            &["get"],
        ),
        (
            "an address locked out after twelve questions",
            counted(|count, script| if count >= 12 { Script::status(403) } else { script }),
            &[
                "signature-missing",
                "signature-wrong-key",
                "signature-expired",
                "signature-alg-none",
                "signature-issuer",
                "http1",
                "good-after-bad",
            ],
        ),
        (
            "rate limit",
            fault(
                |seen, script| {
                    if is_good(seen) || script.code() == 405 { script } else { Script::status(429) }
                },
            ),
            &[
                "swapped-pair",
                "other-runners-job",
                "unknown-pair",
                "unknown-runner-token",
                "unknown-job-token",
                "no-runner-token",
                "no-job-token",
                "no-tokens",
                "empty-runner-token",
                "empty-job-token",
                "oversize-token",
            ],
        ),
        (
            "slow",
            counted(
                |count, script| if count == 1 { script.delay(Duration::from_millis(2100)) } else { script },
            ),
            &["in-time"],
        ),
    ]
}
