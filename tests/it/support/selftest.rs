//! The fakes against each other, without a gateway: what they send, they receive, over every wire;
//! what they forbid, they notice.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use spangate::otlp::compression::Encoding;

use super::{
    answer::{Refusal, Retry},
    authority::{AUTH_PATH, Authority, Script},
    client::{Export, Form, Wire},
    collector::{Collector, Reply},
    job::Job,
    server::{FakeServer, Problems, Reaction, Refusing, Speaks},
    signal::rows,
    spans,
    tls::TestTls,
    world::eventually,
};

/// Scenario: the client sends one export straight to the recording collector, over every wire, in every encoding.
/// Guarantees: what the collector records is what was sent, so that a difference found later is the gateway's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_and_collector_agree() {
    let tls = Arc::new(TestTls::new());
    let request = spans::export(&Job::new(1), 3);
    for (form, speaks, wire, alpn) in [
        (Form::Protobuf, Speaks::Http1, Wire::Http1, None),
        (Form::Protobuf, Speaks::Http1, Wire::TlsHttp1(Arc::clone(&tls)), Some("http/1.1")),
        (Form::Grpc, Speaks::Http2, Wire::H2c, None),
        (Form::Grpc, Speaks::Http2, Wire::TlsHttp2(Arc::clone(&tls)), Some("h2")),
    ] {
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
            let collector = Collector::start(speaks, alpn.map(|name| tls.server_config(&[name]))).await;
            let to = collector.url().rsplit(':').next().unwrap().parse::<u16>().unwrap();
            let export = Export::new(form, &request).over(wire.clone()).compressed(encoding);
            let answer = export.send(([127, 0, 0, 1], to).into()).await;
            answer.assert_accepted(form);
            let arrived = collector.only();
            assert_eq!(arrived.encoding, encoding.token());
            assert_eq!(arrived.request(), request);
            assert_eq!(arrived.inflated(), request.encode_to_vec());
            assert_eq!(collector.spans(), 3);
        }
    }
}

/// Scenario: every signal sent straight to the collector, where it belongs; then to a path that is no signal's.
/// Guarantees: the collector tells signals apart, answers each with its own response, and reports the stray.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_collector_tells_signals_apart() {
    for (form, speaks) in [(Form::Protobuf, Speaks::Http1), (Form::Grpc, Speaks::Http2)] {
        let collector = Collector::start(speaks, None).await;
        let to = collector.url().strip_prefix("http://").unwrap().parse().unwrap();
        collector.always(Reply::Partial { rejected: 3, message: "why" });
        for row in rows() {
            let answer = Export::raw(form, vec![10, 0]).to(row.signal).send(to).await;
            assert_eq!(answer.partial_of(row.signal, form), (3, "why".into()));
            let arrived = collector.received().pop().unwrap();
            assert_eq!((arrived.signal, arrived.inflated()), (row.signal, vec![10, 0]));
        }
        drop(Export::raw(form, "").path("/v1/spans").send(to).await);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(collector))).is_err());
    }
}

/// Scenario: the collector refuses, in both of its protocols.
/// Guarantees: the judge of refusals reads code, sentence and delay, and turns down a wrong one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_judged() {
    let refusal = Reply::Refuse { http: 503, grpc: 14, retry_after: Some(Duration::from_secs(7)) };
    let collector = Collector::grpc().await;
    let to = collector.url().strip_prefix("http://").unwrap().parse().unwrap();
    collector.always(refusal.clone());
    let export = Export::new(Form::Grpc, &spans::export(&Job::new(1), 1));
    let answer = export.send(to).await;
    let sentence = answer.assert_refused(Form::Grpc, Refusal::UNAVAILABLE);
    assert_eq!(sentence, "the collector says no");
    for wrong in
        [Refusal { grpc: 8, ..Refusal::UNAVAILABLE }, Refusal { retry: Retry::No, ..Refusal::UNAVAILABLE }]
    {
        assert!(std::panic::catch_unwind(|| answer.assert_refused(Form::Grpc, wrong)).is_err());
    }
    assert!(std::panic::catch_unwind(|| answer.assert_accepted(Form::Grpc)).is_err());

    let collector = Collector::http().await;
    let to = collector.url().strip_prefix("http://").unwrap().parse().unwrap();
    collector.always(refusal);
    let answer = Export::new(Form::Protobuf, &spans::export(&Job::new(1), 1)).send(to).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
    // A collector's HTTP answer has no RetryInfo: ours must.
    let judged = || answer.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    assert!(std::panic::catch_unwind(judged).is_err());
}

