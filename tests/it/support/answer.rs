//! Answers as a runner's exporter reads them, and the one place that says what a refusal must look
//! like in each form.

use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::HeaderMap;
use prost::Message as _;
use spangate::otlp::signal::Signal;

use super::{
    client::Form,
    rpc::{self, Status},
    signal,
};

/// An answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    /// From the request to the last byte of the answer.
    pub(crate) took: Duration,
}

/// Whether a refusal invites a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// `Retry-After` and `RetryInfo`, 2 to 15 seconds.
    Yes,
    /// Neither.
    No,
    /// The contract leaves it open; if given, 2 to 15 seconds.
    Open,
}

/// A refusal in its three forms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) http: u16,
    pub(crate) grpc: i32,
    pub(crate) retry: Retry,
}

impl Refusal {
    pub(crate) const NOT_FOUND: Self = Self { http: 404, grpc: 12, retry: Retry::No };
    pub(crate) const MEDIA_TYPE: Self = Self { http: 415, grpc: 12, retry: Retry::No };
    pub(crate) const MALFORMED: Self = Self { http: 400, grpc: 3, retry: Retry::No };
    pub(crate) const UNAUTHENTICATED: Self = Self { http: 401, grpc: 16, retry: Retry::No };
    pub(crate) const FORBIDDEN: Self = Self { http: 403, grpc: 7, retry: Retry::No };
    pub(crate) const TOO_LARGE: Self = Self { http: 413, grpc: 8, retry: Retry::No };
    pub(crate) const RATE_LIMITED: Self = Self { http: 429, grpc: 8, retry: Retry::Yes };
    pub(crate) const UNAVAILABLE: Self = Self { http: 503, grpc: 14, retry: Retry::Yes };
    pub(crate) const UNREACHABLE: Self = Self { http: 502, grpc: 14, retry: Retry::Open };
    pub(crate) const TOO_SLOW: Self = Self { http: 504, grpc: 14, retry: Retry::Open };
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The `grpc-status`, in the headers (trailers-only) or in the trailers.
    pub(crate) fn grpc_code(&self) -> Option<i32> {
        let from = |headers: &HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
        from(&self.headers).or_else(|| from(self.trailers.as_ref()?))
    }

    /// Whether it is a 200 (and OK).
    pub(crate) fn is_success(&self, form: Form) -> bool {
        self.status == 200 && (form != Form::Grpc || self.grpc_code() == Some(0))
    }

    /// Fails unless it is a success in the request's own form; gives what `partial_success` says of spans.
    #[track_caller]
    pub(crate) fn partial(&self, form: Form) -> (i64, String) {
        self.partial_of(Signal::Traces, form)
    }

    /// The same for any signal.
    #[track_caller]
    pub(crate) fn partial_of(&self, signal: Signal, form: Form) -> (i64, String) {
        assert!(self.is_success(form), "no success: {self:?}");
        assert!(self.has_content_type(form), "content type of {self:?}");
        let row = signal::row(signal);
        let partial = match form {
            Form::Protobuf => (row.partial)(&self.body),
            Form::Grpc => {
                let (compressed, message) = rpc::unframe(&self.body).unwrap();
                assert!(!compressed, "a compressed answer that nobody asked for");
                (row.partial)(&message)
            }
            Form::Json => {
                let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
                let partial = &value["partialSuccess"];
                let rejected = &partial[row.rejected];
                // A 64-bit integer is a string in proto3 JSON; readers take a number too.
                let rejected =
                    rejected.as_i64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or_default();
                return (rejected, partial["errorMessage"].as_str().unwrap_or_default().into());
            }
        };
        partial.unwrap_or_default()
    }

    /// Fails unless everything was taken.
    #[track_caller]
    pub(crate) fn assert_accepted(&self, form: Form) {
        assert_eq!(self.partial(form), (0, String::new()));
    }

    /// Fails unless it is exactly this refusal, in the request's own form; gives its sentence.
    #[track_caller]
    pub(crate) fn assert_refused(&self, form: Form, wanted: Refusal) -> String {
        let status = self.rpc_status(form);
        if form == Form::Grpc {
            assert_eq!(self.status, 200, "{self:?}");
            assert!(self.headers.contains_key("grpc-status"), "not trailers-only: {self:?}");
            assert!(self.body.is_empty(), "trailers-only with a body: {self:?}");
        } else {
            assert_eq!(self.status, wanted.http, "{self:?}");
            let challenge = self.header("www-authenticate").is_some_and(|value| !value.is_empty());
            assert_eq!(challenge, wanted.http == 401, "WWW-Authenticate: {self:?}");
        }
        assert!(self.has_content_type(form), "content type of {self:?}");
        assert_eq!(status.code, wanted.grpc, "{status:?}");
        assert!(!status.message.is_empty(), "a refusal says why");
        self.assert_retry(form, &status, wanted.retry);
        status.message
    }

    fn assert_retry(&self, form: Form, status: &Status, wanted: Retry) {
        let header = self.header("retry-after").map(|value| value.parse::<u64>().expect("whole seconds"));
        let info = status.retry_delay();
        for given in [header.map(Duration::from_secs), info].into_iter().flatten() {
            let fits = (Duration::from_secs(2)..=Duration::from_secs(15)).contains(&given);
            assert!(fits, "a retry after {given:?}: {self:?}");
        }
        match wanted {
            Retry::Yes => {
                assert!(info.is_some(), "no RetryInfo: {self:?}");
                assert!(form == Form::Grpc || header.is_some(), "no Retry-After: {self:?}");
            }
            Retry::No => {
                assert_eq!((header, info), (None, None), "a retry can't help: {self:?}");
            }
            Retry::Open => {}
        }
    }

    /// The `google.rpc.Status` that it carries.
    #[track_caller]
    pub(crate) fn rpc_status(&self, form: Form) -> Status {
        match form {
            Form::Protobuf => Status::decode(self.body.clone()).expect("a Status"),
            Form::Json => Status::from_json(&self.body).expect("a Status"),
            Form::Grpc => {
                let code = self.grpc_code().unwrap_or_else(|| panic!("no grpc-status: {self:?}"));
                let message = rpc::percent_decode(self.header("grpc-message").unwrap_or_default());
                let Some(details) = self.header("grpc-status-details-bin") else {
                    return Status::new(code, &message, None);
                };
                let details = base64::engine::general_purpose::STANDARD_NO_PAD
                    .decode(details.trim_end_matches('='))
                    .expect("base64");
                let status = Status::decode(details.as_slice()).expect("a Status");
                assert_eq!((status.code, &status.message), (code, &message), "two stories in one answer");
                status
            }
        }
    }

    fn has_content_type(&self, form: Form) -> bool {
        self.header("content-type").is_some_and(|value| value.starts_with(form.content_type()))
    }
}
