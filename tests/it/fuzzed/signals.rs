//! Signals as the fuzz targets name them, and each one's request as prost reads it.

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::{DecodeError, Message};
use spangate::otlp::{inspect::Inspection, signal::Signal};

/// The signal that the two low bits of an input's first byte stand for.
pub(super) fn of(choice: u8) -> Signal {
    Signal::ALL.get(usize::from(choice & 3)).copied().unwrap_or(Signal::Traces)
}

/// Counts what prost reads: resources and items, and nothing else.
pub(super) fn count(signal: Signal, body: &[u8]) -> Result<Inspection, DecodeError> {
    let (resources, items): (usize, usize) = match signal {
        Signal::Traces => {
            let entries = ExportTraceServiceRequest::decode(body)?.resource_spans;
            let scopes = entries.iter().flat_map(|entry| &entry.scope_spans);
            (entries.len(), scopes.map(|scope| scope.spans.len()).sum())
        }
        Signal::Metrics => {
            let entries = ExportMetricsServiceRequest::decode(body)?.resource_metrics;
            let scopes = entries.iter().flat_map(|entry| &entry.scope_metrics);
            (entries.len(), scopes.map(|scope| scope.metrics.len()).sum())
        }
        Signal::Logs => {
            let entries = ExportLogsServiceRequest::decode(body)?.resource_logs;
            let scopes = entries.iter().flat_map(|entry| &entry.scope_logs);
            (entries.len(), scopes.map(|scope| scope.log_records.len()).sum())
        }
        Signal::Profiles => {
            let entries = ExportProfilesServiceRequest::decode(body)?.resource_profiles;
            let scopes = entries.iter().flat_map(|entry| &entry.scope_profiles);
            (entries.len(), scopes.map(|scope| scope.profiles.len()).sum())
        }
    };
    Ok(Inspection { resources: resources as u64, items: items as u64, ..Inspection::default() })
}
