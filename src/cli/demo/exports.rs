//! The ten exports of the demo: what is sent, what should become of it, and whether it did. A row
//! holds only what was seen; it never assumes an outcome.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tokio::time::Instant;

use super::{
    authority::{Authority, Job, random_bytes},
    client::{Exporter, Form, Reply, Status, Tokens},
    collector::Collector,
    judge::{self, Design},
    spans,
};

/// The demo's own `limits.per_job.requests_per_second`.
pub(super) const REQUESTS_PER_SECOND: u32 = 5;
/// The demo's own `limits.per_job.burst`, in seconds.
pub(super) const BURST_SECONDS: u32 = 4;
/// The demo's own `traces.max_spans_per_job`.
pub(super) const SPANS_PER_JOB: usize = 100;

/// Spans sent by the job that sends more than it may.
const TOO_MANY: usize = 120;
/// Requests after which the burst gives up waiting for a 429.
const MOST_REQUESTS: usize = 200;

/// What was sent, what was answered and what arrived.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What the export is, in a few words.
    pub(super) what: &'static str,
    /// The form in which it was sent.
    pub(super) form: Form,
    /// How many requests were sent.
    pub(super) requests: usize,
    /// The export; for a burst, one of them.
    pub(super) sent: ExportTraceServiceRequest,
    /// The answer; for a burst, the last one.
    pub(super) reply: Reply,
    /// Questions that the authority got meanwhile.
    pub(super) asked: usize,
    /// What arrived at the collector meanwhile.
    pub(super) arrived: Vec<ExportTraceServiceRequest>,
    /// Whether the reader should see it span by span.
    pub(super) in_full: bool,
    /// Where the outcome is not as designed.
    pub(super) differences: Vec<String>,
}

/// One export on its way to be sent.
struct Plan<'a> {
    what: &'static str,
    form: Form,
    job: &'a Job,
    tokens: Tokens,
    export: ExportTraceServiceRequest,
    design: Design,
    in_full: bool,
}

/// Sends everything, one export after the other.
///
/// # Errors
/// When an answer does not come or can't be read, which no row is meant to show.
pub(super) async fn send_all(
    exporter: &Exporter,
    authority: &Authority,
    collector: &mut Collector,
) -> anyhow::Result<Vec<Row>> {
    let jobs = &authority.jobs;
    let mut rows = Vec::new();
    for plan in plans(authority)? {
        rows.push(send(exporter, authority, collector, plan).await?);
    }
    rows.push(burst(exporter, authority, collector, &jobs.hasty).await?);

    authority.set_down(true);
    let unknown = Plan {
        design: Design { asked: true, retry_after: true, ..Design::refused(Status::Http(503)) },
        ..plan("authority down, job not seen before", Form::Protobuf, &jobs.late)?
    };
    rows.push(send(exporter, authority, collector, unknown).await?);
    let known = plan("authority down, job known", Form::Protobuf, &jobs.build)?;
    rows.push(send(exporter, authority, collector, known).await?);
    authority.set_down(false);
    Ok(rows)
}

/// The exports that are sent once, while the authority is up.
fn plans(authority: &Authority) -> anyhow::Result<Vec<Plan<'_>>> {
    let build = &authority.jobs.build;
    let chatty = &authority.jobs.chatty;

    let good = plan("good export of a job", Form::Protobuf, build)?;
    let good = Plan { design: Design { asked: true, ..good.design }, in_full: true, ..good };

    let mut forged = plan("forged ci.project.id, look-alike key", Form::Json, build)?;
    if let Some(resource) = forged.export.resource_spans.iter_mut().find_map(|r| r.resource.as_mut()) {
        resource.attributes.push(spans::int("ci.project.id", 1));
        resource.attributes.push(spans::text("CI_Project-ID", "1"));
    }
    forged.in_full = true;

    let mut foreign = plan("one span of a foreign trace", Form::Protobuf, build)?;
    let other_trace = random_bytes::<16>()?;
    if let Some(span) = last_span(&mut foreign.export) {
        span.trace_id = other_trace.to_vec();
    }
    foreign.design = Design::refused(Status::Http(400));

    let mut wrong = plan("wrong job token", Form::Protobuf, build)?;
    wrong.tokens.job = format!("glcbt-64_{}", spans::hex(&random_bytes::<10>()?));
    wrong.design = Design { asked: true, ..Design::refused(Status::Http(401)) };

    let mut other = plan("runner of another job", Form::Grpc, build)?;
    other.tokens.runner.clone_from(&chatty.runner.token);
    // PERMISSION_DENIED
    other.design = Design { asked: true, ..Design::refused(Status::Grpc(7)) };

    let mut oversize = plan("one span of 6 KiB", Form::Grpc, build)?;
    if let Some(span) = last_span(&mut oversize.export) {
        span.attributes.push(spans::text("gitlab.job.log", "x".repeat(6 << 10)));
    }
    let kept = spans::all(&oversize.export).count().saturating_sub(1);
    oversize.design = Design { spans: kept, rejected: 1, ..oversize.design };

    let mut budget = plan("more spans than a job may send", Form::Protobuf, chatty)?;
    budget.export = spans::steps(chatty, TOO_MANY)?;
    budget.design = Design {
        spans: SPANS_PER_JOB,
        rejected: TOO_MANY.saturating_sub(SPANS_PER_JOB),
        asked: true,
        ..budget.design
    };
    Ok(vec![good, forged, foreign, wrong, other, oversize, budget])
}

