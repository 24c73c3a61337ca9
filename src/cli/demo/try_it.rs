//! The command lines that the demo prints for its reader: real ports, this run's tokens, bodies
//! that work as pasted. It decides what is worth trying, never what is answered.

use std::{fmt::Write as _, net::SocketAddr};

use crate::{config::Gitlab, otlp::signal::Signal};

use super::{
    authority::{Authority, Job, random_bytes},
    spans,
};

/// Who is known to the authority: ids and tokens of this run.
pub(super) fn jobs(authority: &Authority) -> String {
    let mut out = "The authority knows (tokens are made afresh for every run):\n".to_owned();
    for job in authority.jobs.all() {
        let Job { name, id, runner, token, .. } = job;
        let _written = writeln!(
            out,
            "  job {name:<6} {id}  job token {token}  runner {} token {}",
            runner.id, runner.token
        );
    }
    out
}

/// Command lines for another terminal.
///
/// # Errors
/// When the operating system has no random bytes.
pub(super) fn lines(
    authority: &Authority,
    settings: &Gitlab,
    gateway: SocketAddr,
    admin: SocketAddr,
) -> anyhow::Result<String> {
    let build = &authority.jobs.build;
    let good = body(build, build)?;
    let mut stranger = build.clone();
    stranger.token = format!("glcbt-64_{}", spans::hex(&random_bytes::<10>()?));
    let foreign = body(build, &authority.jobs.late)?;
    let authority = authority.url();
    Ok(format!(
        "The gateway stays up. In another terminal:\n\n\
         # a good export: 200, and it is printed here, without the forged ci.project.id\n{}\n\n\
         # a wrong job token: 401\n{}\n\n\
         # a span of another job's trace: 400\n{}\n\n\
         # the authority down and up again: known jobs go on, others get 503\n\
         curl -sS -X POST {authority}/demo/down\n\
         curl -sS -X POST {authority}/demo/up\n\n\
         # metrics\n\
         curl -sS http://{admin}/metrics\n\n\
         Ctrl-C ends it.\n",
        curl(settings, gateway, build, &good),
        curl(settings, gateway, &stranger, &good),
        curl(settings, gateway, build, &foreign),
    ))
}

/// One span of `trace_of`'s trace, sent by `sender`.
fn body(sender: &Job, trace_of: &Job) -> anyhow::Result<String> {
    let mut span = spans::span(sender, "tried with curl", 0, 1_500)?;
    span.trace_id = trace_of.trace_id.as_bytes().to_vec();
    let mut export = spans::export(vec![span]);
    if let Some(resource) = export.resource_spans.first_mut().and_then(|entry| entry.resource.as_mut()) {
        // Short enough to read, and with a lie that will not arrive.
        resource.attributes = vec![spans::text("host.name", "my-shell"), spans::int("ci.project.id", 1)];
    }
    Ok(spans::to_json(&export)?.to_string())
}

fn curl(settings: &Gitlab, gateway: SocketAddr, job: &Job, body: &str) -> String {
    let Gitlab { runner_token_header, job_token_header, .. } = settings;
    format!(
        "curl -sS -i -w '\\n' http://{gateway}{} -H 'Content-Type: application/json' \\\n  \
         -H '{runner_token_header}: {}' \\\n  -H '{job_token_header}: {}' \\\n  -d '{body}'",
        Signal::Traces.http_path(),
        job.runner.token,
        job.token,
    )
}
