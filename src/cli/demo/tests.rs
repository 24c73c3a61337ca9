use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use opentelemetry_proto::tonic::{common::v1::KeyValue, trace::v1::Span};

use crate::config::Gitlab;

use super::{
    authority::{Authority, Job, Jobs},
    client::{Exporter, Form, Reply, Status, Tokens},
    collector::Collector,
    config,
    exports::Row,
    judge::{self, Design},
    report::{self, Paint},
    spans, try_it, verdict,
};

const PLAIN: Paint = Paint { on: false };

/// Spoils a faultless row in one point.
type Fault = fn(&mut Row);

/// What a faultless gateway would have made of a whole job.
fn faultless(job: &Job) -> Row {
    let sent = spans::whole_job(job).unwrap();
    let mut arrived = sent.clone();
    let attributes = attributes_of(&mut arrived);
    attributes.retain(|attribute| attribute.key != "service.name");
    attributes.extend(judge::verified(job));
    Row {
        what: "good export of a job",
        form: Form::Protobuf,
        requests: 1,
        sent,
        reply: Reply { status: Status::Http(200), retry_after: None, rejected: 0, message: String::new() },
        asked: 1,
        arrived: vec![arrived],
        in_full: true,
        differences: Vec::new(),
    }
}

fn design() -> Design {
    Design { asked: true, ..Design::accepted(Status::Http(200), 5) }
}

fn attributes_of(
    export: &mut opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest,
) -> &mut Vec<KeyValue> {
    &mut export.resource_spans[0].resource.as_mut().unwrap().attributes
}

fn spans_of(row: &mut Row) -> &mut Vec<Span> {
    &mut row.arrived[0].resource_spans[0].scope_spans[0].spans
}

/// Scenario: an outcome as designed, and then the same with one fault each, as a leaking gateway would show it.
/// Guarantees: the faultless one passes and every fault is named, so that `--once` can't be green by accident.
#[test]
fn every_fault_is_found() {
    let jobs = Jobs::random().unwrap();
    let job = &jobs.build;
    assert_eq!(judge::differences(&faultless(job), job, &design()), Vec::<String>::new());

    let faults: [(&str, Fault); 13] = [
        ("answered 202", |row| row.reply.status = Status::Http(202)),
        ("answered gRPC 0", |row| row.reply.status = Status::Grpc(0)),
        ("a Retry-After, designed no", |row| row.reply.retry_after = Some(3)),
        ("1 spans said to be refused", |row| row.reply.rejected = 1),
        ("asked 0 times", |row| row.asked = 0),
        ("0 spans arrived", |row| row.arrived.clear()),
        ("4 spans arrived", |row| drop(spans_of(row).pop())),
        ("not one of those that were sent", |row| spans_of(row)[1].name.push('!')),
        ("foreign trace", |row| spans_of(row)[0].trace_id = vec![7; 16]),
        ("ci.job.id did not arrive", |row| {
            attributes_of(&mut row.arrived[0]).retain(|attribute| attribute.key != "ci.job.id");
        }),
        ("ci.project.id arrived more than once", |row| {
            attributes_of(&mut row.arrived[0]).push(spans::text("CI_Project-ID", "1"));
        }),
        ("service.name = \"runner\" arrived", |row| {
            let attributes = attributes_of(&mut row.arrived[0]);
            attributes.retain(|attribute| attribute.key != "service.name");
            attributes.push(spans::text("service.name", "runner"));
        }),
        ("attributes that nobody protects", |row| {
            attributes_of(&mut row.arrived[0]).retain(|attribute| attribute.key != "host.name");
        }),
    ];
    for (sentence, fault) in faults {
        let mut row = faultless(job);
        fault(&mut row);
        let found = judge::differences(&row, job, &design());
        assert!(found.iter().any(|difference| difference.contains(sentence)), "{sentence}: {found:?}");
    }
}

