//! What a stranger's bytes can make the OTLP core allocate, counted by the allocator itself: memory
//! in proportion to the body, and never more for more spans.

use std::sync::Arc;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use spangate::otlp::{
    TraceId,
    compression::{Encoding, InflateCaps, deflate, inflate},
    inspect::{Depth, Rules, inspect},
    json::to_protobuf,
    rewrite::{Policy, ProtectedKeys, Stamp, Value, rewrite},
    service::{ServiceNames, all_allowed},
    signal::Signal,
};

const TRACE: [u8; 16] = [0xAB; 16];

/// What may be taken beside ten times the body: a body of a few bytes still gets a stamp.
const SPARE: u64 = 8 << 10;

fn varint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    spangate::otlp::wire::put_varint(&mut out, value);
    out
}

fn len(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn attribute(key: &str, value: &str) -> Vec<u8> {
    [len(1, key), len(2, len(1, value))].concat()
}

/// A span as short as one can be and pass the gate, or one of about 590 bytes.
fn span(is_long: bool) -> Vec<u8> {
    let attributes = (0..8).map(|n| len(9, attribute(&format!("gitlab.job.fact.{n}"), &"v".repeat(36))));
    [len(1, TRACE), if is_long { attributes.collect::<Vec<_>>().concat() } else { Vec::new() }].concat()
}

fn spans(count: usize, is_long: bool) -> Vec<u8> {
    let resource = len(1, len(1, attribute("host.name", "vm")));
    len(1, [resource, len(2, len(2, span(is_long)).repeat(count))].concat())
}

fn stamp() -> Stamp {
    Stamp::new([
        ("ci.job.id", Value::Int(1_234_567_890)),
        ("ci.project.id", Value::Int(1_234_567)),
        ("ci.pipeline.id", Value::Int(1_234_567_890)),
        ("ci.pipeline.source", Value::String("merge_request_event")),
        ("ci.runner.id", Value::Int(123_456)),
        ("ci.runner_manager.system_xid", Value::String("s_0123456789ab")),
        ("ci.runner.type", Value::String("instance_type")),
        ("service.name", Value::String("gitlab-ci-runner")),
    ])
}

/// Scans and rewrites; gives what each allocated and whether the body passed.
fn job(signal: Signal, body: &Bytes, strip: bool) -> (AllocationInfo, AllocationInfo, bool) {
    let rules = Rules {
        trace_id: TraceId::from_lower_hex(&"ab".repeat(16)),
        max_item_size: usize::MAX,
        refuse_unknown: false,
        depth: Depth::Full,
    };
    let policy = Policy {
        protected: Arc::new(ProtectedKeys::new(["ci.job.id", "service.name"], ["x"])),
        strip_scope: strip,
        strip_items: strip,
        max_item_size: 1 << 20,
    };
    let (stamp, mut passed) = (stamp(), false);
    // A body that was never shared pays for that once; those that come over the wire are shared already.
    drop(body.clone());
    let inspected = measure(|| passed = inspect(signal, body, &rules).is_ok());
    let rewritten = measure(|| drop(std::hint::black_box(rewrite(signal, body, &policy, &stamp, 1_000_000))));
    (inspected, rewritten, passed)
}

/// Scenario: the service names of requests of 1 to 8,192 spans in one resource.
/// Guarantees: looking at them never allocates, however many spans.
#[test]
fn service_names_are_read_without_allocating() {
    let names = ServiceNames::new(["gitlab-ci-rails"]);
    for count in [1, 8_192] {
        let resource = len(1, len(1, attribute("service.name", "gitlab-ci-rails")));
        let body = len(1, [resource, len(2, len(2, span(true)).repeat(count))].concat());
        let mut allowed = Ok(false);
        let read = measure(|| allowed = all_allowed(Signal::Traces, &body, &names));
        assert_eq!((allowed, read.count_total), (Ok(true), 0), "{count} spans");
    }
}

/// Scenario: requests of 1 to 8,192 spans in one resource, and of 64 resources.
/// Guarantees: the scan never allocates; the rewrite does so at most three times for one resource, however many spans.
#[test]
fn allocations_do_not_grow_with_spans() {
    for count in [1, 32, 512, 8_192] {
        let (inspected, rewritten, passed) = job(Signal::Traces, &spans(count, true).into(), false);
        assert!(passed);
        assert_eq!(inspected.count_total, 0, "{count} spans");
        assert!((1..=3).contains(&rewritten.count_total), "{count} spans: {rewritten:?}");
    }
    let (inspected, few, _) = job(Signal::Traces, &spans(8, true).repeat(64).into(), false);
    let (_, many, _) = job(Signal::Traces, &spans(64, true).repeat(64).into(), false);
    assert_eq!(inspected.count_total, 0);
    assert_eq!(few.count_total, many.count_total);
}

/// Bodies that make the most of what they are, each about as long as told.
fn amplifiers(size: usize) -> Vec<(Signal, &'static str, Vec<u8>)> {
    let fill = |part: Vec<u8>| part.repeat(size / part.len());
    let in_entry = |content: Vec<u8>| len(1, [content, len(2, len(2, span(false)))].concat());
    let in_scope = |content: Vec<u8>| len(1, len(2, [content, len(2, span(false))].concat()));
    let thousand = |entry: Vec<u8>| entry.repeat((size / entry.len()).min(1_000));
    let point = |attributes: Vec<u8>| len(1, len(2, len(2, len(5, len(1, attributes)))));
    let traces = [
        ("resources of nothing", thousand(len(1, []))),
        ("resources with the shortest span", thousand(spans(1, false))),
        ("resources with the shortest span and no resource", thousand(in_entry(vec![]))),
        (
            "every other resource attribute forged",
            in_entry(len(1, fill([len(1, []), len(1, len(1, "x"))].concat()))),
        ),
        ("every other resource field unknown", in_entry(len(1, fill([len(1, []), len(15, [])].concat())))),
        ("resources split in many", in_entry(fill(len(1, len(1, []))))),
        ("scopes of nothing", in_entry(len(2, []).repeat((size / 2).min(1_000)))),
        ("scopes with the shortest span", in_entry(fill(len(2, len(2, span(false)))))),
        ("every other scope field unknown", in_scope(fill([len(2, span(false)), len(15, [])].concat()))),
        (
            "every other scope attribute forged",
            in_scope(len(1, fill([len(3, []), len(3, len(1, "x"))].concat()))),
        ),
        (
            "entities that lose a key each",
            in_entry(len(1, fill(len(3, [len(4, "a"), len(4, "x")].concat())))),
        ),
        ("entities that go", in_entry(len(1, fill(len(3, [len(4, "x"), len(3, "x")].concat()))))),
        (
            "every other span attribute forged",
            in_scope(len(2, [len(1, TRACE), fill([len(9, []), len(9, len(1, "x"))].concat())].concat())),
        ),
        ("spans of the shortest", len(1, len(2, fill(len(2, span(false)))))),
    ];
    let strings = [fill(len(5, [])), vec![]].concat();
    let dictionary = [len(5, []), len(5, "x"), fill(len(6, [8, 1]))].concat();
    let profile = len(1, len(2, len(2, [])));
    traces
        .into_iter()
        .map(|(name, body)| (Signal::Traces, name, body))
        .chain([
            (Signal::Logs, "records of nothing", len(1, len(2, fill(len(2, []))))),
            (
                Signal::Metrics,
                "every other attribute of a data point forged",
                point(fill([len(7, []), len(7, len(1, "x"))].concat())),
            ),
            (Signal::Metrics, "metrics of nothing", len(1, len(2, fill(len(2, []))))),
            (Signal::Profiles, "a dictionary of empty strings", [len(2, strings), profile.clone()].concat()),
            (Signal::Profiles, "a dictionary of forged attributes", [len(2, dictionary), profile].concat()),
        ])
        .collect()
}

/// Scenario: bodies of 100 bytes to 200 KB that are all head and no content, in every place that the rewriter edits.
/// Guarantees: each passes the scan, and what it costs stays under ten times its length.
#[test]
fn no_protobuf_costs_ten_times_its_length() {
    for size in [100, 2_000, 20_000, 200_000] {
        for (signal, name, body) in amplifiers(size) {
            let body = Bytes::from(body);
            for strip in [false, true] {
                let (inspected, rewritten, passed) = job(signal, &body, strip);
                assert!(passed, "{name}");
                assert_eq!(inspected.bytes_max, 0, "{name}");
                let bound = 10 * body.len() as u64 + SPARE;
                assert!(rewritten.bytes_max < bound, "{name}: {} of {}", rewritten.bytes_max, body.len());
            }
        }
    }
}

/// Scenario: bodies of which every other two or three bytes would have to go, just past a power of two and far past it:
/// unknown fields of resources and of log records' scopes, and in a profile's dictionary attributes under place 0.
/// Guarantees: whether they are refused or rewritten, it costs less than ten times their length; the long ones are refused.
#[test]
fn what_would_have_to_be_cut_to_crumbs_is_refused() {
    for parts in [1_028, 4_100, 65_540, 262_148] {
        let resource = len(1, [len(3, [0x28, 0, 0x0A, 0]), vec![0x28, 0, 0x0A, 0]].concat());
        let entities = len(1, len(3, [0x28, 0, 0x12, 0].repeat(parts)));
        let traces = len(1, [entities, len(2, len(2, span(false)))].concat());
        let split = len(1, [resource.repeat(parts), len(2, len(2, span(false)))].concat());
        let logs = len(1, [len(2, []).repeat(2), [0x12, 4, 0x20, 0, 0x12, 0].repeat(parts)].concat());
        let first = [len(5, "x"), len(6, []).repeat(parts)].concat();
        let profiles = [len(2, first), len(1, len(2, len(2, [])))].concat();
        for (signal, body) in [
            (Signal::Traces, traces),
            (Signal::Traces, split),
            (Signal::Logs, logs),
            (Signal::Profiles, profiles),
        ] {
            let body = Bytes::from(body);
            let (_, rewritten, _) = job(signal, &body, true);
            let bound = 10 * body.len() as u64 + SPARE;
            assert!(
                rewritten.bytes_max < bound,
                "{signal:?} {parts}: {} of {}",
                rewritten.bytes_max,
                body.len()
            );
        }
    }
}

/// Scenario: documents of short messages, short strings, numbers, escapes and unknown members.
/// Guarantees: decoding each stays under ten times its length.
#[test]
fn no_json_costs_ten_times_its_length() {
    let list = |item: &str| vec![item; 40_000].join(",");
    let span = |field: &str, items: String| {
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"{field}":[{items}]}}]}}]}}]}}"#)
    };
    let point = |field: &str, items: String| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{{"{field}":[{items}]}}]}}}}]}}]}}]}}"#
        )
    };
    let documents = [
        (Signal::Traces, format!(r#"{{"resourceSpans":[{}]}}"#, list("{}"))),
        (Signal::Traces, span("attributes", list("{}"))),
        (Signal::Traces, span("attributes", list(r#"{"key":"k","value":{"arrayValue":{"values":[{}]}}}"#))),
        (Signal::Traces, span("attributes", list(r#"{"key":"\u0041\n","value":{"stringValue":"\\"}}"#))),
        (Signal::Traces, span("attributes", list(r#"{"value":{"intValue":-1}}"#))),
        (Signal::Traces, span("attributes", list(r#"{"value":{"doubleValue":1}}"#))),
        (Signal::Traces, span("events", list(r#"{"timeUnixNano":1}"#))),
        (Signal::Traces, span("unknown", list("[[]]"))),
        (Signal::Metrics, point("bucketCounts", list("1"))),
        (Signal::Metrics, point("explicitBounds", list("0"))),
        (
            Signal::Logs,
            format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#, list("{}")),
        ),
    ];
    for (signal, document) in documents {
        let mut outcome = None;
        let cost = measure(|| outcome = Some(to_protobuf(signal, document.as_bytes())));
        let start = document.get(..90.min(document.len())).unwrap_or_default();
        assert!(outcome.is_some_and(|outcome| outcome.is_ok()), "{start}");
        assert!(
            cost.bytes_max < 10 * document.len() as u64,
            "{start}: {} of {}",
            cost.bytes_max,
            document.len()
        );
    }
}

/// Bytes that hardly compress.
fn noise(len: u64) -> Vec<u8> {
    (0..len).map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[2]).collect()
}

/// Scenario: bombs, long and short, inflated under caps, and honest bodies.
/// Guarantees: what is held stays under ten times what comes out, or of the cap where nothing may.
#[test]
fn no_inflation_costs_ten_times_its_output() {
    let caps = InflateCaps { max_size: 1 << 20, max_ratio: 200 };
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        for (content, fits) in
            [(vec![0; 8 << 20], false), (vec![0; 2 << 20], false), (noise(400_000), true), (noise(600), true)]
        {
            let body = Bytes::from(deflate(encoding, &[content.clone().into()]).concat());
            let mut inflated = None;
            let cost = measure(|| inflated = inflate(encoding, &body, caps).ok());
            assert_eq!(inflated.is_some(), fits);
            let output = if fits { content.len() } else { caps.max_size };
            // The first inflation of a thread also makes the context that the next ones use again.
            let bound = 10 * output as u64 + (64 << 10);
            assert!(cost.bytes_max < bound, "{encoding:?}: {} for {output}", cost.bytes_max);
        }
    }
}
