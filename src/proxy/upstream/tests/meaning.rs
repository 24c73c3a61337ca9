//! What each answer of a collector means, in both protocols.

use std::{convert::Infallible, io::Write as _, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message as _;

use crate::{config::Protocol, otlp::status::PartialSuccess};

use super::{
    super::{
        UpstreamError,
        answer::{Answer, BadBody, MAX_ANSWER, retry_after},
        grpc, http as plain,
    },
    AnswerBody, Fake, send, upstream,
};

const PATIENCE: Duration = Duration::from_secs(5);

fn answer(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Answer {
    let headers =
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let status = StatusCode::from_u16(status).unwrap();
    Answer { status, headers, body: Ok(Bytes::copy_from_slice(body)), trailers: None }
}

fn partial() -> (PartialSuccess, Vec<u8>) {
    let message = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess { rejected_spans: 3, error_message: "old".into() }),
    };
    (PartialSuccess { rejected: 3, message: "old".into() }, message.encode_to_vec())
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flag];
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

/// A `google.rpc.Status` with a `google.rpc.RetryInfo` of `seconds`, written out by hand.
fn retry_info(code: u8, seconds: u8) -> Vec<u8> {
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    let mut any = vec![0x0A, u8::try_from(url.len()).unwrap()];
    any.extend_from_slice(url);
    any.extend_from_slice(&[0x12, 4, 0x0A, 2, 0x08, seconds]);
    let mut status = vec![0x08, code, 0x1A, u8::try_from(any.len()).unwrap()];
    status.extend_from_slice(&any);
    status
}

/// Scenario: a collector answers with each status that has a meaning, and with some that have none.
/// Guarantees: each is told apart, waits are read, and what makes no sense says what to look at.
#[test]
fn http_statuses_have_meanings() {
    let wait = [("retry-after", "7")];
    let seven = Some(Duration::from_secs(7));
    for (status, expected) in [
        (400, UpstreamError::Refused),
        (413, UpstreamError::TooLarge),
        (429, UpstreamError::Throttled(seven)),
        (502, UpstreamError::Unavailable(seven)),
        (503, UpstreamError::Unavailable(seven)),
        (504, UpstreamError::Unavailable(seven)),
    ] {
        assert_eq!(plain::judge(&answer(status, &wait, b"<html>")), Err(expected), "{status}");
    }
    assert_eq!(plain::judge(&answer(503, &[], b"")), Err(UpstreamError::Unavailable(None)));
    for (status, hint) in [
        (302, "redirects"),
        (401, "credentials"),
        (403, "credentials"),
        (404, "OTLP receiver"),
        (405, "OTLP receiver"),
        (415, "compression"),
        (418, "not an answer"),
        (500, "own log"),
    ] {
        let Err(UpstreamError::BadAnswer(text)) = plain::judge(&answer(status, &[], b"secret")) else {
            panic!("{status} is not told");
        };
        assert!(text.contains(hint) && text.contains(&status.to_string()), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

/// Scenario: successes with a message, with none, with a warning page, compressed, unreadable, broken off.
/// Guarantees: partial successes are read, emptiness is success, everything else is an error of the right kind.
#[test]
fn http_successes_are_read() {
    let (expected, message) = partial();
    let protobuf = ("content-type", "application/x-protobuf; v=1");
    assert_eq!(plain::judge(&answer(200, &[protobuf], &message)), Ok(expected.clone()));
    assert_eq!(plain::judge(&answer(200, &[], b"")), Ok(PartialSuccess::default()));
    assert_eq!(plain::judge(&answer(202, &[], b"")), Ok(PartialSuccess::default()));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&message).unwrap();
    let gzip = gzip.finish().unwrap();
    let zipped = [protobuf, ("content-encoding", "gzip")];
    assert_eq!(plain::judge(&answer(200, &zipped, &gzip)), Ok(expected));
    let html = answer(200, &[("content-type", "text/html")], b"<p>welcome");
    let junk = answer(200, &[protobuf], b"\xFF\xFF\xFF");
    let odd = answer(200, &[protobuf, ("content-encoding", "br")], &message);
    let long = Answer { body: Err(BadBody::TooLong), ..answer(200, &[protobuf], b"") };
    for bad in [html, junk, odd, long] {
        assert!(matches!(plain::judge(&bad), Err(UpstreamError::BadAnswer(_))), "{bad:?}");
    }
    let broken = Answer { body: Err(BadBody::BrokeOff("x".into())), ..answer(200, &[protobuf], b"") };
    assert!(matches!(plain::judge(&broken), Err(UpstreamError::Unreachable(_))));
}

/// Scenario: `Retry-After` as seconds, as dates ahead and past, and as nonsense.
/// Guarantees: both forms are read, a past date is no wait, nonsense is none, a huge number is huge.
#[test]
fn retry_after_is_read() {
    let read = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", text.parse().unwrap());
        retry_after(&headers)
    };
    assert_eq!(read(" 12 "), Some(Duration::from_secs(12)));
    let ahead = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(100));
    let ahead = read(&ahead).unwrap();
    assert!((Duration::from_secs(98)..=Duration::from_secs(100)).contains(&ahead), "{ahead:?}");
    assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    assert_eq!(read("99999999999999999999"), Some(Duration::from_secs(u32::MAX.into())));
    for nonsense in ["", "soon", "-1", "1.5"] {
        assert_eq!(read(nonsense), None, "{nonsense}");
    }
}