/// Scenario: questions of the right form for a known, an unknown and a scripted pair; then resets and refused connections.
/// Guarantees: the authority answers by pair and by script, and counts every question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_answers_as_told() {
    let authority = Authority::start().await;
    let job = Job::new(1);
    authority.allow(&job);
    let known = ask(&authority.url(), &job).await.unwrap();
    assert_eq!(known.status(), 200);
    assert_eq!(known.headers()["cache-control"], "private, max-age=300");
    let text = known.text().await.unwrap();
    assert!(text.contains(&job.trace_hex()), "{text}");
    assert_eq!(ask(&authority.url(), &Job::new(2)).await.unwrap().status(), 401);
    authority.next(Script::status(403).header("retry-after", "60").delay(Duration::from_millis(50)));
    assert_eq!(ask(&authority.url(), &job).await.unwrap().status(), 403);
    authority.next(Script::reset());
    assert!(ask(&authority.url(), &job).await.is_err());
    authority.always(Script::hang());
    let (url, asker) = (authority.url(), job.clone());
    let hanging = tokio::spawn(async move { ask(&url, &asker).await });
    eventually("the hanging question is seen", || async { authority.count() == 5 }).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!hanging.is_finished());
    hanging.abort();
    authority.always(None);
    assert_eq!(ask(&authority.url(), &job).await.unwrap().status(), 200);
    assert_eq!(authority.count(), 6);
    assert!(authority.most_in_flight() <= 2);
    let calls = authority.calls();
    assert_eq!(calls[0].headers["runner-token"], job.runner_token.as_str());
    assert!(calls.windows(2).all(|pair| pair[0].at <= pair[1].at));

    let refusing = Refusing::new();
    assert!(ask(&refusing.url(), &job).await.is_err());
}

async fn ask(url: &str, job: &Job) -> reqwest::Result<reqwest::Response> {
    spangate::tls::install_provider();
    reqwest::Client::new()
        .post(format!("{url}{AUTH_PATH}"))
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header("runner-token", &job.runner_token)
        .header("job-token", &job.job_token)
        .header("x-request-id", "01JD")
        .header("x-forwarded-for", "192.0.2.1")
        .header("user-agent", "spangate/0.0.0")
        .body("{}")
        .send()
        .await
}

/// Scenario: a handler panics; a request brings a credential to the collector.
/// Guarantees: both are reported, and an unreported problem fails the test that dropped the fake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problems_fail_the_test() {
    let problems = Problems::default();
    let server = FakeServer::start(Speaks::Http1, None, problems.clone(), |_| async {
        assert_eq!(1, 2, "a mistake in a handler");
        Reaction::Reset
    })
    .await;
    let export = Export::new(Form::Protobuf, &spans::export(&Job::new(1), 1));
    assert!(export.try_send(server.address()).await.is_err());
    let seen = problems.take();
    assert!(seen.len() == 1 && seen[0].contains("a mistake in a handler"), "{seen:?}");
    problems.report("left over");
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(server))).is_err());

    let collector = Collector::http().await;
    let to = collector.url().strip_prefix("http://").unwrap().parse().unwrap();
    export.clone().header("runner-token", "glrt-x").send(to).await.assert_accepted(Form::Protobuf);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(collector))).is_err());
}
