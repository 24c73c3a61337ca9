//! The one place that says no: every refusal, its HTTP status, gRPC code, retry hint and metric
//! label, side by side. It never decides whether to refuse, and never shows more than a sentence.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use http::StatusCode;

use crate::{
    limit::{Limit, Refusal},
    otlp::{
        signal::Signal,
        status::{Code, Status},
    },
    validate::{
        Denial, Undetermined,
        credentials::{CredentialError, Kind},
    },
};

use super::{body::BodyError, upstream::UpstreamError};

/// Why a request is refused.
///
/// A 401 or 403 comes from two variants only: [`Self::Credentials`] (malformed, seen by
/// ourselves) and [`Self::Denied`] (the authority's own word; of a client's certificate, the configuration's).
#[derive(Debug)]
pub enum Rejection {
    /// No such route on this listener.
    NotFound,
    /// Not a POST.
    Method,
    /// A media type that is none of OTLP's.
    MediaType,
    /// A content encoding that is none of OTLP's.
    Encoding,
    /// No credentials, or a shape that none has.
    Credentials(CredentialError),
    /// The authority on this kind of credentials said no.
    Denied(Denial, Kind),
    /// No verdict could be had.
    Undetermined(Undetermined),
    /// The gateway is too full for a sender whose verdict is not at hand.
    Shed,
    /// A rate is used up, or this client failed too often of late.
    Limited(Refusal),
    /// The body could not be had.
    Body(BodyError),
    /// The inflated body is too long, or out of proportion.
    InflatedTooLarge,
    /// The body is not what it claims to be; the sentence names the rule, never the content.
    Malformed(String),
    /// A gRPC frame says "compressed" without naming how.
    UnnamedCompression,
    /// A span of another trace.
    ForeignTrace(Signal),
    /// A resource without a service name, or with one that its sender may not use.
    ServiceName,
    /// Spans would have to be dropped, but the body must stay as it is.
    CannotDrop(Limit),
    /// A span is too long, but the body must stay as it is.
    CannotDropOversize,
    /// The collector did not take it.
    Upstream(UpstreamError),
    /// A fault of ours.
    Internal,
}

/// How soon a sender may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// The same request can never pass.
    Never,
    /// After about this long.
    After(Duration),
}

/// What a refusal looks like in both protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    http: StatusCode,
    grpc: Code,
    retry: Retry,
    label: &'static str,
}

const SHORTEST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(15);
const SOON: Retry = Retry::After(SHORTEST_RETRY);

