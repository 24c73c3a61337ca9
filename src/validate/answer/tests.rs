//! The contract's table, row by row, and the fields of a 200.

use http::HeaderValue;
use serde_json::json;

use super::*;

const TRACE: &str = "000000000000000000000000001e240a";

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn status(code: u16) -> Result<Head, Undetermined> {
    head(StatusCode::from_u16(code).unwrap(), &headers(&[("content-type", "application/json")]), Some(1))
}

/// Scenario: every status that HTTP can carry.
/// Guarantees: 200, 401, 403 and 429 mean what the contract says; all else says nothing about the tokens.
#[test]
fn statuses_follow_the_table() {
    for code in 100..=999 {
        let expected = match code {
            200 => Ok(Head::Positive),
            401 => Ok(Head::Denied(Denial::Unauthenticated)),
            403 => Ok(Head::Denied(Denial::Forbidden)),
            429 => Err(Undetermined::Throttled),
            other => Err(Undetermined::Status(other)),
        };
        assert_eq!(status(code), expected, "{code}");
    }
}

/// Scenario: refusals with the marks of a proxy, and ones with those of an API.
/// Guarantees: only a refusal in JSON, as the API gives it, is a word about the tokens.
#[test]
fn a_proxy_does_not_deny() {
    for (lines, foreign) in [
        (&[("content-type", "application/json; charset=utf-8")][..], false),
        (&[("content-type", "Application/Problem+JSON")], false),
        (&[("content-type", "application/json"), ("www-authenticate", "Bearer realm=\"x\"")], false),
        (&[], true),
        (&[("content-type", "text/plain")], true),
        (&[("content-type", "text/json+json")], true),
        (&[("www-authenticate", "Bearer realm=\"x\"")], true),
        (&[("content-type", "Text/HTML; charset=utf-8")], true),
        (&[("content-type", "application/xhtml+xml")], true),
        (&[("www-authenticate", "Basic realm=\"corp\"")], true),
        (&[("www-authenticate", "Bearer"), ("www-authenticate", "NTLM")], true),
        (&[("www-authenticate", "negotiate")], true),
        (&[("content-type", "application/json"), ("www-authenticate", "Digest a=b")], true),
    ] {
        for code in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
            let read = head(code, &headers(lines), None);
            assert_eq!(read == Err(Undetermined::ForeignRefusal), foreign, "{code} {lines:?}");
            assert_eq!(matches!(read, Ok(Head::Denied(_))), !foreign, "{code} {lines:?}");
        }
    }
}

/// Scenario: a 401 whose `Date` lies outside the life of our signature, and others.
/// Guarantees: only that one, and only for a signed call, is no denial.
#[test]
fn a_skewed_clock_does_not_deny() {
    let at = |seconds: u64| httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(seconds));
    let code = StatusCode::UNAUTHORIZED;
    let signed = 1_800_000_000;
    for (date, timely) in [
        (at(signed), true),
        (at(signed + 29), true),
        (at(signed + 31), false),
        (at(signed - 5), true),
        (at(signed - 60), false),
        ("yesterday".into(), true),
    ] {
        let headers = headers(&[("content-type", "application/json"), ("date", &date)]);
        let due =
            if timely { Ok(Head::Denied(Denial::Unauthenticated)) } else { Err(Undetermined::ClocksApart) };
        assert_eq!(head(code, &headers, Some(signed)), due, "{date}");
        assert_eq!(head(code, &headers, None), Ok(Head::Denied(Denial::Unauthenticated)), "{date}");
        let forbidden = head(StatusCode::FORBIDDEN, &headers, Some(signed));
        assert_eq!(forbidden, Ok(Head::Denied(Denial::Forbidden)), "{date}");
    }
    let undated = headers(&[("content-type", "application/json")]);
    assert_eq!(head(code, &undated, Some(signed)), Ok(Head::Denied(Denial::Unauthenticated)));
}

fn read(body: &Value) -> Result<Positive, Undetermined> {
    positive(&headers(&[("cache-control", "private, max-age=60")]), body.to_string().as_bytes())
}

/// Scenario: a 200 with the trace id alone, and one with every field, ids as numbers and as strings.
/// Guarantees: all fields are read in both forms; unknown ones are ignored; nothing is invented.
#[test]
fn fields_are_read() {
    let bare = read(&json!({ "trace_id": TRACE })).unwrap();
    assert_eq!(bare.trace_id.to_string(), TRACE);
    assert_eq!((bare.claims, bare.expires_at), (Claims::default(), None));
    assert_eq!(bare.max_age, Some(Duration::from_mins(1)));

    let full = read(&json!({
        "trace_id": TRACE, "job_id": 1, "pipeline_id": "2", "pipeline_source": "push",
        "root_pipeline_id": 3, "project_id": "4", "project_path": "group/projekt-ü", "namespace_id": 5,
        "root_namespace_id": "6", "organization_id": 7, "cell_id": 8, "runner_id": "9",
        "runner_type": "instance_type", "runner_manager_system_xid": "s_a1", "job_status": "running",
        "expires_at": 1_900_000_000, "unheard_of": { "a": [1] },
    }))
    .unwrap();
    let expected = Claims {
        job_id: Some(1),
        pipeline_id: Some(2),
        pipeline_source: Some("push".into()),
        root_pipeline_id: Some(3),
        project_id: Some(4),
        project_path: Some("group/projekt-ü".into()),
        namespace_id: Some(5),
        root_namespace_id: Some(6),
        organization_id: Some(7),
        cell_id: Some(8),
        runner_id: Some(9),
        runner_type: Some("instance_type".into()),
        runner_manager_system_xid: Some("s_a1".into()),
    };
    assert_eq!((full.claims, full.expires_at), (expected, Some(1_900_000_000)));
    let number = read(&json!({ "trace_id": TRACE, "runner_manager_system_xid": 12 })).unwrap();
    assert_eq!(number.claims.runner_manager_system_xid.as_deref(), Some("12"));
}

