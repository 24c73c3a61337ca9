//! The rules of OTLP/JSON one by one; `roundtrip` tries them all at once.

mod arbitrary;
mod packed;
mod printer;
mod roundtrip;
mod usual;
mod values;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message as _;

use super::*;

fn read(json: &str) -> Result<ExportTraceServiceRequest, String> {
    let bytes = to_protobuf(Signal::Traces, json.as_bytes()).map_err(|error| error.to_string())?;
    Ok(ExportTraceServiceRequest::decode(&bytes[..]).unwrap())
}

/// Reads one span, given as the members of its object.
fn span(members: &str) -> Result<Span, String> {
    let request = read(&format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{members}}}]}}]}}]}}"#))?;
    Ok(request.resource_spans[0].scope_spans[0].spans[0].clone())
}

/// Reads the value of an attribute.
fn value(json: &str) -> Result<Option<AnyValue>, String> {
    let attribute = format!(r#""attributes":[{{"key":"k","value":{json}}}]"#);
    Ok(span(&attribute)?.attributes[0].value.clone())
}

/// The one member of an attribute's value.
fn only(json: &str) -> Result<Value, String> {
    Ok(value(json)?.unwrap().value.unwrap())
}

/// Scenario: a document as an exporter writes it, with all that a trace may hold.
/// Guarantees: every field arrives where protobuf has it.
#[test]
fn a_whole_document() {
    let json = r#"
    { "resourceSpans": [ {
        "resource": {
          "attributes": [ { "key": "service.name", "value": { "stringValue": "gitlab-runner" } } ],
          "droppedAttributesCount": 1,
          "entityRefs": [ { "schemaUrl": "s", "type": "service", "idKeys": ["service.name"],
                            "descriptionKeys": ["a", "b"] } ] },
        "scopeSpans": [ {
          "scope": { "name": "lib", "version": "1.0", "droppedAttributesCount": 2,
                     "attributes": [ { "key": "x", "value": { "boolValue": true } } ] },
          "spans": [ {
            "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174",
            "parentSpanId": "EEE19B7EC3C1B173", "traceState": "a=b", "flags": 257,
            "name": "I\u0027m a span", "kind": 2,
            "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": 1544712661000000000,
            "attributes": [ { "key": "n", "value": { "intValue": "-7" } } ],
            "events": [ { "timeUnixNano": "5", "name": "e", "droppedAttributesCount": 3,
                          "attributes": [ { "key": "d", "value": { "doubleValue": 0.5 } } ] } ],
            "links": [ { "traceId": "00000000000000000000000000000001", "spanId": "0000000000000002",
                         "traceState": "c=d", "flags": 1, "droppedAttributesCount": 4 } ],
            "droppedAttributesCount": 5, "droppedEventsCount": 6, "droppedLinksCount": 7,
            "status": { "message": "no", "code": "STATUS_CODE_ERROR" } } ],
          "schemaUrl": "u" } ],
        "schemaUrl": "v" } ] }"#;
    let request = read(json).unwrap();
    let resource_spans = &request.resource_spans[0];
    let resource = resource_spans.resource.as_ref().unwrap();
    assert_eq!(resource.attributes[0].key, "service.name");
    assert_eq!(resource.entity_refs[0].description_keys, ["a", "b"]);
    let scope_spans = &resource_spans.scope_spans[0];
    let scope = scope_spans.scope.as_ref().unwrap();
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("lib", "1.0"));
    let span = &scope_spans.spans[0];
    assert_eq!(span.trace_id[..4], [0x5b, 0x8e, 0xff, 0xf7]);
    assert_eq!(span.parent_span_id[..2], [0xee, 0xe1]);
    assert_eq!((span.name.as_str(), span.kind, span.flags), ("I'm a span", 2, 257));
    assert_eq!(span.start_time_unix_nano, 1_544_712_660_000_000_000);
    assert_eq!(span.end_time_unix_nano, 1_544_712_661_000_000_000);
    assert_eq!(span.events[0].time_unix_nano, 5);
    assert_eq!(span.links[0].span_id, [0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(span.status.as_ref().unwrap().code, 2);
    let counts = [
        resource.dropped_attributes_count,
        scope.dropped_attributes_count,
        span.events[0].dropped_attributes_count,
        span.links[0].dropped_attributes_count,
        span.dropped_attributes_count,
        span.dropped_events_count,
        span.dropped_links_count,
    ];
    assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((scope_spans.schema_url.as_str(), resource_spans.schema_url.as_str()), ("u", "v"));
}

/// Scenario: the smallest documents.
/// Guarantees: they are empty requests, and what is there but empty stays there.
#[test]
fn empty_documents() {
    for json in ["{}", " {\r\n\t} ", r#"{"resourceSpans":[]}"#, r#"{"resourceSpans":null}"#, r#"{"x":[{}]}"#]
    {
        assert_eq!(to_protobuf(Signal::Traces, json.as_bytes()), Ok(Vec::new()), "{json}");
    }
    let json = r#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":null}]},{}]}"#;
    assert_eq!(to_protobuf(Signal::Traces, json.as_bytes()).unwrap(), [10, 4, 10, 0, 18, 0, 10, 0]);
}

/// Scenario: fields under the name of the .proto file, in escapes, and under other spellings.
/// Guarantees: two names exactly lead to a field, whatever the escapes; the rest is unknown.
#[test]
fn names_of_fields() {
    let id = "00000000000000000000000000000001";
    for name in ["traceId", "trace_id", r"\u0074race\u005FI\u0064".to_lowercase().as_str()] {
        let name = name.replace("\\u005fi", "I");
        assert_eq!(span(&format!(r#""{name}":"{id}""#)).unwrap().trace_id[15], 1, "{name}");
    }
    for name in ["TraceId", "traceID", "trace_Id", "traceid", "_trace_id", "trace__id", "trace_id_", "trac"] {
        assert!(span(&format!(r#""{name}":"{id}""#)).unwrap().trace_id.is_empty(), "{name}");
    }
    let snake = r#""start_time_unix_nano":"1","dropped_links_count":2,"parent_span_id":"0000000000000003""#;
    let span = span(snake).unwrap();
    assert_eq!((span.start_time_unix_nano, span.dropped_links_count, span.parent_span_id[7]), (1, 2, 3));
}

/// Scenario: a field given twice: equal or not, by both names, beside a null.
/// Guarantees: refused always, since readers differ in which one counts.
#[test]
fn duplicates_are_refused() {
    for members in [
        r#""name":"a","name":"a""#,
        r#""traceState":"a","trace_state":"b""#,
        r#""trace_state":"a","kind":1,"trac\u0065State":"a""#,
        r#""name":null,"name":"a""#,
        r#""name":"a","name":null"#,
        r#""events":[],"events":[]"#,
        r#""status":{},"status":{}"#,
    ] {
        let error = span(members).unwrap_err();
        assert!(error.contains("given twice"), "{members}: {error}");
    }
    assert!(read(r#"{"resourceSpans":[],"resource_spans":[]}"#).unwrap_err().starts_with("resourceSpans: "));
}

/// Scenario: fields that no schema knows, at every level, well formed and not.
/// Guarantees: they are skipped, but nothing that is not JSON hides in them.
#[test]
fn unknown_fields_are_read_strictly() {
    let unknown = r#""u":{"a":[1,-2.5e+7,"\ud83d\ude00",null,true,false,{},[]],"a":1},"u":0"#;
    let json = format!(
        r#"{{{unknown},"resourceSpans":[{{{unknown},"resource":{{{unknown}}},"scopeSpans":[{{{unknown},
        "spans":[{{{unknown},"name":"n","status":{{{unknown}}},
        "attributes":[{{{unknown},"value":{{{unknown},"intValue":1}}}}]}}]}}]}}]}}"#
    );
    let request = read(&json).unwrap();
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!((span.name.as_str(), span.attributes.len()), ("n", 1));
    for bad in [
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "tru",
        "nul",
        "True",
        "'a'",
        "",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[",
        "{",
        "{]",
        "[}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{1:1}",
        "\"",
        "\"\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12G4\"",
        "\"\\u+123\"",
        "\"\n\"",
        "\"\t\"",
        "\"\0\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800x\"",
        "\"\\udc00\\ud800\"",
        "/**/1",
        "1//",
        "\u{a0}1",
        "\u{feff}1",
    ] {
        assert!(read(&format!(r#"{{"u":{bad}}}"#)).is_err(), "{bad}");
        assert!(read(&format!(r#"{{"u":[{bad}]}}"#)).is_err() || bad.is_empty(), "{bad}");
    }
}

/// Scenario: documents that are no object, are followed by something, or are not UTF-8.
/// Guarantees: refused; a byte order mark is no white space.
#[test]
fn what_is_no_document() {
    for bad in [
        "",
        " ",
        "null",
        "[]",
        "1",
        "\"\"",
        "true",
        "{}{}",
        "{} x",
        "{},",
        "{}\0",
        "\u{feff}{}",
        "{}\u{feff}",
        "{",
        "}",
        "\u{a0}{}",
        "{}\u{b}",
        "<html></html>",
    ] {
        assert!(read(bad).is_err(), "{bad:?}");
    }
    for bad in
        [&b"{\"a\":\"\xff\"}"[..], b"{\"a\":\"\xed\xa0\x80\"}", b"{\"a\":\"\xc0\x80\"}", b"{\"\xe2\x82\":1}"]
    {
        let error = to_protobuf(Signal::Traces, bad).unwrap_err();
        assert_eq!(error.to_string(), "the document is not UTF-8");
    }
    assert!(
        to_protobuf(
            Signal::Traces,
            "{}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>().as_slice()
        )
        .is_err()
    );
}

/// Scenario: null at every kind of place.
/// Guarantees: it is an absent field, and never an element.
#[test]
fn null_is_absent() {
    let all = r#""traceId":null,"spanId":null,"name":null,"kind":null,"flags":null,"startTimeUnixNano":null,
        "attributes":null,"events":null,"status":null,"droppedEventsCount":null"#;
    assert_eq!(span(all).unwrap(), Span::default());
    assert_eq!(value("null").unwrap(), None);
    assert_eq!(only(r#"{"stringValue":null,"intValue":1,"bytesValue":null}"#).unwrap(), Value::IntValue(1));
    for members in [r#""attributes":[null]"#, r#""events":[{},null]"#] {
        assert!(span(members).is_err(), "{members}");
    }
    assert!(value(r#"{"arrayValue":{"values":[null]}}"#).is_err());
    assert!(read(r#"{"resourceSpans":[null]}"#).unwrap_err().starts_with("resourceSpans[0]: "));
}

/// Scenario: fields that this gateway can't carry on truthfully.
/// Guarantees: they are refused with a reason rather than dropped; a zero says nothing and passes.
#[test]
fn what_would_be_lost_is_refused() {
    assert!(
        span(r#""attributes":[{"keyStrindex":0,"key_strindex":0}]"#).unwrap_err().contains("given twice")
    );
    assert!(span(r#""attributes":[{"key":"k","keyStrindex":0}]"#).is_ok());
    for index in ["1", "-1", "\"0\"", "0.5", "[]"] {
        let error = span(&format!(r#""attributes":[{{"keyStrindex":{index}}}]"#)).unwrap_err();
        assert!(error.contains("attributes[0].keyStrindex: a reference"), "{error}");
    }
    assert!(value(r#"{"stringValueStrindex":0}"#).unwrap_err().contains("dictionary"));
    for name in ["instrumentationLibrarySpans", "instrumentation_library_spans"] {
        let error = read(&format!(r#"{{"resourceSpans":[{{"{name}":[]}}]}}"#)).unwrap_err();
        assert!(error.contains("use scopeSpans"), "{error}");
    }
}

/// Scenario: wrong types deep inside, with text of the sender all around.
/// Guarantees: the error leads to the place by known names, and repeats nothing that was sent.
#[test]
fn errors_name_the_place_only() {
    let json = r#"{"secret-1":{},"resourceSpans":[{},{"scopeSpans":[{"spans":[{},{},{"name":"secret-2",
        "attributes":[{"key":"secret-3","value":{"kvlistValue":{"values":[{"value":{"int_value":"secret-4"}}]}}}]}]}]}]}"#;
    let error = read(json).unwrap_err();
    let place =
        "resourceSpans[1].scopeSpans[0].spans[2].attributes[0].value.kvlistValue.values[0].value.intValue: ";
    assert!(error.starts_with(place), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let at = json.find("secret-4").unwrap() + "secret-4\"".len();
    assert!(error.ends_with(&format!("(at byte {at})")), "{error}");
    for (members, why) in [
        (r#""name":1"#, "name: expected a string"),
        (r#""name":["a"]"#, "name: expected a string"),
        (r#""attributes":{}"#, "attributes: expected an array"),
        (r#""status":[]"#, "status: expected an object"),
        (r#""status":"STATUS_CODE_OK""#, "status: expected an object"),
        (r#""kind":true"#, "kind: expected an integer"),
        (r#""secret":tru"#, "spans[0]: expected a JSON value"),
    ] {
        let error = span(members).unwrap_err();
        assert!(error.contains(why) && !error.contains("secret"), "{members}: {error}");
    }
}

/// Scenario: values nested 32 and 33 levels deep, arrays and lists, and documents that open without
/// end, in a thread with half of the stack that a worker has.
/// Guarantees: 32 levels pass, more are refused, and no depth overflows the stack.
#[test]
fn depth_is_bounded() {
    let nested = |levels: usize, open: &str, close: &str| {
        let inside = levels.saturating_sub(1);
        format!(r#"{}{{"intValue":1}}{}"#, open.repeat(inside), close.repeat(inside))
    };
    let array = (r#"{"arrayValue":{"values":["#, "]}}");
    let list = (r#"{"kvlistValue":{"values":[{"value":"#, "}]}}");
    let in_event = |value: &str| format!(r#""events":[{{"attributes":[{{"value":{value}}}]}}]"#);
    let work = move || {
        for (open, close) in [array, list] {
            assert!(value(&nested(31, open, close)).is_ok());
            let document = format!(
                r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{}}}]}}]}}]}}"#,
                in_event(&nested(32, open, close))
            );
            to_protobuf(Signal::Traces, document.as_bytes()).unwrap();
            let error = span(&in_event(&nested(33, open, close))).unwrap_err();
            assert!(error.contains("values are nested too deeply"), "{error}");
            assert!(value(&open.repeat(100_000)).is_err());
        }
        let elements = format!("[{0},{0}]", nested(2, array.0, array.1));
        assert!(value(&format!(r#"{{"arrayValue":{{"values":{elements}}}}}"#)).is_ok());
        for bracket in ["[", "{\"u\":", "[{\"u\":["] {
            let error = read(&format!(r#"{{"u":{}"#, bracket.repeat(1_000_000))).unwrap_err();
            assert!(error.contains("nested too deeply"), "{error}");
        }
        let fits = format!(r#"{{"u":{}{}}}"#, "[".repeat(159), "]".repeat(159));
        assert!(read(&fits).is_ok());
    };
    std::thread::Builder::new().stack_size(1024 << 10).spawn(work).unwrap().join().unwrap();
}
