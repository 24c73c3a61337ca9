//! Requests of the logs signal: log records with bodies of any shape.

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use proptest::{option, prelude::*};
use prost::Message;

use super::{attributes, entries, span_id, text, trace_id, value};

fn log_record() -> impl Strategy<Value = LogRecord> {
    let ids = (trace_id(), span_id());
    (ids, (text(), text()), option::of(value()), attributes(), any::<u32>(), any::<(u64, u64)>()).prop_map(
        |((trace_id, span_id), (severity_text, event_name), body, attributes, number, times)| LogRecord {
            time_unix_nano: times.0,
            observed_time_unix_nano: times.1,
            severity_number: number.cast_signed(),
            severity_text,
            body,
            attributes,
            dropped_attributes_count: number,
            flags: number,
            trace_id,
            span_id,
            event_name,
        },
    )
}

pub(super) fn body() -> impl Strategy<Value = Vec<u8>> {
    entries(
        log_record(),
        |scope, log_records, schema_url| ScopeLogs { scope, log_records, schema_url },
        |resource, scope_logs, schema_url| ResourceLogs { resource, scope_logs, schema_url },
    )
    .prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs }.encode_to_vec())
}
