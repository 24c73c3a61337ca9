//! The messages of OTLP as tables: which JSON name is which protobuf field, of which kind. A new
//! signal is new tables; the decoder holds no code per message.
//!
//! Source: opentelemetry-proto, `trace.proto`, `common.proto`, `resource.proto`.

use crate::otlp::signal::Signal;

/// A message: its fields, and whether it can hold itself.
pub(super) struct Message {
    /// Whether it counts as one level of nested values.
    pub(super) nests: bool,
    /// At most 64.
    pub(super) rows: &'static [Row],
}

/// A field.
pub(super) struct Row {
    /// The lowerCamelCase name; the name in the .proto file, in `snake_case`, is known from it.
    pub(super) name: &'static str,
    /// The field's number.
    pub(super) number: u32,
    /// How often it may be there, and when it is written.
    pub(super) label: Label,
    /// What its value is.
    pub(super) kind: Kind,
}

/// How often a field may be there, and when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// Once; a default value says as much as no value, and is not written.
    Plain,
    /// An array of any length.
    Repeated,
    /// One of the message's oneof: once, alone, and written whatever the value.
    Member,
}

/// What a value is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Message(&'static Message),
    String,
    Bytes,
    /// Bytes of exactly this length, written in hex, or none.
    Id(usize),
    Bool,
    Uint32,
    Int64,
    Fixed32,
    Fixed64,
    Double,
    /// By number, or by one of these names.
    Enum(&'static [(&'static str, i32)]),
    /// A field that would be lost or misread further on: refused, with the reason, unless it is 0.
    Refused(&'static str),
}

impl Message {
    /// The field that a key names, and its place in the table.
    pub(super) fn row(&self, key: &str) -> Option<(usize, &'static Row)> {
        self.rows.iter().enumerate().find(|(_, row)| key == row.name || is_snake_case_of(key, row.name))
    }
}

fn is_snake_case_of(key: &str, name: &str) -> bool {
    let mut key = key.bytes();
    let same = name.bytes().all(|byte| {
        (!byte.is_ascii_uppercase() || key.next() == Some(b'_'))
            && key.next() == Some(byte.to_ascii_lowercase())
    });
    same && key.next().is_none()
}

/// The message that a request of this signal is.
pub(super) fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Traces => &EXPORT_TRACE_SERVICE_REQUEST,
    }
}

const fn plain(name: &'static str, number: u32, kind: Kind) -> Row {
    Row { name, number, label: Label::Plain, kind }
}

const fn repeated(name: &'static str, number: u32, kind: Kind) -> Row {
    Row { name, number, label: Label::Repeated, kind }
}

const fn member(name: &'static str, number: u32, kind: Kind) -> Row {
    Row { name, number, label: Label::Member, kind }
}

const fn message(rows: &'static [Row]) -> Message {
    Message { nests: false, rows }
}

/// References into a dictionary, which only profiles carry.
const NO_DICTIONARY: &str = "a reference into a dictionary, which this signal does not have";

static EXPORT_TRACE_SERVICE_REQUEST: Message =
    message(&[repeated("resourceSpans", 1, Kind::Message(&RESOURCE_SPANS))]);

static RESOURCE_SPANS: Message = message(&[
    plain("resource", 1, Kind::Message(&RESOURCE)),
    repeated("scopeSpans", 2, Kind::Message(&SCOPE_SPANS)),
    plain("schemaUrl", 3, Kind::String),
    // Gone from the schema, but still read by some: ignored here, its spans would vanish.
    plain("instrumentationLibrarySpans", 1000, Kind::Refused("no longer part of OTLP; use scopeSpans")),
]);

static RESOURCE: Message = message(&[
    repeated("attributes", 1, Kind::Message(&KEY_VALUE)),
    plain("droppedAttributesCount", 2, Kind::Uint32),
    repeated("entityRefs", 3, Kind::Message(&ENTITY_REF)),
]);

static ENTITY_REF: Message = message(&[
    plain("schemaUrl", 1, Kind::String),
    plain("type", 2, Kind::String),
    repeated("idKeys", 3, Kind::String),
    repeated("descriptionKeys", 4, Kind::String),
]);

static SCOPE_SPANS: Message = message(&[
    plain("scope", 1, Kind::Message(&INSTRUMENTATION_SCOPE)),
    repeated("spans", 2, Kind::Message(&SPAN)),
    plain("schemaUrl", 3, Kind::String),
]);

static INSTRUMENTATION_SCOPE: Message = message(&[
    plain("name", 1, Kind::String),
    plain("version", 2, Kind::String),
    repeated("attributes", 3, Kind::Message(&KEY_VALUE)),
    plain("droppedAttributesCount", 4, Kind::Uint32),
]);

static SPAN: Message = message(&[
    plain("traceId", 1, Kind::Id(16)),
    plain("spanId", 2, Kind::Id(8)),
    plain("traceState", 3, Kind::String),
    plain("parentSpanId", 4, Kind::Id(8)),
    plain("name", 5, Kind::String),
    plain("kind", 6, Kind::Enum(SPAN_KIND)),
    plain("startTimeUnixNano", 7, Kind::Fixed64),
    plain("endTimeUnixNano", 8, Kind::Fixed64),
    repeated("attributes", 9, Kind::Message(&KEY_VALUE)),
    plain("droppedAttributesCount", 10, Kind::Uint32),
    repeated("events", 11, Kind::Message(&EVENT)),
    plain("droppedEventsCount", 12, Kind::Uint32),
    repeated("links", 13, Kind::Message(&LINK)),
    plain("droppedLinksCount", 14, Kind::Uint32),
    plain("status", 15, Kind::Message(&STATUS)),
    plain("flags", 16, Kind::Fixed32),
]);

static EVENT: Message = message(&[
    plain("timeUnixNano", 1, Kind::Fixed64),
    plain("name", 2, Kind::String),
    repeated("attributes", 3, Kind::Message(&KEY_VALUE)),
    plain("droppedAttributesCount", 4, Kind::Uint32),
]);

static LINK: Message = message(&[
    plain("traceId", 1, Kind::Id(16)),
    plain("spanId", 2, Kind::Id(8)),
    plain("traceState", 3, Kind::String),
    repeated("attributes", 4, Kind::Message(&KEY_VALUE)),
    plain("droppedAttributesCount", 5, Kind::Uint32),
    plain("flags", 6, Kind::Fixed32),
]);

static STATUS: Message =
    message(&[plain("message", 2, Kind::String), plain("code", 3, Kind::Enum(STATUS_CODE))]);

static KEY_VALUE: Message = message(&[
    plain("key", 1, Kind::String),
    plain("value", 2, Kind::Message(&ANY_VALUE)),
    plain("keyStrindex", 3, Kind::Refused(NO_DICTIONARY)),
]);

static ANY_VALUE: Message = Message {
    nests: true,
    rows: &[
        member("stringValue", 1, Kind::String),
        member("boolValue", 2, Kind::Bool),
        member("intValue", 3, Kind::Int64),
        member("doubleValue", 4, Kind::Double),
        member("arrayValue", 5, Kind::Message(&ARRAY_VALUE)),
        member("kvlistValue", 6, Kind::Message(&KEY_VALUE_LIST)),
        member("bytesValue", 7, Kind::Bytes),
        member("stringValueStrindex", 8, Kind::Refused(NO_DICTIONARY)),
    ],
};

static ARRAY_VALUE: Message = message(&[repeated("values", 1, Kind::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: Message = message(&[repeated("values", 1, Kind::Message(&KEY_VALUE))]);

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
