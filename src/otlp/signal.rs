//! The table of signals: one row says all that routing, scanning and metrics need to know of a
//! signal. It never holds code per signal; a new signal is a new row (and its message tables).

/// An OTLP signal that the gateway can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// Spans.
    Traces,
}

impl Signal {
    /// Every signal, in the order of the table.
    pub const ALL: &'static [Self] = &[Self::Traces];

    /// The path of the OTLP/HTTP route, matched exactly.
    ///
    /// Source: OTLP specification, "OTLP/HTTP Request".
    #[must_use]
    pub fn http_path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
        }
    }

    /// The path of the gRPC method, matched exactly.
    #[must_use]
    pub fn grpc_path(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        }
    }

    /// The value of the metric label `signal`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Traces => "traces",
        }
    }

    /// What one item is called in sentences to the sender.
    #[must_use]
    pub fn items(self) -> &'static str {
        match self {
            Self::Traces => "spans",
        }
    }

    /// The name that the JSON form gives to the rejected count in `partial_success`.
    #[must_use]
    pub fn rejected_field(self) -> &'static str {
        match self {
            Self::Traces => "rejectedSpans",
        }
    }
}