impl Rejection {
    /// The one exhaustive match; docs/operating.md has it as tables.
    fn form(&self) -> Form {
        use Retry::{After, Never};
        let (http, grpc, retry, label) = match self {
            Self::NotFound => (404, Code::Unimplemented, Never, "not_found"),
            Self::Method => (405, Code::Unimplemented, Never, "method"),
            Self::MediaType => (415, Code::Unimplemented, Never, "media_type"),
            Self::Encoding => (415, Code::Unimplemented, Never, "encoding"),
            Self::Credentials(_) => (401, Code::Unauthenticated, Never, "credentials"),
            Self::Denied(Denial::Unauthenticated, _) => {
                (401, Code::Unauthenticated, Never, "unauthenticated")
            }
            Self::Denied(Denial::Forbidden, _) => (403, Code::PermissionDenied, Never, "forbidden"),
            Self::Denied(Denial::UnknownClient, _) => (403, Code::PermissionDenied, Never, "unknown_client"),
            Self::Undetermined(Undetermined::Throttled) => {
                (429, Code::ResourceExhausted, SOON, "authority_throttled")
            }
            Self::Undetermined(Undetermined::Paused(wait)) => {
                (429, Code::ResourceExhausted, After(*wait), "authority_throttled")
            }
            Self::Undetermined(Undetermined::BreakerOpen(wait)) => {
                (503, Code::Unavailable, After(*wait), "undetermined")
            }
            Self::Undetermined(_) => (503, Code::Unavailable, SOON, "undetermined"),
            Self::Shed => (503, Code::Unavailable, SOON, "shed"),
            Self::Limited(refusal) => {
                (429, Code::ResourceExhausted, After(refusal.retry_after), refusal.limit.label())
            }
            Self::Body(BodyError::TooLarge) => (413, Code::ResourceExhausted, Never, "too_large"),
            // OTLP exporters give up on a 408; a slow upload deserves another try.
            Self::Body(BodyError::Timeout) => (503, Code::Unavailable, SOON, "body_timeout"),
            Self::Body(BodyError::Broken) => (400, Code::InvalidArgument, Never, "body_broken"),
            Self::Body(BodyError::Overload) => (503, Code::Unavailable, SOON, "overload"),
            Self::InflatedTooLarge => (413, Code::ResourceExhausted, Never, "inflated_too_large"),
            Self::Malformed(_) => (400, Code::InvalidArgument, Never, "malformed"),
            // gRPC's own compression document asks for INTERNAL; there is no such thing over HTTP.
            Self::UnnamedCompression => (400, Code::Internal, Never, "unnamed_compression"),
            Self::ForeignTrace(_) => (400, Code::InvalidArgument, Never, "foreign_trace"),
            Self::ServiceName => (400, Code::InvalidArgument, Never, "service_name"),
            Self::CannotDrop(limit) => (400, Code::InvalidArgument, Never, limit.label()),
            Self::CannotDropOversize => (400, Code::InvalidArgument, Never, "oversize"),
            Self::Upstream(error) => return Form::of_upstream(error),
            Self::Internal => (500, Code::Internal, Never, "internal"),
        };
        Form::new(http, grpc, retry, label)
    }

    /// The HTTP status.
    #[must_use]
    pub fn http_status(&self) -> StatusCode {
        self.form().http
    }

    /// The value of the metric label `outcome`; a closed set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        self.form().label
    }

    /// The `google.rpc.Status` that the sender gets, its retry delay jittered within 2 to 15 s.
    #[must_use]
    pub fn status(&self) -> Status {
        let form = self.form();
        Status {
            code: form.grpc,
            message: self.sentence(),
            retry_after: match form.retry {
                Retry::Never => None,
                Retry::After(wait) => Some(jittered(wait)),
            },
        }
    }

    /// Whether what it cost to take the request in stays charged. What the sender got wrong, sent too
    /// fast or too slowly has cost us its reading; else a flood of such requests would cost nothing.
    /// What we, GitLab or the collector could not do is given back.
    #[must_use]
    pub fn keeps_intake(&self) -> bool {
        match self {
            Self::Limited(_) | Self::Body(BodyError::Timeout) => true,
            Self::Undetermined(_) => false,
            _ => self.form().http.is_client_error() && self.form().retry == Retry::Never,
        }
    }

    /// One sentence for the sender: what was wrong and what would be right, never what was sent.
    fn sentence(&self) -> String {
        match self {
            Self::NotFound => "no such OTLP route on this listener".into(),
            Self::Method => "OTLP exports are POST requests".into(),
            Self::MediaType => {
                "send application/x-protobuf or application/json, or application/grpc over HTTP/2".into()
            }
            Self::Encoding => "send the body as it is, or compressed with gzip or zstd".into(),
            Self::Credentials(error) => error.to_string(),
            Self::Denied(denial, kind) => denial_sentence(*denial, *kind).into(),
            Self::Undetermined(Undetermined::Throttled | Undetermined::Paused(_)) => {
                "GitLab limits how often it can be asked".into()
            }
            Self::Undetermined(_) => "the tokens cannot be checked at the moment".into(),
            Self::Shed => "the gateway is too busy for new senders at the moment".into(),
            Self::Limited(Refusal { limit: Limit::ClientFailures, .. }) => {
                "too many failed attempts from this address".into()
            }
            Self::Limited(Refusal { limit: Limit::ClientInFlight, .. }) => {
                "too many attempts with unknown tokens from this address at once".into()
            }
            Self::Limited(refusal) => format!("the limit {} is used up for now", refusal.limit.label()),
            Self::Body(error) => error.to_string(),
            Self::InflatedTooLarge => "the inflated body is longer than allowed".into(),
            Self::Malformed(sentence) => sentence.clone(),
            Self::UnnamedCompression => "a compressed gRPC message needs grpc-encoding".into(),
            Self::ForeignTrace(signal) => format!("some {} are not of the job's own trace", signal.items()),
            Self::ServiceName => "a resource has no service.name, or one that this sender may not use".into(),
            Self::CannotDrop(limit) => format!("the limit {} leaves no room for all spans", limit.label()),
            Self::CannotDropOversize => "a span is longer than allowed".into(),
            Self::Upstream(error) => upstream_sentence(error).into(),
            Self::Internal => "the gateway failed on this request".into(),
        }
    }
}

