//! What a sender is told: each row of the contract's table, in each form of OTLP. A refusal is read
//! back with decoders that are not the gateway's.

use std::time::Duration;

use bytes::Bytes;
use spangate::{
    config::{ShareOfMemory, units::ByteSize},
    otlp::compression::Encoding,
};

use crate::support::{
    answer::{Refusal, Retry},
    authority::Script,
    client::{Export, Form, Wire},
    collector::Reply,
    job::Job,
    rpc,
    server::Refusing,
    spans,
    world::{World, eventually, unlimited},
};

/// Scenario: a good export in each form; the collector takes it, warns about it, or refuses a part.
/// Guarantees: the sender gets a valid export response in its own form, with the collector's own partial success.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn success_is_the_collectors_own() {
    let world = World::start().await;
    let job = Job::new(1);
    world.authority.allow(&job);
    for form in Form::ALL {
        let export = Export::of(form, &job, &spans::export(&job, 2));
        world.send(&export).await.assert_accepted(form);
        world.collector.next(Reply::Partial { rejected: 1, message: "one was too old" });
        assert_eq!(world.send(&export).await.partial(form), (1, "one was too old".into()));
        world.collector.next(Reply::Partial { rejected: 0, message: "only a warning" });
        assert_eq!(world.send(&export).await.partial(form), (0, "only a warning".into()));
    }
}

/// Scenario: bodies that are no OTLP: cut short, of a wrong wire type, no JSON, an unframed gRPC message.
/// Guarantees: 400 / `INVALID_ARGUMENT` without an invitation to retry, and nothing reaches the collector.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_payloads() {
    let world = World::start().await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let bodies: [(Form, &'static [u8]); 6] = [
        (Form::Protobuf, b"\x0a\x05\x01"),
        (Form::Protobuf, b"\x08\x01"),
        (Form::Grpc, b"\x0a\x05\x01"),
        (Form::Json, b"{\"resourceSpans\":["),
        (Form::Json, b"[]"),
        (Form::Json, b"{\"resourceSpans\":[],\"resourceSpans\":[]}"),
    ];
    for (form, body) in bodies {
        let answer = world.send(&Export::raw(form, body).tokens(&job)).await;
        answer.assert_refused(form, Refusal::MALFORMED);
    }
    let broken = Export::raw(Form::Protobuf, &b"no gzip"[..]).tokens(&job);
    let answer = world.send(&broken.header("content-encoding", "gzip")).await;
    answer.assert_refused(Form::Protobuf, Refusal::MALFORMED);
    assert_eq!(world.collector.count(), 0);
}

/// Scenario: no credentials; credentials that the authority denies with 401 and with 403.
/// Guarantees: 401 with a challenge, 403 without, and their gRPC codes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_are_not_good() {
    let world = World::start().await;
    let (stranger, unassigned) = (Job::new(1), Job::new(2));
    world.authority.know(&unassigned, Script::status(403));
    for form in Form::ALL {
        let request = spans::export(&stranger, 1);
        let answer = world.send(&Export::new(form, &request)).await;
        answer.assert_refused(form, Refusal::UNAUTHENTICATED);
        let answer = world.send(&Export::of(form, &stranger, &request)).await;
        answer.assert_refused(form, Refusal::UNAUTHENTICATED);
        let answer = world.send(&Export::of(form, &unassigned, &request)).await;
        answer.assert_refused(form, Refusal::FORBIDDEN);
    }
    assert_eq!(world.collector.count(), 0);
}

/// Scenario: paths that are nearly right, over both HTTP versions.
/// Guarantees: 404, exact matching, before anybody is asked about a token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_paths() {
    let world = World::start().await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let unknown = Refusal { http: 404, grpc: 12, retry: Retry::No };
    for form in [Form::Protobuf, Form::Json] {
        for path in ["/", "/v1/traces/", "/v1//traces", "/V1/traces", "/v1/trace", "/v1/metrics", "/v1/logs"]
        {
            for wire in [Wire::Http1, Wire::H2c] {
                let export = Export::of(form, &job, &spans::export(&job, 1)).path(path).over(wire);
                assert_eq!(world.send(&export).await.status, unknown.http, "{path}");
            }
        }
    }
    for path in [
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        "/v1/traces",
        "/",
    ] {
        let export = Export::of(Form::Grpc, &job, &spans::export(&job, 1)).path(path);
        world.send(&export).await.assert_refused(Form::Grpc, unknown);
    }
    assert_eq!((world.authority.count(), world.collector.count()), (0, 0));
}

