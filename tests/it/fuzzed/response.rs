//! Any answer of a collector: a line `grpc 200` or `http 503`, header lines, trailers (`+name: value`),
//! an empty line, the body. The body is also read as each message that an answer can hold.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use spangate::{
    config::Protocol,
    otlp::{
        signal::Signal,
        status::{Code, PartialSuccess, Status},
    },
    proxy::upstream::{
        UpstreamError,
        answer::{Answer, MAX_ANSWER},
        meaning,
    },
};

use super::within;

/// Longest sentence that is kept of a collector's.
const LONGEST_SENTENCE: usize = 1024;
/// Longest text of an error, which goes to a log line.
const LONGEST_ERROR: usize = 300;
/// Longest duration of protobuf: 10,000 years.
const LONGEST_DELAY: Duration = Duration::from_hours(315_576_000_000 / 3600);
/// An answer may be inflated, to its cap, with what a thread keeps to work with.
const AT_ALL: usize = 4 * MAX_ANSWER + (256 << 10);

pub(crate) fn hold(data: &[u8]) {
    readers(data);
    let end = data.windows(2).position(|two| two == b"\n\n");
    let (head, body) = end.map_or((data, &[][..]), |end| (&data[..end], &data[end + 2..]));
    readers(body);
    let Some((protocol, answer)) = answer(head, body) else { return };
    let meant = within(AT_ALL + 10 * body.len(), || meaning(protocol, &answer));
    let again = meaning(protocol, &answer);
    match meant {
        Ok(partial) => {
            sound(&partial);
            assert_eq!(Ok(partial), again, "two readings of the same answer");
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() <= LONGEST_ERROR && text.is_ascii(), "{text}");
            let wait = wait(&error);
            assert!(wait.is_none_or(|wait| wait <= LONGEST_DELAY + Duration::from_secs(1)), "{wait:?}");
            // A wait until a date is shorter when it is asked for again.
            let again = again.expect_err("two readings of the same answer");
            assert_eq!(again.to_string(), text);
            assert_eq!(self::wait(&again).is_some(), wait.is_some());
        }
    }
}

fn wait(error: &UpstreamError) -> Option<Duration> {
    match error {
        UpstreamError::Throttled(wait) | UpstreamError::Unavailable(wait) => *wait,
        _ => None,
    }
}

fn answer(head: &[u8], body: &[u8]) -> Option<(Protocol, Answer)> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next()?.trim_ascii();
    let (protocol, status) = first.split_at_checked(5)?;
    let protocol = match protocol {
        b"http " => Protocol::Http,
        b"grpc " => Protocol::Grpc,
        _ => return None,
    };
    let status = StatusCode::from_bytes(status).ok()?;
    let (mut headers, mut trailers) = (HeaderMap::new(), HeaderMap::new());
    for line in lines {
        let (into, line) = line.strip_prefix(b"+").map_or((&mut headers, line), |line| (&mut trailers, line));
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        into.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    let trailers = (!trailers.is_empty()).then_some(trailers);
    Some((protocol, Answer { status, headers, body: Ok(Bytes::copy_from_slice(body)), trailers }))
}

/// The two messages of an answer, beside prost's reading of them.
fn readers(message: &[u8]) {
    let partial = within(2 * LONGEST_SENTENCE, || PartialSuccess::from_response(message));
    if let Ok(partial) = partial {
        let full = ExportTraceServiceResponse::decode(message).expect("prost refuses what was accepted");
        let full = full.partial_success.unwrap_or_default();
        assert_eq!(partial.rejected, full.rejected_spans.max(0));
        let kept = full.error_message.floor_char_boundary(LONGEST_SENTENCE);
        assert_eq!(partial.message, full.error_message[..kept]);
        sound(&partial);
    }
    let delay = within(0, || Status::retry_delay_of(message));
    if let Some(delay) = delay {
        let status = RpcStatus::decode(message).expect("prost refuses what was accepted");
        // The first that asks for a delay; one that asks for none stands in nobody's way.
        let asked = status.details.iter().find_map(|any| {
            let named = any.url.rsplit(|byte| *byte == b'/').next() == Some(RETRY);
            named.then(|| RetryInfo::decode(&any.value[..]).expect("a RetryInfo").delay).flatten()
        });
        let asked = asked.expect("a delay");
        assert_eq!(
            (delay.as_secs().cast_signed(), delay.subsec_nanos().cast_signed()),
            (asked.seconds, asked.nanos)
        );
        let status = Status { code: Code::Unavailable, message: "later".into(), retry_after: Some(delay) };
        // A last second with a fraction is cut: protobuf can't say more.
        assert_eq!(Status::retry_delay_of(&status.to_protobuf()), Some(delay.min(LONGEST_DELAY)));
    }
}

/// What was read is passed on as it was read, and adds up within its bounds.
fn sound(partial: &PartialSuccess) {
    assert!(partial.rejected >= 0 && partial.message.len() <= LONGEST_SENTENCE);
    assert_eq!(PartialSuccess::from_response(&partial.to_protobuf()).as_ref(), Ok(partial));
    assert!(serde_json::from_slice::<serde_json::Value>(&partial.to_json(Signal::Traces)).is_ok());
    let mut sum = PartialSuccess::of_left_out(Signal::Traces, (1, 64), 2);
    let own = sum.message.clone();
    sum.merge(partial.clone());
    assert_eq!(sum.rejected, partial.rejected.saturating_add(3));
    assert!(sum.message.starts_with(&own) && sum.message.len() <= LONGEST_SENTENCE);
}

const RETRY: &[u8] = b"google.rpc.RetryInfo";

/// `google.rpc.Status`, its texts as bytes: whether they are UTF-8 changes no delay.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(bytes = "vec", tag = "2")]
    message: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(bytes = "vec", tag = "1")]
    url: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}
