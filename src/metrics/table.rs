//! The table of metrics: name, kind, labels, meaning. The registry takes its texts from here and
//! docs/metrics.md is made of it, so that both say the same. It holds no values.

use std::fmt::Write as _;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The name on the wire, with `_total` for counters.
    pub(super) name: &'static str,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub(super) kind: &'static str,
    /// Each label with its closed set of values.
    pub(super) labels: &'static [(&'static str, &'static str)],
    pub(super) help: &'static str,
}

impl Row {
    /// The name under which prometheus-client registers it: the encoder adds these endings.
    pub(super) fn registered(&self) -> &'static str {
        let ending = match self.kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        self.name.strip_suffix(ending).unwrap_or(self.name)
    }
}

macro_rules! rows {
    ($($id:ident: $kind:literal $name:literal { $($label:literal: $values:literal),* } $help:literal;)+) => {
        $(pub(super) const $id: Row =
            Row { name: $name, kind: $kind, labels: &[$(($label, $values)),*], help: $help };)+
        /// Every metric, in the order of the output.
        pub(super) const TABLE: &[Row] = &[$($id),+];
    };
}

rows! {
    REQUESTS: "counter" "spangate_requests_total" {
        "listener": "`listeners[].name`", "signal": "traces, metrics, logs, profiles, none", "protocol": "http_protobuf, http_json, grpc, none",
        "outcome": "ok, partial, or why it was refused"
    } "Requests answered";
    REQUEST_DURATION: "histogram" "spangate_request_duration_seconds" {} "Time from arrival to answer";
    REQUEST_BODY: "histogram" "spangate_request_body_bytes" {} "Body bytes as they came over the wire";
    IN_FLIGHT_REQUESTS: "gauge" "spangate_in_flight_requests" {} "Requests that wait for their answer";
    IN_FLIGHT_BYTES: "gauge" "spangate_in_flight_bytes" {} "Body bytes held in memory";
    IN_FLIGHT_BYTES_LIMIT: "gauge" "spangate_in_flight_bytes_limit" {} "Most body bytes that may be held (`intake.max_in_flight_bytes`)";
    OVERLOAD_STAGE: "gauge" "spangate_overload_stage" {}
        "What is done about overload: 0 nothing, 1 strangers are refused, 2 idle connections end too, 3 no connection is accepted";
    OVERLOAD_SHED: "counter" "spangate_overload_shed_total" { "stage": "strangers, idle, closed" }
        "Overload shed: requests refused, connections asked to leave, times that accepting stopped";
    CONNECTIONS: "gauge" "spangate_connections" { "listener": "`listeners[].name`, admin" } "Open connections";
    CONNECTION_ERRORS: "counter" "spangate_connection_errors_total" {
        "listener": "`listeners[].name`, admin", "reason": "tls, http, timeout, accept, full, per_client, proxy_header"
    } "Trouble below requests (full: a connection had to wait for a place; per_client: one client had too many); no request may have come of it";
    SPANS: "counter" "spangate_spans_total" {
        "listener": "`listeners[].name`", "outcome": "forwarded, oversize, budget, refused, foreign"
    } "Spans by what became of them (foreign: of another trace than the job's; in shadow mode they still go on)";
    FOREIGN: "counter" "spangate_foreign_items_total" { "signal": "traces, metrics, logs, profiles" }
        "Spans, metrics, log records and profiles of another trace than the job's; in shadow mode they still go on";
    VERDICTS: "counter" "spangate_verdicts_total" {
        "source": "hit, miss, shared, revalidate, stale, refresh", "verdict": "allow, deny, undetermined"
    } "Verdicts about tokens by where they came from (revalidate, stale: from memory, past their end)";
    CACHE_ENTRIES: "gauge" "spangate_cache_entries" { "kind": "positive, negative, bearer_positive, bearer_negative" } "Verdicts kept, about token pairs and about bearer tokens";
    CACHE_SIZE: "gauge" "spangate_cache_size_bytes" { "kind": "positive, bearer_positive" } "Memory that positive verdicts take";
    CACHE_PURGES: "counter" "spangate_cache_purges_total" {} "Purges asked for on the admin listener";
    AUTHORITY_REQUESTS: "counter" "spangate_authority_requests_total" {
        "outcome": "allow, deny, timeout, unreachable, throttled, status, bad_answer"
    } "Questions to the authority";
    AUTHORITY_DURATION: "histogram" "spangate_authority_duration_seconds" {} "Time for one question to the authority";
    AUTHORITY_SHED: "counter" "spangate_authority_shed_total" { "reason": "busy, breaker_open, paused" }
        "Questions that were not asked, to spare the authority";
    AUTHORITY_BREAKER: "gauge" "spangate_authority_breaker_state" {}
        "Whether the authority is asked: 0 closed (yes), 1 half open (one probe), 2 open (no)";
    JWKS_AGE: "gauge" "spangate_jwks_age_seconds" { "issuer": "`oidc.providers[].issuer`" }
        "Time since the keys of an OpenID provider were last fetched; not there before the first time";
    JWKS_FETCHES: "counter" "spangate_jwks_fetches_total" { "outcome": "ok, timeout, unreachable, status, bad_answer" }
        "Fetches of the keys of OpenID providers";
    LIMIT_DECISIONS: "counter" "spangate_limit_decisions_total" {
        "limit": "job_, runner_, project_, listener_, global_ with requests, spans, bytes; job_span_budget, client_failures, client_in_flight",
        "decision": "allowed, refused, would_refuse"
    } "Limits asked";
    LIMIT_STORE_UP: "gauge" "spangate_limit_store_up" {}
        "Whether limits are shared now (1), or this replica goes on with its share of each (0); not there with `limits.store.type: local`";
    LIMIT_STORE_REPLICAS: "gauge" "spangate_limit_store_replicas" {}
        "Replicas that share limits, as last heard: the share is one part in so many; not there with `limits.store.type: local`";
    LIMIT_STORE_REQUESTS: "counter" "spangate_limit_store_requests_total" { "outcome": "ok, timeout, error" }
        "Calls to the store of limits; none keeps a request waiting for more than 20 ms";
    LIMIT_STORE_DURATION: "histogram" "spangate_limit_store_duration_seconds" {} "Time for one call to the store of limits";
    LIMIT_STORE_UNTOLD: "counter" "spangate_limit_store_untold_total" {}
        "Keys whose latest charges the other replicas were not told of: the store gave no answer, or too many came at once";
    SHARED_DENIALS: "counter" "spangate_limit_store_denials_total" {}
        "Token pairs refused because GitLab had just said no to them to another replica";
    STRIPPED: "counter" "spangate_resource_attributes_stripped_total" {}
        "Protected attributes removed from what senders sent";
    UNKNOWN_FIELDS: "counter" "spangate_unknown_fields_dropped_total" {} "Unknown fields dropped outside of items";
    COLLECTOR_REQUESTS: "counter" "spangate_collector_requests_total" {
        "endpoint": "index in `collector.endpoints`",
        "outcome": "ok, refused, too_large, throttled, unavailable, timeout, unreachable, bad_answer"
    } "Requests to collectors";
    COLLECTOR_DURATION: "histogram" "spangate_collector_duration_seconds" {} "Time for one request to a collector, without the wait for its turn";
    COLLECTOR_QUEUED: "counter" "spangate_collector_queued_total" {}
        "Exports that had to wait for their turn at the collectors; those that waited in vain too";
    COLLECTOR_CONNECTIONS_LIMIT: "gauge" "spangate_collector_connections_limit" {}
        "Most exports on their way to collectors at once: `collector.max_connections`, or what file descriptors bear of it; 0 over gRPC";
    CONFIG_RELOADS: "counter" "spangate_config_reloads_total" { "outcome": "applied, refused" }
        "Configurations read again while running";
    BUILD: "info" "spangate_build_info" { "version": "release", "built": "time of the build, or unknown" }
        "The running build";
    GITLAB_BUILD: "info" "gitlab_build_info" { "version": "release", "built": "time of the build, or unknown" }
        "The running build, under the name that all GitLab services share";
    PROCESS_START: "gauge" "process_start_time_seconds" {} "Start of the process, in seconds since 1970";
    PROCESS_CPU: "counter" "process_cpu_seconds_total" {} "CPU time of the process, user and system";
    PROCESS_MEMORY: "gauge" "process_resident_memory_bytes" {} "Resident memory of the process";
    PROCESS_FDS: "gauge" "process_open_fds" {} "Open file descriptors of the process";
    PROCESS_MAX_FDS: "gauge" "process_max_fds" {} "Most file descriptors that the process may open";
}

/// The list of metrics, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Metrics\n\n\
         `GET /metrics` on the admin listener, in the OpenMetrics text format. Histograms also have `_sum`, `_count`\n\
         and `_bucket{le}`. Label sets are closed: no token, job, project or runner is ever a label, and a replica\n\
         never has more than 2,000 series (about a hundred for each listener and signal in use). Most series with labels appear\n\
         when they first count.\n\n\
         Most to watch: the rate of `spangate_requests_total` by `outcome`, `spangate_verdicts_total{verdict=\"undetermined\"}`\n\
         (the authority is in trouble; runners get 503 and try again), `spangate_collector_requests_total{outcome!=\"ok\"}`,\n\
         and `spangate_connection_errors_total` for those who never came as far as a request.\n\n\
         | metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for row in TABLE {
        let labels: Vec<_> = row.labels.iter().map(|(name, values)| format!("`{name}`: {values}")).collect();
        let _infallible =
            writeln!(out, "| `{}` | {} | {} | {} |", row.name, row.kind, labels.join("; "), row.help);
    }
    out
}