/// Scenario: a row that is not as designed among rows that are.
/// Guarantees: the exit code is 1 and a line names the row and the difference; without it the code is 0.
#[test]
fn a_difference_fails_the_run() {
    let jobs = Jobs::random().unwrap();
    let mut rows = vec![faultless(&jobs.build), faultless(&jobs.late)];
    let mut out = Vec::new();
    assert_eq!(verdict(&mut out, &rows, PLAIN).unwrap(), 0);
    rows[1].differences.push("answered 200, designed 400".to_owned());
    let mut out = Vec::new();
    assert_eq!(verdict(&mut out, &rows, PLAIN).unwrap(), 1);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("row 2 (good export of a job) differs: answered 200, designed 400"), "{text}");
}

/// Scenario: a table and trees with the longest texts that can come, among them control characters from a peer.
/// Guarantees: no line is wider than promised, and without colours no escape sequence is written.
#[test]
fn the_report_fits() {
    let jobs = Jobs::random().unwrap();
    let mut row = faultless(&jobs.build);
    row.reply.status = Status::Http(503);
    row.reply.retry_after = Some(15);
    row.reply.message = "a very long sentence ".repeat(20);
    row.requests = 200;
    spans_of(&mut row)[0].attributes.push(spans::text("log", format!("\x1b[31m{}", "x".repeat(6 << 10))));
    attributes_of(&mut row.arrived[0]).push(spans::text("long", "y".repeat(300)));
    let rows = [row];
    let text = report::table(&rows, PLAIN) + &report::trees(&rows, PLAIN);
    for line in text.lines() {
        assert!(line.chars().count() <= report::WIDTH, "{line}");
    }
    assert!(!text.contains('\x1b'));
    assert!(report::table(&rows, Paint { on: true }).contains('\x1b'));
}

/// Scenario: a forged export of which the forged attributes did not arrive.
/// Guarantees: the tree marks each forged attribute as struck out and each verified one as verified.
#[test]
fn the_tree_shows_what_was_struck_out() {
    let jobs = Jobs::random().unwrap();
    let mut row = faultless(&jobs.build);
    attributes_of(&mut row.sent).push(spans::text("CI_Project-ID", "1"));
    let text = report::trees(&[row], PLAIN);
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    assert!(line("   - CI_Project-ID = \"1\"").contains("struck out"), "{text}");
    assert!(line("   - service.name = \"runner\"").contains("struck out"), "{text}");
    assert!(line("   + ci.project.id = ").contains("verified"), "{text}");
    assert_eq!(line("     host.name"), "     host.name = \"runner-host-1\"");
    assert!(line("   └─ upload_artifacts 0.87s").contains("process.exit.code = 0"), "{text}");
}

async fn ask(authority: &Authority, path: &str, runner: &str, job: &str) -> (u16, Option<String>, String) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(format!("{}{path}", authority.url()))
        .header("Runner-Token", runner)
        .header("Job-Token", job)
        .body(Full::new(bytes::Bytes::from_static(b"{}")))
        .unwrap();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    let cache_control = head.headers.get("cache-control").map(|value| value.to_str().unwrap().to_owned());
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), cache_control, String::from_utf8(body.to_vec()).unwrap())
}

/// Scenario: the embedded authority is asked about a right pair, a wrong token, a pair that does not belong together, and while it is down.
/// Guarantees: it speaks the contract of the Rails endpoint (200 with `trace_id` and max-age, 401, 403), counts questions, and comes up again.
#[tokio::test]
async fn the_authority_speaks_the_contract() {
    let settings = Gitlab::default();
    let authority = Authority::start(&settings).await.unwrap();
    let job = authority.jobs.build.clone();
    let path = settings.auth_path.as_str();

    let (status, cache_control, body) = ask(&authority, path, &job.runner.token, &job.token).await;
    assert_eq!((status, cache_control.as_deref()), (200, Some("private, max-age=300")));
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["trace_id"], job.trace_id.to_string());
    assert_eq!(body["job_id"], job.id);

    assert_eq!(ask(&authority, path, &job.runner.token, "glcbt-64_no").await.0, 401);
    assert_eq!(ask(&authority, path, "glrt-no", &job.token).await.0, 401);
    let other = authority.jobs.chatty.runner.token.clone();
    assert_eq!(ask(&authority, path, &other, &job.token).await.0, 403);
    assert_eq!(authority.asked(), 4);

    assert_eq!(ask(&authority, "/demo/down", "", "").await.0, 200);
    assert_eq!(ask(&authority, path, &job.runner.token, &job.token).await.0, 502);
    authority.set_down(false);
    assert_eq!(ask(&authority, path, &job.runner.token, &job.token).await.0, 200);
    assert_eq!(ask(&authority, "/api/v4/jobs", "", "").await.0, 404);
}

