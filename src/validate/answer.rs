//! What an answer of GitLab means: the contract's table as pure functions over status, headers and
//! body. It does no I/O. A denial is only ever read from an answer that can be GitLab's own word
//! about the tokens; whatever else it may be is [`Undetermined`].
//!
//! A 401 can also come from something that never looked at the tokens. Told apart here: a page for
//! people (HTML, where JSON was asked for), a challenge that only a proxy sends (Basic, Digest,
//! Negotiate, NTLM), and a 401 while GitLab's own clock says that our signed header can't be good.
//! Not told apart: a GitLab that does not know our secret answers in the same form as for a bad
//! token, and its text is no contract. [`super::gitlab`] warns when it gets nothing but 401.

use std::time::Duration;

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, DATE, WWW_AUTHENTICATE},
};
use serde::Deserialize;
use serde_json::Value;

use crate::otlp::TraceId;

use super::{
    Claims, Denial, Undetermined, cache_control,
    signer::{Signer, unix_seconds_of},
    timestamp,
};

/// Longest text that is taken over into an attribute, in bytes.
pub(super) const MAX_TEXT: usize = 1024;

/// What status and headers say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A 200: the word is in the body.
    Positive,
    /// A no.
    Denied(Denial),
}

/// A well-formed 200.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Positive {
    pub(crate) trace_id: TraceId,
    pub(crate) claims: Claims,
    pub(crate) expires_at: Option<u64>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) stale: cache_control::Stale,
}

/// Reads status and headers. `signed_at`: when our own header was signed (Unix seconds), if it was.
pub(super) fn head(
    status: StatusCode,
    headers: &HeaderMap,
    signed_at: Option<u64>,
) -> Result<Head, Undetermined> {
    match status {
        StatusCode::OK => Ok(Head::Positive),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if is_foreign(headers) => {
            Err(Undetermined::ForeignRefusal)
        }
        StatusCode::UNAUTHORIZED if signed_at.is_some_and(|signed| !is_timely(signed, headers)) => {
            Err(Undetermined::ClocksApart)
        }
        StatusCode::UNAUTHORIZED => Ok(Head::Denied(Denial::Unauthenticated)),
        StatusCode::FORBIDDEN => Ok(Head::Denied(Denial::Forbidden)),
        StatusCode::TOO_MANY_REQUESTS => Err(Undetermined::Throttled),
        other => Err(Undetermined::Status(other.as_u16())),
    }
}

/// Whether an answer shows that GitLab's API did not give it. The API speaks JSON also when it refuses;
/// a mesh, a firewall or a rate limiter in front of it refuses in text, in HTML or without a word, and
/// none of them knows these tokens.
fn is_foreign(headers: &HeaderMap) -> bool {
    let first_word = |value: &http::HeaderValue, end: &[char]| {
        let text = value.to_str().unwrap_or_default();
        text.split(end).next().unwrap_or_default().trim().to_ascii_lowercase()
    };
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = first_word(kind, &[';']);
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
    });
    let is_proxy = headers.get_all(WWW_AUTHENTICATE).iter().any(|challenge| {
        ["basic", "digest", "negotiate", "ntlm"].contains(&&*first_word(challenge, &[' ', ',']))
    });
    !is_json || is_proxy
}

/// Whether our signature could be good by the answer's own `Date`; in doubt it could.
fn is_timely(signed_at: u64, headers: &HeaderMap) -> bool {
    let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    date.is_none_or(|date| Signer::is_timely(signed_at, unix_seconds_of(date)))
}

/// The facts of the contract, one row each: the field and how it is read. `Fields`, the reading and the
/// list that others hold against it come from these rows, so that they can't part.
macro_rules! facts {
    ($($name:ident: $read:ident,)+) => {
        /// Every field that the contract names, of any JSON type; unknown ones are ignored, one that
        /// comes twice is an error, because two readers could take either.
        #[derive(Deserialize)]
        struct Fields {
            trace_id: Option<Value>,
            expires_at: Option<Value>,
            $($name: Option<Value>,)+
        }

        impl Fields {
            fn claims(self) -> Claims {
                Claims { $($name: $read(self.$name),)+ }
            }

            /// The optional fields that have a value which can't be read.
            fn unreadable(&self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.$name.is_some() && $read(self.$name.clone()).is_none() {
                    names.push(stringify!($name));
                })+
                if self.expires_at.as_ref().is_some_and(|value| seconds(value).is_none()) {
                    names.push("expires_at");
                }
                names
            }
        }

        /// The optional fields that are read.
        #[cfg(test)]
        pub(super) const OPTIONAL_FIELDS: &[&str] = &[$(stringify!($name),)+ "expires_at"];
    };
}

facts! {
    job_id: id,
    pipeline_id: id,
    pipeline_source: text,
    root_pipeline_id: id,
    project_id: id,
    project_path: text,
    namespace_id: id,
    root_namespace_id: id,
    organization_id: id,
    cell_id: id,
    runner_id: id,
    runner_type: text,
    runner_manager_system_xid: text,
}

/// Reads the body of a 200.
///
/// An optional field of an odd type, form or length is absent, not an error: a fact less on a span is
/// better than no telemetry for a whole fleet. An unreadable `expires_at` is the exception, because it
/// bounds how long the verdict may be believed: then it is not kept at all.
pub(super) fn positive(headers: &HeaderMap, body: &[u8]) -> Result<Positive, Undetermined> {
    let fields = fields(body)?;
    let trace_id = fields
        .trace_id
        .as_ref()
        .and_then(Value::as_str)
        .and_then(TraceId::from_lower_hex)
        .ok_or(Undetermined::BadAnswer("trace_id is not 32 lower-case hex digits other than all zero"))?;
    let expires_at = fields.expires_at.as_ref().map(seconds);
    let max_age = cache_control::max_age(headers).filter(|_| expires_at != Some(None));
    let stale = cache_control::stale(headers);
    Ok(Positive { trace_id, claims: fields.claims(), expires_at: expires_at.flatten(), max_age, stale })
}

/// Whether a body is a JSON object in which no field comes twice that is read.
pub(super) fn is_object(body: &[u8]) -> bool {
    fields(body).is_ok()
}

/// The optional fields of a 200 that [`positive`] takes for absent though they have a value: of an odd
/// type, form or length.
pub(super) fn unreadable(body: &[u8]) -> Vec<&'static str> {
    fields(body).map_or_else(|_| Vec::new(), |fields| fields.unreadable())
}

fn fields(body: &[u8]) -> Result<Fields, Undetermined> {
    // A list would be read as a struct, too, its members by position.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Undetermined::BadAnswer("the body is no JSON object"));
    }
    serde_json::from_slice(body)
        .map_err(|_| Undetermined::BadAnswer("the body is no JSON object with each field once"))
}

/// A positive id that a signed 64-bit attribute can hold.
pub(super) fn id(value: Option<Value>) -> Option<u64> {
    let id = match value? {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => timestamp::digits(&digits),
        _ => None,
    };
    id.filter(|id| *id > 0 && i64::try_from(*id).is_ok())
}

/// A text of bounded length without control characters, which no log or dashboard would survive.
pub(super) fn text(value: Option<Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let fits = (1..=MAX_TEXT).contains(&text.len()) && !text.contains(char::is_control);
    fits.then_some(text)
}

/// Unix seconds, as a number, in digits or in the form of RFC 3339.
fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => timestamp::digits(text).or_else(|| timestamp::rfc3339(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
