//! Spans. Source: `trace.proto`, `trace_service.proto`.

use super::{Id, Kind, Schema, Table, common, many, one};

pub(super) static SCHEMA: Schema =
    Schema { request: &REQUEST, entry: &RESOURCE_SPANS, scopes: &SCOPE_SPANS, item: &SPAN };

static REQUEST: Table = Table::frame(&[many(1, "resourceSpans", Kind::Entry(&RESOURCE_SPANS))]);

static RESOURCE_SPANS: Table = Table::frame(&[
    one(1, "resource", Kind::Message(&common::RESOURCE)),
    many(2, "scopeSpans", Kind::Message(&SCOPE_SPANS)),
    one(3, "schemaUrl", Kind::String),
    common::legacy("instrumentationLibrarySpans", "no longer part of OTLP; use scopeSpans"),
]);

static SCOPE_SPANS: Table = Table::frame(&[
    one(1, "scope", Kind::Message(&common::SCOPE)),
    many(2, "spans", Kind::Item(&SPAN)),
    one(3, "schemaUrl", Kind::String),
]);

static SPAN: Table = Table::claims(&[
    one(1, "traceId", Kind::Id(Id::OwnTrace)),
    one(2, "spanId", Kind::Id(Id::Span)),
    one(3, "traceState", Kind::String),
    one(4, "parentSpanId", Kind::Id(Id::Span)),
    one(5, "name", Kind::String),
    one(6, "kind", Kind::Enum(SPAN_KIND)),
    one(7, "startTimeUnixNano", Kind::Fixed64),
    one(8, "endTimeUnixNano", Kind::Fixed64),
    many(9, "attributes", Kind::KeyValue),
    one(10, "droppedAttributesCount", Kind::Uint32),
    many(11, "events", Kind::Message(&EVENT)),
    one(12, "droppedEventsCount", Kind::Uint32),
    many(13, "links", Kind::Message(&LINK)),
    one(14, "droppedLinksCount", Kind::Uint32),
    one(15, "status", Kind::Message(&STATUS)),
    one(16, "flags", Kind::Fixed32),
]);

static EVENT: Table = Table::new(&[
    one(1, "timeUnixNano", Kind::Fixed64),
    one(2, "name", Kind::String),
    many(3, "attributes", Kind::KeyValue),
    one(4, "droppedAttributesCount", Kind::Uint32),
]);

static LINK: Table = Table::new(&[
    one(1, "traceId", Kind::Id(Id::OtherTrace)),
    one(2, "spanId", Kind::Id(Id::Span)),
    one(3, "traceState", Kind::String),
    many(4, "attributes", Kind::KeyValue),
    one(5, "droppedAttributesCount", Kind::Uint32),
    one(6, "flags", Kind::Fixed32),
]);

static STATUS: Table =
    Table::new(&[one(2, "message", Kind::String), one(3, "code", Kind::Enum(STATUS_CODE))]);

const SPAN_KIND: &[(&str, i32)] = &[
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
];

const STATUS_CODE: &[(&str, i32)] =
    &[("STATUS_CODE_UNSET", 0), ("STATUS_CODE_OK", 1), ("STATUS_CODE_ERROR", 2)];