/// Scenario: an export sent straight to the embedded collector, without a gate.
/// Guarantees: it arrives exactly as sent, and is judged as not designed, because nothing was verified.
#[tokio::test]
async fn without_a_gate_the_demo_is_red() {
    let jobs = Jobs::random().unwrap();
    let job = &jobs.build;
    let mut collector = Collector::start().await.unwrap();
    let address = collector.url().trim_start_matches("http://").parse().unwrap();
    let exporter = Exporter::new(address, &Gitlab::default());
    let tokens = Tokens { runner: job.runner.token.clone(), job: job.token.clone() };
    let sent = spans::whole_job(job).unwrap();
    let reply = exporter.send(Form::Protobuf, &tokens, &sent).await.unwrap();
    assert_eq!(reply.status, Status::Http(200));
    let arrived = collector.arrived();
    assert_eq!(arrived.as_slice(), std::slice::from_ref(&sent));
    let row = Row { sent, reply, arrived, asked: 0, ..faultless(job) };
    let found = judge::differences(&row, job, &design());
    assert!(found.iter().any(|difference| difference.contains("ci.job.id did not arrive")), "{found:?}");
}

/// Scenario: the JSON form of an export, as `curl` would send it.
/// Guarantees: ids are hex, 64-bit integers strings, and no quote ends the shell's string early.
#[test]
fn json_is_what_otlp_asks_for() {
    let jobs = Jobs::random().unwrap();
    let export = spans::whole_job(&jobs.build).unwrap();
    let json = spans::to_json(&export).unwrap();
    let span = json.pointer("/resourceSpans/0/scopeSpans/0/spans/1").unwrap();
    assert_eq!(span["traceId"], jobs.build.trace_id.to_string());
    assert_eq!(span["spanId"].as_str().unwrap().len(), 16);
    assert!(span["startTimeUnixNano"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(span.pointer("/attributes/1/value/intValue").unwrap(), "0");
    assert!(!json.to_string().contains('\''));
}

/// Scenario: the lines to try and the demo's configuration, twice.
/// Guarantees: tokens and ports are this run's own, and every address is loopback with no fixed port.
#[tokio::test]
async fn nothing_is_hard_coded() {
    let settings = Gitlab::default();
    let [one, two] = [Authority::start(&settings).await.unwrap(), Authority::start(&settings).await.unwrap()];
    assert_ne!(one.jobs.build.token, two.jobs.build.token);
    assert_ne!(one.jobs.build.runner.token, two.jobs.build.runner.token);
    let [gateway, admin] = ["127.0.0.1:40001", "127.0.0.1:40002"].map(|address| address.parse().unwrap());
    let text = try_it::lines(&one, &settings, gateway, admin).unwrap();
    for own in [&one.jobs.build.token, &one.jobs.build.runner.token, &one.url()] {
        assert!(text.contains(own.as_str()), "{text}");
    }
    assert!(
        text.contains("http://127.0.0.1:40001/v1/traces") && text.contains("http://127.0.0.1:40002/metrics")
    );
    let config = config(&one.url(), "http://127.0.0.1:1");
    for address in config.listeners.iter().map(|listener| listener.address).chain([config.admin.address]) {
        assert!(address.ip().is_loopback() && address.port() == 0);
    }
}