/// Scenario: other methods; other content types; other content encodings.
/// Guarantees: 405 with `Allow`, 415, and for gRPC UNIMPLEMENTED with the encodings that are taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_methods_types_and_encodings() {
    let world = World::start().await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let http = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
    for method in ["GET", "PUT", "OPTIONS", "DELETE"] {
        let answer = world.send(&http.clone().method(method)).await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("POST"), "RFC 9110, 15.5.6");
    }
    for content_type in ["text/plain", "application/octet-stream", "application/x-protobuf2", ""] {
        let answer = world.send(&http.clone().replace("content-type", content_type)).await;
        assert_eq!(answer.status, 415, "{content_type}");
    }
    assert_eq!(world.send(&http.clone().without("content-type")).await.status, 415);
    for encoding in ["br", "deflate", "gzip, gzip", "gzip, identity"] {
        let answer = world.send(&http.clone().header("content-encoding", encoding)).await;
        assert_eq!(answer.status, 415, "{encoding}");
    }

    let message = spans::export(&job, 1);
    let grpc = Export::of(Form::Grpc, &job, &message);
    let unimplemented = Refusal { http: 415, grpc: 12, retry: Retry::No };
    let answer = world.send(&grpc.clone().header("grpc-encoding", "snappy")).await;
    answer.assert_refused(Form::Grpc, unimplemented);
    let offered = answer.header("grpc-accept-encoding").unwrap();
    for encoding in ["gzip", "zstd", "identity"] {
        assert!(offered.split(',').any(|one| one.trim() == encoding), "{offered}");
    }
    assert_eq!((world.authority.count(), world.collector.count()), (0, 0));
}

/// Scenario: content types with parameters and in other cases.
/// Guarantees: they are what they are: media types are case-insensitive and may have parameters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_types_may_have_parameters() {
    let world = World::start().await;
    let job = Job::new(1);
    world.authority.allow(&job);
    for (form, content_type) in [
        (Form::Json, "application/json; charset=utf-8"),
        (Form::Json, "Application/JSON"),
        (Form::Protobuf, "application/x-protobuf;v=1"),
        (Form::Grpc, "application/grpc+proto"),
    ] {
        let export = Export::of(form, &job, &spans::export(&job, 1)).replace("content-type", content_type);
        world.send(&export).await.assert_accepted(form);
    }
}

/// Scenario: gRPC calls whose frames break the rules: flagged compressed by nothing, two messages, none, cut short.
/// Guarantees: an error that no client retries, never a half-read message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_grpc_frames() {
    let world = World::start().await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let call = |body: Vec<u8>| Export::bare(Form::Grpc, Bytes::from(body)).tokens(&job);
    let message = Export::new(Form::Grpc, &spans::export(&job, 1)).body().clone();
    let flagged = call(rpc::frame(true, &message[5..]).to_vec());
    let answer = world.send(&flagged).await;
    answer.assert_refused(Form::Grpc, Refusal { http: 400, grpc: 13, retry: Retry::No });
    let twice = [&message[..], &message[..]].concat();
    let cut = message[..message.len() - 1].to_vec();
    let bad_flag = [&[2], &message[1..]].concat();
    for body in [twice, cut, bad_flag, Vec::new()] {
        let answer = world.send(&call(body)).await;
        let code = answer.grpc_code().unwrap();
        // gRPC's own implementations differ between these three; no exporter retries any of them.
        assert!([3, 12, 13].contains(&code), "{answer:?}");
        answer.assert_refused(Form::Grpc, Refusal { http: 400, grpc: code, retry: Retry::No });
    }
    assert_eq!(world.collector.count(), 0);
}

/// Scenario: bodies over the cap on the wire, over the cap once inflated, and a bomb of zeros.
/// Guarantees: 413 / `RESOURCE_EXHAUSTED` without `RetryInfo`: an exporter drops the batch and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_large_bodies() {
    let world = World::with(|config| {
        unlimited(config);
        config.intake.max_request_size = ByteSize(64 << 10);
        config.intake.max_inflated_size = ByteSize(128 << 10);
    })
    .await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let on_the_wire = spans::export(&job, 200);
    let inflated = spans::export(&job, 400);
    for form in Form::ALL {
        let answer = world.send(&Export::of(form, &job, &on_the_wire)).await;
        answer.assert_refused(form, Refusal::TOO_LARGE);
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let export = Export::of(form, &job, &inflated).compressed(encoding);
            assert!(export.body().len() < 64 << 10);
            world.send(&export).await.assert_refused(form, Refusal::TOO_LARGE);
            let bomb = Export::raw(form, vec![0; 2 << 20]).tokens(&job).compressed(encoding);
            assert!(bomb.body().len() < 64 << 10);
            world.send(&bomb).await.assert_refused(form, Refusal::TOO_LARGE);
        }
        let fits = Export::of(form, &job, &spans::export(&job, 20));
        world.send(&fits).await.assert_accepted(form);
    }
    assert_eq!(world.collector.count(), 3);
}

/// Scenario: nothing listens where the collector should be; it resets; it answers nonsense or denies us.
/// Guarantees: 502, never the 401 or 404 that the collector gave to the gateway, and never a 200 of HTML.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_one() {
    let nobody = Refusing::new();
    let world = World::with(|config| config.collector.endpoints = vec![nobody.url()]).await;
    let job = Job::new(1);
    world.authority.allow(&job);
    for form in Form::ALL {
        let answer = world.send(&Export::of(form, &job, &spans::export(&job, 1))).await;
        answer.assert_refused(form, Refusal::UNREACHABLE);
    }
    let world = World::start().await;
    world.authority.allow(&job);
    let denial = Reply::Refuse { http: 401, grpc: 16, retry_after: None };
    for reply in [Reply::Reset, denial, Reply::Html(404), Reply::Html(200)] {
        world.collector.always(reply.clone());
        for form in Form::ALL {
            let answer = world.send(&Export::of(form, &job, &spans::export(&job, 1))).await;
            answer.assert_refused(form, Refusal::UNREACHABLE);
        }
    }
}

