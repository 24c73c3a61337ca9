//! What the sender reads: an export response or a `google.rpc.Status`, in the request's own
//! encoding, over HTTP or as gRPC. It decides form, never what the answer is.

mod quota;

use std::{fmt::Write as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt as _, Empty, Full};

use crate::{
    otlp::{
        signal::Signal,
        status::{Code, PartialSuccess, Status},
    },
    validate::{
        Denial,
        credentials::{Accepts, HeaderNames, Kind},
    },
};

use super::{grpc, rejection::Rejection, route::Protocol, server::AnswerBody};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const ENCODINGS: HeaderValue = HeaderValue::from_static("identity, gzip, zstd");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The answer to an export that was taken, wholly or in part.
#[must_use]
pub fn accepted(protocol: Protocol, signal: Signal, partial: &PartialSuccess) -> Response<AnswerBody> {
    match protocol {
        Protocol::HttpProtobuf => http(StatusCode::OK, PROTOBUF, partial.to_protobuf()),
        Protocol::HttpJson => http(StatusCode::OK, JSON, partial.to_json(signal)),
        Protocol::Grpc => {
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert(GRPC_STATUS, HeaderValue::from(u16::from(Code::Ok as u8)));
            let body = Full::new(framed(&partial.to_protobuf()))
                .with_trailers(std::future::ready(Some(Ok(trailers))))
                .boxed_unsync();
            grpc_head(body)
        }
    }
}

/// The answer to a refused request. `throttle` stands in the place of 429, over HTTP.
#[must_use]
pub fn refused(
    protocol: Protocol,
    rejection: &Rejection,
    throttle: StatusCode,
    names: &HeaderNames,
    accepts: Accepts,
) -> Response<AnswerBody> {
    let status = rejection.status();
    let http_status = match rejection.http_status() {
        StatusCode::TOO_MANY_REQUESTS => throttle,
        other => other,
    };
    let mut response = match protocol {
        Protocol::HttpProtobuf => http(http_status, PROTOBUF, status.to_protobuf()),
        Protocol::HttpJson => http(http_status, JSON, status.to_json()),
        Protocol::Grpc => trailers_only(&status),
    };
    let headers = response.headers_mut();
    if let Some(delay) = status.retry_after
        && protocol != Protocol::Grpc
    {
        let seconds = whole_seconds(delay);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        if let Rejection::Limited(refusal) = rejection {
            quota::tell(headers, refusal, seconds);
        }
    }
    match rejection {
        Rejection::Method => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        Rejection::Encoding if protocol == Protocol::Grpc => {
            headers.insert(GRPC_ACCEPT_ENCODING, ENCODINGS);
        }
        // RFC 9110, section 12.5.3: in an answer it says what a request may use.
        Rejection::Encoding => {
            headers.insert(ACCEPT_ENCODING, ENCODINGS);
        }
        Rejection::Credentials(_) | Rejection::Denied(Denial::Unauthenticated, _) => {
            let is_refused_bearer = matches!(rejection, Rejection::Denied(_, Kind::Bearer));
            for challenge in challenges(names, accepts, is_refused_bearer) {
                headers.append(WWW_AUTHENTICATE, challenge);
            }
        }
        _ => {}
    }
    response
}

/// RFC 9110, section 11.6.1: a 401 names what would be accepted. RFC 6750, section 3: a bearer token that was
/// looked at gets the reason, a request without one does not.
fn challenges(
    names: &HeaderNames,
    accepts: Accepts,
    is_refused_bearer: bool,
) -> impl Iterator<Item = HeaderValue> {
    let bearer = if is_refused_bearer {
        HeaderValue::from_static("Bearer realm=\"spangate\", error=\"invalid_token\"")
    } else {
        HeaderValue::from_static("Bearer realm=\"spangate\"")
    };
    [accepts.bearer.then_some(bearer), accepts.pair.then(|| pair_challenge(names))].into_iter().flatten()
}

fn pair_challenge(names: &HeaderNames) -> HeaderValue {
    let text =
        format!("GitLab-CI realm=\"spangate\", headers=\"{} {}\"", names.runner_token, names.job_token);
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("GitLab-CI realm=\"spangate\""))
}

/// `Retry-After` has whole seconds; rounded up, within the bound that the delay itself keeps.
fn whole_seconds(delay: Duration) -> u64 {
    delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0))
}

fn http(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<AnswerBody> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn grpc_head(body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// gRPC over HTTP/2, "Responses": an error without a message is one HEADERS frame that ends the stream.
fn trailers_only(status: &Status) -> Response<AnswerBody> {
    let mut response = grpc_head(Empty::new().boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status.code as u8)));
    if let Ok(message) = HeaderValue::try_from(percent_encoded(&status.message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    if let Ok(details) = HeaderValue::try_from(STANDARD_NO_PAD.encode(status.to_protobuf())) {
        headers.insert(GRPC_DETAILS, details);
    }
    response
}

/// gRPC over HTTP/2, "Status-Message": space to `~` as they are, but for `%`.
fn percent_encoded(message: &str) -> String {
    message.bytes().fold(String::with_capacity(message.len()), |mut text, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
        text
    })
}

fn framed(message: &Bytes) -> Bytes {
    // An answer of ours is a sentence and a number: its length always fits.
    let prefix = grpc::frame(false, message.len()).unwrap_or_default();
    [prefix.as_slice(), message].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a sentence with a percent sign, a newline and a letter outside ASCII.
    /// Guarantees: the gRPC message is a legal header value that decodes to the sentence.
    #[test]
    fn grpc_message_is_percent_encoded() {
        assert_eq!(percent_encoded("50 % of\nspäns"), "50 %25 of%0Asp%C3%A4ns");
    }

    /// Scenario: delays with and without a fraction of a second.
    /// Guarantees: `Retry-After` is never shorter than the delay.
    #[test]
    fn retry_after_rounds_up() {
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::from_millis(2001)), 3);
        assert_eq!(whole_seconds(Duration::from_millis(14_999)), 15);
    }
}
