//! The hierarchy by name: levels, what is counted on each, and the limit that each pair of them makes. It holds
//! no rate and no state.

/// Where a limit stands in the hierarchy, from the narrowest to the widest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// `limits.per_job`
    Job,
    /// `limits.per_runner`
    Runner,
    /// `limits.per_project`
    Project,
    /// `limits.per_listener`
    Listener,
    /// `limits.global`
    Global,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Requests a second.
    Requests,
    /// Spans a second.
    Spans,
    /// Inflated bytes a second.
    Bytes,
    /// Spans in all: `traces.max_spans_per_job`, on the level of jobs only.
    Budget,
}

/// The limits by name: the closed set of the metric label `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `limits.per_job.requests_per_second`
    JobRequests,
    /// `limits.per_job.spans_per_second`
    JobSpans,
    /// `limits.per_job.bytes_per_second`
    JobBytes,
    /// `limits.per_runner.requests_per_second`
    RunnerRequests,
    /// `limits.per_runner.spans_per_second`
    RunnerSpans,
    /// `limits.per_runner.bytes_per_second`
    RunnerBytes,
    /// `limits.per_project.requests_per_second`
    ProjectRequests,
    /// `limits.per_project.spans_per_second`
    ProjectSpans,
    /// `limits.per_project.bytes_per_second`
    ProjectBytes,
    /// `limits.per_listener.requests_per_second`
    ListenerRequests,
    /// `limits.per_listener.spans_per_second`
    ListenerSpans,
    /// `limits.per_listener.bytes_per_second`
    ListenerBytes,
    /// `limits.global.requests_per_second`
    GlobalRequests,
    /// `limits.global.spans_per_second`
    GlobalSpans,
    /// `limits.global.bytes_per_second`
    GlobalBytes,
    /// `traces.max_spans_per_job`
    JobSpanBudget,
    /// `limits.per_client_failures.per_minute`
    ClientFailures,
    /// `limits.per_client_failures.max_in_flight`
    ClientInFlight,
}

impl Limit {
    /// Every limit, in the order of their numbers (`limit as usize`).
    pub const ALL: &'static [Self] = &[
        Self::JobRequests,
        Self::JobSpans,
        Self::JobBytes,
        Self::RunnerRequests,
        Self::RunnerSpans,
        Self::RunnerBytes,
        Self::ProjectRequests,
        Self::ProjectSpans,
        Self::ProjectBytes,
        Self::ListenerRequests,
        Self::ListenerSpans,
        Self::ListenerBytes,
        Self::GlobalRequests,
        Self::GlobalSpans,
        Self::GlobalBytes,
        Self::JobSpanBudget,
        Self::ClientFailures,
        Self::ClientInFlight,
    ];

    /// The rates of a level: of requests, spans and bytes.
    #[must_use]
    pub const fn rates_of(level: Level) -> [Self; 3] {
        match level {
            Level::Job => [Self::JobRequests, Self::JobSpans, Self::JobBytes],
            Level::Runner => [Self::RunnerRequests, Self::RunnerSpans, Self::RunnerBytes],
            Level::Project => [Self::ProjectRequests, Self::ProjectSpans, Self::ProjectBytes],
            Level::Listener => [Self::ListenerRequests, Self::ListenerSpans, Self::ListenerBytes],
            Level::Global => [Self::GlobalRequests, Self::GlobalSpans, Self::GlobalBytes],
        }
    }

    /// What it counts: the quota units of the `RateLimit` header fields.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::JobRequests
            | Self::RunnerRequests
            | Self::ProjectRequests
            | Self::ListenerRequests
            | Self::GlobalRequests
            | Self::ClientFailures
            | Self::ClientInFlight => Unit::Requests,
            Self::JobSpans
            | Self::RunnerSpans
            | Self::ProjectSpans
            | Self::ListenerSpans
            | Self::GlobalSpans => Unit::Spans,
            Self::JobBytes
            | Self::RunnerBytes
            | Self::ProjectBytes
            | Self::ListenerBytes
            | Self::GlobalBytes => Unit::Bytes,
            Self::JobSpanBudget => Unit::Budget,
        }
    }

    /// The value of the metric label `limit`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::JobRequests => "job_requests",
            Self::JobSpans => "job_spans",
            Self::JobBytes => "job_bytes",
            Self::RunnerRequests => "runner_requests",
            Self::RunnerSpans => "runner_spans",
            Self::RunnerBytes => "runner_bytes",
            Self::ProjectRequests => "project_requests",
            Self::ProjectSpans => "project_spans",
            Self::ProjectBytes => "project_bytes",
            Self::ListenerRequests => "listener_requests",
            Self::ListenerSpans => "listener_spans",
            Self::ListenerBytes => "listener_bytes",
            Self::GlobalRequests => "global_requests",
            Self::GlobalSpans => "global_spans",
            Self::GlobalBytes => "global_bytes",
            Self::JobSpanBudget => "job_span_budget",
            Self::ClientFailures => "client_failures",
            Self::ClientInFlight => "client_in_flight",
        }
    }
}
