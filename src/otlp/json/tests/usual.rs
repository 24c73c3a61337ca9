//! The quick ways and the strict one: what is read quickly is what the strict way would have read.

use std::fmt::Write as _;

use super::*;

/// A document of the same meaning in which all strings, keys included, are written in escapes; those
/// with escapes of their own, or with what no string may hold, stay.
pub(super) fn spelled_out(json: &[u8]) -> Vec<u8> {
    let Ok(mut rest) = std::str::from_utf8(json) else { return json.to_vec() };
    let mut out = String::new();
    while let Some((before, string)) = rest.split_once('"') {
        let mut escaped = false;
        let end = string.find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        });
        let (content, after) = string.split_at(end.unwrap_or(string.len()));
        out += before;
        out.push('"');
        if end.is_none() || content.contains(|character| character == '\\' || character < ' ') {
            out += content;
        } else {
            for unit in content.encode_utf16() {
                write!(out, "\\u{unit:04X}").unwrap();
            }
        }
        let quote = after.strip_prefix('"');
        out += if quote.is_some() { "\"" } else { "" };
        rest = quote.unwrap_or_default();
    }
    (out + rest).into_bytes()
}

fn name(text: &str, pad: usize) -> Result<String, String> {
    let json = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"name":"{text}"}}]}}]}}]}}{}"#,
        " ".repeat(pad)
    );
    Ok(read(&json)?.resource_spans[0].scope_spans[0].spans[0].name.clone())
}

/// Scenario: strings of every length around those that are read in pieces, with each kind of byte
/// that ends a piece at each place, near the end of the document and far from it.
/// Guarantees: the length and the end are found wherever they are.
#[test]
fn strings_of_every_length() {
    for len in 0..=150_usize {
        for pad in [0, 64] {
            let plain = "x".repeat(len);
            assert_eq!(name(&plain, pad).as_ref(), Ok(&plain), "{len}");
        }
        for at in (0..len).step_by(if len % 16 < 2 { 1 } else { 7 }) {
            let (before, after) = ("x".repeat(at), "y".repeat(len - at - 1));
            for (json, meant) in
                [("\\\"", "\""), ("\\\\", "\\"), ("é", "é"), ("\u{7f}", "\u{7f}"), ("!", "!")]
            {
                let expected = format!("{before}{meant}{after}");
                assert_eq!(name(&format!("{before}{json}{after}"), 64), Ok(expected), "{len} {at}");
            }
            let error = name(&format!("{before}\u{1f}{after}"), 64).unwrap_err();
            assert!(error.contains("name: control characters"), "{error}");
        }
    }
}

/// Scenario: times of 1 to 21 digits, bare and in quotes, with what may and may not follow them.
/// Guarantees: each is exactly itself or refused.
#[test]
fn digits_of_every_length() {
    let time = |json: &str| span(&format!(r#""endTimeUnixNano":{json}"#)).map(|span| span.end_time_unix_nano);
    for len in 1..=21 {
        for digits in [
            "9".repeat(len),
            format!("1{}", "0".repeat(len - 1)),
            "1234567890".chars().cycle().take(len).collect(),
        ] {
            let expected = digits.parse::<u64>().ok();
            for json in [digits.clone(), format!("\"{digits}\""), format!("{digits} "), format!("{digits}.0")]
            {
                assert_eq!(time(&json).ok(), expected, "{json}");
            }
            for odd in ["/", ":", "a", "+", " ", "\u{661}", "_", "\0"] {
                for place in 0..len {
                    let (before, after) = digits.split_at(place);
                    assert!(time(&format!("\"{before}{odd}{after}\"")).is_err(), "{before}{odd}{after}");
                }
            }
            assert!(time(&format!("0{digits}")).is_err() && time(&format!("\"0{digits}\"")).is_err());
            assert!(time(&format!("{digits}\"")).is_err() && time(&format!("\"{digits}")).is_err());
        }
    }
}

/// Scenario: messages of all lengths around those where a length takes one more byte, inside one
/// another and side by side.
/// Guarantees: every length is right, and in the fewest bytes.
#[test]
fn lengths_of_messages() {
    for len in (100..=132).chain(16_366..=16_385).chain([2_097_140, 2_097_151, 2_097_152]) {
        let text = "x".repeat(len);
        let attributes = format!(
            r#""attributes":[{{"key":"a","value":{{"stringValue":"{text}"}}}},{{"key":"b","value":{{"arrayValue":
            {{"values":[{{"stringValue":"{text}"}},{{"intValue":"1"}}]}}}}}}],"name":"{text}""#
        );
        let json = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{attributes}}},{{{attributes}}}]}}]}}]}}"#
        );
        let bytes = to_protobuf(Signal::Traces, json.as_bytes()).unwrap();
        let request = ExportTraceServiceRequest::decode(&bytes[..]).unwrap();
        // Fields come out in the order that they came in: here the name stands last.
        assert_eq!(request.encoded_len(), bytes.len(), "{len}");
        let spans = &request.resource_spans[0].scope_spans[0].spans;
        assert_eq!((spans.len(), spans[1].name.len(), spans[1].attributes.len()), (2, len, 2), "{len}");
    }
}
