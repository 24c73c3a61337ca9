//! The answers of OTLP: `google.rpc.Status` for refusals, `ExportXServiceResponse` with
//! `partial_success` for the rest, in protobuf and JSON; and the same two read from a collector's
//! answer, strictly. It decides forms only, never codes, and never keeps a long sentence.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::{
    signal::Signal,
    wire::{Payload, Reader, WireError, put_varint},
};

/// What an `Any` that holds a `google.rpc.RetryInfo` is called.
const RETRY_INFO_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// The part of such a name that counts: an `Any` is known by what follows its last `/`.
///
/// Source: `google/protobuf/any.proto`.
const RETRY_INFO: &[u8] = b"google.rpc.RetryInfo";

/// Longest duration that protobuf can say, in seconds.
///
/// Source: `google/protobuf/duration.proto`.
const MAX_DURATION_SECONDS: u64 = 315_576_000_000;

/// Longest sentence of a `partial_success` that is kept, in bytes.
const MAX_MESSAGE: usize = 1024;

/// gRPC status codes that the gateway gives.
///
/// Source: gRPC, "Status codes and their use in gRPC".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are gRPC's own")]
pub enum Code {
    Ok = 0,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// A `google.rpc.Status`, with `google.rpc.RetryInfo` when a retry makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// A sentence for the sender's log.
    pub message: String,
    /// How long the sender should wait; `None`: no `RetryInfo`.
    pub retry_after: Option<Duration>,
}

impl Status {
    /// Encoded as protobuf.
    #[must_use]
    pub fn to_protobuf(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.message.len().saturating_add(80));
        put_int(&mut out, 1, u64::from(self.code as u8));
        put_string(&mut out, 2, self.message.as_bytes());
        if let Some(wait) = self.retry_after {
            let (seconds, nanos) = protobuf_duration(wait);
            let mut duration = Vec::new();
            put_int(&mut duration, 1, seconds);
            put_int(&mut duration, 2, u64::from(nanos));
            let mut retry_info = Vec::new();
            put_message(&mut retry_info, 1, &duration);
            let mut any = Vec::new();
            put_string(&mut any, 1, RETRY_INFO_URL.as_bytes());
            put_string(&mut any, 2, &retry_info);
            put_message(&mut out, 3, &any);
        }
        out.into()
    }

    /// Encoded as proto3 JSON.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        let mut json = json!({ "code": self.code as u8, "message": self.message });
        if let (Some(wait), Some(fields)) = (self.retry_after, json.as_object_mut()) {
            let details = json!([{ "@type": RETRY_INFO_URL, "retryDelay": json_duration(wait) }]);
            fields.insert("details".to_owned(), details);
        }
        json.to_string().into()
    }

    /// Reads the delay of an encoded `google.rpc.Status`, in the first `google.rpc.RetryInfo` that has
    /// one: the body of an OTLP/HTTP refusal, or `grpc-status-details-bin` once decoded.
    ///
    /// `None` also for a status that is malformed anywhere, and for a delay that is negative or longer
    /// than protobuf allows: a hint that can't be trusted is no hint. The cost is one pass; how
    /// long a body may be, and how long a delay is obeyed, are the caller's bounds.
    ///
    /// Source: OTLP specification, "OTLP/HTTP Throttling" and "OTLP/gRPC Throttling".
    #[must_use]
    pub fn retry_delay_of(body: &[u8]) -> Option<Duration> {
        read_status(body).ok().flatten()
    }
}

/// A duration as protobuf's two fields, cut to what they may hold.
fn protobuf_duration(wait: Duration) -> (u64, u32) {
    if wait.as_secs() >= MAX_DURATION_SECONDS {
        (MAX_DURATION_SECONDS, 0)
    } else {
        (wait.as_secs(), wait.subsec_nanos())
    }
}

/// A duration as proto3 JSON writes it: no fraction, or one of 3, 6 or 9 digits.
///
/// Source: "`ProtoJSON` Format", the row of `Duration`.
fn json_duration(wait: Duration) -> String {
    let (seconds, nanos) = protobuf_duration(wait);
    let (fraction, digits) = match nanos {
        0 => return format!("{seconds}s"),
        nanos if nanos.is_multiple_of(1_000_000) => (nanos / 1_000_000, 3),
        nanos if nanos.is_multiple_of(1_000) => (nanos / 1_000, 6),
        nanos => (nanos, 9),
    };
    format!("{seconds}.{fraction:0digits$}s")
}

