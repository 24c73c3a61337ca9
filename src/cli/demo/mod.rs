//! `spangate demo`: authority, gateway and collector on loopback, and what becomes of ten exports
//! sent through real sockets. It reads no configuration and never leaves loopback; it tells what it
//! saw, and fails when that is not what was designed.

mod authority;
mod client;
mod collector;
mod exports;
mod judge;
mod loopback;
mod report;
mod spans;
#[cfg(test)]
mod tests;
mod try_it;

use std::{
    env,
    io::{IsTerminal as _, Write},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    app,
    config::{Admin, Attributes, Collector, Config, Gitlab, Limits, Listener, PerJob, Shutdown, Traces},
};

use self::{authority::Authority, client::Exporter, exports::Row, report::Paint};

/// Any free port of loopback.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Runs the demo; `once` ends after the table. The result is the process's exit code: 0 only if every outcome was as designed.
///
/// # Errors
/// When a part can't be started, or an answer does not come at all.
pub async fn run(once: bool) -> anyhow::Result<u8> {
    let stdout = std::io::stdout();
    let paint = Paint { on: stdout.is_terminal() && env::var_os("NO_COLOR").is_none() };
    run_to(stdout, paint, once).await
}

async fn run_to(mut out: impl Write, paint: Paint, once: bool) -> anyhow::Result<u8> {
    let settings = Gitlab::default();
    let authority = Authority::start(&settings).await.context("the authority can't listen")?;
    let mut collector = collector::Collector::start().await.context("the collector can't listen")?;
    let config = config(&authority.url(), &collector.url());
    let running = app::start(config).await.context("the gateway can't start")?;
    let gateway = running.listener(LISTENER).context("the gateway does not listen")?;
    writeln!(out, "authority  {}", authority.url())?;
    writeln!(out, "gateway    http://{gateway}  (OTLP/HTTP and gRPC; admin http://{})", running.admin())?;
    writeln!(out, "collector  {}\n", collector.url())?;

    let exporter = Exporter::new(gateway, &settings);
    let rows = exports::send_all(&exporter, &authority, &mut collector).await?;
    write!(out, "{}\n{}", report::table(&rows, paint), report::trees(&rows, paint))?;
    let code = verdict(&mut out, &rows, paint)?;
    if !once {
        write!(out, "\n{}\n", try_it::jobs(&authority))?;
        writeln!(out, "{}", try_it::lines(&authority, &settings, gateway, running.admin())?)?;
        stay_up(&mut out, &mut collector, paint).await?;
    }
    // The demo's own connections are closed first: nothing is left to wait for.
    drop(exporter);
    running.drain().await;
    Ok(code)
}

/// Says whether all went as designed; gives the exit code.
fn verdict(out: &mut impl Write, rows: &[Row], paint: Paint) -> std::io::Result<u8> {
    let failed = rows.iter().filter(|row| !row.differences.is_empty()).count();
    write!(out, "{}", report::differences(rows, paint))?;
    if failed == 0 {
        writeln!(out, "all {} outcomes are as designed", rows.len())?;
        return Ok(0);
    }
    writeln!(out, "{failed} of {} outcomes are not as designed", rows.len())?;
    Ok(1)
}

/// Prints every export that arrives, until Ctrl-C.
async fn stay_up(
    out: &mut impl Write,
    collector: &mut collector::Collector,
    paint: Paint,
) -> anyhow::Result<()> {
    let mut ended = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        out.flush()?;
        tokio::select! {
            ended = &mut ended => return ended.context("Ctrl-C can't be waited for"),
            Some(export) = collector.next() => writeln!(out, "{}", report::arrival(&export, paint))?,
        }
    }
}

/// The name of the demo's listener.
const LISTENER: &str = "runners";

/// The defaults, except for addresses and for limits that ten exports can reach.
fn config(authority: &str, collector: &str) -> Config {
    Config {
        listeners: vec![Listener { name: LISTENER.to_owned(), address: ANY_PORT, ..Listener::default() }],
        admin: Admin { address: ANY_PORT, ..Admin::default() },
        gitlab: Gitlab { url: authority.to_owned(), ..Gitlab::default() },
        collector: Collector { endpoints: vec![collector.to_owned()], ..Collector::default() },
        traces: Traces { max_spans_per_job: exports::SPANS_PER_JOB as u64, ..Traces::default() },
        limits: Limits {
            per_job: PerJob {
                requests_per_second: exports::REQUESTS_PER_SECOND,
                burst: Duration::from_secs(exports::BURST_SECONDS.into()),
                ..PerJob::default()
            },
            ..Limits::default()
        },
        attributes: Attributes { service_name: judge::SERVICE_NAME.to_owned(), ..Attributes::default() },
        shutdown: Shutdown { delay: Duration::ZERO, deadline: Duration::from_secs(2) },
        ..Config::default()
    }
}