/// Scenario: optional fields of an odd type, sign, form or length.
/// Guarantees: they are absent and the verdict stands.
#[test]
fn odd_fields_are_absent() {
    let long = "x".repeat(1025);
    for odd in [
        json!(null),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(9_223_372_036_854_775_808_u64),
        json!("9223372036854775808"),
        json!("+1"),
        json!(" 1"),
        json!(""),
        json!(true),
        json!([1]),
        json!({ "id": 1 }),
    ] {
        let read = read(&json!({ "trace_id": TRACE, "job_id": odd, "project_id": 4 })).unwrap();
        assert_eq!(read.claims, Claims { project_id: Some(4), ..Claims::default() }, "{odd}");
    }
    for odd in
        [json!(null), json!(""), json!("a\nb"), json!("a\u{85}b"), json!("\u{0}"), json!(long), json!([])]
    {
        let read = read(&json!({ "trace_id": TRACE, "project_path": odd, "project_id": 4 })).unwrap();
        assert_eq!(read.claims, Claims { project_id: Some(4), ..Claims::default() }, "{odd}");
    }
    let longest = "x".repeat(1024);
    let read = read(&json!({ "trace_id": TRACE, "project_path": longest })).unwrap();
    assert_eq!(read.claims.project_path, Some(longest));
}

/// Scenario: bodies that are no object, name a field twice, or have no good trace id.
/// Guarantees: each breaks the contract; none is half read.
#[test]
fn bad_bodies_are_no_verdict() {
    for body in [
        String::new(),
        "null".into(),
        "<html></html>".into(),
        format!("\"{TRACE}\""),
        format!("[\"{TRACE}\",1,2,\"a\",1,1,\"a\",1,1,1,1,1,\"a\",\"a\",1]"),
        format!("{{\"trace_id\":\"{TRACE}\"}} x"),
        format!("{{\"trace_id\":\"{TRACE}\""),
        format!("{{\"trace_id\":\"{TRACE}\",\"trace_id\":\"{TRACE}\"}}"),
        format!("{{\"trace_id\":\"{TRACE}\",\"job_id\":1,\"job_id\":2}}"),
        format!("{{\"trace_id\":\"{TRACE}\",\"job_id\":{}{}}}", "[".repeat(500), "]".repeat(500)),
        "{}".into(),
        "{\"trace_id\":null}".into(),
        "{\"trace_id\":1}".into(),
        format!("{{\"trace_id\":\"{}\"}}", TRACE.to_uppercase()),
        format!("{{\"trace_id\":\"{}\"}}", "0".repeat(32)),
        format!("{{\"trace_id\":\"{TRACE}0\"}}"),
        format!("{{\"Trace_id\":\"{TRACE}\"}}"),
    ] {
        let read = positive(&HeaderMap::new(), body.as_bytes());
        assert!(matches!(read, Err(Undetermined::BadAnswer(_))), "{body}: {read:?}");
    }
    assert!(positive(&HeaderMap::new(), format!(" \n{{\"trace_id\":\"{TRACE}\"}}\n").as_bytes()).is_ok());
    assert!(positive(&HeaderMap::new(), b"{\"trace_id\":\"\xff\"}").is_err());
}

/// Scenario: `expires_at` in every form, and in none.
/// Guarantees: a readable one is taken; an unreadable one means that the verdict is not kept.
#[test]
fn expiry_is_read_or_forbids_keeping() {
    for (value, expected) in [
        (json!(1_900_000_000), Some(1_900_000_000)),
        (json!("1900000000"), Some(1_900_000_000)),
        (json!("2026-11-22T14:40:00.000Z"), Some(1_795_358_400)),
        (json!("soon"), None),
        (json!(-5), None),
        (json!(1.5), None),
        (json!([]), None),
    ] {
        let read = read(&json!({ "trace_id": TRACE, "expires_at": value })).unwrap();
        assert_eq!(read.expires_at, expected, "{value}");
        assert_eq!(read.max_age.is_some(), expected.is_some(), "{value}");
    }
    let absent = read(&json!({ "trace_id": TRACE, "expires_at": null })).unwrap();
    assert_eq!((absent.expires_at, absent.max_age), (None, Some(Duration::from_mins(1))));
    let unkept = positive(&HeaderMap::new(), json!({ "trace_id": TRACE }).to_string().as_bytes()).unwrap();
    assert_eq!(unkept.max_age, None);
}
