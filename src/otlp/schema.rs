//! The messages of OTLP as tables: which field number holds what. It decides what is known, in
//! which wire type, and what stands outside the items; it never reads a byte.
//!
//! Source of every number: opentelemetry-proto 1.10 (`trace.proto`, `resource.proto`,
//! `common.proto`, `trace_service.proto`). No message of the traces signal has a repeated number,
//! so nothing here can be packed.

use super::signal::Signal;

/// Deepest nesting of `AnyValue` in `AnyValue` (arrays and lists), the outermost one counted.
pub(super) const MAX_NESTING: u32 = 32;

/// Most `ResourceX` entries in one request. It bounds what the stamp can add to a request.
pub(super) const MAX_RESOURCES: u64 = 1_000;

/// Fields that have one number in every signal.
pub(super) mod number {
    /// `ExportXServiceRequest.resource_x`
    pub(in super::super) const ENTRY: u32 = 1;
    /// `ResourceX.resource`
    pub(in super::super) const RESOURCE: u32 = 1;
    /// `ResourceX.scope_x`
    pub(in super::super) const SCOPES: u32 = 2;
    /// `Resource.attributes`
    pub(in super::super) const RESOURCE_ATTRIBUTES: u32 = 1;
    /// `Resource.entity_refs`
    pub(in super::super) const ENTITY_REFS: u32 = 3;
    /// `EntityRef.id_keys`
    pub(in super::super) const ID_KEYS: u32 = 3;
    /// `EntityRef.description_keys`
    pub(in super::super) const DESCRIPTION_KEYS: u32 = 4;
    /// `ScopeX.scope`
    pub(in super::super) const SCOPE: u32 = 1;
    /// `ScopeX.spans`, `.log_records`, `.metrics`, `.profiles`
    pub(in super::super) const ITEMS: u32 = 2;
    /// `InstrumentationScope.attributes`
    pub(in super::super) const SCOPE_ATTRIBUTES: u32 = 3;
    /// `KeyValue.key`
    pub(in super::super) const KEY: u32 = 1;
    /// `KeyValue.key_strindex`
    pub(in super::super) const KEY_STRINDEX: u32 = 3;
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Nothing that is known.
    Unknown,
    /// Any of the integers, a bool or an enum.
    Varint,
    /// Four bytes.
    Fixed32,
    /// Eight bytes.
    Fixed64,
    /// A string: UTF-8.
    Text,
    /// Any bytes.
    Bytes,
    /// A trace id: 16 bytes, or none.
    TraceId,
    /// The trace id of the item itself.
    OwnTraceId,
    /// A span id: 8 bytes, or none.
    SpanId,
    /// A `KeyValue`.
    KeyValue,
    /// The one `AnyValue` of a `KeyValue`.
    Value,
    /// One of the many `AnyValue`s of an array.
    Element,
    /// A member of `AnyValue` that holds other `AnyValue`s.
    Container(&'static Table),
    /// The member of `AnyValue` that points into the dictionary of a profile.
    StringIndex,
    /// One of the `ResourceX`.
    Entry(&'static Table),
    /// A span, a log record, a metric, a profile.
    Item(&'static Table),
    /// Any other message.
    Message(&'static Table),
}

impl Kind {
    /// The wire type, as in the low bits of a tag; `None` for what is not known.
    const fn wire(self) -> Option<usize> {
        match self {
            Self::Unknown => None,
            Self::Varint | Self::StringIndex => Some(0),
            Self::Fixed64 => Some(1),
            Self::Fixed32 => Some(5),
            _ => Some(2),
        }
    }
}

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated by the compiler alone"
)]
const fn by_tag(fields: &[Kind]) -> [Kind; 128] {
    let mut table = [Kind::Unknown; 128];
    let mut number = 1;
    while number < fields.len() && number < 16 {
        if let Some(wire) = fields[number].wire() {
            table[number << 3 | wire] = fields[number];
        }
        number += 1;
    }
    table
}

/// One message.
#[derive(Debug)]
pub(super) struct Table {
    /// What each field holds, by its number.
    fields: &'static [Kind],
    /// The same by the tag, for tags of one byte; [`Kind::Unknown`] where the wire type is not the
    /// field's own. One look says both, and that is what the scanner spends its time on.
    by_tag: [Kind; 128],
    /// Whether a field that is not known is an offence: the message stands outside the items, so
    /// that such a field could mean something for all of them to a newer reader.
    pub(super) frame: bool,
    /// A number that is refused outright.
    pub(super) legacy: Option<u32>,
}

impl Table {
    const fn inner(fields: &'static [Kind]) -> Self {
        Self { fields, by_tag: by_tag(fields), frame: false, legacy: None }
    }

    const fn frame(fields: &'static [Kind]) -> Self {
        Self { frame: true, ..Self::inner(fields) }
    }

    /// What a field with this tag holds, if the tag is known and its wire type is right.
    #[inline]
    pub(super) fn short(&self, tag: u8) -> Kind {
        self.by_tag.get(usize::from(tag)).copied().unwrap_or(Kind::Unknown)
    }

    /// What the field holds.
    #[inline]
    pub(super) fn kind(&self, number: u32) -> Kind {
        self.fields.get(number as usize).copied().unwrap_or(Kind::Unknown)
    }

    /// Whether the field is known.
    pub(super) fn knows(&self, number: u32) -> bool {
        !matches!(self.kind(number), Kind::Unknown)
    }
}

/// What is particular to one signal.
#[derive(Debug)]
pub(super) struct Schema {
    /// `ExportXServiceRequest`
    pub(super) request: &'static Table,
    /// `ResourceX`
    pub(super) entry: &'static Table,
    /// `ScopeX`
    pub(super) scopes: &'static Table,
    /// One item.
    pub(super) item: &'static Table,
    /// The number of the item's own attributes.
    pub(super) item_attributes: u32,
}

/// The tables of a signal.
pub(super) fn of(signal: Signal) -> &'static Schema {
    match signal {
        Signal::Traces => &TRACES,
    }
}

static TRACES: Schema = Schema {
    request: &TRACE_REQUEST,
    entry: &RESOURCE_SPANS,
    scopes: &SCOPE_SPANS,
    item: &SPAN,
    item_attributes: 9,
};

static TRACE_REQUEST: Table = Table::frame(&[
    Kind::Unknown,
    Kind::Entry(&RESOURCE_SPANS), // resource_spans
]);

static RESOURCE_SPANS: Table = Table {
    // `instrumentation_library_spans` of OTLP 0.x: removed from the protocol, but the Collector
    // still reads it as `deprecated_scope_spans`, past any check of the field that replaced it.
    legacy: Some(1000),
    ..Table::frame(&[
        Kind::Unknown,
        Kind::Message(&RESOURCE),    // resource
        Kind::Message(&SCOPE_SPANS), // scope_spans
        Kind::Text,                  // schema_url
    ])
};

static SCOPE_SPANS: Table = Table::frame(&[
    Kind::Unknown,
    Kind::Message(&SCOPE), // scope
    Kind::Item(&SPAN),     // spans
    Kind::Text,            // schema_url
]);

/// `Resource`
pub(super) static RESOURCE: Table = Table::frame(&[
    Kind::Unknown,
    Kind::KeyValue,             // attributes
    Kind::Varint,               // dropped_attributes_count
    Kind::Message(&ENTITY_REF), // entity_refs
]);

/// `EntityRef`
pub(super) static ENTITY_REF: Table = Table::frame(&[
    Kind::Unknown,
    Kind::Text, // schema_url
    Kind::Text, // type
    Kind::Text, // id_keys
    Kind::Text, // description_keys
]);

/// `InstrumentationScope`
pub(super) static SCOPE: Table = Table::frame(&[
    Kind::Unknown,
    Kind::Text,     // name
    Kind::Text,     // version
    Kind::KeyValue, // attributes
    Kind::Varint,   // dropped_attributes_count
]);

static SPAN: Table = Table::inner(&[
    Kind::Unknown,
    Kind::OwnTraceId,       // trace_id
    Kind::SpanId,           // span_id
    Kind::Text,             // trace_state
    Kind::SpanId,           // parent_span_id
    Kind::Text,             // name
    Kind::Varint,           // kind
    Kind::Fixed64,          // start_time_unix_nano
    Kind::Fixed64,          // end_time_unix_nano
    Kind::KeyValue,         // attributes
    Kind::Varint,           // dropped_attributes_count
    Kind::Message(&EVENT),  // events
    Kind::Varint,           // dropped_events_count
    Kind::Message(&LINK),   // links
    Kind::Varint,           // dropped_links_count
    Kind::Message(&STATUS), // status
    Kind::Fixed32,          // flags
]);

static EVENT: Table = Table::inner(&[
    Kind::Unknown,
    Kind::Fixed64,  // time_unix_nano
    Kind::Text,     // name
    Kind::KeyValue, // attributes
    Kind::Varint,   // dropped_attributes_count
]);

static LINK: Table = Table::inner(&[
    Kind::Unknown,
    Kind::TraceId,  // trace_id: a link may point to any trace
    Kind::SpanId,   // span_id
    Kind::Text,     // trace_state
    Kind::KeyValue, // attributes
    Kind::Varint,   // dropped_attributes_count
    Kind::Fixed32,  // flags
]);

static STATUS: Table = Table::inner(&[
    Kind::Unknown,
    Kind::Unknown, // deprecated_code, reserved
    Kind::Text,    // message
    Kind::Varint,  // code
]);

/// `KeyValue`
pub(super) static KEY_VALUE: Table = Table::inner(&[
    Kind::Unknown,
    Kind::Text,   // key
    Kind::Value,  // value
    Kind::Varint, // key_strindex
]);

/// `AnyValue`
pub(super) static ANY_VALUE: Table = Table::inner(&[
    Kind::Unknown,
    Kind::Text,                       // string_value
    Kind::Varint,                     // bool_value
    Kind::Varint,                     // int_value
    Kind::Fixed64,                    // double_value
    Kind::Container(&ARRAY_VALUE),    // array_value
    Kind::Container(&KEY_VALUE_LIST), // kvlist_value
    Kind::Bytes,                      // bytes_value
    Kind::StringIndex,                // string_value_strindex
]);

static ARRAY_VALUE: Table = Table::inner(&[
    Kind::Unknown,
    Kind::Element, // values
]);

static KEY_VALUE_LIST: Table = Table::inner(&[
    Kind::Unknown,
    Kind::KeyValue, // values
]);
