//! Metrics, logs and profiles through the whole gateway: identity, trace gate, forms of the answer,
//! and that what is said of spans holds for spans only.

mod messages;
mod structure;

use opentelemetry_proto::tonic::{metrics::v1::metric::Data, profiles::v1development::KeyValueAndUnit};
use spangate::{
    config::{AlsoStrip, AttributesMode, Config, Mode, Protocol, units::ByteSize},
    otlp::{compression::Encoding, inspect::Depth, signal::Signal},
};

use self::messages::{Export as Sample, Logs, Metrics, Profiles};
use crate::support::{
    answer::Refusal,
    client::{Export, Form, PATIENCE},
    collector::{Collector, Reply},
    job::Job,
    json::{Style, styled},
    logs::Captured,
    server::Speaks,
    signal::{Row, row, rows},
    spans::{self, assert_stamped, int, raw_fields, raw_scope_spans},
    world::{World, unlimited},
};

const FOREIGN: [u8; 16] = [0xfe; 16];

/// The forms that a signal is taken in: the JSON of profiles is not settled.
fn forms(signal: Signal) -> &'static [Form] {
    if signal == Signal::Profiles { &[Form::Protobuf, Form::Grpc] } else { &Form::ALL }
}

/// A world that takes all signals from `job`, with a collector of either protocol.
async fn world(job: &Job, protocol: Protocol, change: impl FnOnce(&mut Config)) -> World {
    let speaks = if protocol == Protocol::Http { Speaks::Http1 } else { Speaks::Http2 };
    let world = World::around(Collector::start(speaks, None).await, |config| {
        config.collector.protocol = protocol;
        config.listeners[0].signals = rows().map(|row| row.signal).to_vec();
        unlimited(config);
        // A loaded machine must not turn these into tests of deadlines.
        config.intake.deadline = PATIENCE;
        config.collector.timeout = PATIENCE;
        change(config);
    })
    .await;
    world.authority.allow(job);
    world
}

/// Requests of a signal that ended so.
async fn requests(world: &World, row: &Row, outcome: &str) -> f64 {
    let labels = [("signal", row.label), ("outcome", outcome)];
    world.metrics().await.sum("spangate_requests_total", &labels)
}

/// All spans that the metrics know of.
async fn counted_spans(world: &World) -> f64 {
    world.metrics().await.sum("spangate_spans_total", &[])
}

#[track_caller]
fn assert_count(found: f64, wanted: usize) {
    assert_eq!(found.to_string(), wanted.to_string());
}

/// Scenario: exports of each signal with forged claims in their resources, and without a resource, in each form and
/// encoding, to both kinds of collector; JSON in both of its styles.
/// Guarantees: every resource carries the verified identity once, and all else arrives as it was sent: every kind of
/// number and value, and where the form allows it every byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_signal_carries_the_verified_identity() {
    async fn check<R: Sample>() {
        let job = Job::new(1);
        let sent = R::sample(&job);
        for protocol in [Protocol::Http, Protocol::Grpc] {
            let world = world(&job, protocol, |_| {}).await;
            for &form in forms(R::SIGNAL) {
                for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
                    let export = match (form, encoding) {
                        (Form::Json, Encoding::Zstd) => {
                            Export::raw(form, styled(Style::Stranger, &sent)).to(R::SIGNAL).tokens(&job)
                        }
                        _ => Export::of(form, &job, &sent),
                    };
                    let answer = world.send(&export.compressed(encoding)).await;
                    assert_eq!(answer.partial_of(R::SIGNAL, form), (0, String::new()));
                    let arrived = world.collector.received().pop().unwrap();
                    assert_stamped(&job, &sent, &arrived.decode::<R>());
                    if form != Form::Json {
                        let (arrived, sent) = (arrived.inflated(), sent.encode_to_vec());
                        assert_eq!(raw_scope_spans(&arrived), raw_scope_spans(&sent));
                    }
                }
            }
            assert_count(requests(&world, &row(R::SIGNAL), "ok").await, world.collector.count());
        }
    }
    tokio::join!(check::<Metrics>(), check::<Logs>(), check::<Profiles>());
}

