//! Any bytes as OTLP/JSON. The first byte chooses the signal.

use serde::de::IgnoredAny;
use spangate::otlp::{
    inspect::{Depth, Rules, inspect},
    json::to_protobuf,
};

use super::{signals, within};

/// What the decoder promises: memory under ten times the document, the output included.
const FOR_A_BYTE: usize = 10;
const AT_ALL: usize = 4 << 10;

/// An error names a path of known fields, as deep as values may be nested, and not what was sent.
const LONGEST_ERROR: usize = 4 << 10;

pub(crate) fn hold(data: &[u8]) {
    let Some((&choice, document)) = data.split_first() else { return };
    let signal = signals::of(choice);
    let most = AT_ALL + FOR_A_BYTE * document.len();
    let read = within(most, || to_protobuf(signal, document));
    assert_eq!(read, to_protobuf(signal, document), "two readings of the same document");
    let body = match read {
        Ok(body) => body,
        Err(error) => {
            assert!(error.0.len() <= LONGEST_ERROR && error.0.is_ascii(), "{error}");
            return;
        }
    };
    let lax = serde_json::from_slice::<IgnoredAny>(document);
    assert!(lax.is_ok(), "what is no JSON was accepted");
    // A packed zero takes two bytes there and eight here.
    assert!(body.len() <= 4 * document.len(), "{} bytes became {}", document.len(), body.len());

    let counted = signals::count(signal, &body).expect("prost refuses what was written");
    let rules = Rules { trace_id: None, max_item_size: usize::MAX, refuse_unknown: true, depth: Depth::Full };
    match inspect(signal, &body, &rules) {
        Ok(found) => assert_eq!(found, counted),
        // The decoder writes well-formed protobuf only: all that is left to refuse is what it says.
        Err(error) => assert!(REFUSED_CONTENT.contains(&error.0), "{error}"),
    }
}

const REFUSED_CONTENT: [&str; 2] = [
    "the request holds more than 1000 resources",
    "the request holds far more scopes than its length explains",
];
