//! Profiles and their dictionary. Source: `profiles.proto` and `profiles_service.proto`,
//! v1development, whose fields may still change: what is not known inside the dictionary stays.

use super::{Id, Kind, Schema, Table, common, many, one, packed};

pub(super) static SCHEMA: Schema =
    Schema { request: &REQUEST, entry: &RESOURCE_PROFILES, scopes: &SCOPE_PROFILES, item: &PROFILE };

static REQUEST: Table = Table::frame(&[
    many(1, "resourceProfiles", Kind::Entry(&RESOURCE_PROFILES)),
    one(2, "dictionary", Kind::Message(&DICTIONARY)),
]);

static RESOURCE_PROFILES: Table = Table::frame(&[
    one(1, "resource", Kind::Message(&common::RESOURCE)),
    many(2, "scopeProfiles", Kind::Message(&SCOPE_PROFILES)),
    one(3, "schemaUrl", Kind::String),
    common::legacy("instrumentationLibraryProfiles", "no longer part of OTLP; use scopeProfiles"),
]);

static SCOPE_PROFILES: Table = Table::frame(&[
    one(1, "scope", Kind::Message(&common::SCOPE)),
    many(2, "profiles", Kind::Item(&PROFILE)),
    one(3, "schemaUrl", Kind::String),
]);

/// A profile's attributes are places in the dictionary's `attribute_table`.
static PROFILE: Table = Table::claims(&[
    one(1, "sampleType", Kind::Message(&VALUE_TYPE)),
    many(2, "samples", Kind::Message(&SAMPLE)),
    one(3, "timeUnixNano", Kind::Fixed64),
    one(4, "durationNano", Kind::Uint64),
    one(5, "periodType", Kind::Message(&VALUE_TYPE)),
    one(6, "period", Kind::Int64),
    one(7, "profileId", Kind::Id(Id::Profile)),
    one(8, "droppedAttributesCount", Kind::Uint32),
    one(9, "originalPayloadFormat", Kind::String),
    one(10, "originalPayload", Kind::Bytes),
    packed(11, "attributeIndices", Kind::Int32),
]);

static VALUE_TYPE: Table =
    Table::new(&[one(1, "typeStrindex", Kind::Index), one(2, "unitStrindex", Kind::Index)]);

static SAMPLE: Table = Table::new(&[
    one(1, "stackIndex", Kind::Int32),
    packed(2, "attributeIndices", Kind::Int32),
    one(3, "linkIndex", Kind::Int32),
    packed(4, "values", Kind::Int64),
    packed(5, "timestampsUnixNano", Kind::Fixed64),
]);

/// `ProfilesDictionary`
static DICTIONARY: Table = Table::new(&[
    many(1, "mappingTable", Kind::Message(&MAPPING)),
    many(2, "locationTable", Kind::Message(&LOCATION)),
    many(3, "functionTable", Kind::Message(&FUNCTION)),
    many(4, "linkTable", Kind::Message(&LINK)),
    many(5, "stringTable", Kind::String),
    many(6, "attributeTable", Kind::Message(&KEY_VALUE_AND_UNIT)),
    many(7, "stackTable", Kind::Message(&STACK)),
]);

static MAPPING: Table = Table::new(&[
    one(1, "memoryStart", Kind::Uint64),
    one(2, "memoryLimit", Kind::Uint64),
    one(3, "fileOffset", Kind::Uint64),
    one(4, "filenameStrindex", Kind::Index),
    packed(5, "attributeIndices", Kind::Int32),
]);

static LOCATION: Table = Table::new(&[
    one(1, "mappingIndex", Kind::Int32),
    one(2, "address", Kind::Uint64),
    many(3, "lines", Kind::Message(&LINE)),
    packed(4, "attributeIndices", Kind::Int32),
]);

static LINE: Table = Table::new(&[
    one(1, "functionIndex", Kind::Int32),
    one(2, "line", Kind::Int64),
    one(3, "column", Kind::Int64),
]);

static FUNCTION: Table = Table::new(&[
    one(1, "nameStrindex", Kind::Index),
    one(2, "systemNameStrindex", Kind::Index),
    one(3, "filenameStrindex", Kind::Index),
    one(4, "startLine", Kind::Int64),
]);

/// A sample's own span: it belongs to the trace as an exemplar does.
static LINK: Table =
    Table::new(&[one(1, "traceId", Kind::Id(Id::SetTrace)), one(2, "spanId", Kind::Id(Id::Span))]);

static STACK: Table = Table::new(&[packed(1, "locationIndices", Kind::Int32)]);

/// `KeyValueAndUnit`
static KEY_VALUE_AND_UNIT: Table = Table::new(&[
    one(1, "keyStrindex", Kind::Index),
    one(2, "value", Kind::AnyValue),
    one(3, "unitStrindex", Kind::Index),
]);