/// Scenario: one trace id of an export, each in its turn, is another trace's: a log record's, an exemplar's in every
/// kind of metric, a link's of profiles; in each form, both depths of inspection, and every mode of the gate.
/// Guarantees: `enforce` refuses the whole request and tells no id, however little is read; `shadow` and `off` pass it on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_foreign_trace_refuses_all() {
    async fn check<R: Sample>() {
        let job = Job::new(1);
        let honest = R::sample(&job);
        let mut places = Vec::new();
        for place in 0..honest.clone().trace_ids().len() {
            let mut request = honest.clone();
            FOREIGN.to_vec().clone_into(request.trace_ids()[place]);
            places.push(request);
        }
        assert!(places.len() >= 2);
        for depth in [Depth::Full, Depth::Structure] {
            let world = world(&job, Protocol::Http, |config| config.intake.depth = depth).await;
            for request in &places {
                for &form in forms(R::SIGNAL) {
                    let answer = world.send(&Export::of(form, &job, request)).await;
                    let sentence = answer.assert_refused(form, Refusal::MALFORMED).to_lowercase();
                    assert!(!sentence.contains("fefe") && !sentence.contains(&job.trace_hex()), "{sentence}");
                }
            }
            assert_eq!(world.collector.count(), 0);
            let refused = places.len() * forms(R::SIGNAL).len();
            assert_count(requests(&world, &row(R::SIGNAL), "foreign_trace").await, refused);
            assert_count(counted_spans(&world).await, 0);
        }
        for mode in [Mode::Shadow, Mode::Off] {
            let world = world(&job, Protocol::Http, |config| config.traces.trace_id = mode).await;
            for &form in forms(R::SIGNAL) {
                let request = places.last().unwrap();
                world.send(&Export::of(form, &job, request)).await.assert_accepted(form);
                let arrived = world.collector.received().pop().unwrap();
                assert_stamped(&job, request, &arrived.decode::<R>());
            }
        }
    }
    tokio::join!(check::<Metrics>(), check::<Logs>(), check::<Profiles>());
}

/// Scenario: trace ids that are absent, all zero, or a byte short.
/// Guarantees: beside spans nothing has to name a trace; an id that is none is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unset_trace_id_passes() {
    async fn check<R: Sample>() {
        let job = Job::new(1);
        let world = world(&job, Protocol::Http, |_| {}).await;
        for &form in forms(R::SIGNAL) {
            for (id, passes) in [(&[][..], true), (&[0; 16], true), (&job.trace_id[..15], false)] {
                let mut request = R::sample(&job);
                request.trace_ids().into_iter().for_each(|place| id.clone_into(place));
                let answer = world.send(&Export::of(form, &job, &request)).await;
                if passes {
                    answer.assert_accepted(form);
                    let arrived = world.collector.received().pop().unwrap();
                    assert_stamped(&job, &request, &arrived.decode::<R>());
                } else {
                    answer.assert_refused(form, Refusal::MALFORMED);
                }
            }
        }
        assert_eq!(world.collector.count(), 2 * forms(R::SIGNAL).len());
    }
    tokio::join!(check::<Metrics>(), check::<Logs>(), check::<Profiles>());
}

/// Scenario: the collector refuses seven items and says why, in both of its protocols.
/// Guarantees: number and sentence come back in the request's own form, in JSON under the signal's own name and as text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_success_comes_back() {
    async fn check<R: Sample>() {
        let job = Job::new(1);
        let row = row(R::SIGNAL);
        for protocol in [Protocol::Http, Protocol::Grpc] {
            let world = world(&job, protocol, |_| {}).await;
            world.collector.always(Reply::Partial { rejected: 7, message: "no room" });
            for &form in forms(R::SIGNAL) {
                let answer = world.send(&Export::of(form, &job, &R::sample(&job))).await;
                assert_eq!(answer.partial_of(R::SIGNAL, form), (7, "no room".into()), "{form:?}");
                if form == Form::Json {
                    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                    let partial = serde_json::json!({ row.rejected: "7", "errorMessage": "no room" });
                    assert_eq!(json, serde_json::json!({ "partialSuccess": partial }));
                }
            }
            let sent = forms(R::SIGNAL).len();
            assert_count(requests(&world, &row, "partial").await, sent);
            assert_count(counted_spans(&world).await, 0);
        }
    }
    tokio::join!(check::<Metrics>(), check::<Logs>(), check::<Profiles>());
}

