//! What the spans themselves are held to: the job's own trace, their length, the job's budget; and
//! that the answer says what became of each.

use std::time::Duration;

use futures_util::future::join_all;
use prost::Message as _;
use spangate::config::{Mode, units::ByteSize};

use crate::support::{
    answer::Refusal,
    client::{Export, Form},
    collector::Reply,
    job::Job,
    spans::{self, assert_stamped},
    world::World,
};

const FOREIGN: [u8; 16] = [0xfe; 16];

/// Scenario: 64 resources with 8 spans each; one span of them, at sixteen places, is of a foreign trace, of none, or of a short id.
/// Guarantees: the whole request is refused, wherever it stands; no id is told, nothing arrives, the job's budget is not charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_foreign_span_refuses_all() {
    let job = Job::new(1);
    let world = World::of_job(&job, |config| config.traces.max_spans_per_job = 512).await;
    let honest = spans::wide_export(&job, 64, 8);
    let places = [0, 1, 7, 8, 63, 64, 100, 199, 255, 256, 300, 400, 448, 503, 510, 511];
    let ids: [&[u8]; 4] = [&FOREIGN, &[], &[0; 16], &job.trace_id[..15]];
    for (turn, place) in places.into_iter().enumerate() {
        let mut request = honest.clone();
        let span = &mut request.resource_spans[place / 8].scope_spans[0].spans[place % 8];
        span.trace_id = ids[turn % ids.len()].to_vec();
        let form = Form::ALL[turn % 3];
        let answer = world.send(&Export::of(form, &job, &request)).await;
        let sentence = answer.assert_refused(form, Refusal::MALFORMED);
        assert!(!sentence.to_lowercase().contains("fefe"), "{sentence}");
        assert!(!sentence.contains(&job.trace_hex()), "{sentence}");
    }
    assert_eq!(world.collector.count(), 0);
    world.send(&Export::of(Form::Protobuf, &job, &honest)).await.assert_accepted(Form::Protobuf);
    assert_eq!(world.collector.spans(), 512);
}

/// Scenario: a span whose `trace_id` comes twice, the job's own last; links to other traces.
/// Guarantees: every occurrence is checked, and links may point anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_trace_id_counts_and_links_are_free() {
    let job = Job::new(1);
    let world = World::of_job(&job, |_| {}).await;
    let twice = [spans::raw_field(1, &FOREIGN), spans::span(&job, 0).encode_to_vec()].concat();
    let body = spans::raw_field(1, &spans::raw_field(2, &spans::raw_field(2, &twice)));
    let answer = world.send(&Export::raw(Form::Protobuf, body).tokens(&job)).await;
    answer.assert_refused(Form::Protobuf, Refusal::MALFORMED);

    let mut linked = spans::export(&job, 2);
    linked.resource_spans[0].scope_spans[0].spans[1].links.push(
        opentelemetry_proto::tonic::trace::v1::span::Link {
            trace_id: FOREIGN.to_vec(),
            span_id: vec![7; 8],
            ..Default::default()
        },
    );
    world.send(&Export::of(Form::Protobuf, &job, &linked)).await.assert_accepted(Form::Protobuf);
    assert_stamped(&job, &linked, &world.collector.only().request());
}

/// Scenario: a foreign span under `trace_id: shadow`, and under `off`.
/// Guarantees: both let it pass; `shadow` counts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadowed_gate_only_counts() {
    let job = Job::new(1);
    for (mode, counted) in [(Mode::Shadow, 1.0), (Mode::Off, 0.0)] {
        let world = World::of_job(&job, |config| config.traces.trace_id = mode).await;
        let mut request = spans::export(&job, 3);
        request.resource_spans[0].scope_spans[0].spans[2].trace_id = FOREIGN.to_vec();
        world.send(&Export::of(Form::Protobuf, &job, &request)).await.assert_accepted(Form::Protobuf);
        assert_stamped(&job, &request, &world.collector.only().request());
        let foreign = world.metrics().await.sum("spangate_spans_total", &[("outcome", "foreign")]);
        assert!((foreign - counted).abs() < 0.5, "{foreign} foreign spans counted under {mode:?}");
    }
}

