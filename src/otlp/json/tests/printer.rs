//! A request as JSON, in any of the ways that OTLP allows; it knows nothing of the decoder's tables.

use std::fmt::Write as _;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{
        ScopeSpans, Span,
        span::{Event, Link, SpanKind},
        status::StatusCode,
    },
};

/// Writes JSON in the ways that are allowed, picking one of them at each place.
pub(super) struct Printer(pub(super) u64);

/// A field: its name in the .proto file, its JSON, and whether it may be left out.
type Field = (&'static str, String, bool);

impl Printer {
    /// A number below `ways`.
    fn pick(&mut self, ways: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap().checked_rem(ways).unwrap()
    }

    fn space(&mut self) -> &'static str {
        ["", "", "", " ", "\n\t", "\r "][self.pick(6)]
    }

    fn string(&mut self, text: &str) -> String {
        let mut out = String::from("\"");
        for character in text.chars() {
            if self.pick(4) == 0 || character < ' ' || matches!(character, '"' | '\\') {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").unwrap();
                }
            } else {
                out.push(character);
            }
        }
        out + "\""
    }

    fn int(&mut self, value: impl Into<i128>) -> String {
        let value = value.into();
        match self.pick(5) {
            0 => format!("\"{value}\""),
            1 => format!("{value}.0"),
            2 if value != 0 => format!("{value}000E-3"),
            _ => value.to_string(),
        }
    }

    fn double(&mut self, value: f64) -> String {
        match value {
            value if value.is_nan() => "\"NaN\"".to_owned(),
            f64::INFINITY => "\"Infinity\"".to_owned(),
            f64::NEG_INFINITY => "\"-Infinity\"".to_owned(),
            value if self.pick(2) == 0 => format!("\"{value:e}\""),
            value => format!("{value:?}"),
        }
    }

    fn hex(&mut self, bytes: &[u8]) -> String {
        let digits = bytes.iter().fold(String::new(), |all, byte| {
            all + &if self.pick(2) == 0 { format!("{byte:02x}") } else { format!("{byte:02X}") }
        });
        format!("\"{digits}\"")
    }

    fn base64(&mut self, bytes: &[u8]) -> String {
        let engine = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD][self.pick(4)].clone();
        format!("\"{}\"", engine.encode(bytes))
    }

    fn list<T>(&mut self, items: &[T], mut print: impl FnMut(&mut Self, &T) -> String) -> (String, bool) {
        let items: Vec<String> = items.iter().map(|item| print(self, item) + self.space()).collect();
        (format!("[{}{}]", self.space(), items.join(",")), items.is_empty())
    }

    /// An object: fields in any order, under either name, with unknown ones and nulls between.
    fn object(&mut self, mut fields: Vec<Field>) -> String {
        let mut members = Vec::new();
        if self.pick(4) == 0 {
            members.push(r#""someday": [{"x": null}, -1.5e-7]"#.to_owned());
        }
        while !fields.is_empty() {
            let place = self.pick(fields.len());
            let (snake, mut json, optional) = fields.swap_remove(place);
            match self.pick(4) {
                0 | 1 if optional => continue,
                2 if optional => "null".clone_into(&mut json),
                _ => {}
            }
            let name = if self.pick(2) == 0 { snake.to_owned() } else { camel(snake) };
            let name = if self.pick(8) == 0 { name.replace('t', "\\u0074") } else { name };
            members.push(format!("{}\"{name}\"{}:{}{json}", self.space(), self.space(), self.space()));
        }
        format!("{{{}{}{}}}", self.space(), members.join(","), self.space())
    }

    fn text(&mut self, name: &'static str, text: &str) -> Field {
        (name, self.string(text), text.is_empty())
    }

    fn count(&mut self, name: &'static str, value: impl Into<i128> + Copy) -> Field {
        (name, self.int(value), value.into() == 0)
    }

    fn id(&mut self, name: &'static str, bytes: &[u8]) -> Field {
        (name, self.hex(bytes), bytes.is_empty())
    }

    fn enumerated(&mut self, name: &'static str, value: i32, known: Option<&'static str>) -> Field {
        let named = known.filter(|_| self.pick(2) == 0).map(|known| format!("\"{known}\""));
        // A number in a string would be a name.
        (name, named.unwrap_or_else(|| value.to_string()), value == 0)
    }

    fn items<T>(
        &mut self,
        name: &'static str,
        items: &[T],
        print: impl FnMut(&mut Self, &T) -> String,
    ) -> Field {
        let (json, optional) = self.list(items, print);
        (name, json, optional)
    }

    fn one<T>(
        &mut self,
        name: &'static str,
        item: Option<&T>,
        print: impl FnOnce(&mut Self, &T) -> String,
    ) -> Field {
        item.map_or((name, "null".to_owned(), true), |item| (name, print(self, item), false))
    }

    fn value(&mut self, value: &AnyValue) -> String {
        let field = match value.value.as_ref() {
            None => return self.object(vec![("string_value", "null".to_owned(), true)]),
            Some(Value::StringValue(text)) => ("string_value", self.string(text), false),
            Some(Value::BoolValue(value)) => ("bool_value", value.to_string(), false),
            Some(Value::IntValue(value)) => ("int_value", self.int(*value), false),
            Some(Value::DoubleValue(value)) => ("double_value", self.double(*value), false),
            Some(Value::BytesValue(bytes)) => ("bytes_value", self.base64(bytes), false),
            Some(Value::ArrayValue(array)) => {
                let values = self.items("values", &array.values, Self::value);
                ("array_value", self.object(vec![values]), false)
            }
            Some(Value::KvlistValue(list)) => {
                let values = self.items("values", &list.values, Self::pair);
                ("kvlist_value", self.object(vec![values]), false)
            }
            Some(Value::StringValueStrindex(_)) => unreachable!("never made"),
        };
        self.object(vec![field])
    }

    fn pair(&mut self, pair: &KeyValue) -> String {
        let fields = vec![
            self.text("key", &pair.key),
            self.one("value", pair.value.as_ref(), Self::value),
            ("key_strindex", "0".to_owned(), true),
        ];
        self.object(fields)
    }

    fn event(&mut self, event: &Event) -> String {
        let fields = vec![
            self.count("time_unix_nano", event.time_unix_nano),
            self.text("name", &event.name),
            self.items("attributes", &event.attributes, Self::pair),
            self.count("dropped_attributes_count", event.dropped_attributes_count),
        ];
        self.object(fields)
    }

    fn link(&mut self, link: &Link) -> String {
        let fields = vec![
            self.id("trace_id", &link.trace_id),
            self.id("span_id", &link.span_id),
            self.text("trace_state", &link.trace_state),
            self.items("attributes", &link.attributes, Self::pair),
            self.count("dropped_attributes_count", link.dropped_attributes_count),
            self.count("flags", link.flags),
        ];
        self.object(fields)
    }

    fn span(&mut self, span: &Span) -> String {
        let kind = SpanKind::try_from(span.kind).ok().map(|kind| kind.as_str_name());
        let fields = vec![
            self.id("trace_id", &span.trace_id),
            self.id("span_id", &span.span_id),
            self.text("trace_state", &span.trace_state),
            self.id("parent_span_id", &span.parent_span_id),
            self.count("flags", span.flags),
            self.text("name", &span.name),
            self.enumerated("kind", span.kind, kind),
            self.count("start_time_unix_nano", span.start_time_unix_nano),
            self.count("end_time_unix_nano", span.end_time_unix_nano),
            self.items("attributes", &span.attributes, Self::pair),
            self.count("dropped_attributes_count", span.dropped_attributes_count),
            self.items("events", &span.events, Self::event),
            self.count("dropped_events_count", span.dropped_events_count),
            self.items("links", &span.links, Self::link),
            self.count("dropped_links_count", span.dropped_links_count),
            self.one("status", span.status.as_ref(), |printer, status| {
                let code = StatusCode::try_from(status.code).ok().map(|code| code.as_str_name());
                let fields = vec![
                    printer.text("message", &status.message),
                    printer.enumerated("code", status.code, code),
                ];
                printer.object(fields)
            }),
        ];
        self.object(fields)
    }

    fn resource(&mut self, resource: &Resource) -> String {
        let fields = vec![
            self.items("attributes", &resource.attributes, Self::pair),
            self.count("dropped_attributes_count", resource.dropped_attributes_count),
            self.items("entity_refs", &resource.entity_refs, |printer, entity| {
                let fields = vec![
                    printer.text("schema_url", &entity.schema_url),
                    printer.text("type", &entity.r#type),
                    printer.items("id_keys", &entity.id_keys, |printer, key| printer.string(key)),
                    printer.items("description_keys", &entity.description_keys, |printer, key| {
                        printer.string(key)
                    }),
                ];
                printer.object(fields)
            }),
        ];
        self.object(fields)
    }

    fn scope_spans(&mut self, scope_spans: &ScopeSpans) -> String {
        let fields = vec![
            self.one("scope", scope_spans.scope.as_ref(), |printer, scope| {
                let fields = vec![
                    printer.text("name", &scope.name),
                    printer.text("version", &scope.version),
                    printer.items("attributes", &scope.attributes, Self::pair),
                    printer.count("dropped_attributes_count", scope.dropped_attributes_count),
                ];
                printer.object(fields)
            }),
            self.items("spans", &scope_spans.spans, Self::span),
            self.text("schema_url", &scope_spans.schema_url),
        ];
        self.object(fields)
    }

    pub(super) fn request(&mut self, request: &ExportTraceServiceRequest) -> String {
        let resource_spans = self.items("resource_spans", &request.resource_spans, |printer, entry| {
            let fields = vec![
                printer.one("resource", entry.resource.as_ref(), Self::resource),
                printer.items("scope_spans", &entry.scope_spans, Self::scope_spans),
                printer.text("schema_url", &entry.schema_url),
            ];
            printer.object(fields)
        });
        self.object(vec![resource_spans])
    }
}

fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(1);
        name + &initial.to_uppercase() + rest
    })
}
