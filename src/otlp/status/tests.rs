//! Answers against prost's view of the same messages.

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;

use super::*;

/// `google.rpc.Status` and what it holds, written for the tests alone.
#[derive(Clone, PartialEq, Message)]
struct PbStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<PbAny>,
}

#[derive(Clone, PartialEq, Message)]
struct PbAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PbRetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<PbDuration>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct PbDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn retry_info(url: &str, seconds: i64, nanos: i32) -> PbAny {
    let value = PbRetryInfo { retry_delay: Some(PbDuration { seconds, nanos }) }.encode_to_vec();
    PbAny { type_url: url.to_owned(), value }
}

fn status_with(details: Vec<PbAny>) -> Vec<u8> {
    PbStatus { code: 14, message: "later".to_owned(), details }.encode_to_vec()
}

fn response(rejected_spans: i64, error_message: &str) -> Vec<u8> {
    let partial = ExportTracePartialSuccess { rejected_spans, error_message: error_message.to_owned() };
    ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
}

fn partial(rejected: i64, message: &str) -> PartialSuccess {
    PartialSuccess { rejected, message: message.to_owned() }
}

/// Scenario: refusals with and without a delay.
/// Guarantees: the protobuf form decodes to the same code, message and `RetryInfo`, and the delay can
/// be read back.
#[test]
fn status_in_protobuf() {
    for wait in
        [None, Some(Duration::ZERO), Some(Duration::from_secs(3)), Some(Duration::new(200, 1_000_001))]
    {
        let message = "a sentence of some length: ".repeat(8);
        let status = Status { code: Code::Unavailable, message: message.clone(), retry_after: wait };
        let bytes = status.to_protobuf();
        let details = wait
            .map(|wait| {
                let nanos = wait.subsec_nanos().cast_signed();
                retry_info(RETRY_INFO_URL, wait.as_secs().cast_signed(), nanos)
            })
            .into_iter()
            .collect();
        assert_eq!(PbStatus::decode(&bytes[..]).unwrap(), PbStatus { code: 14, message, details });
        assert_eq!(Status::retry_delay_of(&bytes), wait);
    }
    let bare = Status { code: Code::Ok, message: String::new(), retry_after: None };
    assert!(bare.to_protobuf().is_empty());
    let forever = Status { retry_after: Some(Duration::MAX), ..bare };
    let longest = Duration::from_secs(MAX_DURATION_SECONDS);
    assert_eq!(Status::retry_delay_of(&forever.to_protobuf()), Some(longest));
}

/// Scenario: a refusal whose message holds what JSON must escape, with delays of all precisions.
/// Guarantees: valid JSON with the canonical form of a duration.
#[test]
fn status_in_json() {
    let message = "a \"quote\", a \\, a line\nand \u{1} \u{e9}".to_owned();
    let mut status = Status { code: Code::ResourceExhausted, message, retry_after: None };
    let json: serde_json::Value = serde_json::from_slice(&status.to_json()).unwrap();
    assert_eq!(json, json!({ "code": 8, "message": status.message }));
    for (wait, text) in [
        (Duration::from_secs(3), "3s"),
        (Duration::ZERO, "0s"),
        (Duration::from_millis(3_500), "3.500s"),
        (Duration::from_micros(1), "0.000001s"),
        (Duration::from_nanos(1_000_000_010), "1.000000010s"),
        (Duration::MAX, "315576000000s"),
    ] {
        status.retry_after = Some(wait);
        let json: serde_json::Value = serde_json::from_slice(&status.to_json()).unwrap();
        let details = json!([{ "@type": RETRY_INFO_URL, "retryDelay": text }]);
        assert_eq!(json["details"], details);
    }
}

