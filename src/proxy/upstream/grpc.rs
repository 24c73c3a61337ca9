//! OTLP/gRPC: how a call looks, and what each status code means. Statuses come in trailers, or in the head when there
//! is no message. It never looks at a payload.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{CONTENT_TYPE, TE, USER_AGENT},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

use crate::{
    otlp::{
        compression::Encoding,
        status::{PartialSuccess, Status},
    },
    proxy::grpc::{GrpcFrameError, deframe, frame},
};

use super::{
    UpstreamError,
    answer::{Answer, inflated, retry_after},
    http::{OURSELVES, advice, body},
    pieces::Pieces,
};

const GRPC: &str = "application/grpc";
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_STATUS: &str = "grpc-status";
const GRPC_STATUS_DETAILS: &str = "grpc-status-details-bin";

/// Binary metadata comes with or without padding.
///
/// Source: gRPC over HTTP/2, "Binary-Header".
const BINARY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A unary call. Our own metadata win over those in `headers`.
///
/// # Errors
/// [`UpstreamError::TooLarge`] for a message that no frame can announce.
pub(super) fn request(
    uri: Uri,
    mut headers: HeaderMap,
    encoding: Encoding,
    length: usize,
    pieces: &Arc<Vec<Bytes>>,
    deadline: Instant,
) -> Result<Request<Pieces>, UpstreamError> {
    let compressed = encoding != Encoding::Identity;
    let prefix = frame(compressed, length).map_err(|_| UpstreamError::TooLarge)?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    // Proxies on the way drop trailers for a peer that doesn't ask for them, and the status with them.
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, OURSELVES);
    headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.remove(GRPC_ENCODING);
    if compressed {
        headers.insert(GRPC_ENCODING, HeaderValue::from_static(encoding.token()));
    }
    if let Ok(timeout) = timeout(deadline.saturating_duration_since(Instant::now())).try_into() {
        headers.insert(GRPC_TIMEOUT, timeout);
    }
    let mut request = Request::new(Pieces::framed(Bytes::copy_from_slice(&prefix), pieces));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// At most eight digits and a unit.
///
/// Source: gRPC over HTTP/2, "Timeout".
fn timeout(left: Duration) -> String {
    format!("{}m", left.as_millis().clamp(1, 99_999_999))
}

/// What an answer means.
///
/// Source: OTLP specification, "OTLP/gRPC Response" (which codes are worth a retry); gRPC, "HTTP to gRPC Status Code
/// Mapping" (for proxies that answer without a `grpc-status`).
pub(super) fn judge(answer: &Answer) -> Result<PartialSuccess, UpstreamError> {
    let Some(code) = find(answer, GRPC_STATUS) else {
        return Err(without_status(answer));
    };
    let code: Option<u16> = code.to_str().ok().and_then(|code| code.parse().ok());
    Err(match code {
        Some(0) => return message(answer),
        Some(3) => UpstreamError::Refused,
        Some(4) => UpstreamError::Timeout,
        Some(8) => match retry_delay(answer) {
            Some(delay) => UpstreamError::Throttled(Some(delay)),
            None => UpstreamError::TooLarge,
        },
        Some(1 | 10 | 11 | 14 | 15) => UpstreamError::Unavailable(retry_delay(answer)),
        Some(code) => UpstreamError::BadAnswer(format!("gRPC status {code}: {}", explain(code))),
        None => UpstreamError::BadAnswer("a grpc-status that is no number".into()),
    })
}

fn without_status(answer: &Answer) -> UpstreamError {
    match answer.status {
        StatusCode::OK => match body(answer) {
            Ok(_) => {
                UpstreamError::BadAnswer("no grpc-status: is the endpoint an OTLP/gRPC receiver?".into())
            }
            Err(error) => error,
        },
        StatusCode::TOO_MANY_REQUESTS => UpstreamError::Throttled(retry_after(&answer.headers)),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            UpstreamError::Unavailable(retry_after(&answer.headers))
        }
        status => UpstreamError::BadAnswer(format!(
            "HTTP {} without grpc-status: {}",
            status.as_u16(),
            advice(status)
        )),
    }
}

fn message(answer: &Answer) -> Result<PartialSuccess, UpstreamError> {
    let unreadable = || UpstreamError::BadAnswer("the message is no OTLP export response".into());
    let message = match deframe(body(answer)?) {
        // The status says that all is well; to send it all again for want of an empty message would double it.
        Err(GrpcFrameError::Missing) => return Ok(PartialSuccess::default()),
        Err(error) => return Err(UpstreamError::BadAnswer(error.to_string())),
        Ok((false, message)) => message,
        Ok((true, message)) => inflated(&answer.headers, &GRPC_ENCODING, &message).ok_or_else(unreadable)?,
    };
    PartialSuccess::from_response(&message).map_err(|_| unreadable())
}

/// A field of the trailers, or of the head of an answer without a message.
fn find<'a>(answer: &'a Answer, name: &str) -> Option<&'a HeaderValue> {
    answer.trailers.as_ref().and_then(|trailers| trailers.get(name)).or_else(|| answer.headers.get(name))
}

fn retry_delay(answer: &Answer) -> Option<Duration> {
    let details = BINARY.decode(find(answer, GRPC_STATUS_DETAILS)?.as_bytes()).ok()?;
    Status::retry_delay_of(&details)
}

/// What an operator should look at.
fn explain(code: u16) -> &'static str {
    match code {
        5 | 12 => "is the endpoint an OTLP/gRPC receiver, with a pipeline for this signal?",
        7 | 16 => "it wants credentials: does its receiver ask for authentication?",
        2 | 13 => "the collector failed: see its own log",
        _ => "not an answer of an OTLP receiver",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::timeout;

    /// Scenario: deadlines that are past, near and absurdly far away.
    /// Guarantees: `grpc-timeout` never is zero, which peers refuse, and never has more than eight digits.
    #[test]
    fn timeouts_fit_their_field() {
        assert_eq!(timeout(Duration::ZERO), "1m");
        assert_eq!(timeout(Duration::from_millis(2500)), "2500m");
        assert_eq!(timeout(Duration::MAX), "99999999m");
    }
}
