//! Messages that every signal has. Source: `common.proto`, `resource.proto`.

use super::{Kind, Row, Table, many, member, one};

/// `ResourceX.instrumentation_library_x` of OTLP 0.x: removed from the protocol, but the Collector
/// still reads it as `deprecated_scope_x`, past any check of the field that replaced it.
pub(super) const fn legacy(name: &'static str, why: &'static str) -> Row {
    one(1000, name, Kind::Legacy(why))
}

/// `Resource`
pub(in super::super) static RESOURCE: Table = Table::frame(&[
    many(1, "attributes", Kind::KeyValue),
    one(2, "droppedAttributesCount", Kind::Uint32),
    many(3, "entityRefs", Kind::Message(&ENTITY_REF)),
]);

/// `EntityRef`
pub(in super::super) static ENTITY_REF: Table = Table::frame(&[
    one(1, "schemaUrl", Kind::String),
    one(2, "type", Kind::String),
    many(3, "idKeys", Kind::String),
    many(4, "descriptionKeys", Kind::String),
]);

/// `InstrumentationScope`
pub(in super::super) static SCOPE: Table = Table {
    claims: true,
    ..Table::frame(&[
        one(1, "name", Kind::String),
        one(2, "version", Kind::String),
        many(3, "attributes", Kind::KeyValue),
        one(4, "droppedAttributesCount", Kind::Uint32),
    ])
};

/// `KeyValue`
pub(in super::super) static KEY_VALUE: Table = Table::new(&[
    one(1, "key", Kind::String),
    one(2, "value", Kind::AnyValue),
    one(3, "keyStrindex", Kind::Index),
]);

/// `AnyValue`
pub(in super::super) static ANY_VALUE: Table = Table {
    nests: true,
    ..Table::new(&[
        member(1, "stringValue", Kind::String),
        member(2, "boolValue", Kind::Bool),
        member(3, "intValue", Kind::Int64),
        member(4, "doubleValue", Kind::Double),
        member(5, "arrayValue", Kind::Message(&ARRAY_VALUE)),
        member(6, "kvlistValue", Kind::Message(&KEY_VALUE_LIST)),
        member(7, "bytesValue", Kind::Bytes),
        member(8, "stringValueStrindex", Kind::Index),
    ])
};

static ARRAY_VALUE: Table = Table::new(&[many(1, "values", Kind::AnyValue)]);

static KEY_VALUE_LIST: Table = Table::new(&[many(1, "values", Kind::KeyValue)]);