/// Scenario: a collector's refusal with other details around, another prefix of the type, delays out
/// of range, or bytes that are no status.
/// Guarantees: the first delay counts, behind a `RetryInfo` without one too, and anything doubtful is
/// no hint at all.
#[test]
fn retry_delay_is_read_strictly() {
    let other = PbAny { type_url: "type.googleapis.com/google.rpc.Help".to_owned(), value: vec![9, 9] };
    let body =
        status_with(vec![other, retry_info("x.example/google.rpc.RetryInfo", 2, 5), retry_info("", 9, 0)]);
    assert_eq!(Status::retry_delay_of(&body), Some(Duration::new(2, 5)));
    for len in 0..body.len() {
        let cut = Status::retry_delay_of(&body[..len]);
        assert!(cut.is_none() || cut == Some(Duration::new(2, 5)), "{len}");
    }
    for (seconds, nanos) in
        [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0), (MAX_DURATION_SECONDS.cast_signed() + 1, 0)]
    {
        let body = status_with(vec![retry_info(RETRY_INFO_URL, seconds, nanos)]);
        assert_eq!(Status::retry_delay_of(&body), None, "{seconds} {nanos}");
    }
    let nothing = PbAny { type_url: RETRY_INFO_URL.to_owned(), value: Vec::new() };
    assert_eq!(Status::retry_delay_of(&status_with(vec![nothing.clone()])), None);
    let behind = status_with(vec![nothing, retry_info(RETRY_INFO_URL, 2, 0), retry_info("", 9, 0)]);
    assert_eq!(Status::retry_delay_of(&behind), Some(Duration::from_secs(2)));
    let near = retry_info("type.googleapis.com/xgoogle.rpc.RetryInfo", 1, 0);
    assert_eq!(Status::retry_delay_of(&status_with(vec![near])), None);
    assert_eq!(Status::retry_delay_of(b""), None);
    assert_eq!(Status::retry_delay_of(b"<html>503</html>"), None);
    let good = status_with(vec![retry_info(RETRY_INFO_URL, 1, 0)]);
    for tail in [&[0x1a, 5][..], &[0x08], &[0x18, 1], &[0x1b], &[0x00, 0]] {
        assert_eq!(Status::retry_delay_of(&[&good, tail].concat()), None, "{tail:?}");
    }
}

/// Scenario: responses of a collector: empty, with unknown fields, with what comes twice.
/// Guarantees: they are read as prost reads them.
#[test]
fn responses_are_read() {
    let read = PartialSuccess::from_response;
    assert_eq!(read(b""), Ok(PartialSuccess::default()));
    assert_eq!(read(&[0x0a, 0]), Ok(PartialSuccess::default()));
    assert_eq!(read(&response(3, "three")), Ok(partial(3, "three")));
    assert_eq!(read(&response(0, "a warning")), Ok(partial(0, "a warning")));
    assert_eq!(read(&response(i64::MAX, "")), Ok(partial(i64::MAX, "")));
    let unknown = [0x12, 1, b'x', 0x18, 1, 0x25, 1, 2, 3, 4, 0x29, 1, 2, 3, 4, 5, 6, 7, 8];
    let wire = [&unknown[..], &response(3, "three"), &unknown].concat();
    assert_eq!(read(&wire), Ok(partial(3, "three")));
    // The second message sets the count again and leaves the sentence.
    let wire = [response(3, "three"), response(4, "")].concat();
    assert_eq!(read(&wire), Ok(partial(4, "three")));
    let prost = ExportTraceServiceResponse::decode(&wire[..]).unwrap().partial_success.unwrap();
    assert_eq!((prost.rejected_spans, prost.error_message.as_str()), (4, "three"));
    // An over-long varint is legal.
    assert_eq!(read(&[0x0a, 0x83, 0x00, 0x08, 0x85, 0x00]), Ok(partial(5, "")));
}

/// Scenario: a negative count and a very long sentence.
/// Guarantees: the count reads as none, the sentence is cut between two characters.
#[test]
fn responses_are_bounded() {
    assert_eq!(PartialSuccess::from_response(&response(-1, "odd")), Ok(partial(0, "odd")));
    let long = "\u{20ac}".repeat(30_000);
    let read = PartialSuccess::from_response(&response(1, &long)).unwrap();
    assert_eq!(read.message, "\u{20ac}".repeat(MAX_MESSAGE / 3));
}

