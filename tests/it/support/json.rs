//! OTLP/JSON as exporters write it, made from protobuf bytes by the descriptors that the .proto files
//! were compiled to: the gateway's decoder meets an encoder that shares nothing with its tables.

use std::sync::OnceLock;

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use serde_json::{Map, Value, json};

use super::{job::hex, signal, signal::Otlp, spans::raw_fields};

/// How the choices that OTLP leaves to a writer are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As opentelemetry-js: lowerCamelCase, 64-bit integers as strings, enum numbers.
    Exporter,
    /// The others: the names of the .proto file, 64-bit integers as numbers, enum names.
    Stranger,
}

/// An export request in JSON, as an exporter writes it.
pub(crate) fn to_json<R: Otlp>(request: &R) -> Vec<u8> {
    styled(Style::Exporter, request)
}

/// The same in a style.
pub(crate) fn styled<R: Otlp>(style: Style, request: &R) -> Vec<u8> {
    let printer = Printer { style, all: descriptors() };
    let value = printer.message(signal::row(R::SIGNAL).request, &request.encode_to_vec());
    serde_json::to_vec(&value).unwrap()
}

fn descriptors() -> &'static FileDescriptorSet {
    static ALL: OnceLock<FileDescriptorSet> = OnceLock::new();
    ALL.get_or_init(|| FileDescriptorSet::decode(opentelemetry_proto::DESCRIPTORS).unwrap())
}

struct Printer {
    style: Style,
    all: &'static FileDescriptorSet,
}

impl Printer {
    fn message(&self, name: &str, bytes: &[u8]) -> Value {
        let descriptor = self.descriptor(name);
        let mut object = Map::new();
        for (number, value) in raw_fields(bytes) {
            let is_it = |field: &&FieldDescriptorProto| u64::try_from(field.number()) == Ok(number);
            let field = descriptor.field.iter().find(is_it).unwrap();
            let name = if self.style == Style::Exporter { field.json_name() } else { field.name() };
            if field.label() == Label::Repeated {
                let list = object.entry(name).or_insert_with(|| json!([])).as_array_mut().unwrap();
                list.extend(elements(field, value).into_iter().map(|value| self.value(field, value)));
            } else {
                let value = self.value(field, value);
                assert_eq!(object.insert(name.into(), value), None, "{name} comes twice");
            }
        }
        object.into()
    }

    /// A message by its full name, such as `opentelemetry.proto.trace.v1.Span.Event`.
    fn descriptor(&self, name: &str) -> &DescriptorProto {
        fn find<'a>(all: &'a [DescriptorProto], path: &str) -> Option<&'a DescriptorProto> {
            let (first, rest) = path.split_once('.').unwrap_or((path, ""));
            let message = all.iter().find(|message| message.name() == first)?;
            if rest.is_empty() { Some(message) } else { find(&message.nested_type, rest) }
        }
        let found =
            self.all.file.iter().find_map(|file| {
                find(&file.message_type, name.strip_prefix(file.package())?.strip_prefix('.')?)
            });
        found.unwrap_or_else(|| panic!("no message {name}"))
    }

    fn value(&self, field: &FieldDescriptorProto, raw: &[u8]) -> Value {
        let varint = || prost::encoding::decode_varint(&mut &*raw).unwrap();
        let eight = || <[u8; 8]>::try_from(raw).unwrap();
        match field.r#type() {
            Type::Message => self.message(field.type_name().trim_start_matches('.'), raw),
            Type::String => std::str::from_utf8(raw).unwrap().into(),
            // Source: OTLP specification, "JSON Protobuf Encoding": ids are hex, other bytes base64.
            Type::Bytes if field.name().ends_with("_id") => hex(raw).into(),
            Type::Bytes => {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD.encode(raw).into()
            }
            Type::Bool => (varint() != 0).into(),
            Type::Enum => self.enumerated(field, varint()),
            Type::Int32 => varint().cast_signed().into(),
            Type::Uint32 => varint().into(),
            Type::Sint32 => (((varint() >> 1).cast_signed()) ^ -((varint() & 1).cast_signed())).into(),
            Type::Fixed32 => u32::from_le_bytes(raw.try_into().unwrap()).into(),
            Type::Int64 => self.long(varint().cast_signed()),
            Type::Uint64 => self.long(varint()),
            Type::Fixed64 => self.long(u64::from_le_bytes(eight())),
            Type::Sfixed64 => self.long(i64::from_le_bytes(eight())),
            Type::Double => match f64::from_le_bytes(eight()) {
                value if value.is_nan() => "NaN".into(),
                f64::INFINITY => "Infinity".into(),
                f64::NEG_INFINITY => "-Infinity".into(),
                value => value.into(),
            },
            other => panic!("OTLP has no {other:?}"),
        }
    }

    fn long<N: Into<Value> + ToString>(&self, number: N) -> Value {
        if self.style == Style::Exporter { number.to_string().into() } else { number.into() }
    }

    fn enumerated(&self, field: &FieldDescriptorProto, number: u64) -> Value {
        let last = field.type_name().rsplit('.').next().unwrap();
        let nested = self.all.file.iter().flat_map(|file| &file.message_type).flat_map(|m| &m.enum_type);
        let mut all = self.all.file.iter().flat_map(|file| &file.enum_type).chain(nested);
        let names: &EnumDescriptorProto = all.find(|found| found.name() == last).unwrap();
        let known = names.value.iter().find(|value| u64::try_from(value.number()) == Ok(number));
        match known {
            Some(known) if self.style == Style::Stranger => known.name().into(),
            _ => number.into(),
        }
    }
}

