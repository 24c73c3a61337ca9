//! The tables against the descriptors that opentelemetry-proto was generated from: every field,
//! its number, its names, its type. A field that OTLP gains shows here first.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label as Many, Type},
};

use super::{ANY_VALUE, KEY_VALUE, Kind, Label, Row, Table, of};
use crate::otlp::signal::Signal;

struct Descriptors(FileDescriptorSet);

impl Descriptors {
    fn read() -> Self {
        Self(FileDescriptorSet::decode(opentelemetry_proto::DESCRIPTORS).unwrap())
    }

    /// A message by its full name, such as `.opentelemetry.proto.trace.v1.Span.Event`.
    fn message(&self, name: &str) -> &DescriptorProto {
        fn find<'a>(all: &'a [DescriptorProto], path: &str) -> Option<&'a DescriptorProto> {
            let (first, rest) = path.split_once('.').unwrap_or((path, ""));
            let message = all.iter().find(|message| message.name() == first)?;
            if rest.is_empty() { Some(message) } else { find(&message.nested_type, rest) }
        }
        let found = self.0.file.iter().find_map(|file| {
            let path = name.strip_prefix('.')?.strip_prefix(file.package())?.strip_prefix('.')?;
            find(&file.message_type, path)
        });
        found.unwrap_or_else(|| panic!("no {name}"))
    }

    fn enumeration(&self, name: &str) -> Vec<(String, i32)> {
        let last = name.rsplit('.').next().unwrap();
        let nested = self.0.file.iter().flat_map(|file| &file.message_type).flat_map(|m| &m.enum_type);
        let found = self.0.file.iter().flat_map(|file| &file.enum_type).chain(nested);
        let found = found.into_iter().find(|found| found.name() == last).unwrap();
        found.value.iter().map(|value| (value.name().to_owned(), value.number())).collect()
    }

    /// Compares a table with its descriptor, and all that it holds with theirs.
    fn compare(&self, name: &str, table: &'static Table, seen: &mut BTreeSet<String>) {
        if !seen.insert(name.to_owned()) {
            return;
        }
        let message = self.message(name);
        let known: BTreeSet<u32> = table
            .rows
            .iter()
            .filter(|row| !matches!(row.kind, Kind::Legacy(_)))
            .map(|row| row.number)
            .collect();
        let wanted: BTreeSet<u32> =
            message.field.iter().map(|field| field.number().cast_unsigned()).collect();
        assert_eq!(known, wanted, "{name}");
        assert!(table.rows.len() <= 64, "{name}: the JSON decoder tells 64 fields apart");
        assert!(
            message.oneof_decl.len() <= 1 || message.field.iter().any(FieldDescriptorProto::proto3_optional)
        );
        for field in &message.field {
            let row = table.row(field.number().cast_unsigned()).unwrap();
            let place = format!("{name}.{}", field.name());
            assert_eq!(row.name, field.json_name(), "{place}");
            assert_eq!(row.label, label(field), "{place}");
            for key in [field.json_name(), field.name()] {
                assert_eq!(
                    table.named(key.as_bytes()).map(|(_, row)| row.number),
                    Some(row.number),
                    "{place}"
                );
            }
            let window = *format!("{:32}", format!("\"{}\"", row.name)).as_bytes().first_chunk().unwrap();
            assert!(
                table.rows.iter().all(|other| other.key.is(&window) == (other.name == row.name)),
                "{place}"
            );
            self.compare_kind(&place, row, field, seen);
        }
    }

    fn compare_kind(
        &self,
        place: &str,
        row: &Row,
        field: &FieldDescriptorProto,
        seen: &mut BTreeSet<String>,
    ) {
        let inner = match (row.kind, field.r#type()) {
            (Kind::Message(table) | Kind::Entry(table) | Kind::Item(table), Type::Message) => table,
            (Kind::KeyValue, Type::Message) if field.type_name().ends_with(".KeyValue") => &KEY_VALUE,
            (Kind::AnyValue, Type::Message) if field.type_name().ends_with(".AnyValue") => &ANY_VALUE,
            (Kind::Enum(names), Type::Enum) => {
                let names: Vec<_> =
                    names.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
                assert_eq!(names, self.enumeration(field.type_name()), "{place}");
                return;
            }
            (Kind::Index, Type::Int32) => {
                assert!(field.name().ends_with("strindex"), "{place}");
                return;
            }
            (Kind::Id(id), Type::Bytes) => {
                let len = if field.name().ends_with("span_id") { 8 } else { 16 };
                assert!(field.name().ends_with("_id") && id.len() == len, "{place}");
                return;
            }
            (Kind::Bytes, Type::Bytes) => {
                assert!(!field.name().ends_with("_id"), "{place}");
                return;
            }
            (Kind::Bool, Type::Bool)
            | (Kind::Int32, Type::Int32)
            | (Kind::Int64, Type::Int64)
            | (Kind::Uint32, Type::Uint32)
            | (Kind::Uint64, Type::Uint64)
            | (Kind::Sint32, Type::Sint32)
            | (Kind::Fixed32, Type::Fixed32)
            | (Kind::Fixed64, Type::Fixed64)
            | (Kind::Sfixed64, Type::Sfixed64)
            | (Kind::Double, Type::Double)
            | (Kind::String, Type::String) => return,
            (kind, found) => panic!("{place}: {kind:?} is {found:?}"),
        };
        self.compare(field.type_name(), inner, seen);
    }
}

fn label(field: &FieldDescriptorProto) -> Label {
    let is_scalar = !matches!(field.r#type(), Type::Message | Type::String | Type::Bytes);
    match field.label() {
        Many::Repeated if is_scalar => Label::Packed,
        Many::Repeated => Label::Repeated,
        _ if field.proto3_optional() => Label::Optional,
        _ if field.oneof_index.is_some() => Label::Member,
        _ => Label::Plain,
    }
}

/// Scenario: every table, beside the descriptor of its message.
/// Guarantees: no field is missing, none is made up, names, labels and types are OTLP's own, and each
/// key of a document leads to its own field.
#[test]
fn the_tables_are_otlp() {
    let descriptors = Descriptors::read();
    let mut seen = BTreeSet::new();
    for signal in Signal::ALL {
        let (package, message) = match signal {
            Signal::Traces => ("trace.v1", "Trace"),
            Signal::Metrics => ("metrics.v1", "Metrics"),
            Signal::Logs => ("logs.v1", "Logs"),
            Signal::Profiles => ("profiles.v1development", "Profiles"),
        };
        let name = format!(".opentelemetry.proto.collector.{package}.Export{message}ServiceRequest");
        descriptors.compare(&name, of(*signal).request, &mut seen);
    }
    assert_eq!(seen.len(), 48, "{seen:?}");
}

/// Scenario: the flags that are worked out from the rows.
/// Guarantees: the gate looks into what has ids for it and nowhere else; only spans must have one.
#[test]
fn flags_follow_the_rows() {
    for signal in Signal::ALL {
        let schema = of(*signal);
        assert_eq!(schema.item.gated, *signal != Signal::Profiles, "{signal:?}");
        assert_eq!(schema.item.owns_trace, *signal == Signal::Traces, "{signal:?}");
        assert!(schema.request.gated && schema.request.frame && schema.item.claims);
    }
    assert!(!ANY_VALUE.gated && !KEY_VALUE.gated);
}
