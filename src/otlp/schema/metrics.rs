//! Metrics. Source: `metrics.proto`, `metrics_service.proto`.

use super::{Id, Kind, Schema, Table, common, many, member, one, optional, packed};

pub(super) static SCHEMA: Schema =
    Schema { request: &REQUEST, entry: &RESOURCE_METRICS, scopes: &SCOPE_METRICS, item: &METRIC };

static REQUEST: Table = Table::frame(&[many(1, "resourceMetrics", Kind::Entry(&RESOURCE_METRICS))]);

static RESOURCE_METRICS: Table = Table::frame(&[
    one(1, "resource", Kind::Message(&common::RESOURCE)),
    many(2, "scopeMetrics", Kind::Message(&SCOPE_METRICS)),
    one(3, "schemaUrl", Kind::String),
    common::legacy("instrumentationLibraryMetrics", "no longer part of OTLP; use scopeMetrics"),
]);

static SCOPE_METRICS: Table = Table::frame(&[
    one(1, "scope", Kind::Message(&common::SCOPE)),
    many(2, "metrics", Kind::Item(&METRIC)),
    one(3, "schemaUrl", Kind::String),
]);

static METRIC: Table = Table::claims(&[
    one(1, "name", Kind::String),
    one(2, "description", Kind::String),
    one(3, "unit", Kind::String),
    member(5, "gauge", Kind::Message(&GAUGE)),
    member(7, "sum", Kind::Message(&SUM)),
    member(9, "histogram", Kind::Message(&HISTOGRAM)),
    member(10, "exponentialHistogram", Kind::Message(&EXPONENTIAL_HISTOGRAM)),
    member(11, "summary", Kind::Message(&SUMMARY)),
    many(12, "metadata", Kind::KeyValue),
]);

static GAUGE: Table = Table::claims(&[many(1, "dataPoints", Kind::Message(&NUMBER_DATA_POINT))]);

static SUM: Table = Table::claims(&[
    many(1, "dataPoints", Kind::Message(&NUMBER_DATA_POINT)),
    one(2, "aggregationTemporality", Kind::Enum(AGGREGATION_TEMPORALITY)),
    one(3, "isMonotonic", Kind::Bool),
]);

static HISTOGRAM: Table = Table::claims(&[
    many(1, "dataPoints", Kind::Message(&HISTOGRAM_DATA_POINT)),
    one(2, "aggregationTemporality", Kind::Enum(AGGREGATION_TEMPORALITY)),
]);

static EXPONENTIAL_HISTOGRAM: Table = Table::claims(&[
    many(1, "dataPoints", Kind::Message(&EXPONENTIAL_HISTOGRAM_DATA_POINT)),
    one(2, "aggregationTemporality", Kind::Enum(AGGREGATION_TEMPORALITY)),
]);

static SUMMARY: Table = Table::claims(&[many(1, "dataPoints", Kind::Message(&SUMMARY_DATA_POINT))]);

static NUMBER_DATA_POINT: Table = Table::claims(&[
    one(2, "startTimeUnixNano", Kind::Fixed64),
    one(3, "timeUnixNano", Kind::Fixed64),
    member(4, "asDouble", Kind::Double),
    many(5, "exemplars", Kind::Message(&EXEMPLAR)),
    member(6, "asInt", Kind::Sfixed64),
    many(7, "attributes", Kind::KeyValue),
    one(8, "flags", Kind::Uint32),
]);

static HISTOGRAM_DATA_POINT: Table = Table::claims(&[
    one(2, "startTimeUnixNano", Kind::Fixed64),
    one(3, "timeUnixNano", Kind::Fixed64),
    one(4, "count", Kind::Fixed64),
    optional(5, "sum", Kind::Double),
    packed(6, "bucketCounts", Kind::Fixed64),
    packed(7, "explicitBounds", Kind::Double),
    many(8, "exemplars", Kind::Message(&EXEMPLAR)),
    many(9, "attributes", Kind::KeyValue),
    one(10, "flags", Kind::Uint32),
    optional(11, "min", Kind::Double),
    optional(12, "max", Kind::Double),
]);

static EXPONENTIAL_HISTOGRAM_DATA_POINT: Table = Table::claims(&[
    many(1, "attributes", Kind::KeyValue),
    one(2, "startTimeUnixNano", Kind::Fixed64),
    one(3, "timeUnixNano", Kind::Fixed64),
    one(4, "count", Kind::Fixed64),
    optional(5, "sum", Kind::Double),
    one(6, "scale", Kind::Sint32),
    one(7, "zeroCount", Kind::Fixed64),
    one(8, "positive", Kind::Message(&BUCKETS)),
    one(9, "negative", Kind::Message(&BUCKETS)),
    one(10, "flags", Kind::Uint32),
    many(11, "exemplars", Kind::Message(&EXEMPLAR)),
    optional(12, "min", Kind::Double),
    optional(13, "max", Kind::Double),
    one(14, "zeroThreshold", Kind::Double),
]);

static BUCKETS: Table =
    Table::new(&[one(1, "offset", Kind::Sint32), packed(2, "bucketCounts", Kind::Uint64)]);

static SUMMARY_DATA_POINT: Table = Table::claims(&[
    one(2, "startTimeUnixNano", Kind::Fixed64),
    one(3, "timeUnixNano", Kind::Fixed64),
    one(4, "count", Kind::Fixed64),
    one(5, "sum", Kind::Double),
    many(6, "quantileValues", Kind::Message(&VALUE_AT_QUANTILE)),
    many(7, "attributes", Kind::KeyValue),
    one(8, "flags", Kind::Uint32),
]);

static VALUE_AT_QUANTILE: Table =
    Table::new(&[one(1, "quantile", Kind::Double), one(2, "value", Kind::Double)]);

static EXEMPLAR: Table = Table {
    levels: 1,
    ..Table::claims(&[
        one(2, "timeUnixNano", Kind::Fixed64),
        member(3, "asDouble", Kind::Double),
        one(4, "spanId", Kind::Id(Id::Span)),
        one(5, "traceId", Kind::Id(Id::SetTrace)),
        member(6, "asInt", Kind::Sfixed64),
        many(7, "filteredAttributes", Kind::KeyValue),
    ])
};

const AGGREGATION_TEMPORALITY: &[(&str, i32)] = &[
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
];