/// The values in one occurrence of a repeated field; numbers are packed.
fn elements<'a>(field: &FieldDescriptorProto, raw: &'a [u8]) -> Vec<&'a [u8]> {
    match field.r#type() {
        Type::Message | Type::String | Type::Bytes => vec![raw],
        Type::Fixed64 | Type::Sfixed64 | Type::Double => raw.chunks(8).collect(),
        // The last byte of a varint is the one without its high bit.
        _ => raw.split_inclusive(|byte| byte & 0x80 == 0).collect(),
    }
}

/// Scenario: a data point with an exemplar and a histogram, in both styles.
/// Guarantees: the JSON is what the OTLP specification says, letter for letter.
#[test]
fn json_is_written_as_otlp_says() {
    use opentelemetry_proto::tonic::{collector::metrics::v1::ExportMetricsServiceRequest, metrics::v1::*};
    let exemplar = Exemplar { trace_id: vec![0xAB; 16], span_id: vec![1; 8], ..Exemplar::default() };
    let histogram = HistogramDataPoint {
        count: u64::MAX,
        sum: Some(f64::NAN),
        bucket_counts: vec![0, 300],
        explicit_bounds: vec![0.5, f64::NEG_INFINITY],
        exemplars: vec![exemplar],
        ..HistogramDataPoint::default()
    };
    let histogram = Histogram { data_points: vec![histogram], aggregation_temporality: 2 };
    let exponential = ExponentialHistogramDataPoint { scale: -10, ..Default::default() };
    let exponential = ExponentialHistogram { data_points: vec![exponential], aggregation_temporality: 0 };
    let metrics = [metric::Data::Histogram(histogram), metric::Data::ExponentialHistogram(exponential)]
        .map(|data| Metric { data: Some(data), ..Metric::default() });
    let scope_metrics = vec![ScopeMetrics { metrics: metrics.into(), ..Default::default() }];
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics, ..Default::default() }],
    };
    let ids = r#""spanId":"0101010101010101","traceId":"abababababababababababababababab""#;
    let exporter = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"aggregationTemporality":2,"dataPoints":[{"bucketCounts":["0","300"],"count":"18446744073709551615","exemplars":[{IDS}],"explicitBounds":[0.5,"-Infinity"],"sum":"NaN"}]}},{"exponentialHistogram":{"dataPoints":[{"scale":-10}]}}]}]}]}"#;
    assert_eq!(String::from_utf8(to_json(&request)).unwrap(), exporter.replace("IDS", ids));
    let stranger = String::from_utf8(styled(Style::Stranger, &request)).unwrap();
    for part in [
        r#""aggregation_temporality":"AGGREGATION_TEMPORALITY_CUMULATIVE""#,
        r#""bucket_counts":[0,300],"count":18446744073709551615"#,
    ] {
        assert!(stranger.contains(part), "{stranger}");
    }
}
