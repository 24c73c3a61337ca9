//! OTLP/HTTP with protobuf: how a request looks, and what each status means. It never looks at a payload.

use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT},
};

use crate::otlp::{compression::Encoding, status::PartialSuccess};

use super::{
    UpstreamError,
    answer::{Answer, BadBody, MAX_ANSWER, inflated, retry_after},
    pieces::Pieces,
};

const PROTOBUF: &str = "application/x-protobuf";
pub(super) const OURSELVES: HeaderValue =
    HeaderValue::from_static(concat!("spangate/", env!("CARGO_PKG_VERSION")));

/// An export request. Our own headers win over the ones in `headers`.
pub(super) fn request(
    uri: Uri,
    mut headers: HeaderMap,
    encoding: Encoding,
    pieces: Pieces,
) -> Request<Pieces> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    headers.insert(USER_AGENT, OURSELVES);
    headers.remove(CONTENT_ENCODING);
    if encoding != Encoding::Identity {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.token()));
    }
    let mut request = Request::new(pieces);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// What an answer means. Any 2xx is a success, as exporters take it.
///
/// Source: OTLP specification, "OTLP/HTTP Response".
pub(super) fn judge(answer: &Answer) -> Result<PartialSuccess, UpstreamError> {
    let status = answer.status;
    if status.is_success() {
        return success(answer);
    }
    Err(match status {
        StatusCode::BAD_REQUEST => UpstreamError::Refused,
        StatusCode::PAYLOAD_TOO_LARGE => UpstreamError::TooLarge,
        StatusCode::TOO_MANY_REQUESTS => UpstreamError::Throttled(retry_after(&answer.headers)),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            UpstreamError::Unavailable(retry_after(&answer.headers))
        }
        _ => UpstreamError::BadAnswer(format!("HTTP {}: {}", status.as_u16(), advice(status))),
    })
}

fn success(answer: &Answer) -> Result<PartialSuccess, UpstreamError> {
    let body = body(answer)?;
    if body.is_empty() {
        return Ok(PartialSuccess::default());
    }
    // An HTML page with status 200 comes from something that is no collector.
    if !is_protobuf(&answer.headers) {
        return Err(UpstreamError::BadAnswer(format!(
            "HTTP {}, but no {PROTOBUF} body: is the endpoint an OTLP/HTTP receiver?",
            answer.status.as_u16()
        )));
    }
    inflated(&answer.headers, &CONTENT_ENCODING, body)
        .and_then(|body| PartialSuccess::from_response(&body).ok())
        .ok_or_else(|| UpstreamError::BadAnswer("the body is no OTLP export response".into()))
}

/// The body of a successful answer.
pub(super) fn body(answer: &Answer) -> Result<&bytes::Bytes, UpstreamError> {
    answer.body.as_ref().map_err(|bad| match bad {
        BadBody::TooLong => {
            UpstreamError::BadAnswer(format!("the body is longer than {} KiB", MAX_ANSWER >> 10))
        }
        BadBody::BrokeOff(cause) => UpstreamError::Unreachable(format!("the answer broke off: {cause}")),
    })
}

fn is_protobuf(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(PROTOBUF))
}

/// What an operator should look at.
pub(super) fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "redirects are not followed: name the address that it points to",
        401 | 403 | 407 => {
            "it wants credentials: does its receiver, or a proxy before it, ask for authentication?"
        }
        404 | 405 => "is the endpoint an OTLP receiver of this protocol, with its default paths?",
        415 => "does its receiver take protobuf, and the configured compression?",
        500..=599 => "the collector failed: see its own log",
        _ => "not an answer of an OTLP receiver",
    }
}
