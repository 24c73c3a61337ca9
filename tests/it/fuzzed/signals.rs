//! Signals as the fuzz targets name them, and each one's request as prost reads it.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
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
            let request = ExportTraceServiceRequest::decode(body)?;
            let scopes = request.resource_spans.iter().flat_map(|entry| &entry.scope_spans);
            (request.resource_spans.len(), scopes.map(|scope| scope.spans.len()).sum())
        }
    };
    Ok(Inspection { resources: resources as u64, items: items as u64, ..Inspection::default() })
}
