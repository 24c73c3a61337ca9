//! The form of what leaves: slices of the old body and few owned pieces, however many spans.

use super::*;

fn many(spans: usize) -> Vec<u8> {
    let item = len(2, span(len(9, attribute("key", &"v".repeat(400)))));
    request([len(1, len(1, attribute("host.name", "vm"))), len(2, item.repeat(spans))].concat())
}

fn slices<'a>(body: &Bytes, pieces: &'a [Bytes]) -> Vec<&'a Bytes> {
    let inside = body.as_ptr_range();
    pieces.iter().filter(|piece| inside.contains(&piece.as_ptr())).collect()
}

/// Scenario: one resource with more and more spans.
/// Guarantees: one owned head and one slice of the body, whatever the number of spans.
#[test]
fn spans_leave_as_one_slice() {
    for spans in [3, 32, 512] {
        let body = Bytes::from(many(spans));
        let rewritten = rewrite(Signal::Traces, &body, &policy(), &stamp(), u64::MAX).unwrap();
        assert_eq!(rewritten.pieces.len(), 2);
        let kept = slices(&body, &rewritten.pieces);
        assert_eq!(kept.len(), 1);
        assert!(kept[0].len() > spans * 400);
        assert_eq!(rewritten.kept, spans as u64);
    }
}

/// Scenario: a body that was itself cut out of a larger buffer, as a connection gives it.
/// Guarantees: the slices are of that buffer, and the bytes are right.
#[test]
fn offsets_count_from_the_body() {
    let whole = Bytes::from([vec![0xFF; 77], many(5), vec![0xFF; 33]].concat());
    let body = whole.slice(77..whole.len() - 33);
    let rewritten = rewrite(Signal::Traces, &body, &policy(), &stamp(), u64::MAX).unwrap();
    assert_eq!(slices(&body, &rewritten.pieces).len(), 1);
    assert_eq!(rewritten.pieces.concat(), leaves(&many(5)).0);
}

/// Scenario: every second attribute of a resource forged, in the shortest form there is.
/// Guarantees: scattered short ranges are copied together into one piece.
#[test]
fn scattered_ranges_are_copied_together() {
    let pair = [len(1, len(1, "gitlab.")), len(1, [])].concat();
    let body = with_item(len(1, pair.repeat(50_000)));
    let (_, rewritten) = leaves(&body);
    assert_eq!((rewritten.pieces.len(), rewritten.stripped), (1, 50_000));
}

/// Scenario: contents just around the length where a message's head grows by a byte.
/// Guarantees: lengths are right on both sides of it.
#[test]
fn heads_have_the_right_length() {
    for filler in (100..140).chain(16_300..16_400) {
        let body = with_item(len(1, len(1, attribute("k", &"x".repeat(filler)))));
        let request = decode(&leaves(&body).0);
        assert_eq!(request.resource_spans[0].resource.as_ref().unwrap().attributes.len(), 3, "{filler}");
    }
}
