//! Holds deploy/gitlab/openapi.yaml, from which others build the endpoint, against the code that asks
//! and reads. Test code only; it judges the file and decides nothing about the contract.

use std::{collections::BTreeSet, fs, path::Path};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::{
    Denial,
    answer::{self, Head},
    credentials::{MAX_JOB_TOKEN, MAX_RUNNER_TOKEN},
    gitlab::{self, MAX_ANSWER},
    signer,
};
use crate::config;

fn described() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/gitlab/openapi.yaml");
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The one operation.
fn operation(api: &Value) -> &Value {
    let paths = api["paths"].as_object().unwrap();
    assert_eq!(paths.keys().collect::<Vec<_>>(), [&config::Gitlab::default().auth_path]);
    let methods = paths.values().next().unwrap().as_object().unwrap();
    assert_eq!(methods.keys().collect::<Vec<_>>(), ["post"]);
    &methods["post"]
}

fn names(list: &Value, key: &str) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap().to_lowercase()).collect()
}

/// Scenario: the described path, headers and body beside the question that the gateway writes under its defaults.
/// Guarantees: no header is described that is not sent, none is sent undescribed, and the bounds on tokens are ours.
#[test]
fn the_question_is_described() {
    let (api, defaults) = (described(), config::Gitlab::default());
    let operation = operation(&api);
    let own = [gitlab::X_REQUEST_ID, gitlab::X_FORWARDED_FOR, HeaderName::from_static("user-agent")];
    let tokens = [&defaults.runner_token_header, &defaults.job_token_header].map(|name| name.to_lowercase());
    let sent: BTreeSet<_> = own.iter().map(ToString::to_string).chain(tokens).collect();
    assert_eq!(names(&operation["parameters"], "name"), sent);
    for parameter in operation["parameters"].as_array().unwrap() {
        assert_eq!((&parameter["in"], &parameter["required"]), (&"header".into(), &true.into()));
    }
    let blank = gitlab::blank("https://gitlab.example.com".parse().unwrap());
    let body: Value = serde_json::from_slice(blank.body().unwrap().as_bytes().unwrap()).unwrap();
    let content = &operation["requestBody"]["content"];
    assert_eq!(content[blank.headers()["content-type"].to_str().unwrap()]["example"], body);
    for (schema, longest) in [("RunnerToken", MAX_RUNNER_TOKEN), ("JobToken", MAX_JOB_TOKEN)] {
        assert_eq!(api["components"]["schemas"][schema]["maxLength"], longest, "{schema}");
    }
}

/// Scenario: the described signature beside the one that is made under the defaults.
/// Guarantees: header, issuer, audience, times and length of the key are those of the code.
#[test]
fn the_signature_is_described() {
    let (api, defaults) = (described(), config::Gitlab::default());
    let scheme = &api["components"]["securitySchemes"]["gatewaySignature"];
    assert_eq!(scheme["name"], defaults.secret_header);
    let jwt = &scheme["x-jwt"];
    assert_eq!(
        (&jwt["iss"], &jwt["aud"]),
        (&defaults.secret_issuer.into(), &defaults.secret_audience.into())
    );
    assert_eq!(jwt["key_bytes"], signer::SECRET_LEN);
    assert_eq!(jwt["nbf"], format!("now - {}", signer::NOT_BEFORE));
    assert_eq!(jwt["exp"], format!("now + {}", signer::LIFETIME));
    // A schema name that no operation asks for would be no description.
    assert!(
        operation(&api)["security"].as_array().unwrap().iter().any(|one| one["gatewaySignature"].is_array())
    );
}

