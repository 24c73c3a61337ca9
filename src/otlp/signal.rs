//! The table of signals: one row says all that routing, scanning and metrics need to know of a
//! signal. It never holds code per signal; a new signal is a new row (and its message tables).

/// An OTLP signal that the gateway can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
    /// Log records.
    Logs,
    /// Profiles, whose protocol is still in development (`v1development`).
    Profiles,
}

/// What is particular to one signal, outside its messages.
struct Row {
    http_path: &'static str,
    grpc_path: &'static str,
    label: &'static str,
    items: &'static str,
    rejected_field: &'static str,
}

impl Signal {
    /// Every signal, in the order of the table.
    pub const ALL: &'static [Self] = &[Self::Traces, Self::Metrics, Self::Logs, Self::Profiles];

    /// Source: OTLP specification, "OTLP/HTTP Request"; the service definitions of opentelemetry-proto.
    const fn row(self) -> Row {
        match self {
            Self::Traces => Row {
                http_path: "/v1/traces",
                grpc_path: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                label: "traces",
                items: "spans",
                rejected_field: "rejectedSpans",
            },
            Self::Metrics => Row {
                http_path: "/v1/metrics",
                grpc_path: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
                label: "metrics",
                items: "metrics",
                rejected_field: "rejectedDataPoints",
            },
            Self::Logs => Row {
                http_path: "/v1/logs",
                grpc_path: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
                label: "logs",
                items: "log records",
                rejected_field: "rejectedLogRecords",
            },
            Self::Profiles => Row {
                http_path: "/v1development/profiles",
                grpc_path: "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
                label: "profiles",
                items: "profiles",
                rejected_field: "rejectedProfiles",
            },
        }
    }

    /// Whether it is taken as JSON. Profiles are not: their form in JSON is not settled.
    #[must_use]
    pub const fn takes_json(self) -> bool {
        !matches!(self, Self::Profiles)
    }

    /// Whether its items are held to the limits on spans: their size, the job's budget, the rate.
    #[must_use]
    pub const fn limits_items(self) -> bool {
        matches!(self, Self::Traces)
    }

    /// The path of the OTLP/HTTP route, matched exactly.
    #[must_use]
    pub const fn http_path(self) -> &'static str {
        self.row().http_path
    }

    /// The path of the gRPC method, matched exactly.
    #[must_use]
    pub const fn grpc_path(self) -> &'static str {
        self.row().grpc_path
    }

    /// The value of the metric label `signal`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.row().label
    }

    /// What one item is called in sentences to the sender.
    #[must_use]
    pub const fn items(self) -> &'static str {
        self.row().items
    }

    /// The name that the JSON form gives to the rejected count in `partial_success`.
    #[must_use]
    pub const fn rejected_field(self) -> &'static str {
        self.row().rejected_field
    }
}
