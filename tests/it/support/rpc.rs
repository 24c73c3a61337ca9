//! `google.rpc.Status` and what stands in it, written by hand so that the gateway's own encoder is
//! not its own judge; gRPC framing for the same reason.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message;

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(crate) retry_delay: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ProtoDuration {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

impl Status {
    /// A status with a `RetryInfo` if a delay is given.
    pub(crate) fn new(code: i32, message: &str, retry: Option<Duration>) -> Self {
        let details = retry.map(|delay| Any {
            type_url: RETRY_INFO.into(),
            value: RetryInfo {
                retry_delay: Some(ProtoDuration {
                    seconds: i64::try_from(delay.as_secs()).unwrap(),
                    nanos: i32::try_from(delay.subsec_nanos()).unwrap(),
                }),
            }
            .encode_to_vec(),
        });
        Self { code, message: message.into(), details: details.into_iter().collect() }
    }

    /// The delay in the `RetryInfo`, if there is one; other details are a mistake here.
    pub(crate) fn retry_delay(&self) -> Option<Duration> {
        let [detail] = self.details.as_slice() else {
            assert!(self.details.is_empty(), "more than one detail: {self:?}");
            return None;
        };
        assert_eq!(detail.type_url, RETRY_INFO, "a detail that is no RetryInfo");
        let delay = RetryInfo::decode(detail.value.as_slice()).unwrap().retry_delay.unwrap();
        Some(Duration::new(u64::try_from(delay.seconds).unwrap(), u32::try_from(delay.nanos).unwrap()))
    }

    /// Reads the proto3 JSON form, as strictly as a generated reader does.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let object = value.as_object().ok_or("a Status is an object")?;
        let mut status = Self::default();
        for (key, value) in object {
            match key.as_str() {
                "code" => {
                    status.code = value.as_i64().and_then(|code| code.try_into().ok()).ok_or("code")?;
                }
                "message" => value.as_str().ok_or("message")?.clone_into(&mut status.message),
                "details" => {
                    for detail in value.as_array().ok_or("details")? {
                        let type_url = detail["@type"].as_str().ok_or("@type")?;
                        let delay = detail["retryDelay"].as_str().ok_or("retryDelay")?;
                        let delay = delay.strip_suffix('s').ok_or("retryDelay without s")?;
                        let delay = delay.parse::<f64>().map_err(|error| error.to_string())?;
                        let mut with = Self::new(0, "", Some(Duration::from_secs_f64(delay)));
                        type_url.clone_into(&mut with.details[0].type_url);
                        status.details.append(&mut with.details);
                    }
                }
                other => return Err(format!("unknown field {other}")),
            }
        }
        Ok(status)
    }
}

/// One gRPC message in its frame.
pub(crate) fn frame(compressed: bool, message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(u8::from(compressed));
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(message);
    framed.freeze()
}

/// The one message of a gRPC body and its compressed flag.
pub(crate) fn unframe(body: &Bytes) -> Result<(bool, Bytes), String> {
    let head: [u8; 5] = body.get(..5).ok_or("shorter than a frame head")?.try_into().unwrap();
    let [flag, length @ ..] = head;
    if flag > 1 {
        return Err(format!("flag {flag}"));
    }
    let length = u32::from_be_bytes(length) as usize;
    if body.len() - 5 != length {
        return Err(format!("a frame of {length} bytes in a body that has {}", body.len() - 5));
    }
    Ok((flag == 1, body.slice(5..)))
}

/// Takes `%XX` out of a `grpc-message`.
pub(crate) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap()
}

/// Scenario: a Status with a delay, through protobuf and JSON; a framed message; an escaped text.
/// Guarantees: what the tests read is what was said, so that an assertion on it means something.
#[test]
fn statuses_and_frames_read_back() {
    let status = Status::new(14, "busy", Some(Duration::from_millis(3500)));
    let read = Status::decode(status.encode_to_vec().as_slice()).unwrap();
    assert_eq!(read.retry_delay(), Some(Duration::from_millis(3500)));
    let json = br#"{"code":14,"message":"busy","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"3.5s"}]}"#;
    assert_eq!(Status::from_json(json).unwrap(), status);
    assert!(Status::from_json(br#"{"Code":14}"#).is_err());
    assert_eq!(unframe(&frame(true, b"abc")).unwrap(), (true, Bytes::from_static(b"abc")));
    assert!(unframe(&Bytes::from_static(b"\0\0\0\0\x04abc")).is_err());
    assert_eq!(percent_decode("50%25 of it%2"), "50% of it%2");
}
