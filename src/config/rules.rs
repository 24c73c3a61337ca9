//! Keys of what a proven sender may send and what it is stamped with: rules for spans, rates,
//! identity attributes. It decides defaults and spelling only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{settings::settings, store::Store, units::ByteSize};

settings! {
    /// Rules for spans; `trace_id` holds for all signals.
    pub struct Traces {
        /// Whether every span must belong to the job's own trace, and so must each log record, exemplar and profile link
        /// that names a trace: enforce, shadow or off.
        trace_id: Mode = Mode::Enforce;
        /// Longest encoded span; a longer one is dropped.
        max_span_size: ByteSize = ByteSize(4 << 10);
        /// Most spans that one job may send in all; more are dropped.
        max_spans_per_job: u64 = 1000;
    }

    /// Rates, each level with a mode of its own: enforce (refuse), shadow (only count) or off. A request is charged on
    /// all levels or on none.
    pub struct Limits {
        /// All requests of all senders.
        global: LevelRates = LevelRates::default(), holds LevelRates;
        /// All requests on one listener, each listener by itself.
        per_listener: LevelRates = LevelRates::default(), holds LevelRates;
        /// All requests of one project's jobs, where the authority tells the project.
        per_project: LevelRates = LevelRates::default(), holds LevelRates;
        /// All requests with one runner token (which many runner managers may share).
        per_runner: PerRunner = PerRunner::default(), holds PerRunner;
        /// All requests of one job.
        per_job: PerJob = PerJob::default(), holds PerJob;
        /// Failed attempts from one client address (/32, /64).
        per_client_failures: PerClientFailures = PerClientFailures::default(), holds PerClientFailures;
        /// Where the state of limits is kept: by each replica for itself, or shared by all.
        store: Store = Store::default(), holds Store;
        /// The HTTP status of whatever is refused for now, 429 or 503: some exporters never try again after a 429. gRPC
        /// has `RESOURCE_EXHAUSTED` with a delay either way.
        throttle_status: u32 = 429;
    }

    /// All requests of a level.
    pub struct LevelRates {
        /// Requests a second; 0: no limit.
        requests_per_second: u32 = 0;
        /// Spans a second; 0: no limit.
        spans_per_second: u32 = 0;
        /// Inflated bytes a second; 0: no limit.
        bytes_per_second: ByteSize = ByteSize(0);
        /// How many seconds' worth may come at once.
        burst: Duration = Duration::from_secs(2), as "super::units::duration";
        /// How strictly it holds: enforce, shadow or off.
        mode: Mode = Mode::Enforce;
    }

    /// All requests with one runner token.
    pub struct PerRunner {
        /// Requests a second.
        requests_per_second: u32 = 2000;
        /// Spans a second; 0: no limit.
        spans_per_second: u32 = 0;
        /// Inflated bytes a second; 0: no limit.
        bytes_per_second: ByteSize = ByteSize(0);
        /// How many seconds' worth may come at once.
        burst: Duration = Duration::from_secs(1), as "super::units::duration";
        /// How strictly it holds: enforce, shadow or off.
        mode: Mode = Mode::Enforce;
    }

    /// All requests of one job.
    pub struct PerJob {
        /// Requests a second.
        requests_per_second: u32 = 20;
        /// Spans a second.
        spans_per_second: u32 = 500;
        /// Inflated bytes a second.
        bytes_per_second: ByteSize = ByteSize(2 << 20);
        /// How many seconds' worth may come at once.
        burst: Duration = Duration::from_secs(2), as "super::units::duration";
        /// How strictly it holds: enforce, shadow or off.
        mode: Mode = Mode::Enforce;
    }

    /// Failed attempts from one client address.
    pub struct PerClientFailures {
        /// Failures a minute; as many may come at once.
        per_minute: u32 = 60;
        /// Most attempts with tokens that are not known yet that may wait for the authority at once. It is the bound for an
        /// address without failures; with half of `per_minute` used up it is half of this.
        max_in_flight: u32 = 512;
        /// How strictly it holds: enforce, shadow or off.
        mode: Mode = Mode::Enforce;
    }

    /// The identity that is written into resources.
    pub struct Attributes {
        /// inject: into the resource attributes; transparent: as headers beside a body passed on byte for byte (JSON as protobuf).
        mode: AttributesMode = AttributesMode::Inject;
        /// The `service.name` that runners' spans get.
        service_name: String = "gitlab-ci-runner".into();
        /// Sets of verified attributes beside `ci.*` and `service.name`, which are always on: cicd, vcs, gitlab.
        /// docs/attributes.md lists them. Only with `mode: inject`.
        sets: Vec<AttributeSet> = Vec::new();
        /// Base URL under which people open GitLab, for links in attributes; empty: `gitlab.url`.
        gitlab_url: String = String::new();
        /// Keys that no sender may set, beside the ones that the gateway asserts.
        protected: Protected = Protected::default(), holds Protected;
        /// Where else protected keys are removed: scope, span (or metric, data point, exemplar, log record, profile). Only with `mode: inject`.
        also_strip: Vec<AlsoStrip> = Vec::new();
    }

    /// Keys that no sender may set.
    pub struct Protected {
        /// Whole keys.
        keys: Vec<String> = Vec::new();
        /// Beginnings of keys.
        prefixes: Vec<String> = Vec::new();
    }
}

/// How strictly a rule holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It refuses.
    #[default]
    Enforce,
    /// It only counts what it would refuse.
    Shadow,
    /// It is not looked at.
    Off,
}

/// How the identity travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttributesMode {
    /// Written into every resource.
    #[default]
    Inject,
    /// As request headers beside a body that is passed on byte for byte.
    Transparent,
}

/// A set of verified attributes that is written on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttributeSet {
    /// `OpenTelemetry`'s `cicd.*`.
    Cicd,
    /// `OpenTelemetry`'s `vcs.*`.
    Vcs,
    /// GitLab's own ids, `gitlab.*`.
    Gitlab,
}

/// Where protected keys are removed besides the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlsoStrip {
    /// In scope attributes.
    Scope,
    /// In the attributes of spans, and of what other signals have in their place.
    Span,
}
