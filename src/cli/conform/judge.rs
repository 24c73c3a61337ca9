//! What one answer says about the endpoint: pure functions from answers to findings. Whether an answer is a
//! verdict is decided by the gateway's own reader; here is only decided which verdict was due.

use std::time::Duration;

use http::{StatusCode, Version, header::CONTENT_TYPE};

use crate::{
    config::{Cache, Gitlab},
    otlp::TraceId,
    validate::{
        Denial, Undetermined, cache_control, job_token,
        probe::{Heard, Word},
    },
};

use super::report::Finding;

/// How long an answer is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What came of a question.
pub(super) type Answer = Result<Heard, Undetermined>;

/// The refusal that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// 401
    Unauthenticated,
    /// 403
    Forbidden,
    /// Either: which of the two tokens is looked up first is the endpoint's business.
    EitherDenial,
    /// 401 by the contract; the gateway never asks so, and can live with any 4xx.
    Unasked,
    /// Any 4xx.
    ClientError,
    /// 404 or 405.
    NoSuchMethod,
}

/// A question that must be refused.
pub(super) fn refusal(check: &'static str, due: Due, mend: &'static str, answer: &Answer) -> Finding {
    let heard = match answer {
        Ok(heard) => heard,
        Err(trouble) => return Finding::fail(check, format!("no answer: {trouble}"), mend),
    };
    let status = heard.status;
    let finding = match (status.as_u16(), due) {
        (200..=299, _) => {
            Finding::fail(check, format!("{}, where it must be refused", status.as_u16()), mend)
        }
        (429, _) => throttled(check),
        (401 | 403, Due::Unauthenticated | Due::Forbidden | Due::EitherDenial | Due::Unasked) => {
            denial(check, due, mend, heard)
        }
        (400..=499, Due::ClientError) | (404 | 405, Due::NoSuchMethod) => Finding::ok(check, told(status)),
        (400..=499, Due::Unasked | Due::NoSuchMethod) => Finding::warn(check, told(status), mend),
        _ => Finding::fail(check, told(status), mend),
    };
    finding.after(heard.took)
}

/// A 401 or 403, of which the gateway's own reader says whether it is one.
fn denial(check: &'static str, due: Due, mend: &'static str, heard: &Heard) -> Finding {
    let status = told(heard.status);
    match (heard.word(), due) {
        (
            Ok(Word::Deny(Denial::Unauthenticated)),
            Due::Unauthenticated | Due::Unasked | Due::EitherDenial,
        )
        | (Ok(Word::Deny(Denial::Forbidden)), Due::Forbidden | Due::EitherDenial) => {
            Finding::ok(check, format!("{status} in JSON"))
        }
        (Ok(Word::Deny(_)), Due::Unasked) => Finding::warn(check, status, mend),
        (Ok(Word::Deny(_)), _) => {
            Finding::fail(check, format!("{status}, where another refusal is due"), mend)
        }
        (Err(trouble), _) => Finding::fail(
            check,
            format!("{status}, which the gateway takes for no word of GitLab ({trouble})"),
            "refuse in JSON (Content-Type: application/json), without the challenge of a proxy, and with the right time in `Date`",
        ),
        // The reader takes a 200 alone for a yes.
        (Ok(Word::Allow(_)), _) => Finding::fail(check, status, mend),
    }
}

fn throttled(check: &'static str) -> Finding {
    Finding::fail(
        check,
        "429: not to be judged",
        "take the gateway's addresses out of the rate limits: all runners come from them",
    )
}

fn told(status: StatusCode) -> String {
    status.as_u16().to_string()
}

/// The first answer to the good pair, from its status line to its fields; `job_token` is the good one.
pub(super) fn good(heard: &Heard, job_token: &[u8]) -> Vec<Finding> {
    let status = status(heard).after(heard.took);
    if heard.status != StatusCode::OK {
        return vec![status];
    }
    let mut findings = vec![status];
    findings.extend(body(heard, job_token));
    findings.extend([content_type(heard), max_age(heard), private(heard)]);
    findings
}

fn status(heard: &Heard) -> Finding {
    const CHECK: &str = "good-pair";
    match heard.status.as_u16() {
        200 => Finding::ok(CHECK, "200"),
        300..=399 => Finding::fail(
            CHECK,
            format!("{}: a redirect, which the gateway does not follow", heard.status.as_u16()),
            "answer at this very URL; is --url the address that GitLab calls its own?",
        ),
        401 | 403 => Finding::fail(
            CHECK,
            told(heard.status),
            "are the tokens of a job that runs, and of its runner? Does GitLab ask for a signature (--secret-file)?",
        ),
        404 => Finding::fail(
            CHECK,
            "404",
            "no such endpoint: --url (relative URL root?), --path, GitLab's version",
        ),
        429 => throttled(CHECK),
        other => Finding::fail(CHECK, other.to_string(), "a good pair must get 200"),
    }
}