/// An export of a whole job that is designed to arrive whole, without a question to the authority.
fn plan<'a>(what: &'static str, form: Form, job: &'a Job) -> anyhow::Result<Plan<'a>> {
    let export = spans::whole_job(job)?;
    let status = if form == Form::Grpc { Status::Grpc(0) } else { Status::Http(200) };
    let design = Design::accepted(status, spans::all(&export).count());
    let tokens = Tokens { runner: job.runner.token.clone(), job: job.token.clone() };
    Ok(Plan { what, form, job, tokens, export, design, in_full: false })
}

fn last_span(
    export: &mut ExportTraceServiceRequest,
) -> Option<&mut opentelemetry_proto::tonic::trace::v1::Span> {
    export.resource_spans.last_mut()?.scope_spans.last_mut()?.spans.last_mut()
}

async fn send(
    exporter: &Exporter,
    authority: &Authority,
    collector: &mut Collector,
    plan: Plan<'_>,
) -> anyhow::Result<Row> {
    let asked_before = authority.asked();
    let reply = exporter.send(plan.form, &plan.tokens, &plan.export).await?;
    let mut row = Row {
        what: plan.what,
        form: plan.form,
        requests: 1,
        sent: plan.export,
        reply,
        asked: authority.asked().saturating_sub(asked_before),
        arrived: collector.arrived(),
        in_full: plan.in_full,
        differences: Vec::new(),
    };
    row.differences = judge::differences(&row, plan.job, &plan.design);
    Ok(row)
}

/// Sends single spans as fast as they are answered, until one is refused.
async fn burst(
    exporter: &Exporter,
    authority: &Authority,
    collector: &mut Collector,
    job: &Job,
) -> anyhow::Result<Row> {
    let asked_before = authority.asked();
    let export = spans::steps(job, 1)?;
    let tokens = Tokens { runner: job.runner.token.clone(), job: job.token.clone() };
    let start = Instant::now();
    let mut requests = 1;
    let mut reply = exporter.send(Form::Protobuf, &tokens, &export).await?;
    while reply.status == Status::Http(200) && requests < MOST_REQUESTS {
        reply = exporter.send(Form::Protobuf, &tokens, &export).await?;
        requests = requests.saturating_add(1);
    }
    let seconds = u32::try_from(start.elapsed().as_secs()).unwrap_or(u32::MAX);
    let mut row = Row {
        what: "requests faster than a job may send",
        form: Form::Protobuf,
        requests,
        sent: export,
        reply,
        asked: authority.asked().saturating_sub(asked_before),
        arrived: collector.arrived(),
        in_full: false,
        differences: Vec::new(),
    };
    let passed = requests.saturating_sub(1);
    let design =
        Design { spans: passed, asked: true, retry_after: true, ..Design::refused(Status::Http(429)) };
    row.differences = judge::differences(&row, job, &design);
    // The burst passes at once; then what time brings, and one for the second that has begun.
    let [least, most] = [BURST_SECONDS, BURST_SECONDS.saturating_add(seconds).saturating_add(1)]
        .map(|seconds| usize::try_from(seconds.saturating_mul(REQUESTS_PER_SECOND)).unwrap_or(usize::MAX));
    if !(least..=most).contains(&passed) {
        row.differences.push(format!("{passed} requests passed, designed {least} to {most}"));
    }
    Ok(row)
}