/// Scenario: a listener that takes one signal, and exports of the others; profiles in JSON where profiles are taken.
/// Guarantees: 404 / `UNIMPLEMENTED`, or 415, without a question to GitLab; the one signal passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_is_taken_where_it_is_configured() {
    let job = Job::new(1);
    for taken in rows() {
        let world =
            world(&job, Protocol::Http, |config| config.listeners[0].signals = vec![taken.signal]).await;
        for other in rows().into_iter().filter(|other| other.signal != taken.signal) {
            for form in Form::ALL {
                let export = Export::raw(form, "").to(other.signal).tokens(&job);
                world.send(&export).await.assert_refused(form, Refusal::NOT_FOUND);
            }
        }
        let json = Export::raw(Form::Json, "{}").to(taken.signal).tokens(&job);
        if taken.signal == Signal::Profiles {
            world.send(&json).await.assert_refused(Form::Json, Refusal::MEDIA_TYPE);
        }
        assert_eq!((world.authority.count(), world.collector.count()), (0, 0));
        for &form in forms(taken.signal) {
            let export = match taken.signal {
                Signal::Traces => Export::of(form, &job, &spans::export(&job, 1)),
                Signal::Metrics => Export::of(form, &job, &Metrics::sample(&job)),
                Signal::Logs => Export::of(form, &job, &Logs::sample(&job)),
                Signal::Profiles => Export::of(form, &job, &Profiles::sample(&job)),
            };
            world.send(&export).await.assert_accepted(form);
        }
        let arrived = world.collector.received();
        assert!(arrived.iter().all(|arrived| arrived.signal == taken.signal));
        assert_eq!(arrived.len(), forms(taken.signal).len());
    }
}

/// Scenario: a job may send one span of 700 bytes in all, and one a second; it sends ten exports of every other signal,
/// then spans.
/// Guarantees: size, budget and rate of spans touch no other signal, and no other signal uses them up; the metrics
/// count requests of each signal, and as spans only spans.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_on_spans_hold_for_spans() {
    async fn ten<R: Sample>(world: &World, job: &Job) {
        let sent = R::sample(job);
        for turn in 0..10 {
            let form = forms(R::SIGNAL)[turn % forms(R::SIGNAL).len()];
            world.send(&Export::of(form, job, &sent)).await.assert_accepted(form);
            let arrived = world.collector.received().pop().unwrap();
            assert_stamped(job, &sent, &arrived.decode::<R>());
        }
        assert_count(requests(world, &row(R::SIGNAL), "ok").await, 10);
    }

    let job = Job::new(1);
    let world = world(&job, Protocol::Http, |config| {
        config.traces.max_span_size = ByteSize(700);
        config.traces.max_spans_per_job = 1;
        config.limits.per_job.mode = Mode::Enforce;
        config.limits.per_job.spans_per_second = 1;
        config.limits.per_job.requests_per_second = 1000;
        config.limits.per_job.bytes_per_second = ByteSize(1 << 30);
    })
    .await;
    ten::<Metrics>(&world, &job).await;
    ten::<Logs>(&world, &job).await;
    ten::<Profiles>(&world, &job).await;
    assert_count(counted_spans(&world).await, 0);

    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 3));
    assert_eq!(world.send(&export).await.partial(Form::Protobuf).0, 2);
    assert_eq!(spans::spans(&world.collector.received().pop().unwrap().request()).len(), 1);
    assert_count(counted_spans(&world).await, 3);
}

/// Scenario: an export of each signal, an export of logs without tokens, and one to a path that there is not.
/// Guarantees: the access line and the refusal line of each name its signal as the metric does.
#[tokio::test]
async fn log_lines_name_the_signal() {
    let captured = Captured::start();
    let job = Job::new(1);
    let world = world(&job, Protocol::Http, |_| {}).await;
    let named = |line: &str, outcome: &str, signal: &str| {
        let signal = format!("signal=\"{signal}\"");
        let lines = captured.text();
        let mut lines = lines.lines().filter(|found| found.contains(line) && found.contains(outcome));
        lines.any(|found| found.contains(&signal))
    };
    for row in rows() {
        assert!(!named(" request ", "\"ok\"", row.label));
        let export = Export::raw(Form::Protobuf, "").to(row.signal).tokens(&job);
        world.send(&export).await.assert_accepted(Form::Protobuf);
        assert!(named(" request ", "\"ok\"", row.label), "{}: {}", row.label, captured.text());
    }
    let bare = Export::raw(Form::Protobuf, "").to(Signal::Logs);
    world.send(&bare).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    world.send(&bare.path("/v1/log")).await.assert_refused(Form::Protobuf, Refusal::NOT_FOUND);
    for (reason, signal) in [("\"credentials\"", "logs"), ("\"not_found\"", "none")] {
        assert!(named(" request ", reason, signal), "{reason}: {}", captured.text());
        assert!(named(" request refused ", reason, signal), "{reason}: {}", captured.text());
    }
}