fn body(heard: &Heard, job_token: &[u8]) -> Vec<Finding> {
    let size = match &heard.body {
        Ok(body) => Finding::ok("body-size", format!("{} bytes", body.len())),
        Err(trouble) => return vec![Finding::fail("body-size", trouble.to_string(), "stay below 64 KiB")],
    };
    if !heard.is_object() {
        let mend = "answer with one JSON object in which no field comes twice";
        return vec![size, Finding::fail("json-body", "no JSON object with each field once", mend)];
    }
    let mut findings = vec![size, Finding::ok("json-body", "a JSON object")];
    match heard.word() {
        Ok(Word::Allow(positive)) => {
            findings.push(Finding::ok("trace-id", positive.trace_id.to_string()));
            findings.push(facts(&positive.claims, job_token));
        }
        // The object is sound, so it is the one required field.
        Ok(Word::Deny(_)) | Err(_) => findings.push(Finding::fail(
            "trace-id",
            "missing, or not 32 lower-case hex digits other than all zero",
            "send the root pipeline's id as 32 lower-case hex digits, as a string",
        )),
    }
    let unreadable = heard.unreadable_fields();
    findings.push(if unreadable.is_empty() {
        Finding::ok("field-forms", "every known field can be read")
    } else {
        Finding::fail(
            "field-forms",
            format!("not readable: {}", unreadable.join(", ")),
            "ids: positive numbers of 63 bits or digits; texts: 1 to 1024 bytes without control characters; expires_at: Unix seconds or RFC 3339",
        )
    });
    findings
}

/// The facts that the gateway writes into every span's resource.
fn facts(claims: &crate::validate::Claims, job_token: &[u8]) -> Finding {
    let token = job_token::read(job_token);
    let absent: Vec<_> = [
        ("job_id", claims.job_id.or(token.job_id).is_none()),
        ("pipeline_id", claims.pipeline_id.is_none()),
        ("pipeline_source", claims.pipeline_source.is_none()),
        ("project_id", claims.project_id.or(token.project_id).is_none()),
        ("runner_id", claims.runner_id.is_none()),
        ("runner_type", claims.runner_type.is_none()),
        ("runner_manager_system_xid", claims.runner_manager_system_xid.is_none()),
    ]
    .into_iter()
    .filter_map(|(name, is_absent)| is_absent.then_some(name))
    .collect();
    if absent.is_empty() {
        return Finding::ok("facts", "everything for the attributes ci.*");
    }
    Finding::warn(
        "facts",
        format!("not told: {}", absent.join(", ")),
        "the attributes of these will be missing from spans",
    )
}

fn content_type(heard: &Heard) -> Finding {
    let kind = heard.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        Finding::ok("content-type", "application/json")
    } else {
        Finding::warn("content-type", "not application/json", "name the type: the gateway asks for it")
    }
}

fn max_age(heard: &Heard) -> Finding {
    const CHECK: &str = "cache-control";
    let cap = Cache::default().max_ttl;
    match cache_control::max_age(&heard.headers) {
        None => Finding::fail(
            CHECK,
            "no usable max-age: every export of a job would be a question",
            "send `Cache-Control: private, max-age=300`, without no-store or no-cache",
        ),
        Some(age) if age > cap => Finding::ok(
            CHECK,
            format!("max-age {} s, of which the gateway takes {} s", age.as_secs(), cap.as_secs()),
        ),
        Some(age) => Finding::ok(CHECK, format!("max-age {} s", age.as_secs())),
    }
}

fn private(heard: &Heard) -> Finding {
    if cache_control::is_private(&heard.headers) {
        Finding::ok("cache-private", "private")
    } else {
        Finding::fail(
            "cache-private",
            "Cache-Control without `private`",
            "an answer about credentials must not be kept by a shared cache on the way",
        )
    }
}

/// The trace that an answer names, if it is a yes.
pub(super) fn trace(answer: &Answer) -> Option<TraceId> {
    match answer.as_ref().ok()?.word() {
        Ok(Word::Allow(positive)) => Some(positive.trace_id),
        _ => None,
    }
}

/// The good pair asked once more, in another way or at another time: the answer must be the same.
pub(super) fn again(check: &'static str, mend: &'static str, first: TraceId, answer: &Answer) -> Finding {
    let finding = match (answer, trace(answer)) {
        (_, Some(trace)) if trace == first => Finding::ok(check, "200 with the same trace_id"),
        (_, Some(trace)) => Finding::fail(check, format!("another trace_id: {trace}"), mend),
        (Ok(heard), None) if heard.status == StatusCode::TOO_MANY_REQUESTS => throttled(check),
        (Ok(heard), None) if heard.status == StatusCode::OK => {
            Finding::fail(check, "200 without a usable body", mend)
        }
        (Ok(heard), None) => Finding::fail(check, told(heard.status), mend),
        (Err(trouble), None) => Finding::fail(check, format!("no answer: {trouble}"), mend),
    };
    match answer {
        Ok(heard) => finding.after(heard.took),
        Err(_) => finding,
    }
}

/// Which version of HTTP the gateway gets.
pub(super) fn http2(version: Version, is_tls: bool) -> Finding {
    match (version, is_tls) {
        (Version::HTTP_2, _) => Finding::ok("http2", "taken when offered"),
        (_, true) => Finding::skip("http2", "not offered by the endpoint: HTTP/1.1 it is"),
        (_, false) => Finding::skip("http2", "only over TLS: in clear text the gateway speaks HTTP/1.1"),
    }
}

/// The slowest of all answers against what the gateway waits.
pub(super) fn in_time(slowest: Option<Duration>) -> Finding {
    const CHECK: &str = "in-time";
    const MEND: &str = "the runner waits for this answer; the gateway gives up and lets it try again later";
    let budget = Gitlab::default().timeout;
    let half = budget.checked_div(2).unwrap_or(budget);
    let Some(slowest) = slowest else { return Finding::fail(CHECK, "an answer never came", MEND) };
    let seen = format!("the slowest answer took {} ms of {} ms", slowest.as_millis(), budget.as_millis());
    match slowest {
        late if late >= budget => Finding::fail(CHECK, seen, MEND),
        slow if slow >= half => Finding::warn(CHECK, seen, MEND),
        _ => Finding::ok(CHECK, seen),
    }
}
