//! The well-behaved sender beside an attack: exports at a steady rate whose latency counts from the moment at which
//! each was due. And the same kind of export as raw bytes, to learn what a byte of good traffic costs.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::timeout,
};

use super::frames::{self, Block, Frames, frame};
use crate::support::{
    client::{Export, Form, PATIENCE, Wire},
    job::Job,
    session::Session,
    spans,
};

/// Connections of the good sender.
pub(super) const LANES: u32 = 8;

/// Spans in an export of the good sender.
const SPANS: u64 = 8;

/// What became of good exports.
#[derive(Debug, Default)]
pub(super) struct Good {
    /// Sorted.
    pub(super) latencies: Vec<Duration>,
    /// Everything but a 200.
    pub(super) refused: Vec<String>,
}

impl Good {
    /// The 99th percentile.
    pub(super) fn p99(&self) -> Duration {
        self.latencies[self.latencies.len() * 99 / 100]
    }
}

/// The good sender. Its connections stay open from one round to the next.
pub(super) struct Sender {
    to: SocketAddr,
    export: Export,
    /// Exports a second.
    rate: u32,
    lanes: Vec<Option<Session>>,
}

impl Sender {
    pub(super) fn new(to: SocketAddr, job: &Job, rate: u32) -> Self {
        let export = Export::of(Form::Protobuf, job, &spans::export(job, SPANS));
        Self { to, export, rate, lanes: (0..LANES).map(|_| None).collect() }
    }

    /// Opens all of them with an export on each: from then on the sender is known.
    pub(super) async fn open(&mut self) {
        for lane in &mut self.lanes {
            assert_eq!(exchange(lane, self.to, &self.export).await, Ok(200));
        }
    }

    /// Sends at its rate for `time`.
    pub(super) async fn send(&mut self, time: Duration) -> Good {
        let Self { to, ref export, rate, ref mut lanes } = *self;
        let step = Duration::from_secs(1) / rate;
        let count = u32::try_from(time.as_millis() * u128::from(rate) / 1000).unwrap();
        let (starts, turns): (Vec<_>, Vec<_>) = lanes.iter().map(|_| unbounded_channel()).unzip();
        let pacer = std::thread::spawn(move || pace(step, count, &starts));
        let lanes = turns.into_iter().zip(lanes).map(|(mut turns, session)| async move {
            let mut good = Good::default();
            while let Some(due) = turns.recv().await {
                let answer = timeout(PATIENCE, exchange(session, to, export)).await;
                match answer.unwrap_or_else(|_| Err("no answer in time".into())) {
                    Ok(200) => {}
                    Ok(status) => good.refused.push(status.to_string()),
                    Err(problem) => {
                        *session = None;
                        good.refused.push(problem);
                    }
                }
                good.latencies.push(due.elapsed());
            }
            good
        });
        let mut all = Good::default();
        for good in join_all(lanes).await {
            all.latencies.extend(good.latencies);
            all.refused.extend(good.refused);
        }
        // It is over: its last turn was taken.
        pacer.join().unwrap();
        all.latencies.sort_unstable();
        all
    }
}

/// Tells each lane in turn when its next export is due, at that moment. The runtime's own timer would tell it a
/// millisecond or two later: as much as an export takes.
fn pace(step: Duration, count: u32, lanes: &[UnboundedSender<Instant>]) {
    let start = Instant::now();
    for (turn, lane) in (0..count).zip(lanes.iter().cycle()) {
        let due = start + step * turn;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        lane.send(due).unwrap();
    }
}

async fn exchange(session: &mut Option<Session>, to: SocketAddr, export: &Export) -> Result<u16, String> {
    let open = match session {
        Some(open) => open,
        None => session.insert(Session::open(&Wire::Http1, to).await?),
    };
    open.exchange(export).await.map(|answer| answer.status)
}

/// What good traffic an attack is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// HTTP/1.1 on connections that are kept.
    Http1,
    /// HTTP/1.1 with a connection for each request.
    Http1Fresh,
    /// HTTP/2 on a connection that is kept.
    Http2,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http1Fresh => "HTTP/1.1, new connections",
            Self::Http2 => "HTTP/2",
        }
    }

    /// Sends exports one after another for `time`: how many, and how many bytes.
    pub(super) async fn send(self, to: SocketAddr, job: &Job, time: Duration) -> (u64, u64) {
        // The smallest there is, as attacks are small: a byte of a long export costs much less.
        let body = Bytes::from(spans::export(job, 1).encode_to_vec());
        let until = Instant::now() + time;
        let (mut count, mut bytes) = (0, 0);
        let connect = || async { TcpStream::connect(to).await.unwrap() };
        match self {
            Self::Http1 | Self::Http1Fresh => {
                let request = http1(job, &body);
                let mut stream = connect().await;
                while Instant::now() < until {
                    if self == Self::Http1Fresh {
                        stream = connect().await;
                    }
                    stream.set_nodelay(true).unwrap();
                    stream.write_all(&request).await.unwrap();
                    (count, bytes) = (count + 1, bytes + request.len());
                    assert_eq!(status(&mut stream).await, Some(200));
                }
            }
            Self::Http2 => {
                let mut stream = connect().await;
                stream.set_nodelay(true).unwrap();
                stream.write_all(&frames::hello()).await.unwrap();
                let mut answers = Frames::default();
                for number in 0.. {
                    if Instant::now() >= until {
                        break;
                    }
                    let request = http2(job, frames::stream(number), &body);
                    stream.write_all(&request).await.unwrap();
                    (count, bytes) = (count + 1, bytes + request.len());
                    loop {
                        let (head, payload) = answers.next(&mut stream).await.unwrap();
                        if head.kind == frames::HEADERS {
                            // `:status 200` of the static table.
                            assert_eq!(payload[0], 0x88, "{payload:?}");
                        }
                        if head.ends(frames::stream(number)) {
                            break;
                        }
                    }
                }
            }
        }
        (count, u64::try_from(bytes).unwrap())
    }
}

/// The head of an export over HTTP/1.1, with what else is given.
pub(super) fn head(runner_token: &str, job_token: &str, more: &str) -> String {
    format!(
        "POST /v1/traces HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/x-protobuf\r\n\
         Runner-Token: {runner_token}\r\nJob-Token: {job_token}\r\n{more}\r\n"
    )
}

/// A whole export over HTTP/1.1.
pub(super) fn http1(job: &Job, body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}\r\n", body.len());
    [head(&job.runner_token, &job.job_token, &length).as_bytes(), body].concat()
}

/// The header block of an export over HTTP/2.
pub(super) fn block(runner_token: &str, job_token: &str) -> Block {
    Block::post("/v1/traces")
        .literal("content-type", "application/x-protobuf")
        .literal("runner-token", runner_token)
        .literal("job-token", job_token)
}

/// A whole export over HTTP/2.
pub(super) fn http2(job: &Job, stream: u32, body: &[u8]) -> Vec<u8> {
    let block = block(&job.runner_token, &job.job_token);
    let mut bytes = frame(frames::HEADERS, frames::END_HEADERS, stream, &block.0);
    bytes.extend(frame(frames::DATA, frames::END_STREAM, stream, body));
    bytes
}

/// The status of an HTTP/1.1 answer, which is read to its end; `None` when there is none.
pub(super) async fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut seen = Vec::new();
    loop {
        if let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = end + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap());
            if seen.len() >= whole {
                return head.split(' ').nth(1)?.parse().ok();
            }
        }
        if matches!(stream.read_buf(&mut seen).await, Ok(0) | Err(_)) {
            return None;
        }
    }
}