/// Scenario: one span of five is longer than 4 KiB; then the collector refuses two of the others.
/// Guarantees: it is dropped, the others arrive untouched, and the counts add up in every form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_too_long_span_is_dropped_alone() {
    let job = Job::new(1);
    let world = World::of_job(&job, |_| {}).await;
    let mut request = spans::export(&job, 5);
    spans::overfill(&mut request.resource_spans[0].scope_spans[0].spans[2]);
    let mut kept = request.clone();
    drop(kept.resource_spans[0].scope_spans[0].spans.remove(2));
    for form in Form::ALL {
        let export = Export::of(form, &job, &request);
        let (rejected, sentence) = world.send(&export).await.partial(form);
        assert_eq!(rejected, 1);
        assert!(!sentence.is_empty());
        assert_stamped(&job, &kept, &world.collector.received().pop().unwrap().request());

        world.collector.next(Reply::Partial { rejected: 2, message: "the collector says why" });
        let (rejected, merged) = world.send(&export).await.partial(form);
        assert_eq!(rejected, 3);
        assert!(merged.contains("the collector says why") && merged.contains(&sentence), "{merged}");
    }
    let dropped = world.metrics().await.sum("spangate_spans_total", &[("outcome", "oversize")]);
    assert!((dropped - 6.0).abs() < 0.5, "{dropped}");
}

/// Scenario: spans around the limit in their encoded length.
/// Guarantees: a span of exactly the limit passes, one byte more does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_length_limit_is_exact() {
    let job = Job::new(1);
    let mut request = spans::export(&job, 2);
    let long = &mut request.resource_spans[0].scope_spans[0].spans[1];
    long.attributes.push(spans::text("step.output", &"x".repeat(1000)));
    let length = long.encoded_len() as u64;
    for (limit, rejected) in [(length, 0), (length - 1, 1)] {
        let world = World::of_job(&job, |config| config.traces.max_span_size = ByteSize(limit)).await;
        let answer = world.send(&Export::of(Form::Protobuf, &job, &request)).await;
        assert_eq!(answer.partial(Form::Protobuf).0, rejected, "limit {limit}");
    }
}

/// Scenario: every span is too long.
/// Guarantees: still a 200, with all of them rejected, and nothing is forwarded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_left_is_nothing_forwarded() {
    let job = Job::new(1);
    let world = World::of_job(&job, |_| {}).await;
    let mut request = spans::wide_export(&job, 2, 2);
    for entry in &mut request.resource_spans {
        entry.scope_spans[0].spans.iter_mut().for_each(spans::overfill);
    }
    for form in Form::ALL {
        let answer = world.send(&Export::of(form, &job, &request)).await;
        assert_eq!(answer.partial(form).0, 4);
    }
    assert_eq!(world.collector.count(), 0);
}

/// Scenario: a job sends 400 spans three times, then one more; another job of the same runner sends too.
/// Guarantees: 1000 spans of the first one arrive, over all its requests; the rest is rejected, not refused; the other job has its own budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_budget_holds_across_requests() {
    let job = Job::new(1);
    let world = World::of_job(&job, |_| {}).await;
    let request = spans::export(&job, 400);
    for (form, rejected) in [(Form::Protobuf, 0), (Form::Grpc, 0), (Form::Json, 200), (Form::Protobuf, 400)] {
        let answer = world.send(&Export::of(form, &job, &request)).await;
        assert_eq!(answer.partial(form).0, rejected, "{form:?}");
    }
    assert_eq!((world.collector.count(), world.collector.spans()), (3, 1000));
    // Of a request that fits in part, the first spans are kept.
    let last = world.collector.received().pop().unwrap().request();
    assert_eq!(spans::spans(&last), spans::spans(&request)[..200]);

    let mut other = Job::new(2);
    other.runner_token.clone_from(&job.runner_token);
    world.authority.allow(&other);
    let answer = world.send(&Export::of(Form::Protobuf, &other, &spans::export(&other, 3))).await;
    answer.assert_accepted(Form::Protobuf);
}

/// Scenario: the collector refuses, hangs up or is too slow for 600 spans; then they come again.
/// Guarantees: what did not arrive gives the budget back, so the exporter's retry loses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_forward_gives_the_budget_back() {
    let job = Job::new(1);
    let world = World::of_job(&job, |config| config.collector.timeout = Duration::from_millis(500)).await;
    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 600));
    let unavailable = Reply::Refuse { http: 503, grpc: 14, retry_after: None };
    for reply in [unavailable, Reply::Reset, Reply::Hang] {
        world.collector.always(reply);
        assert_ne!(world.send(&export).await.status, 200);
    }
    world.collector.always(Reply::Accept);
    world.send(&export).await.assert_accepted(Form::Protobuf);
    let answer = world.send(&export).await;
    assert_eq!(answer.partial(Form::Protobuf).0, 200);
}

/// Scenario: 50 exports of 30 spans at once against a budget of 1000.
/// Guarantees: exactly 1000 arrive: requests that run side by side can't overdraw it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_budget_can_not_be_overdrawn() {
    let job = Job::new(1);
    let world = World::of_job(&job, |_| {}).await;
    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 30));
    let answers = join_all((0..50).map(|_| world.send(&export))).await;
    let rejected: i64 = answers.iter().map(|answer| answer.partial(Form::Protobuf).0).sum();
    assert_eq!((world.collector.spans(), rejected), (1000, 500));
}
