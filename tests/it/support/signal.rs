//! What the tests know of a signal: one row each, from the OTLP specification and not from the code
//! under test; and what the four export requests have in common.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse},
        metrics::v1::{
            ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        },
        profiles::v1development::{
            ExportProfilesPartialSuccess, ExportProfilesServiceRequest, ExportProfilesServiceResponse,
        },
        trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
    },
    resource::v1::Resource,
};
use prost::Message;
use spangate::otlp::signal::Signal;

/// Makes an export response with a partial success: how many are rejected, and why.
type Respond = fn(i64, &str) -> Vec<u8>;

/// Reads the partial success of an export response.
type Read = fn(&[u8]) -> Option<(i64, String)>;

/// One signal.
pub(crate) struct Row {
    pub(crate) signal: Signal,
    /// The value of the metric label `signal`.
    pub(crate) label: &'static str,
    pub(crate) http_path: &'static str,
    /// The service, whose one method is `Export`.
    pub(crate) service: &'static str,
    /// The message of an export request.
    pub(crate) request: &'static str,
    /// The rejected count's name in JSON.
    pub(crate) rejected: &'static str,
    pub(crate) response: Respond,
    pub(crate) partial: Read,
}

macro_rules! responses {
    ($response:ident, $partial:ident, $count:ident) => {
        (
            |count, message| {
                let partial = $partial { $count: count, error_message: message.into() };
                $response { partial_success: Some(partial) }.encode_to_vec()
            },
            |bytes| {
                let partial = $response::decode(bytes).unwrap().partial_success;
                partial.map(|partial| (partial.$count, partial.error_message))
            },
        )
    };
}

/// The row of a signal.
pub(crate) fn row(signal: Signal) -> Row {
    let (response, partial): (Respond, Read) = match signal {
        Signal::Traces => responses!(ExportTraceServiceResponse, ExportTracePartialSuccess, rejected_spans),
        Signal::Metrics => {
            responses!(ExportMetricsServiceResponse, ExportMetricsPartialSuccess, rejected_data_points)
        }
        Signal::Logs => responses!(ExportLogsServiceResponse, ExportLogsPartialSuccess, rejected_log_records),
        Signal::Profiles => {
            responses!(ExportProfilesServiceResponse, ExportProfilesPartialSuccess, rejected_profiles)
        }
    };
    let [label, http_path, service, request, rejected] = match signal {
        Signal::Traces => [
            "traces",
            "/v1/traces",
            "opentelemetry.proto.collector.trace.v1.TraceService",
            "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest",
            "rejectedSpans",
        ],
        Signal::Metrics => [
            "metrics",
            "/v1/metrics",
            "opentelemetry.proto.collector.metrics.v1.MetricsService",
            "opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest",
            "rejectedDataPoints",
        ],
        Signal::Logs => [
            "logs",
            "/v1/logs",
            "opentelemetry.proto.collector.logs.v1.LogsService",
            "opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest",
            "rejectedLogRecords",
        ],
        Signal::Profiles => [
            "profiles",
            "/v1development/profiles",
            "opentelemetry.proto.collector.profiles.v1development.ProfilesService",
            "opentelemetry.proto.collector.profiles.v1development.ExportProfilesServiceRequest",
            "rejectedProfiles",
        ],
    };
    Row { signal, label, http_path, service, request, rejected, response, partial }
}

/// Every row.
pub(crate) fn rows() -> [Row; 4] {
    [Signal::Traces, Signal::Metrics, Signal::Logs, Signal::Profiles].map(row)
}

/// An export request of some signal.
pub(crate) trait Otlp: Message + Clone + std::fmt::Debug + Default {
    const SIGNAL: Signal;

    /// The place of every `ResourceX`'s resource.
    fn resources(&mut self) -> Vec<&mut Option<Resource>>;

    /// The strings that attributes name their keys by; the first one is empty, and stands for none.
    fn strings(&self) -> &[String] {
        &[]
    }
}

macro_rules! otlp {
    ($request:ident, $signal:ident, $entries:ident $($more:item)?) => {
        impl Otlp for $request {
            const SIGNAL: Signal = Signal::$signal;

            fn resources(&mut self) -> Vec<&mut Option<Resource>> {
                self.$entries.iter_mut().map(|entry| &mut entry.resource).collect()
            }

            $($more)?
        }
    };
}

otlp!(ExportTraceServiceRequest, Traces, resource_spans);
otlp!(ExportMetricsServiceRequest, Metrics, resource_metrics);
otlp!(ExportLogsServiceRequest, Logs, resource_logs);
otlp!(ExportProfilesServiceRequest, Profiles, resource_profiles fn strings(&self) -> &[String] {
    self.dictionary.as_ref().map_or(&[], |dictionary| &dictionary.string_table)
});
