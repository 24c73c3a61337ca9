//! Every metric: name, unit, help, labels. Label sets are closed; a token, job, project or runner
//! is never one. It decides names only, never when something happens.

mod labels;
mod limit_store;
mod limits;
mod process;
mod table;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::ArcSwap;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Metric, Registry},
};

// The configuration allows no more; held here too, whoever calls.
use crate::config::check::{MAX_ENDPOINTS, MAX_LISTENERS, MAX_PROVIDERS};

use self::labels::{
    BUILD, CollectorLabels, IssuerLabels, KindLabels, LimitLabels, ListenerLabels, OutcomeLabels,
    ReasonLabels, RequestLabels, SignalLabels, SpanLabels, StageLabels, VerdictLabels, WhyLabels,
};

pub use limits::LimitCounts;
pub use table::reference;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds: half a millisecond is a cache hit, 4 s the default deadline.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Bytes: one small span is about 1 KiB with its resource, the default cap 4 MiB.
const BYTES: [f64; 8] = [256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

/// All metrics of one process; there is no global.
///
/// What a request touches more than once is found without hashing: counters per listener are made
/// on its first use and kept in a short list. The rest goes through a family, a read lock and a hash
/// of two or three short labels: about 50 ns each.
pub struct Metrics {
    registry: Registry,
    listeners: ArcSwap<Vec<Arc<PerListener>>>,
    /// Held while a listener is added.
    adding: Mutex<()>,
    requests: Family<RequestLabels, Counter>,
    request_duration: Histogram,
    request_body: Histogram,
    in_flight_requests: Gauge,
    in_flight_bytes: Gauge,
    in_flight_bytes_limit: Gauge,
    overload_stage: Gauge,
    overload_shed: Family<StageLabels, Counter>,
    connections: Family<ListenerLabels, Gauge>,
    connection_errors: Family<ReasonLabels, Counter>,
    spans: Family<SpanLabels, Counter>,
    foreign: Family<SignalLabels, Counter>,
    verdicts: Family<VerdictLabels, Counter>,
    /// The one of them that nearly every request counts.
    hits: Counter,
    cache_entries: Family<KindLabels, Gauge>,
    cache_size: Family<KindLabels, Gauge>,
    cache_purges: Counter,
    authority_requests: Family<OutcomeLabels, Counter>,
    authority_duration: Histogram,
    authority_shed: Family<WhyLabels, Counter>,
    authority_breaker: Gauge,
    jwks_age: Family<IssuerLabels, Gauge<f64, AtomicU64>>,
    jwks_fetches: Family<OutcomeLabels, Counter>,
    limit_decisions: Family<LimitLabels, Counter>,
    limit_store: limit_store::LimitStore,
    stripped: Counter,
    unknown_fields: Counter,
    collector_requests: Family<CollectorLabels, Counter>,
    collector_duration: Histogram,
    collector_queued: Counter,
    collector_connections_limit: Gauge,
    config_reloads: Family<OutcomeLabels, Counter>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The counters of one listener.
#[derive(Debug)]
struct PerListener {
    name: Arc<str>,
    connections: Gauge,
    forwarded: Counter,
    oversize: Counter,
    budget: Counter,
    refused: Counter,
    foreign: Counter,
}

/// Source and verdict of what a known sender gets.
const HIT: (&str, &str) = ("hit", "allow");

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

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers `metric` under the name and help of its row and gives it back.
fn add<M: Metric + Clone>(registry: &mut Registry, row: &table::Row, metric: M) -> M {
    // The registry ends each help with a full stop.
    registry.register(row.registered(), row.help, metric.clone());
    metric
}

impl Metrics {
    /// A registry with every metric at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let to = &mut registry;
        let seconds = || Histogram::new(SECONDS);
        let verdicts = Family::<VerdictLabels, Counter>::default();
        let metrics = Self {
            listeners: ArcSwap::default(),
            adding: Mutex::default(),
            requests: add(to, &table::REQUESTS, Family::default()),
            request_duration: add(to, &table::REQUEST_DURATION, seconds()),
            request_body: add(to, &table::REQUEST_BODY, Histogram::new(BYTES)),
            in_flight_requests: add(to, &table::IN_FLIGHT_REQUESTS, Gauge::default()),
            in_flight_bytes: add(to, &table::IN_FLIGHT_BYTES, Gauge::default()),
            in_flight_bytes_limit: add(to, &table::IN_FLIGHT_BYTES_LIMIT, Gauge::default()),
            overload_stage: add(to, &table::OVERLOAD_STAGE, Gauge::default()),
            overload_shed: add(to, &table::OVERLOAD_SHED, Family::default()),
            connections: add(to, &table::CONNECTIONS, Family::default()),
            connection_errors: add(to, &table::CONNECTION_ERRORS, Family::default()),
            spans: add(to, &table::SPANS, Family::default()),
            foreign: add(to, &table::FOREIGN, Family::default()),
            hits: verdicts.get_or_create_owned(&VerdictLabels { source: HIT.0, verdict: HIT.1 }),
            verdicts: add(to, &table::VERDICTS, verdicts),
            cache_entries: add(to, &table::CACHE_ENTRIES, Family::default()),
            cache_size: add(to, &table::CACHE_SIZE, Family::default()),
            cache_purges: add(to, &table::CACHE_PURGES, Counter::default()),
            authority_requests: add(to, &table::AUTHORITY_REQUESTS, Family::default()),
            authority_duration: add(to, &table::AUTHORITY_DURATION, seconds()),
            authority_shed: add(to, &table::AUTHORITY_SHED, Family::default()),
            authority_breaker: add(to, &table::AUTHORITY_BREAKER, Gauge::default()),
            jwks_age: add(to, &table::JWKS_AGE, Family::default()),
            jwks_fetches: add(to, &table::JWKS_FETCHES, Family::default()),
            limit_decisions: add(to, &table::LIMIT_DECISIONS, Family::default()),
            limit_store: limit_store::LimitStore::register(to),
            stripped: add(to, &table::STRIPPED, Counter::default()),
            unknown_fields: add(to, &table::UNKNOWN_FIELDS, Counter::default()),
            collector_requests: add(to, &table::COLLECTOR_REQUESTS, Family::default()),
            collector_duration: add(to, &table::COLLECTOR_DURATION, seconds()),
            collector_queued: add(to, &table::COLLECTOR_QUEUED, Counter::default()),
            collector_connections_limit: add(to, &table::COLLECTOR_CONNECTIONS_LIMIT, Gauge::default()),
            config_reloads: add(to, &table::CONFIG_RELOADS, Family::default()),
            registry: Registry::default(),
        };
        to.register(table::BUILD.registered(), table::BUILD.help, Info::new(BUILD));
        to.register(table::GITLAB_BUILD.registered(), table::GITLAB_BUILD.help, Info::new(BUILD));
        to.register_collector(Box::new(process::ProcessCollector));
        // Rates over a counter that appears with its first event miss that event: these must not.
        for outcome in ["applied", "refused"] {
            drop(metrics.config_reloads.get_or_create(&OutcomeLabels { outcome }));
        }
        for stage in ["strangers", "idle", "closed"] {
            drop(metrics.overload_shed.get_or_create(&StageLabels { stage }));
        }
        for reason in ["busy", "breaker_open", "paused"] {
            drop(metrics.authority_shed.get_or_create(&WhyLabels { reason }));
        }
        for outcome in ["allow", "deny", "timeout", "unreachable", "throttled", "status", "bad_answer"] {
            drop(metrics.authority_requests.get_or_create(&OutcomeLabels { outcome }));
        }
        for outcome in ["ok", "timeout", "unreachable", "status", "bad_answer"] {
            drop(metrics.jwks_fetches.get_or_create(&OutcomeLabels { outcome }));
        }
        for source in ["hit", "miss", "shared", "revalidate", "stale", "refresh"] {
            for verdict in ["allow", "deny", "undetermined"] {
                drop(metrics.verdicts.get_or_create(&VerdictLabels { source, verdict }));
            }
        }
        Self { registry, ..metrics }
    }

    /// The `OpenMetrics` text form; answer with [`CONTENT_TYPE`], or Prometheus reads it by other rules.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 << 10);
        // Writing into a String fails only if a metric of ours says so, and none does.
        let _infallible = encode(&mut text, &self.registry);
        text
    }

    /// One request was answered.
    pub fn request(&self, record: RequestRecord<'_>) {
        let labels = RequestLabels {
            listener: Arc::clone(&self.listener(record.listener).name),
            signal: record.signal,
            protocol: record.protocol,
            outcome: record.outcome,
        };
        self.requests.get_or_create(&labels).inc();
        self.request_duration.observe(record.duration.as_secs_f64());
        if let Some(bytes) = record.body_bytes {
            #[expect(clippy::cast_precision_loss, reason = "a body of 2^53 bytes can't come")]
            self.request_body.observe(bytes as f64);
        }
    }

    /// The spans of one request found their end.
    pub fn items(&self, listener: &str, record: ItemRecord) {
        let to = self.listener(listener);
        for (counter, count) in [
            (&to.forwarded, record.forwarded),
            (&to.oversize, record.oversize),
            (&to.budget, record.over_budget),
            (&to.refused, record.refused),
            (&to.foreign, record.foreign),
        ] {
            if count > 0 {
                counter.inc_by(count);
            }
        }
    }

    /// Items of another trace came. `signal`: traces, metrics, logs, profiles.
    pub fn foreign_items(&self, signal: &'static str, count: u64) {
        if count > 0 {
            self.foreign.get_or_create(&SignalLabels { signal }).inc_by(count);
        }
    }

    /// A request came in (`+1`) or was answered (`-1`).
    pub fn in_flight_requests(&self, change: i64) {
        self.in_flight_requests.inc_by(change);
    }

    /// Body bytes are held (positive) or let go (negative).
    pub fn in_flight_bytes(&self, change: i64) {
        self.in_flight_bytes.inc_by(change);
    }

    /// The most body bytes that may be held.
    pub fn in_flight_bytes_limit(&self, bytes: u64) {
        self.in_flight_bytes_limit.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// What is done about overload: 0 nothing, 1 strangers refused, 2 idle connections end, 3 none accepted.
    pub fn overload_stage(&self, stage: i64) {
        self.overload_stage.set(stage);
    }

    /// Overload was shed. `stage`: strangers, idle, closed.
    pub fn overload_shed(&self, stage: &'static str, count: u64) {
        self.overload_shed.get_or_create(&StageLabels { stage }).inc_by(count);
    }

    /// A verdict was given. `source`: hit, miss, shared, revalidate, stale, refresh; `verdict`: allow, deny, undetermined.
    pub fn verdict(&self, source: &'static str, verdict: &'static str) {
        if (source, verdict) == HIT {
            self.hits.inc();
            return;
        }
        self.verdicts.get_or_create(&VerdictLabels { source, verdict }).inc();
    }

    /// Entries in the verdict caches. `kind`: positive, negative, `bearer_positive`, `bearer_negative`.
    pub fn cache_entries(&self, kind: &'static str, entries: u64) {
        let entries = i64::try_from(entries).unwrap_or(i64::MAX);
        self.cache_entries.get_or_create(&KindLabels { kind }).set(entries);
    }

    /// What positive verdicts take in memory, in bytes.
    pub fn cache_size(&self, kind: &'static str, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.cache_size.get_or_create(&KindLabels { kind }).set(bytes);
    }

    /// An operator had every verdict forgotten.
    pub fn cache_purge(&self) {
        self.cache_purges.inc();
    }

    /// The authority answered, or did not. `outcome`: allow, deny, or `Undetermined::label`.
    pub fn authority_request(&self, outcome: &'static str, duration: Duration) {
        self.authority_requests.get_or_create(&OutcomeLabels { outcome }).inc();
        self.authority_duration.observe(duration.as_secs_f64());
    }

    /// A question was not asked, to spare the authority. `reason`: busy, `breaker_open`, paused.
    pub fn authority_shed(&self, reason: &'static str) {
        self.authority_shed.get_or_create(&WhyLabels { reason }).inc();
    }

    /// The breaker before the authority: 0 closed, 1 half open, 2 open.
    pub fn authority_breaker(&self, state: i64) {
        self.authority_breaker.set(state);
    }

    /// What the authorities keep is not theirs any more, or another's: each scrape puts in what is there. Else the
    /// last value of what a reload took away would stay for good, and look healthy.
    pub fn forget_kept(&self) {
        self.cache_entries.clear();
        self.cache_size.clear();
        self.jwks_age.clear();
        self.authority_breaker.set(0);
    }

    /// The ages of providers' keys, by issuer.
    pub fn jwks_ages<'a>(&self, ages: impl Iterator<Item = (&'a str, Duration)>) {
        for (issuer, age) in ages.take(MAX_PROVIDERS) {
            self.jwks_age.get_or_create(&IssuerLabels { issuer: issuer.into() }).set(age.as_secs_f64());
        }
    }

    /// A provider's keys were fetched, or were not. `outcome`: ok, or `Undetermined::label`.
    pub fn jwks_fetch(&self, outcome: &'static str) {
        self.jwks_fetches.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Protected attributes were removed from resources, scopes or spans.
    pub fn attributes_stripped(&self, count: u64) {
        self.stripped.inc_by(count);
    }

    /// Unknown fields outside the items were dropped.
    pub fn unknown_fields_dropped(&self, count: u64) {
        self.unknown_fields.inc_by(count);
    }

    /// A collector was asked. `endpoint`: its index in the configuration; `outcome`: ok, refused, `too_large`, throttled,
    /// unavailable, timeout, unreachable, `bad_answer`.
    pub fn collector_request(&self, endpoint: usize, outcome: &'static str, duration: Duration) {
        let endpoint = u64::try_from(endpoint.min(MAX_ENDPOINTS)).unwrap_or(u64::MAX);
        self.collector_requests.get_or_create(&CollectorLabels { endpoint, outcome }).inc();
        self.collector_duration.observe(duration.as_secs_f64());
    }

    /// The most exports that may be on their way to collectors at once; 0: as many as come.
    pub fn collector_connections_limit(&self, exports: usize) {
        self.collector_connections_limit.set(i64::try_from(exports).unwrap_or(i64::MAX));
    }

    /// An export had to wait for its turn at the collectors.
    pub fn collector_queued(&self) {
        self.collector_queued.inc();
    }

    /// A configuration was read again. `outcome`: applied, refused.
    pub fn config_reload(&self, outcome: &'static str) {
        self.config_reloads.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A connection was accepted (`+1`) or ended (`-1`).
    pub fn connections(&self, listener: &str, change: i64) {
        self.listener(listener).connections.inc_by(change);
    }

    /// Trouble below requests. `reason`: tls, http, timeout, accept, full, `per_client`, `proxy_header`.
    pub fn connection_error(&self, listener: &str, reason: &'static str) {
        let listener = Arc::clone(&self.listener(listener).name);
        self.connection_errors.get_or_create(&ReasonLabels { listener, reason }).inc();
    }

    /// The counters of a listener; made on first use, so that they start from zero.
    fn listener(&self, name: &str) -> Arc<PerListener> {
        let find = |name: &str| self.listeners.load().iter().find(|known| &*known.name == name).cloned();
        if let Some(known) = find(name) {
            return known;
        }
        let _held = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let full = self.listeners.load().len() >= MAX_LISTENERS;
        let name = if full { "other" } else { name };
        if let Some(known) = find(name) {
            return known;
        }
        let listener: Arc<str> = Arc::from(name);
        let spans = |outcome| {
            self.spans.get_or_create_owned(&SpanLabels { listener: Arc::clone(&listener), outcome })
        };
        for reason in ["tls", "http", "timeout", "accept", "full", "per_client", "proxy_header"] {
            let listener = Arc::clone(&listener);
            drop(self.connection_errors.get_or_create(&ReasonLabels { listener, reason }));
        }
        let fresh = Arc::new(PerListener {
            connections: self
                .connections
                .get_or_create_owned(&ListenerLabels { listener: Arc::clone(&listener) }),
            forwarded: spans("forwarded"),
            oversize: spans("oversize"),
            budget: spans("budget"),
            refused: spans("refused"),
            foreign: spans("foreign"),
            name: listener,
        });
        let mut all = self.listeners.load().to_vec();
        all.push(Arc::clone(&fresh));
        self.listeners.store(Arc::new(all));
        fresh
    }
}