/// Scenario: the described fields beside the rows that the reader is made from; the example, read.
/// Guarantees: every field that is read is described, with its kind; the example has all of them, is read without a
/// loss and may be kept; the bound on the body is ours.
#[test]
fn the_positive_answer_is_described() {
    let api = described();
    let schema = &api["components"]["schemas"]["Allowed"];
    assert_eq!(schema["required"], serde_json::json!(["trace_id"]));
    assert_eq!(schema["x-max-bytes"], MAX_ANSWER);
    let fields: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    // What the contract names and nobody reads.
    let unread = ["job_status"];
    let read: BTreeSet<_> =
        answer::OPTIONAL_FIELDS.iter().copied().chain(["trace_id"]).chain(unread).collect();
    assert_eq!(fields, read);

    let positive = &operation(&api)["responses"]["200"];
    let example = &positive["content"]["application/json"]["example"];
    let shown: BTreeSet<_> = example.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(shown, read);
    let mut headers = HeaderMap::new();
    let kept = positive["headers"]["Cache-Control"]["example"].as_str().unwrap();
    headers.insert("cache-control", HeaderValue::from_str(kept).unwrap());
    let body = example.to_string();
    let read = answer::positive(&headers, body.as_bytes()).unwrap();
    assert!(read.max_age.is_some() && read.expires_at.is_some(), "{read:?}");
    assert_eq!(answer::unreadable(body.as_bytes()), Vec::<&str>::new());
    // Whatever changes what is read of the time past the end has to be described.
    let description = positive["headers"]["Cache-Control"]["description"].as_str().unwrap();
    for directive in ["stale-while-revalidate=7", "stale-if-error=7", "must-revalidate", "proxy-revalidate"] {
        headers.insert("cache-control", HeaderValue::from_str(&format!("{kept}, {directive}")).unwrap());
        assert!(answer::positive(&headers, body.as_bytes()).unwrap().stale != read.stale, "{directive}");
        let name = directive.trim_end_matches("=7");
        assert!(description.contains(&format!("`{name}`")), "{name} is not described");
    }
}

/// Scenario: for each field a value of the described kind, and a list in its place.
/// Guarantees: "Id" and "Text" in the description are what the reader takes for an id and for a text.
#[test]
fn the_kinds_are_described() {
    let api = described();
    let properties = api["components"]["schemas"]["Allowed"]["properties"].as_object().unwrap();
    let unreadable = |name: &str, value: Value| {
        let body = serde_json::json!({ "trace_id": "1", (name): value }).to_string();
        answer::unreadable(body.as_bytes())
    };
    for name in answer::OPTIONAL_FIELDS.iter().filter(|name| **name != "expires_at") {
        let kind = properties[*name]["$ref"].as_str().unwrap();
        assert!(unreadable(name, 7.into()).is_empty() && unreadable(name, "7".into()).is_empty(), "{name}");
        assert!(unreadable(name, Value::Null).is_empty(), "{name}");
        let takes_words = unreadable(name, "words".into()).is_empty();
        assert_eq!(
            kind,
            if takes_words { "#/components/schemas/Text" } else { "#/components/schemas/Id" },
            "{name}"
        );
        assert_eq!(unreadable(name, serde_json::json!([1])), [*name]);
    }
    assert_eq!(unreadable("expires_at", "soon".into()), ["expires_at"]);
}

/// Scenario: every described status, with the described type of its body.
/// Guarantees: the descriptions of denials are read as denials, 429 as a wish for fewer questions; no other
/// status is described.
#[test]
fn the_refusals_are_described() {
    let api = described();
    let responses = operation(&api)["responses"].as_object().unwrap();
    assert_eq!(
        responses.keys().collect::<BTreeSet<_>>(),
        BTreeSet::from(["200", "401", "403", "429", "default"].map(String::from).each_ref())
    );
    let read = |status: &str| {
        let [kind] = responses[status]["content"].as_object().unwrap().keys().collect::<Vec<_>>()[..] else {
            panic!("{status}: more than one type")
        };
        let headers =
            HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]);
        answer::head(StatusCode::from_bytes(status.as_bytes()).unwrap(), &headers, None)
    };
    assert_eq!(read("401"), Ok(Head::Denied(Denial::Unauthenticated)));
    assert_eq!(read("403"), Ok(Head::Denied(Denial::Forbidden)));
    assert_eq!(read("429"), Err(super::Undetermined::Throttled));
}