impl Form {
    fn new(http: u16, grpc: Code, retry: Retry, label: &'static str) -> Self {
        Self {
            http: StatusCode::from_u16(http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            grpc,
            retry,
            label,
        }
    }

    fn of_upstream(error: &UpstreamError) -> Self {
        use Retry::{After, Never};
        let wait = |hint: &Option<Duration>| After(hint.unwrap_or(SHORTEST_RETRY));
        match error {
            UpstreamError::Unreachable(_) => Self::new(502, Code::Unavailable, SOON, "collector_unreachable"),
            UpstreamError::Timeout => Self::new(504, Code::Unavailable, SOON, "collector_timeout"),
            UpstreamError::Queue => Self::new(503, Code::Unavailable, SOON, "collector_queue"),
            UpstreamError::Throttled(hint) => {
                Self::new(429, Code::ResourceExhausted, wait(hint), "collector_throttled")
            }
            UpstreamError::Unavailable(hint) => {
                Self::new(503, Code::Unavailable, wait(hint), "collector_unavailable")
            }
            UpstreamError::Refused => Self::new(400, Code::InvalidArgument, Never, "collector_refused"),
            UpstreamError::TooLarge => Self::new(413, Code::ResourceExhausted, Never, "collector_too_large"),
            UpstreamError::BadAnswer(_) => Self::new(502, Code::Unavailable, SOON, "collector_bad_answer"),
        }
    }
}

/// Who sends a bearer token is not told what is wrong with it: that would help to forge one.
fn denial_sentence(denial: Denial, kind: Kind) -> &'static str {
    match (kind, denial) {
        (_, Denial::UnknownClient) => "no name of the client certificate is known on this listener",
        (Kind::Pair, Denial::Unauthenticated) => "GitLab does not accept these tokens",
        (Kind::Pair, Denial::Forbidden) => "GitLab says that this runner may not speak for this job",
        (Kind::Bearer, Denial::Unauthenticated) => "this bearer token is not accepted",
        (Kind::Bearer, Denial::Forbidden) => "this bearer token is good, but its bearer may not send here",
        (Kind::Trusted, Denial::Unauthenticated | Denial::Forbidden) => "this sender may not send here",
    }
}

/// Without the details, which are for the operator's log only.
fn upstream_sentence(error: &UpstreamError) -> &'static str {
    match error {
        UpstreamError::Unreachable(_) => "the collector cannot be reached",
        UpstreamError::Timeout => "the collector did not answer in time",
        UpstreamError::Queue => {
            "no connection to the collector came free in time (collector.max_connections)"
        }
        UpstreamError::Throttled(_) => "the collector asks for fewer requests",
        UpstreamError::Unavailable(_) => "the collector is not available",
        UpstreamError::Refused => "the collector refused the payload",
        UpstreamError::TooLarge => "the collector finds the payload too long",
        UpstreamError::BadAnswer(_) => "the collector's answer makes no sense",
    }
}