/// Scenario: bytes that are no export response.
/// Guarantees: every one is refused, whichever rule of the wire it breaks.
#[test]
fn bad_responses() {
    let bad: [&[u8]; 15] = [
        b"<html>200</html>",
        b"{}",
        &[0x0a],
        &[0x0a, 2, 0x08],
        &[0x0a, 5, 0x08, 1],
        &[0x08, 1],
        &[0x0d, 0, 0, 0, 0],
        &[0x0a, 2, 0x12, 1],
        &[0x0a, 3, 0x12, 1, 0xff],
        &[0x0a, 3, 0x0a, 1, b'1'],
        &[0x0a, 2, 0x10, 1],
        &[0x13],
        &[0x14],
        &[0x02, 0],
        &[0x16, 0],
    ];
    for bad in bad {
        assert_eq!(PartialSuccess::from_response(bad), Err(BadResponse), "{bad:02x?}");
    }
    let count = |varint: &[u8]| {
        let len = u8::try_from(varint.len() + 1).unwrap();
        PartialSuccess::from_response(&[&[0x0a, len, 0x08], varint].concat())
    };
    let nines = [0xff; 9];
    assert_eq!(count(&[&nines[..], &[1]].concat()), Ok(PartialSuccess::default()));
    assert_eq!(count(&[&nines[..], &[2]].concat()), Err(BadResponse));
    assert_eq!(count(&[&nines[..], &[0x80, 0]].concat()), Err(BadResponse));
    assert_eq!(PartialSuccess::from_response(&[0x8a, 0x80, 0x80, 0x80, 0x10, 0]), Err(BadResponse));
    let whole = response(300, "three hundred");
    for len in 1..whole.len() {
        assert_eq!(PartialSuccess::from_response(&whole[..len]), Err(BadResponse), "{len}");
    }
}

/// Scenario: the gateway's own refusals and the collector's, in every combination.
/// Guarantees: counts add up without overflow, sentences are joined within 1 KiB, none is lost while
/// there is room.
#[test]
fn merging() {
    let merged = |mut one: PartialSuccess, other| {
        one.merge(other);
        one
    };
    assert_eq!(merged(partial(2, "too long"), partial(3, "too old")), partial(5, "too long; too old"));
    assert_eq!(merged(partial(2, ""), partial(0, "too old")), partial(2, "too old"));
    assert_eq!(merged(partial(2, "too long"), partial(1, "")), partial(3, "too long"));
    assert_eq!(merged(partial(i64::MAX, ""), partial(1, "")), partial(i64::MAX, ""));
    assert_eq!(merged(partial(5, ""), partial(-5, "")), partial(5, ""));
    let long = "\u{20ac}".repeat(400);
    let both = merged(partial(0, "too long"), partial(0, &long)).message;
    assert!(both.starts_with("too long; \u{20ac}") && both.len() <= MAX_MESSAGE, "{}", both.len());
    assert!(both.len() > MAX_MESSAGE - 3);
    let full = "x".repeat(MAX_MESSAGE - 1);
    assert_eq!(merged(partial(0, &full), partial(0, "y")).message, full);
    assert_eq!(merged(PartialSuccess::default(), partial(0, &long)).message.len(), 1023);
}

/// Scenario: what the gateway answers after a full success, a partial one and a warning.
/// Guarantees: nothing at all for the first, and both forms say the same.
#[test]
fn responses_are_written() {
    let none = PartialSuccess::default();
    assert!(none.to_protobuf().is_empty());
    assert_eq!(none.to_json(Signal::Traces), "{}");
    for (rejected, message) in [(3, "a \"b\" \u{7f}\n"), (0, "a warning"), (i64::MAX, "")] {
        let answer = partial(rejected, message);
        let bytes = answer.to_protobuf();
        assert_eq!(bytes, response(rejected, message));
        assert_eq!(PartialSuccess::from_response(&bytes), Ok(answer.clone()));
        let json: serde_json::Value = serde_json::from_slice(&answer.to_json(Signal::Traces)).unwrap();
        let fields = &json["partialSuccess"];
        let count = (rejected > 0).then(|| json!(rejected.to_string()));
        assert_eq!(fields.get("rejectedSpans"), count.as_ref());
        assert_eq!(fields["errorMessage"].as_str().unwrap_or_default(), message);
    }
}