/// `google.rpc.Status`: code = 1, message = 2, details = 3.
fn read_status(body: &[u8]) -> Result<Option<Duration>, BadResponse> {
    let mut delay = None;
    let mut reader = Reader::new(body);
    while let Some(field) = reader.field()? {
        match (field.number, field.value) {
            (1, Payload::Varint(_)) | (2, Payload::Len(_)) => {}
            (3, Payload::Len(any)) => {
                let detail = read_any(any)?;
                delay = delay.or(detail);
            }
            (1..=3, _) => return Err(BadResponse),
            _ => {}
        }
    }
    Ok(delay)
}

/// `google.protobuf.Any`: `type_url` = 1, value = 2.
fn read_any(any: &[u8]) -> Result<Option<Duration>, BadResponse> {
    let (mut url, mut value) = (&[][..], &[][..]);
    let mut reader = Reader::new(any);
    while let Some(field) = reader.field()? {
        match (field.number, field.value) {
            (1, Payload::Len(bytes)) => url = bytes,
            (2, Payload::Len(bytes)) => value = bytes,
            (1 | 2, _) => return Err(BadResponse),
            _ => {}
        }
    }
    if url.rsplit(|byte| *byte == b'/').next() == Some(RETRY_INFO) {
        read_retry_info(value)
    } else {
        Ok(None)
    }
}

/// `google.rpc.RetryInfo`: `retry_delay` = 1, a `google.protobuf.Duration`: seconds = 1, nanos = 2.
fn read_retry_info(retry_info: &[u8]) -> Result<Option<Duration>, BadResponse> {
    let (mut seconds, mut nanos, mut there) = (0, 0, false);
    let mut reader = Reader::new(retry_info);
    while let Some(field) = reader.field()? {
        match (field.number, field.value) {
            (1, Payload::Len(duration)) => {
                there = true;
                let mut reader = Reader::new(duration);
                while let Some(field) = reader.field()? {
                    match (field.number, field.value) {
                        (1, Payload::Varint(value)) => seconds = value,
                        (2, Payload::Varint(value)) => nanos = value,
                        (1 | 2, _) => return Err(BadResponse),
                        _ => {}
                    }
                }
            }
            (1, _) => return Err(BadResponse),
            _ => {}
        }
    }
    // A negative number is a very large one here, so one comparison each refuses both ends.
    match u32::try_from(nanos) {
        Ok(nanos) if nanos < 1_000_000_000 && seconds <= MAX_DURATION_SECONDS => {
            Ok(there.then(|| Duration::new(seconds, nanos)))
        }
        _ => Err(BadResponse),
    }
}

/// What an `ExportXServiceResponse` says: how many items were refused, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    /// Items refused.
    pub rejected: i64,
    /// A sentence; it may be there with nothing refused (a warning).
    pub message: String,
}

/// A collector's answer that is no `ExportXServiceResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the collector's answer is no OTLP export response")]
pub struct BadResponse;

impl From<WireError> for BadResponse {
    fn from(_: WireError) -> Self {
        Self
    }
}

impl PartialSuccess {
    /// What the gateway itself left out: so many items longer than so many bytes, and so many past
    /// the job's budget. Nothing left out is a full success.
    #[must_use]
    pub fn of_left_out(signal: Signal, (oversize, max_size): (u64, usize), over_budget: u64) -> Self {
        let items = signal.items();
        let mut reasons = Vec::new();
        if oversize > 0 {
            reasons.push(format!("{items} longer than {max_size} bytes: {oversize}"));
        }
        if over_budget > 0 {
            reasons.push(format!("{items} past what the job may send in all: {over_budget}"));
        }
        let message =
            if reasons.is_empty() { String::new() } else { format!("left out {}", reasons.join(", ")) };
        let rejected = i64::try_from(oversize.saturating_add(over_budget)).unwrap_or(i64::MAX);
        Self { rejected, message }
    }

