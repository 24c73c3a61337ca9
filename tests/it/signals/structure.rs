//! `intake.depth`: what of an item is read, and that the trace gate holds at either depth.

use spangate::{
    config::Protocol,
    otlp::{inspect::Depth, signal::Signal},
};

use super::{FOREIGN, world};
use crate::support::{
    answer::Refusal,
    client::{Export, Form},
    job::Job,
    signal::row,
    spans::{raw_field, raw_scope_spans},
};

const NO_UTF8: &[u8] = b"section \xFF\xFE";

/// An item with text that is no UTF-8, and a trace id if one is given.
fn item(signal: Signal, trace: Option<&[u8]>) -> Vec<u8> {
    let id = |number| trace.map(|trace| raw_field(number, trace)).unwrap_or_default();
    let text = |number| raw_field(number, NO_UTF8);
    match signal {
        // Span: trace_id = 1, name = 5
        Signal::Traces => [id(1), text(5)].concat(),
        // LogRecord: severity_text = 3, trace_id = 9
        Signal::Logs => [text(3), id(9)].concat(),
        // Metric: name = 1, sum = 7; Sum.data_points = 1, NumberDataPoint.exemplars = 5, Exemplar.trace_id = 5
        Signal::Metrics => [text(1), raw_field(7, &raw_field(1, &raw_field(5, &id(5))))].concat(),
        // Profile: original_payload_format = 9; its traces stand in the dictionary
        Signal::Profiles => text(9),
    }
}

/// A request with one such item.
fn request(signal: Signal, trace: Option<&[u8]>) -> Vec<u8> {
    let mut request = raw_field(1, &raw_field(2, &raw_field(2, &item(signal, trace))));
    if let (Signal::Profiles, Some(trace)) = (signal, trace) {
        // ProfilesDictionary: link_table = 4; Link: trace_id = 1
        request.extend(raw_field(2, &raw_field(4, &raw_field(1, trace))));
    }
    request
}

/// Scenario: items whose text is no UTF-8, of the job's own trace and of another one, at both depths.
/// Guarantees: `full` refuses the text, `structure` leaves it to the collector and passes it on byte for byte; the gate
/// refuses the foreign one at either depth.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_is_read_at_full_depth_only() {
    let job = Job::new(1);
    for depth in [Depth::Full, Depth::Structure] {
        let world = world(&job, Protocol::Http, |config| config.intake.depth = depth).await;
        for signal in [Signal::Traces, Signal::Metrics, Signal::Logs, Signal::Profiles] {
            for form in [Form::Protobuf, Form::Grpc] {
                let send = async |trace| {
                    let body = request(signal, Some(trace));
                    world.send(&Export::raw(form, body).to(signal).tokens(&job)).await
                };
                let own = send(&job.trace_id).await;
                if depth == Depth::Full {
                    assert!(own.assert_refused(form, Refusal::MALFORMED).contains("UTF-8"));
                } else {
                    own.assert_accepted(form);
                    let arrived = world.collector.received().pop().unwrap().inflated();
                    assert_eq!(
                        raw_scope_spans(&arrived),
                        raw_scope_spans(&request(signal, Some(&job.trace_id)))
                    );
                }
                send(&FOREIGN).await.assert_refused(form, Refusal::MALFORMED);
            }
            let labels = [("signal", row(signal).label), ("outcome", "foreign_trace")];
            let foreign = world.metrics().await.sum("spangate_requests_total", &labels);
            // At full depth the text of an item is found first; that of profiles stands before the dictionary.
            assert_eq!(foreign > 0.0, depth == Depth::Structure, "{signal:?} {depth:?}");
        }
        let arrived = if depth == Depth::Full { 0 } else { 8 };
        assert_eq!(world.collector.count(), arrived);
    }
}

/// Scenario: a span that names no trace, of text that is no UTF-8, at the depth that does not read it.
/// Guarantees: a span must name its trace at either depth, while a log record need not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_names_its_trace_at_any_depth() {
    let job = Job::new(1);
    let world = world(&job, Protocol::Http, |config| config.intake.depth = Depth::Structure).await;
    let send = async |signal| {
        world.send(&Export::raw(Form::Protobuf, request(signal, None)).to(signal).tokens(&job)).await
    };
    send(Signal::Traces).await.assert_refused(Form::Protobuf, Refusal::MALFORMED);
    for signal in [Signal::Metrics, Signal::Logs, Signal::Profiles] {
        send(signal).await.assert_accepted(Form::Protobuf);
    }
}
