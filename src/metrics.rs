//! Every metric: name, unit, help, labels. Label sets are closed; a token, job, project or runner
//! is never one. It decides names only, never when something happens.

use std::time::Duration;

/// All metrics of one process; there is no global.
#[derive(Debug, Default)]
pub struct Metrics {}

/// What became of one request, for `requests_total` and its companions.
#[derive(Clone, Copy, Debug)]
pub struct RequestRecord<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// `traces`, or `none` before routing.
    pub signal: &'static str,
    /// `http_protobuf`, `http_json`, `grpc` or `none` before routing.
    pub protocol: &'static str,
    /// `ok`, `partial`, or a refusal's label.
    pub outcome: &'static str,
    /// From arrival to answer.
    pub duration: Duration,
    /// Body bytes as they came over the wire; `None` when the body was not read.
    pub body_bytes: Option<u64>,
}

/// What became of the spans of one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct ItemRecord {
    /// Sent on and accepted by the collector.
    pub forwarded: u64,
    /// Dropped: longer than the limit.
    pub oversize: u64,
    /// Dropped: past the job's budget.
    pub over_budget: u64,
    /// Refused with their whole request.
    pub refused: u64,
    /// Of a foreign trace (in `shadow` mode they still went on).
    pub foreign: u64,
}

impl Metrics {
    /// A registry with every metric at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The Prometheus text form, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        String::new()
    }

    /// One request was answered.
    pub fn request(&self, _record: RequestRecord<'_>) {}

    /// The spans of one request found their end.
    pub fn items(&self, _listener: &str, _record: ItemRecord) {}

    /// A request came in (`+1`) or was answered (`-1`).
    pub fn in_flight_requests(&self, _change: i64) {}

    /// Body bytes are held (positive) or let go (negative).
    pub fn in_flight_bytes(&self, _change: i64) {}

    /// A verdict was given. `source`: hit, miss, shared, stale, refresh; `verdict`: allow, deny, undetermined.
    pub fn verdict(&self, _source: &'static str, _verdict: &'static str) {}

    /// Entries in the verdict caches. `kind`: positive, negative.
    pub fn cache_entries(&self, _kind: &'static str, _entries: u64) {}

    /// The authority answered, or did not. `outcome`: allow, deny, or `Undetermined::label`.
    pub fn authority_request(&self, _outcome: &'static str, _duration: Duration) {}

    /// A limit was asked. `decision`: allowed, refused, would_refuse.
    pub fn limit_decision(&self, _limit: &'static str, _decision: &'static str) {}

    /// Protected attributes were removed from resources, scopes or spans.
    pub fn attributes_stripped(&self, _count: u64) {}

    /// Unknown fields outside the items were dropped.
    pub fn unknown_fields_dropped(&self, _count: u64) {}

    /// A collector was asked. `endpoint`: its index in the configuration; `outcome`: ok, refused, throttled, unavailable,
    /// timeout, unreachable, bad_answer.
    pub fn collector_request(&self, _endpoint: usize, _outcome: &'static str, _duration: Duration) {}

    /// A configuration was read again. `outcome`: applied, refused.
    pub fn config_reload(&self, _outcome: &'static str) {}

    /// A connection was accepted (`+1`) or ended (`-1`).
    pub fn connections(&self, _listener: &str, _change: i64) {}
}
