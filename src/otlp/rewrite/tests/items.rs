//! Items: which are left out, which lose attributes, and that all others stay to the byte.

use super::*;

fn spans(body: &[u8]) -> Vec<String> {
    let entries = decode(body).resource_spans.into_iter();
    entries.flat_map(|entry| entry.scope_spans).flat_map(|scope| scope.spans).map(|span| span.name).collect()
}

fn named(name: &str, size: usize) -> Vec<u8> {
    let span = [len(1, [1; 16]), len(5, name)].concat();
    // An unknown field of just the bytes that are missing; its own head takes three.
    let filler = size.checked_sub(span.len()).unwrap().checked_sub(3).unwrap();
    let span = [span, len(99, vec![b'.'; filler])].concat();
    assert_eq!(span.len(), size);
    span
}

fn scopes<'a>(spans: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    len(2, spans.into_iter().flat_map(|span| len(2, span)).collect::<Vec<_>>())
}

/// Scenario: spans of one byte less, just as many and one more than the limit, over several scopes.
/// Guarantees: only the longer ones are left out, counted, and the rest keep their order.
#[test]
fn too_long_spans_are_left_out() {
    let [short, exact, long] = [99, 100, 101].map(|size| named(&format!("{size}"), size));
    let entry =
        [scopes([&long, &short, &exact]), scopes([&long]), scopes([&short, &long, &long, &exact])].concat();
    let body = [request(&entry), request(scopes([&exact]))].concat();
    let tight = Policy { max_item_size: 100, ..policy() };
    let (out, rewritten) = run(&body, &tight, u64::MAX);
    assert_eq!(spans(&out), ["99", "100", "99", "100", "100"]);
    assert_eq!((rewritten.kept, rewritten.oversize, rewritten.over_budget), (5, 4, 0));
    assert_eq!(decode(&out).resource_spans[0].scope_spans.len(), 2);
}

/// Scenario: budgets from none to more than enough, with too long spans in between.
/// Guarantees: the first so many that are not too long stay, the rest is counted as over budget.
#[test]
fn the_budget_counts_spans_that_are_not_too_long() {
    let [a, long, b, c] =
        [("a", 50), ("long", 101), ("b", 60), ("c", 40)].map(|(name, size)| named(name, size));
    let body = [request(scopes([&a, &long, &b])), request([scopes([&long]), scopes([&c])].concat())].concat();
    let tight = Policy { max_item_size: 100, ..policy() };
    let names = ["a", "b", "c"];
    for budget in 0..5_u64 {
        let kept = budget.min(3);
        let (out, rewritten) = run(&body, &tight, budget);
        assert_eq!(spans(&out), names[..usize::try_from(kept).unwrap()]);
        assert_eq!((rewritten.kept, rewritten.oversize, rewritten.over_budget), (kept, 2, 3 - kept));
        assert_eq!(decode(&out).resource_spans.len(), [0, 1, 1, 2, 2][usize::try_from(budget).unwrap()]);
    }
}

/// Scenario: a scope in two parts, with an url before and after, around a span that goes.
/// Guarantees: all that stays is there to the byte and in its order, so that it merges as before.
#[test]
fn what_stands_around_a_dropped_span_stays() {
    let parts = [
        len(3, "first"),
        len(1, [len(1, "name"), len(3, attribute("a", "b"))].concat()),
        len(2, named("gone", 120)),
        len(1, len(2, "version")),
        len(2, span([])),
        len(3, "second"),
    ];
    let tight = Policy { max_item_size: 100, ..policy() };
    let (out, _) = run(&request(len(2, parts.concat())), &tight, u64::MAX);
    let kept = [&parts[0][..], &parts[1], &parts[3], &parts[4], &parts[5]].concat();
    assert!(out.ends_with(&len(2, kept)));
}

/// Scenario: heads of messages and spans written with needless bytes, nothing to drop.
/// Guarantees: scopes and spans leave with those very bytes.
#[test]
fn untouched_scopes_keep_their_own_heads() {
    let long = |number: u64, content: &[u8]| {
        [long_varint(number << 3 | 2, 3), long_varint(content.len() as u64, 7), content.to_vec()].concat()
    };
    let scopes = long(2, &[long(2, &span([])), long(3, b"url"), long(1, &long(1, b"name"))].concat());
    let (out, rewritten) = leaves(&long(1, &scopes));
    assert!(out.ends_with(&scopes));
    assert_eq!(rewritten.kept, 1);
}

/// Scenario: protected keys in the attributes of a scope, a span, its events and its links.
/// Guarantees: by default all stay to the byte; each option removes them from its own place only.
#[test]
fn scopes_and_items_are_stripped_on_request() {
    let both = |number: u64| {
        [attribute("ci-job-id", "forged"), attribute("mine", "x")].map(|kv| len(number, kv)).concat()
    };
    let scope = len(1, [both(3), len(1, "name")].concat());
    let item = span([both(9), len(11, both(3)), len(13, both(4)), int(9999, 5)].concat());
    let body = request(len(2, [scope, len(2, &item), len(2, span([]))].concat()));

    let keys = |strip_scope: bool, strip_items: bool| {
        let (out, rewritten) = run(&body, &Policy { strip_scope, strip_items, ..policy() }, u64::MAX);
        assert_eq!(rewritten.stripped, u64::from(strip_scope) + u64::from(strip_items));
        assert_eq!(rewritten.kept, 2);
        let scopes = decode(&out).resource_spans.remove(0).scope_spans.remove(0);
        let (scope, first) = (scopes.scope.unwrap(), &scopes.spans[0]);
        assert_eq!((scope.name.as_str(), scopes.spans.len()), ("name", 2));
        assert_eq!((first.events[0].attributes.len(), first.links[0].attributes.len()), (2, 2));
        if !strip_items {
            assert!(out.windows(item.len()).any(|window| window == item));
        }
        let names = |attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]| {
            attributes.iter().map(|attribute| attribute.key.clone()).collect::<Vec<_>>()
        };
        (names(&scope.attributes), names(&first.attributes))
    };
    let (all, mine) = (vec!["ci-job-id".to_owned(), "mine".to_owned()], vec!["mine".to_owned()]);
    assert_eq!(keys(false, false), (all.clone(), all.clone()));
    assert_eq!(keys(true, false), (mine.clone(), all.clone()));
    assert_eq!(keys(false, true), (all, mine.clone()));
    assert_eq!(keys(true, true), (mine.clone(), mine));
}

/// Scenario: an item that is too long, and would not be without its protected attribute.
/// Guarantees: its length is the one that it came with: it is left out, and nothing in it is counted.
#[test]
fn a_length_is_the_one_it_came_with() {
    let item = span(len(9, attribute("ci.job.id", &"x".repeat(100))));
    let strict = Policy { strip_items: true, max_item_size: 100, ..policy() };
    let (_, rewritten) = run(&with_span(item), &strict, u64::MAX);
    assert_eq!((rewritten.kept, rewritten.oversize, rewritten.stripped), (0, 1, 0));
}
