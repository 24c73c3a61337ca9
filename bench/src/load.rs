//! The load: keep-alive HTTP/1.1 connections that send one prepared export again and again. It
//! prints one JSON line and fails when any answer is not 200: a refused request costs less than an
//! accepted one and would flatter the figure.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use spangate_bench::payload;

/// Connections that an open loop may have open at once.
const OPEN_LOOP_CONNECTIONS: u32 = 8;

/// How late a timer may wake without anything having gone wrong.
const TIMER_TICK: Duration = Duration::from_millis(2);

/// Sends `requests` requests over `connections` connections, each as soon as the one before it was answered.
pub async fn closed(target: &str, spans: u32, connections: u32, requests: u32) -> anyhow::Result<()> {
    let body = payload::export(spans);
    let each = requests.checked_div(connections).context("at least one connection")?;
    let start = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let mut connection = Connection::open(target, body.clone()).await?;
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            for _ in 0..each {
                let sent = Instant::now();
                connection.send().await?;
                latencies.push(sent.elapsed());
            }
            anyhow::Ok(latencies)
        }));
    }
    report(tasks, start).await
}

/// Sends `requests` requests, `rate` a second; a late answer delays the ones behind it on its
/// connection and they count that wait, because latency is taken from the time a request was due.
pub async fn open(target: &str, spans: u32, rate: u32, requests: u32) -> anyhow::Result<()> {
    let body = payload::export(spans);
    ensure!(rate > 0, "a rate of at least one a second");
    let step = Duration::from_secs(1) / rate;
    let start = Instant::now() + Duration::from_millis(50);
    let mut tasks = Vec::new();
    for lane in 0..OPEN_LOOP_CONNECTIONS {
        let mut connection = Connection::open(target, body.clone()).await?;
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            for turn in (lane..requests).step_by(OPEN_LOOP_CONNECTIONS as usize) {
                let due = start + step * turn;
                tokio::time::sleep_until(due.into()).await;
                let sent = Instant::now();
                connection.send().await?;
                // A timer wakes late by up to its tick of a millisecond: only a longer delay is a queue.
                let late = sent.saturating_duration_since(due);
                let queued = if late > TIMER_TICK { late } else { Duration::ZERO };
                latencies.push(sent.elapsed() + queued);
            }
            anyhow::Ok(latencies)
        }));
    }
    report(tasks, start).await
}

async fn report(
    tasks: Vec<tokio::task::JoinHandle<anyhow::Result<Vec<Duration>>>>,
    start: Instant,
) -> anyhow::Result<()> {
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let quantile = |per_mille: usize| {
        let place = latencies.len().saturating_sub(1) * per_mille / 1000;
        latencies.get(place).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    };
    let line = format!(
        r#"{{"requests":{},"seconds":{seconds:.3},"p50_us":{:.1},"p99_us":{:.1},"p999_us":{:.1}}}"#,
        latencies.len(),
        quantile(500),
        quantile(990),
        quantile(999),
    );
    writeln!(std::io::stdout(), "{line}").context("the result can't be told")
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    target: String,
    body: Bytes,
}

impl Connection {
    async fn open(target: &str, body: Bytes) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(target).await.with_context(|| format!("no connection to {target}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, target: target.to_owned(), body })
    }

    async fn send(&mut self) -> anyhow::Result<()> {
        let request = Request::post("/v1/traces")
            .header(header::HOST, &self.target)
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, "spangate-bench")
            .header("Runner-Token", RUNNER_TOKEN)
            .header("Job-Token", JOB_TOKEN)
            .body(Full::new(self.body.clone()))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status != 200 {
            bail!("answered {status}: {}", String::from_utf8_lossy(&body));
        }
        ensure!(body.is_empty(), "answered 200 with a partial success: something was throttled");
        Ok(())
    }
}

/// As long as real ones: a runner token of 26 bytes, a job token of about 800.
const RUNNER_TOKEN: &str = "glrt-bench0123456789abcdef";
const JOB_TOKEN: &str = concat!(
    "glcbt-bench_",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
);