/// Scenario: the rates of a job's requests and bytes, and exports of metrics that are too many or too much.
/// Guarantees: these limits hold for all signals together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_bytes_are_limited_in_all_signals() {
    let job = Job::new(1);
    let requests = |config: &mut Config| config.limits.per_job.requests_per_second = 1;
    let bytes = |config: &mut Config| config.limits.per_job.bytes_per_second = ByteSize(1000);
    for limit in [requests as fn(&mut Config), bytes] {
        let world = world(&job, Protocol::Http, |config| {
            config.limits.per_job.mode = Mode::Enforce;
            config.limits.per_job.burst = std::time::Duration::from_secs(1);
            limit(config);
        })
        .await;
        let first = Export::of(Form::Protobuf, &job, &Metrics::sample(&job));
        world.send(&first).await.assert_accepted(Form::Protobuf);
        let second = Export::of(Form::Grpc, &job, &Logs::sample(&job));
        world.send(&second).await.assert_refused(Form::Grpc, Refusal::RATE_LIMITED);
    }
}

/// Scenario: `transparent` mode, both protocols in and out, plain and compressed.
/// Guarantees: the body of every signal goes on byte for byte, with the identity in headers; JSON leaves as protobuf
/// that says the same; an unknown field outside the items is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transparent_bodies_are_untouched() {
    async fn check<R: Sample>() {
        let job = Job::new(1);
        let sent = R::sample(&job);
        for protocol in [Protocol::Http, Protocol::Grpc] {
            let transparent = |config: &mut Config| config.attributes.mode = AttributesMode::Transparent;
            let world = world(&job, protocol, transparent).await;
            for &form in forms(R::SIGNAL) {
                for encoding in [Encoding::Identity, Encoding::Gzip] {
                    let export = Export::of(form, &job, &sent).compressed(encoding);
                    world.send(&export).await.assert_accepted(form);
                    let arrived = world.collector.received().pop().unwrap();
                    match form {
                        Form::Protobuf => assert_eq!(arrived.raw, export.body()),
                        Form::Grpc => assert_eq!(arrived.raw, export.body()[5..]),
                        Form::Json => {
                            let arrived = arrived.decode::<R>().encode_to_vec();
                            assert_eq!(arrived, sent.encode_to_vec());
                        }
                    }
                    assert_eq!(arrived.headers["x-gitlab-ci-job-id"], job.job_id.to_string().as_str());
                }
            }
            let arrived = world.collector.count();
            let unknown = [sent.encode_to_vec(), spans::raw_field(9, b"?")].concat();
            let export = Export::raw(Form::Protobuf, unknown).to(R::SIGNAL).tokens(&job);
            world.send(&export).await.assert_refused(Form::Protobuf, Refusal::MALFORMED);
            assert_eq!(world.collector.count(), arrived);
        }
    }
    tokio::join!(check::<Metrics>(), check::<Logs>(), check::<Profiles>());
}

/// Scenario: `also_strip: [scope, span]`; a log record and a data point that claim another job, and a profile that does
/// through its dictionary.
/// Guarantees: items of every signal lose the claim; in a dictionary it is emptied, so that places stay what they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_items_are_removed_on_demand() {
    let job = Job::new(1);
    let strip = |config: &mut Config| config.attributes.also_strip = vec![AlsoStrip::Scope, AlsoStrip::Span];
    let world = world(&job, Protocol::Http, strip).await;
    let send = async |export: Export| {
        world.send(&export.tokens(&job)).await.assert_accepted(Form::Protobuf);
        world.collector.received().pop().unwrap()
    };

    let honest = Logs::sample(&job);
    let mut forged = honest.clone();
    let scope = &mut forged.resource_logs[0].scope_logs[0];
    scope.scope.as_mut().unwrap().attributes.push(int("ci-job-id", 666));
    scope.log_records[1].attributes.insert(0, int("ci.job.id", 666));
    let arrived = send(Export::new(Form::Protobuf, &forged)).await;
    assert_stamped(&job, &honest, &arrived.decode());

    let honest = Metrics::sample(&job);
    let mut forged = honest.clone();
    let metric = &mut forged.resource_metrics[1].scope_metrics[0].metrics[0];
    metric.metadata.push(int("CI_JOB_ID", 666));
    let Some(Data::Gauge(gauge)) = &mut metric.data else { panic!("no gauge") };
    gauge.data_points[0].attributes.push(int("service.name", 666));
    let arrived = send(Export::new(Form::Protobuf, &forged)).await;
    assert_stamped(&job, &honest, &arrived.decode());

    let honest = Profiles::sample(&job);
    let mut forged = honest.clone();
    let (mut claim, mut emptied) = (honest.clone(), honest);
    claim.dictionary.as_mut().unwrap().attribute_table[1].key_strindex = 2;
    forged.dictionary = claim.dictionary;
    emptied.dictionary.as_mut().unwrap().attribute_table[1] = KeyValueAndUnit::default();
    let arrived = send(Export::new(Form::Protobuf, &forged)).await;
    assert_stamped(&job, &emptied, &arrived.decode());
    assert!(raw_fields(&arrived.inflated()).iter().any(|(number, _)| *number == 2));
}