    /// Reads an `ExportXServiceResponse` (all signals have one shape). Empty is a full success.
    ///
    /// What comes twice is read as protobuf says: the last scalar counts, messages merge. A negative
    /// count reads as none: it says nothing that could be true, and added up it would hide what the
    /// gateway itself refused. A sentence over 1 KiB is cut.
    ///
    /// # Errors
    /// [`BadResponse`] for anything that is not one.
    pub fn from_response(body: &[u8]) -> Result<Self, BadResponse> {
        let (mut rejected, mut message) = (0, "");
        let mut reader = Reader::new(body);
        while let Some(field) = reader.field()? {
            match (field.number, field.value) {
                (1, Payload::Len(partial)) => {
                    let mut reader = Reader::new(partial);
                    while let Some(field) = reader.field()? {
                        match (field.number, field.value) {
                            (1, Payload::Varint(count)) => rejected = count.cast_signed(),
                            (2, Payload::Len(text)) => {
                                message = std::str::from_utf8(text).map_err(|_| BadResponse)?;
                            }
                            (1 | 2, _) => return Err(BadResponse),
                            _ => {}
                        }
                    }
                }
                (1, _) => return Err(BadResponse),
                _ => {}
            }
        }
        Ok(Self { rejected: rejected.max(0), message: beginning(message, MAX_MESSAGE).to_owned() })
    }

    /// Adds another one: counts add up, sentences are joined, 1 KiB in all.
    pub fn merge(&mut self, other: Self) {
        self.rejected = self.rejected.max(0).saturating_add(other.rejected.max(0));
        if self.message.is_empty() {
            self.message = other.message;
            self.message.truncate(self.message.floor_char_boundary(MAX_MESSAGE));
            return;
        }
        let room = MAX_MESSAGE.saturating_sub(self.message.len()).saturating_sub(JOINT.len());
        let rest = beginning(&other.message, room);
        if !rest.is_empty() {
            self.message.push_str(JOINT);
            self.message.push_str(rest);
        }
    }

    /// An `ExportXServiceResponse` in protobuf; empty when all went well.
    #[must_use]
    pub fn to_protobuf(&self) -> Bytes {
        let mut partial = Vec::new();
        put_int(&mut partial, 1, self.rejected.max(0).cast_unsigned());
        put_string(&mut partial, 2, self.message.as_bytes());
        let mut out = Vec::new();
        if !partial.is_empty() {
            put_message(&mut out, 1, &partial);
        }
        out.into()
    }

    /// An `ExportXServiceResponse` in JSON; `{}` when all went well. The count is a string, as
    /// proto3 JSON wants of an int64.
    #[must_use]
    pub fn to_json(&self, signal: Signal) -> Bytes {
        let mut partial = serde_json::Map::new();
        if self.rejected > 0 {
            partial.insert(signal.rejected_field().to_owned(), self.rejected.to_string().into());
        }
        if !self.message.is_empty() {
            partial.insert("errorMessage".to_owned(), self.message.as_str().into());
        }
        let json = if partial.is_empty() { json!({}) } else { json!({ "partialSuccess": partial }) };
        json.to_string().into()
    }
}

/// What stands between two joined sentences.
const JOINT: &str = "; ";

/// The longest beginning of `text` within `max` bytes.
fn beginning(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

/// Wire type 2.
const LEN: u8 = 2;

/// A varint field of a number below 16; nothing for 0, as proto3 has it.
fn put_int(out: &mut Vec<u8>, number: u8, value: u64) {
    if value != 0 {
        out.push(number << 3);
        put_varint(out, value);
    }
}

/// A string or bytes field of a number below 16; nothing for an empty one.
fn put_string(out: &mut Vec<u8>, number: u8, value: &[u8]) {
    if !value.is_empty() {
        put_message(out, number, value);
    }
}

/// A message field of a number below 16, there even when it is empty.
fn put_message(out: &mut Vec<u8>, number: u8, message: &[u8]) {
    out.push(number << 3 | LEN);
    put_varint(out, message.len() as u64);
    out.extend_from_slice(message);
}

#[cfg(test)]
mod tests;
