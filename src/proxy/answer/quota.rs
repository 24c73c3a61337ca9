//! The header fields that tell a refused sender which limit it met: `RateLimit-Policy` says what the limit
//! is, `RateLimit` what is left of it and for how long to wait.
//!
//! Form and names are those of draft-ietf-httpapi-ratelimit-headers-11: Lists of Strings with Parameters
//! (RFC 9651), as its sections 3 and 4 have it. Earlier revisions had other fields.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::limit::{Limit, Refusal, Unit};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// RFC 9651, section 3.3.1: an Integer has at most 15 digits.
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// Adds both fields. `seconds` is what `Retry-After` says.
pub(super) fn tell(headers: &mut HeaderMap, refusal: &Refusal, seconds: u64) {
    for (name, text) in [(POLICY, policy(refusal)), (RATE_LIMIT, rate_limit(refusal, seconds))] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
}

fn policy(refusal: &Refusal) -> String {
    let (limit, quota) = (refusal.limit, refusal.quota);
    let mut text = format!("\"{}\";q={}", limit.label(), quota.units.min(MAX_INTEGER));
    if let Some(unit) = unit(limit) {
        text = format!("{text};qu=\"{unit}\"");
    }
    if !quota.window.is_zero() {
        text = format!("{text};w={}", super::whole_seconds(quota.window).min(MAX_INTEGER));
    }
    text
}

fn rate_limit(refusal: &Refusal, seconds: u64) -> String {
    let left = refusal.quota.left.min(MAX_INTEGER);
    format!("\"{}\";r={left};t={seconds}", refusal.limit.label())
}

/// What `q` and `r` count, where it is not requests. Spans and failures are units of our own: the draft's
/// registry has none for them.
fn unit(limit: Limit) -> Option<&'static str> {
    match (limit, limit.unit()) {
        (Limit::ClientFailures, _) => Some("failures"),
        (Limit::ClientInFlight, _) => Some("concurrent-requests"),
        (_, Unit::Requests) => None,
        (_, Unit::Spans | Unit::Budget) => Some("spans"),
        (_, Unit::Bytes) => Some("content-bytes"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::tell;
    use crate::limit::{Limit, Quota, Refusal};

    /// Scenario: refusals by a limit of requests, of bytes with a burst of no whole second, of spans, of failures and
    /// of places, one of them with numbers past what a structured field can say.
    /// Guarantees: both fields, as the draft's examples have them, windows rounded up and numbers of 15 digits at most.
    #[test]
    fn fields_are_as_drafted() {
        for (limit, units, millis, left, policy, rate_limit) in [
            (Limit::JobRequests, 40, 2_000, 0, "\"job_requests\";q=40;w=2", "\"job_requests\";r=0;t=3"),
            (
                Limit::GlobalBytes,
                u64::MAX,
                1_500,
                77,
                "\"global_bytes\";q=999999999999999;qu=\"content-bytes\";w=2",
                "\"global_bytes\";r=77;t=3",
            ),
            (
                Limit::ProjectSpans,
                100,
                1_000,
                9,
                "\"project_spans\";q=100;qu=\"spans\";w=1",
                "\"project_spans\";r=9;t=3",
            ),
            (
                Limit::ClientFailures,
                60,
                60_000,
                0,
                "\"client_failures\";q=60;qu=\"failures\";w=60",
                "\"client_failures\";r=0;t=3",
            ),
            (
                Limit::ClientInFlight,
                512,
                0,
                0,
                "\"client_in_flight\";q=512;qu=\"concurrent-requests\"",
                "\"client_in_flight\";r=0;t=3",
            ),
        ] {
            let quota = Quota { units, window: Duration::from_millis(millis), left };
            let mut headers = HeaderMap::new();
            tell(&mut headers, &Refusal { limit, retry_after: Duration::ZERO, quota }, 3);
            assert_eq!(headers["ratelimit-policy"], policy);
            assert_eq!(headers["ratelimit"], rate_limit);
        }
    }
}
