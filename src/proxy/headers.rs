//! Headers in and out: credentials marked so that nothing prints them, and a head for the collector
//! that is built anew, so that nothing a sender wrote can pose as ours.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION},
};

use crate::validate::{Claims, Identity, credentials::HeaderNames};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Marks every header that may hold a credential, before anything can print the request.
pub fn mark_sensitive(headers: &mut HeaderMap, names: &HeaderNames) {
    let kinds = [&names.runner_token, &names.job_token, &AUTHORIZATION, &PROXY_AUTHORIZATION, &COOKIE];
    for (name, value) in headers.iter_mut() {
        if kinds.contains(&name) {
            value.set_sensitive(true);
        }
    }
}

/// The head for the collector: the correlation id, and in `transparent` mode the verified identity. Nothing
/// of the sender's own head goes on: neither credentials, nor `Gitlab-*-Api-Request`, nor any header that
/// the collector could take for the gateway's word.
#[must_use]
pub fn outgoing(correlation_id: &str, identity: Option<&Identity>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    if let Ok(value) = HeaderValue::from_str(correlation_id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(identity) = identity {
        stamp(&mut headers, identity);
    }
    headers
}

/// The names that `from_context` of the collector's attributes processor reads. All of them are
/// always there, empty for what was not told: one that is missing makes the processor skip its
/// action, and the sender's own claim would stand.
fn stamp(headers: &mut HeaderMap, identity: &Identity) {
    let nothing = Claims::default();
    let claims = identity.claims().unwrap_or(&nothing);
    let numbers = [
        ("x-gitlab-ci-job-id", claims.job_id),
        ("x-gitlab-ci-pipeline-id", claims.pipeline_id),
        ("x-gitlab-ci-project-id", claims.project_id),
        ("x-gitlab-ci-runner-id", claims.runner_id),
    ];
    for (name, number) in numbers {
        let value = number.map_or(EMPTY, HeaderValue::from);
        headers.insert(HeaderName::from_static(name), value);
    }
    let trace_id = identity.trace_id().map(|id| id.to_string());
    let texts = [
        ("x-gitlab-ci-pipeline-source", &claims.pipeline_source),
        ("x-gitlab-ci-runner-type", &claims.runner_type),
        ("x-gitlab-ci-runner-manager-system-xid", &claims.runner_manager_system_xid),
        ("x-gitlab-ci-trace-id", &trace_id),
    ];
    for (name, text) in texts {
        // What is no header value counts as not told: an absent claim is safe, a mangled one is not.
        let value = text.as_deref().and_then(|text| HeaderValue::from_str(text).ok()).unwrap_or(EMPTY);
        headers.insert(HeaderName::from_static(name), value);
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> HeaderNames {
        HeaderNames {
            runner_token: HeaderName::from_static("runner-token"),
            job_token: HeaderName::from_static("job-token"),
        }
    }

    /// Scenario: a head full of credentials is printed after marking.
    /// Guarantees: none of them shows, every occurrence of a repeated header included.
    #[test]
    fn marked_credentials_do_not_print() {
        let mut headers = HeaderMap::new();
        for name in ["runner-token", "job-token", "authorization", "proxy-authorization", "cookie"] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("canary-one"));
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("canary-two"));
        }
        mark_sensitive(&mut headers, &names());
        assert!(!format!("{headers:?}").contains("canary"));
    }

    /// Scenario: a head for the collector is built without an identity.
    /// Guarantees: the correlation id is all that is in it.
    #[test]
    fn a_head_is_built_of_our_own_words() {
        let leaving = outgoing("ours", None);
        let left: Vec<_> = leaving.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(left, [("x-request-id", &b"ours"[..])]);
    }
}
