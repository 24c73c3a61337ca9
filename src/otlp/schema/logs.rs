//! Log records. Source: `logs.proto`, `logs_service.proto`.

use super::{Id, Kind, Schema, Table, common, many, one};

pub(super) static SCHEMA: Schema =
    Schema { request: &REQUEST, entry: &RESOURCE_LOGS, scopes: &SCOPE_LOGS, item: &LOG_RECORD };

static REQUEST: Table = Table::frame(&[many(1, "resourceLogs", Kind::Entry(&RESOURCE_LOGS))]);

static RESOURCE_LOGS: Table = Table::frame(&[
    one(1, "resource", Kind::Message(&common::RESOURCE)),
    many(2, "scopeLogs", Kind::Message(&SCOPE_LOGS)),
    one(3, "schemaUrl", Kind::String),
    common::legacy("instrumentationLibraryLogs", "no longer part of OTLP; use scopeLogs"),
]);

static SCOPE_LOGS: Table = Table::frame(&[
    one(1, "scope", Kind::Message(&common::SCOPE)),
    many(2, "logRecords", Kind::Item(&LOG_RECORD)),
    one(3, "schemaUrl", Kind::String),
]);

static LOG_RECORD: Table = Table::claims(&[
    one(1, "timeUnixNano", Kind::Fixed64),
    one(2, "severityNumber", Kind::Enum(SEVERITY_NUMBER)),
    one(3, "severityText", Kind::String),
    one(5, "body", Kind::AnyValue),
    many(6, "attributes", Kind::KeyValue),
    one(7, "droppedAttributesCount", Kind::Uint32),
    one(8, "flags", Kind::Fixed32),
    one(9, "traceId", Kind::Id(Id::SetTrace)),
    one(10, "spanId", Kind::Id(Id::Span)),
    one(11, "observedTimeUnixNano", Kind::Fixed64),
    one(12, "eventName", Kind::String),
]);

const SEVERITY_NUMBER: &[(&str, i32)] = &[
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
];
