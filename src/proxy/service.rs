//! What stands around the line and cannot refuse: sensitive marks, panic guard, metrics, the access
//! line, and reading on after an early answer. It never looks into a body.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use http::{HeaderName, Request, Response, StatusCode, Version, header::EXPECT};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use crate::{
    metrics::{Metrics, RequestRecord},
    telemetry,
    validate::{Denial, Undetermined, credentials::Kind},
};

use super::{
    answer, body,
    gateway::{Arrival, Gateway, ListenerRules, Notes},
    headers,
    rejection::Rejection,
    route::Protocol,
    server::{AnswerBody, Peer},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How much of a refused HTTP/1 upload is read on, and for how long, so that its answer is not lost.
const READ_ON_BYTES: usize = 16 << 20;
const READ_ON_TIME: Duration = Duration::from_secs(5);

/// Answers one request, always.
pub async fn serve(
    gateway: Arc<Gateway>,
    rules: Arc<ListenerRules>,
    request: Request<Incoming>,
    peer: Arc<Peer>,
) -> Response<AnswerBody> {
    let at = Instant::now();
    let _in_flight = InFlightRequest::enter(&gateway.metrics);
    let (mut head, mut body) = request.into_parts();
    headers::mark_sensitive(&mut head.headers, &gateway.names);
    let correlation_id = telemetry::correlation_id(head.headers.get(REQUEST_ID));

    let mut notes = Notes::default();
    let client = rules.hops.client(peer.address.ip(), &head.headers);
    let arrival =
        Arrival { peer: &peer, client, head: &head, rules: &rules, correlation_id: &correlation_id, at };
    let outcome = AssertUnwindSafe(gateway.line(&arrival, &mut body, &mut notes))
        .catch_unwind()
        .await
        .unwrap_or(Err(Rejection::Internal));

    let (mut response, label) = match &outcome {
        Ok((route, partial)) => (
            answer::accepted(route.protocol, route.signal, partial),
            if partial.rejected > 0 { "partial" } else { "ok" },
        ),
        Err(rejection) => {
            let protocol = notes.route.map_or_else(|| Protocol::of_answer(&head), |route| route.protocol);
            let throttle = gateway.settings.throttle_status;
            let answer = answer::refused(protocol, rejection, throttle, &gateway.names, rules.accepts);
            (answer, rejection.label())
        }
    };
    if let Ok(value) = http::HeaderValue::from_str(&correlation_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if outcome.is_err() && upload_would_be_cut(&head, &body) {
        body::read_on(body, READ_ON_BYTES, READ_ON_TIME);
    }
    record(&gateway, &arrival, &notes, label, response.status(), outcome.as_ref().err());
    // Over HTTP/2 this would brake nobody, because the next stream is open in a moment; behind a hop it would take up
    // connections that good senders share.
    if notes.fails_too_often && head.version < Version::HTTP_2 && client == peer.address.ip() {
        gateway.failures.hold().await;
    } else if outcome.is_err() {
        // A refusal waits for nobody, so pipelined ones would follow each other without a break, and the sockets of good
        // senders would be looked at only after hundreds of them.
        tokio::task::yield_now().await;
    }
    response
}

/// Over HTTP/1 the connection is closed under an unread upload and the answer may be lost with it. A
/// client that waits for `100 Continue` has not begun to send.
fn upload_would_be_cut(head: &http::request::Parts, body: &Incoming) -> bool {
    head.version < Version::HTTP_2 && !body.is_end_stream() && !head.headers.contains_key(EXPECT)
}

/// The one metrics call and the one access line of a request.
fn record(
    gateway: &Gateway,
    arrival: &Arrival<'_>,
    notes: &Notes,
    outcome: &'static str,
    status: StatusCode,
    rejection: Option<&Rejection>,
) {
    let duration = arrival.at.elapsed();
    let listener = &*arrival.peer.listener;
    let signal = notes.route.map_or("none", |route| route.signal.label());
    let protocol = notes.route.map_or("none", |route| route.protocol.label());
    gateway.metrics.request(RequestRecord {
        listener,
        signal,
        protocol,
        outcome,
        duration,
        body_bytes: notes.body_bytes,
    });
    gateway.metrics.foreign_items(signal, notes.items.foreign);
    if notes.route.is_some_and(|route| route.signal.limits_items()) {
        gateway.metrics.items(listener, notes.items);
    }

    let seen = Seen { arrival, signal, protocol, outcome, status, duration };
    seen.access_line(notes);
    if let Some(rejection) = rejection {
        seen.refusal_line(gateway, rejection);
    }
}

struct Seen<'a> {
    arrival: &'a Arrival<'a>,
    signal: &'static str,
    protocol: &'static str,
    outcome: &'static str,
    status: StatusCode,
    duration: Duration,
}

impl Seen<'_> {
    fn access_line(&self, notes: &Notes) {
        tracing::debug!(
            correlation_id = %self.arrival.correlation_id,
            listener = %self.arrival.peer.listener,
            remote_ip = %self.arrival.client,
            signal = self.signal,
            protocol = self.protocol,
            outcome = self.outcome,
            http_status_code = self.status.as_u16(),
            duration_s = self.duration.as_secs_f64(),
            body_bytes = notes.body_bytes,
            forwarded = notes.items.forwarded,
            client = notes.client.as_deref(),
            "request"
        );
    }

    /// What an operator would have to add for a client that is not known.
    fn client_names(&self, rejection: &Rejection) -> Option<String> {
        let unknown = matches!(rejection, Rejection::Denied(Denial::UnknownClient, _));
        unknown.then(|| self.arrival.peer.client.as_deref().cloned().unwrap_or_default().to_string())
    }

    fn refusal_line(&self, gateway: &Gateway, rejection: &Rejection) {
        if let Some(nobody @ Undetermined::NoAuthority) = cause(rejection)
            && let Some(suppressed) = gateway.log_cap.allow(nobody.label())
        {
            tracing::warn!(
                correlation_id = %self.arrival.correlation_id,
                listener = %self.arrival.peer.listener,
                hint = nobody.remedy(Kind::Trusted),
                suppressed,
                "this listener takes credentials that no authority knows since the configuration was read again: \
                 all of its senders get 503; put the authority back and send SIGHUP, or restart"
            );
        }
        if let Some(suppressed) = gateway.log_cap.allow(self.outcome) {
            tracing::info!(
                correlation_id = %self.arrival.correlation_id,
                listener = %self.arrival.peer.listener,
                remote_ip = %self.arrival.client,
                signal = self.signal,
                protocol = self.protocol,
                reason = self.outcome,
                http_status_code = self.status.as_u16(),
                duration_s = self.duration.as_secs_f64(),
                error_message = %rejection.status().message,
                cause = cause(rejection).map(Undetermined::label),
                client_names = self.client_names(rejection),
                suppressed,
                "request refused"
            );
        }
    }
}

/// Why there is no verdict, which the sender is not told.
fn cause(rejection: &Rejection) -> Option<&Undetermined> {
    match rejection {
        Rejection::Undetermined(cause) => Some(cause),
        _ => None,
    }
}

/// Counts a request as in flight until it is dropped, however it ends.
struct InFlightRequest<'a>(&'a Metrics);

impl<'a> InFlightRequest<'a> {
    fn enter(metrics: &'a Metrics) -> Self {
        metrics.in_flight_requests(1);
        Self(metrics)
    }
}

impl Drop for InFlightRequest<'_> {
    fn drop(&mut self) {
        self.0.in_flight_requests(-1);
    }
}