/// At least the wait, at most half of it plus a second longer, and always within 2 to 15 s: an OTLP
/// exporter drops a batch at once when the delay passes its own budget, and a crowd that was refused
/// together must not come back together.
fn jittered(wait: Duration) -> Duration {
    let shortest = wait.clamp(SHORTEST_RETRY, LONGEST_RETRY.saturating_sub(SHORTEST_RETRY));
    let spread = shortest.mul_f64(0.5).saturating_add(Duration::from_secs(1));
    // Each such state has keys of its own. To spread a crowd is all that is asked of them: nobody gains by guessing a delay,
    // and what a flood of refusals costs is the gateway's.
    let [random, ..] = RandomState::new().hash_one(()).to_le_bytes();
    let share = f64::from(random) / 255.0;
    shortest.saturating_add(spread.mul_f64(share)).min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: every kind of undecided verdict and every trouble of the collector.
    /// Guarantees: none of them is ever told as 401 or 403, which would mute the job.
    #[test]
    fn trouble_is_never_a_denial() {
        let undetermined = [
            Undetermined::Timeout,
            Undetermined::Unreachable("reset".into()),
            Undetermined::Throttled,
            Undetermined::Status(404),
            Undetermined::BadAnswer("no JSON"),
            Undetermined::ForeignRefusal,
            Undetermined::ClocksApart,
            Undetermined::Busy,
            Undetermined::BreakerOpen(Duration::from_secs(1)),
            Undetermined::Paused(Duration::from_secs(2)),
            Undetermined::UnknownKey,
            Undetermined::NoAuthority,
        ]
        .map(Rejection::Undetermined);
        let upstream = [
            UpstreamError::Unreachable("reset".into()),
            UpstreamError::Timeout,
            UpstreamError::Queue,
            UpstreamError::Throttled(None),
            UpstreamError::Unavailable(None),
            UpstreamError::Refused,
            UpstreamError::TooLarge,
            UpstreamError::BadAnswer("HTTP 401".into()),
        ]
        .map(Rejection::Upstream);
        for rejection in
            undetermined.into_iter().chain(upstream).chain([Rejection::Internal, Rejection::Shed])
        {
            let status = rejection.http_status().as_u16();
            assert!(status != 401 && status != 403, "{rejection:?}");
            let code = rejection.status().code;
            assert!(code != Code::Unauthenticated && code != Code::PermissionDenied, "{rejection:?}");
        }
    }

    /// Scenario: waits from nothing to an hour, many times each.
    /// Guarantees: the told delay is within 2 to 15 s, not shorter than the wait where that fits, and varies.
    #[test]
    fn retry_delay_is_bounded_and_jittered() {
        for wait in [0, 50, 2_000, 6_000, 60_000, 3_600_000].map(Duration::from_millis) {
            let told: Vec<_> = (0..64).map(|_| jittered(wait)).collect();
            assert!(told.iter().all(|delay| (SHORTEST_RETRY..=LONGEST_RETRY).contains(delay)), "{told:?}");
            assert!(told.iter().all(|delay| *delay >= wait.min(Duration::from_secs(13))));
            assert!(told.iter().any(|delay| Some(delay) != told.first()), "no jitter at {wait:?}");
        }
    }

    /// Scenario: a collector asks to wait for a minute, one for nothing.
    /// Guarantees: the sender hears 429 or 503 with a delay that its exporter can honour.
    #[test]
    fn collectors_delay_is_clamped() {
        for error in [
            UpstreamError::Throttled(Some(Duration::from_mins(1))),
            UpstreamError::Unavailable(Some(Duration::ZERO)),
        ] {
            let delay = Rejection::Upstream(error).status().retry_after.expect("a retry makes sense");
            assert!((SHORTEST_RETRY..=LONGEST_RETRY).contains(&delay));
        }
    }

    /// Scenario: an upstream error that carries details for the operator.
    /// Guarantees: the sender's sentence does not show them.
    #[test]
    fn details_stay_inside() {
        let rejection = Rejection::Upstream(UpstreamError::Unreachable("10.1.2.3:4318 refused".into()));
        assert!(!rejection.status().message.contains("10.1.2.3"));
    }
}
