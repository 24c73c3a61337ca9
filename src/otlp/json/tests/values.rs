//! Scalars, in all the ways that JSON may write them.

use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};

use super::*;

fn int(json: &str) -> Result<i64, String> {
    match only(&format!(r#"{{"intValue":{json}}}"#))? {
        Value::IntValue(value) => Ok(value),
        other => panic!("{other:?}"),
    }
}

fn double(json: &str) -> Result<f64, String> {
    match only(&format!(r#"{{"doubleValue":{json}}}"#))? {
        Value::DoubleValue(value) => Ok(value),
        other => panic!("{other:?}"),
    }
}

fn bytes(json: &str) -> Result<Vec<u8>, String> {
    match only(&format!(r#"{{"bytesValue":"{json}"}}"#))? {
        Value::BytesValue(value) => Ok(value),
        other => panic!("{other:?}"),
    }
}

/// Scenario: integers, bare and in strings, with points and exponents, at the ends of their range.
/// Guarantees: exact or refused; no value passes through a double.
#[test]
fn integers_are_exact() {
    for (json, expected) in [
        ("0", 0),
        ("-0", 0),
        ("-1", -1),
        ("9007199254740993", 9_007_199_254_740_993),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
        ("1.0", 1),
        ("1e3", 1000),
        ("1E+3", 1000),
        ("-12.50e1", -125),
        ("100e-2", 1),
        ("922337203685477580.7e1", i64::MAX),
        ("0.0e999999999999999999999", 0),
        ("0e-5", 0),
        ("1.000000000000000000000000000000000", 1),
        ("100000000000000000000000000000e-20", 1_000_000_000),
        ("0.000000000000000000000000000001e30", 1),
    ] {
        assert_eq!(int(json), Ok(expected), "{json}");
        assert_eq!(int(&format!("\"{json}\"")), Ok(expected), "\"{json}\"");
    }
    for bad in [
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "1e19",
        "1e999999999999999999999",
        "0.5",
        "1e-1",
        "12.34e1",
        "1e-999999999999999999999",
        "true",
        "[]",
        "{}",
    ] {
        assert!(int(bad).unwrap_err().contains("expected an integer within"), "{bad}");
        assert!(int(&format!("\"{bad}\"")).is_err(), "\"{bad}\"");
    }
    for bad in ["", " 1", "1 ", "+1", "01", "0x1", "1_000", "NaN", "--1", "\u{661}", "1e", "."] {
        assert!(int(&format!("\"{bad}\"")).unwrap_err().contains("expected an integer within"), "\"{bad}\"");
    }
}

/// Scenario: unsigned integers of 32 and 64 bits past their ends.
/// Guarantees: each field has its own range.
#[test]
fn ranges_are_those_of_the_fields() {
    let time = |json: &str| span(&format!(r#""endTimeUnixNano":{json}"#)).map(|span| span.end_time_unix_nano);
    assert_eq!(time("18446744073709551615"), Ok(u64::MAX));
    assert_eq!(time("\"18446744073709551615\""), Ok(u64::MAX));
    assert!(time("18446744073709551616").is_err());
    assert!(time("-1").is_err());
    let count =
        |json: &str| span(&format!(r#""droppedLinksCount":{json}"#)).map(|span| span.dropped_links_count);
    assert_eq!(count("4294967295"), Ok(u32::MAX));
    assert_eq!(count("\"7\""), Ok(7));
    assert!(count("4294967296").is_err());
    let flags = |json: &str| span(&format!(r#""flags":{json}"#)).map(|span| span.flags);
    assert_eq!(flags("4294967295"), Ok(u32::MAX));
    assert!(flags("-1").is_err());
}

/// Scenario: doubles as numbers, names and numeric strings.
/// Guarantees: the nearest double, a sign of zero kept, and no silent infinity.
#[test]
fn doubles() {
    for (json, expected) in [
        ("0", 0.0_f64),
        ("-0.0", -0.0),
        ("0.1", 0.1),
        ("1e308", 1e308),
        ("5e-324", 5e-324),
        ("1e-400", 0.0),
        ("123456789012345678901234567890", 1.234_567_890_123_456_8e29),
        ("\"2.5\"", 2.5),
        ("\"Infinity\"", f64::INFINITY),
        ("\"-Infinity\"", f64::NEG_INFINITY),
        ("\"NaN\"", f64::NAN),
    ] {
        assert_eq!(double(json).unwrap().to_bits(), expected.to_bits(), "{json}");
    }
    for bad in [
        "1e309",
        "-1e309",
        "\"1e309\"",
        "\"nan\"",
        "\"inf\"",
        "\"+Infinity\"",
        "\"\"",
        "\" 1\"",
        "\"1.\"",
        "\".5\"",
        "\"0x1p3\"",
        "true",
        "[]",
    ] {
        assert!(double(bad).unwrap_err().contains("doubleValue: expected a number"), "{bad}");
    }
}

/// Scenario: enums by number, by name, by an unknown of either.
/// Guarantees: any 32-bit number passes, as protobuf's open enums do; an unknown name is refused.
#[test]
fn enums() {
    let kind = |json: &str| span(&format!(r#""kind":{json}"#)).map(|span| span.kind);
    for (json, expected) in [
        ("0", 0),
        ("5", 5),
        ("1.0", 1),
        ("99", 99),
        ("-1", -1),
        ("2147483647", i32::MAX),
        ("-2147483648", i32::MIN),
        ("\"SPAN_KIND_UNSPECIFIED\"", 0),
        ("\"SPAN_KIND_CONSUMER\"", 5),
    ] {
        assert_eq!(kind(json), Ok(expected), "{json}");
    }
    for bad in
        ["2147483648", "\"SERVER\"", "\"span_kind_server\"", "\"2\"", "\"\"", "\"STATUS_CODE_OK\"", "0.5"]
    {
        assert!(kind(bad).unwrap_err().contains("spans[0].kind: "), "{bad}");
    }
    for number in 0..6 {
        let name = SpanKind::try_from(number).unwrap().as_str_name();
        assert_eq!(kind(&format!("\"{name}\"")), Ok(number));
    }
    for number in 0..3 {
        let name = StatusCode::try_from(number).unwrap().as_str_name();
        let status = span(&format!(r#""status":{{"code":"{name}"}}"#)).unwrap().status.unwrap();
        assert_eq!(status.code, number);
    }
}

/// Scenario: ids in hex of any case, empty, of other lengths, in base64.
/// Guarantees: exactly 32 or 16 hex digits, or nothing; base64 of the right length is not taken.
#[test]
fn ids_are_hex() {
    let trace = |id: &str| span(&format!(r#""traceId":"{id}""#)).map(|span| span.trace_id);
    let parent = |id: &str| span(&format!(r#""parentSpanId":"{id}""#)).map(|span| span.parent_span_id);
    assert_eq!(
        trace("00112233445566778899AaBbCcDdEeFf").unwrap()[10..],
        [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]
    );
    assert_eq!(parent("fFeEdDcCbBaA9988").unwrap(), [0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88]);
    assert_eq!(
        to_protobuf(Signal::Traces, br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":""}]}]}]}"#)
            .unwrap(),
        [10, 4, 18, 2, 18, 0]
    );
    for bad in [
        "0011223344556677",
        "00112233445566778899aabbccddeef",
        "00112233445566778899aabbccddeeff0",
        "00112233445566778899aabbccddeeff00",
        "00112233445566778899aabbccddeegg",
        "ABEiM0RVZneImaq7zN3u/w==",
        "00112233-4455-6677-8899-aabbccdd",
        " 0112233445566778899aabbccddeeff",
        "+0112233445566778899aabbccddeeff",
    ] {
        assert!(trace(bad).unwrap_err().contains("traceId: expected 32 hex digits"), "{bad}");
    }
    for bad in [
        "00",
        "00112233445566778899aabbccddeeff",
        "001122334455667",
        "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
    ] {
        assert!(parent(bad).unwrap_err().contains("parentSpanId: expected 16 hex digits"), "{bad}");
    }
}

/// Scenario: bytes in both alphabets, padded and not.
/// Guarantees: all four are read; a mixture, white space and left-over bits are refused.
#[test]
fn bytes_are_base64() {
    for (json, expected) in [
        ("", &[][..]),
        ("AA==", &[0]),
        ("AA", &[0]),
        ("AAA", &[0, 0]),
        ("-_8=", &[0xfb, 0xff]),
        ("-_8", &[0xfb, 0xff]),
        ("+/8=", &[0xfb, 0xff]),
        ("+\\/8", &[0xfb, 0xff]),
        ("aGVsbG8", b"hello"),
    ] {
        assert_eq!(bytes(json).unwrap(), expected, "{json}");
    }
    for bad in ["A", "AB==", "AA=", "A===", "====", "AA==AA==", "+_8=", "AA ==", "A\\nA==", "\u{e9}"] {
        assert!(bytes(bad).unwrap_err().contains("bytesValue: expected base64"), "{bad}");
    }
}

/// Scenario: a value with no member, with one that is a default, with two.
/// Guarantees: an empty value stays empty, a default stays set, two are refused.
#[test]
fn one_member_of_a_value() {
    assert_eq!(value("{}").unwrap(), Some(AnyValue { value: None }));
    assert_eq!(value(r#"{"uintValue":1}"#).unwrap(), Some(AnyValue { value: None }));
    assert_eq!(span(r#""attributes":[{"key":"k"}]"#).unwrap().attributes[0].value, None);
    assert_eq!(only(r#"{"stringValue":""}"#).unwrap(), Value::StringValue(String::new()));
    assert_eq!(only(r#"{"boolValue":false}"#).unwrap(), Value::BoolValue(false));
    assert_eq!(only(r#"{"intValue":"0"}"#).unwrap(), Value::IntValue(0));
    assert_eq!(only(r#"{"doubleValue":0}"#).unwrap(), Value::DoubleValue(0.0));
    assert_eq!(only(r#"{"bytesValue":""}"#).unwrap(), Value::BytesValue(Vec::new()));
    assert!(
        matches!(only(r#"{"array_value":{}}"#).unwrap(), Value::ArrayValue(array) if array.values.is_empty())
    );
    assert!(
        matches!(only(r#"{"kvlistValue":{}}"#).unwrap(), Value::KvlistValue(list) if list.values.is_empty())
    );
    for two in [
        r#"{"stringValue":"a","intValue":1}"#,
        r#"{"arrayValue":{},"kvlist_value":{}}"#,
        r#"{"boolValue":false,"boolValue":false}"#,
    ] {
        let error = value(two).unwrap_err();
        assert!(error.contains("a second value") || error.contains("given twice"), "{error}");
    }
    for bad in
        [r#"{"boolValue":"true"}"#, r#"{"boolValue":1}"#, r#"{"stringValue":1}"#, "\"bare\"", "1", "[]"]
    {
        assert!(value(bad).is_err(), "{bad}");
    }
}

/// Scenario: strings with every escape, pairs of surrogates, characters of all lengths.
/// Guarantees: the characters that were meant, `\u0000` included.
#[test]
fn strings() {
    let json = r#"{"stringValue":"\"\\\/\b\f\n\r\t\u0000\u00e9\u20AC\ud83d\uDE00 é€😀 \u2028"}"#;
    let expected = "\"\\/\u{8}\u{c}\n\r\t\0é€😀 é€😀 \u{2028}".to_owned();
    assert_eq!(only(json).unwrap(), Value::StringValue(expected));
    for bad in
        [r"\ud83d", r"\ude00", r"\ud83d\u0020", r"\ud83dx", r"\u{41}", r"\U0041", r"\'", r"\x41", r"\u004"]
    {
        assert!(only(&format!(r#"{{"stringValue":"{bad}"}}"#)).is_err(), "{bad}");
    }
}