/// Scenario: the collector finds the payload bad or too long, in both of its protocols.
/// Guarantees: the sender hears that a retry can't help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_refuses_for_good() {
    let job = Job::new(1);
    for world in [World::start().await, World::grpc(|_| {}).await] {
        world.authority.allow(&job);
        for (http, grpc, wanted) in [(400, 3, Refusal::MALFORMED), (413, 8, Refusal::TOO_LARGE)] {
            world.collector.always(Reply::Refuse { http, grpc, retry_after: None });
            for form in Form::ALL {
                let answer = world.send(&Export::of(form, &job, &spans::export(&job, 1))).await;
                answer.assert_refused(form, wanted);
            }
        }
    }
}

/// Scenario: the collector asks for fewer requests, or is not available, and names a delay: none, 1 s, 7 s, 10 min.
/// Guarantees: its own 429 or 503, with a delay of 2 to 15 s whatever it named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_asks_to_wait() {
    let job = Job::new(1);
    for (grpc_out, world) in [(false, World::with(unlimited).await), (true, World::grpc(unlimited).await)] {
        world.authority.allow(&job);
        for (http, grpc, wanted) in [(429, 8, Refusal::RATE_LIMITED), (503, 14, Refusal::UNAVAILABLE)] {
            for delay in [None, Some(1), Some(7), Some(600)] {
                // Over gRPC an exhausted resource without a delay is no invitation to come again.
                if grpc_out && grpc == 8 && delay.is_none() {
                    continue;
                }
                let retry_after = delay.map(Duration::from_secs);
                world.collector.always(Reply::Refuse { http, grpc, retry_after });
                for form in Form::ALL {
                    let answer = world.send(&Export::of(form, &job, &spans::export(&job, 1))).await;
                    answer.assert_refused(form, wanted);
                    if delay == Some(7) {
                        let told = answer.rpc_status(form).retry_delay().unwrap();
                        assert!(told >= Duration::from_secs(7), "sooner than the collector asked: {told:?}");
                    }
                }
            }
        }
    }
}

/// Scenario: a collector that never answers, under the default configuration, in both of its protocols.
/// Guarantees: 504 within the 4 s that a request may take in all, in time for the runner's own 5 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs() {
    let job = Job::new(1);
    for world in [World::start().await, World::grpc(|_| {}).await] {
        world.authority.allow(&job);
        world.collector.always(Reply::Hang);
        let exports = Form::ALL.map(|form| Export::of(form, &job, &spans::export(&job, 1)));
        let answers = futures_util::future::join_all(exports.iter().map(|export| world.send(export))).await;
        for (form, answer) in Form::ALL.into_iter().zip(answers) {
            answer.assert_refused(form, Refusal::TOO_SLOW);
            // The last half second is this machine's, not the gateway's.
            assert!(answer.took < Duration::from_millis(4500), "{:?}", answer.took);
        }
    }
}

/// Scenario: the collector closes its idle connections between two exports, as one that restarts does.
/// Guarantees: a pooled connection that is gone costs the sender nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_idle_connection_is_not_the_senders_trouble() {
    let job = Job::new(1);
    for world in [World::start().await, World::grpc(|_| {}).await] {
        world.authority.allow(&job);
        let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
        for _ in 0..3 {
            world.send(&export).await.assert_accepted(Form::Protobuf);
            world.collector.hang_up();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(world.collector.count(), 3);
    }
}

/// Scenario: a slow upload holds most of the memory that bodies may take; another export comes; then the slow one ends.
/// Guarantees: 503 with a delay for the other one, and the slow one is served: memory is bounded, nobody is thrown out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn body_memory_is_bounded() {
    let world = World::with(|config| {
        unlimited(config);
        let all = ByteSize(64 << 10);
        config.intake.max_request_size = all;
        config.intake.max_inflated_size = all;
        config.intake.max_in_flight_bytes = ShareOfMemory::Fixed(all);
        config.intake.deadline = Duration::from_secs(20);
        config.intake.body_timeout = Duration::from_secs(20);
    })
    .await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 75));
    assert!((36 << 10..60 << 10).contains(&export.body().len()), "{}", export.body().len());
    let mut slow = crate::early_answer::Upload::begin(world.address(), &job, export.body().len()).await;
    slow.write(&export.body()[..export.body().len() - 10]).await;
    let world = &world;
    eventually("the slow body is held", || async move {
        world.metrics().await.sum("spangate_in_flight_bytes", &[]) > f64::from(36 << 10)
    })
    .await;
    world.send(&export).await.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    slow.write(&export.body()[export.body().len() - 10..]).await;
    assert!(slow.answer_head().await.starts_with("HTTP/1.1 200"));
}