/// Scenario: each gRPC status code in a head without a message, with and without a `RetryInfo`.
/// Guarantees: the codes that OTLP calls worth a retry are told from the others, waits are read.
#[test]
fn grpc_codes_have_meanings() {
    for code in 1..=17_u8 {
        let text = code.to_string();
        let details = BASE64_STANDARD.encode(retry_info(code, 3));
        let bare = grpc::judge(&answer(200, &[("grpc-status", &text)], b"")).unwrap_err();
        let told = [("grpc-status", &*text), ("grpc-status-details-bin", details.trim_end_matches('='))];
        let told = grpc::judge(&answer(200, &told, b"")).unwrap_err();
        let three = Some(Duration::from_secs(3));
        match code {
            3 => assert_eq!((bare, told), (UpstreamError::Refused, UpstreamError::Refused)),
            4 => assert_eq!((bare, told), (UpstreamError::Timeout, UpstreamError::Timeout)),
            8 => assert_eq!((bare, told), (UpstreamError::TooLarge, UpstreamError::Throttled(three))),
            1 | 10 | 11 | 14 | 15 => assert_eq!(
                (bare, told),
                (UpstreamError::Unavailable(None), UpstreamError::Unavailable(three))
            ),
            _ => {
                let UpstreamError::BadAnswer(text) = &bare else { panic!("{code}: {bare:?}") };
                assert!(text.contains(&format!("gRPC status {code}:")), "{text}");
                assert_eq!(bare, told);
            }
        }
    }
}

/// Scenario: calls that end without a status, with a proxy's HTTP error, or with a broken message.
/// Guarantees: a call without a status never is a success, and proxies' errors keep their meaning.
#[test]
fn grpc_oddities_are_no_success() {
    let (expected, message) = partial();
    let ok = [("grpc-status", "0")];
    assert_eq!(grpc::judge(&answer(200, &ok, &framed(0, &message))), Ok(expected));
    assert_eq!(grpc::judge(&answer(200, &ok, b"")), Ok(PartialSuccess::default()));
    let two = [framed(0, b""), framed(0, b"")].concat();
    for bad in [
        answer(200, &[], &framed(0, &message)),
        answer(200, &[("grpc-status", "fine")], b""),
        answer(200, &ok, b"\0\0\0\0\x09"),
        answer(200, &ok, &two),
        answer(200, &ok, &framed(0, b"\xFF\xFF")),
        answer(200, &[("grpc-status", "0"), ("grpc-encoding", "br")], &framed(1, &message)),
        answer(404, &[], b""),
        answer(302, &[], b""),
    ] {
        assert!(matches!(grpc::judge(&bad), Err(UpstreamError::BadAnswer(_))), "{bad:?}");
    }
    let wait = [("retry-after", "2")];
    let two = Some(Duration::from_secs(2));
    assert_eq!(grpc::judge(&answer(503, &wait, b"")), Err(UpstreamError::Unavailable(two)));
    assert_eq!(grpc::judge(&answer(429, &wait, b"")), Err(UpstreamError::Throttled(two)));
}

fn with_trailers(status: &'static str) -> Response<AnswerBody> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    let frames = [Frame::data(Bytes::from(framed(0, &partial().1))), Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, Infallible>));
    let mut response = Response::new(AnswerBody::new(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response
}

/// Scenario: real gRPC calls whose status comes in trailers after a message: good, and bad.
/// Guarantees: the trailers decide, not the head's 200; the message of a good call is read.
#[tokio::test]
async fn grpc_trailers_decide() {
    let good = Fake::start(None, || async { with_trailers("0") }).await;
    assert_eq!(send(&upstream(Protocol::Grpc, &[good.url()], PATIENCE)).await, Ok(partial().0));
    let bad = Fake::start(None, || async { with_trailers("14") }).await;
    let result = send(&upstream(Protocol::Grpc, &[bad.url()], PATIENCE)).await;
    assert_eq!(result, Err(UpstreamError::Unavailable(None)));
}

/// Scenario: an answer of one byte more than is read, as a success and as a 503.
/// Guarantees: it is not held in memory; the status of a refusal still counts.
#[tokio::test]
async fn long_answers_are_cut() {
    fn long(status: u16) -> Response<AnswerBody> {
        let body = AnswerBody::new(Full::from(vec![0; MAX_ANSWER + 1]));
        Response::builder()
            .status(status)
            .header("content-type", "application/x-protobuf")
            .body(body)
            .unwrap()
    }
    let fakes = [
        Fake::start(None, || std::future::ready(long(200))).await,
        Fake::start(None, || std::future::ready(long(503))).await,
    ];
    let ok = send(&upstream(Protocol::Http, &[fakes[0].url()], PATIENCE)).await;
    assert_eq!(ok, Err(UpstreamError::BadAnswer("the body is longer than 64 KiB".into())));
    let busy = send(&upstream(Protocol::Http, &[fakes[1].url()], PATIENCE)).await;
    assert_eq!(busy, Err(UpstreamError::Unavailable(None)));
}
