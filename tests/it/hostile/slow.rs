//! Clients that take their time, and those that take none of it: heads and bodies that trickle in, connections that
//! nobody uses. A connection that says nothing has no bytes to be measured by; its bound is its own.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::join_all;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::TlsConnector;

use super::{
    figures::print,
    frames::{ACK, Frames, PING, SETTINGS, frame, hello},
    good::{self, Kind},
    scene::{Scene, as_f64, is_full},
    wire::{Line, Tally, Target},
};

/// Slow clients at once.
fn crowd() -> usize {
    if is_full() { 2_000 } else { 200 }
}

/// Writes what follows piece by piece until the gateway ends the connection; `place`: its number in the crowd, which
/// comes over half a second rather than at once, so that it is not the kernel that turns it away.
async fn trickle(target: &Target, place: usize, opening: &[u8], piece: &[u8]) {
    sleep(Duration::from_millis(500) * u32::try_from(place).unwrap() / u32::try_from(crowd()).unwrap()).await;
    while !target.is_over() {
        let Some(mut line) = Line::open(target, true).await else { break };
        Tally::add(&target.tally.units, 1);
        let mut alive = line.send(opening).await;
        while alive {
            sleep(Duration::from_millis(200).min(target.left())).await;
            alive = line.send(piece).await;
        }
    }
}

/// Scenario: hundreds of clients whose request heads come a few bytes at a time and never end.
/// Guarantees: each is cut when the time for heads is over; bounded memory and CPU; good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads() {
    let scene = Scene::with(150, |config| config.intake.header_timeout = Duration::from_millis(500)).await;
    let figures = scene
        .measure("slow heads", Kind::Http1Fresh, |target| async move {
            let opening = good::head("glrt-nobody", "glcbt-nobody", "");
            let opening = opening.trim_end().as_bytes();
            join_all((0..crowd()).map(|place| trickle(&target, place, opening, b"\r\nx-slow: 1"))).await;
        })
        .await;
    figures.assert_within(LARGEST_HEAD);
    let ended = Tally::get(&figures.tally.ended);
    // A busy machine does not open all of them in time.
    assert!(ended >= u64::try_from(crowd() / 4).unwrap(), "{ended} were ended: {figures:?}");
}

/// Scenario: hundreds of proven clients whose bodies come a byte at a time and never end.
/// Guarantees: each is refused when the time for bodies is over; bounded memory and CPU; good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies() {
    let scene = Scene::with(150, |config| config.intake.body_timeout = Duration::from_millis(500)).await;
    let opening =
        good::head(&scene.job.runner_token, &scene.job.job_token, "Content-Length: 1000000\r\n").into_bytes();
    let figures = scene
        .measure("slow bodies", Kind::Http1Fresh, |target| async move {
            join_all((0..crowd()).map(|place| trickle(&target, place, &opening, b"\n"))).await;
        })
        .await;
    figures.assert_within(LARGEST_UPLOAD);
    let refused = scene.metrics().await.sum("spangate_requests_total", &[("outcome", "body_timeout")]);
    assert!(refused >= as_f64(u64::try_from(crowd() / 4).unwrap()), "{refused} were refused: {figures:?}");
}

/// The most that a connection may take whose head does not end: hyper's buffers for it and for an answer.
const LARGEST_HEAD: u64 = 48 << 10;

/// The most that a proven sender's open upload may take besides its bytes: the connection, a request that is under way,
/// and the first pages of a buffer for the length that it announced.
const LARGEST_UPLOAD: u64 = 64 << 10;

/// Scenario: 10,000 (in a short run 300) HTTP/2 connections under TLS that nobody uses, and 1,000 good exports a second
/// (150) beside them.
/// Guarantees: a connection takes no more than it may, all of them are held, and good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections() {
    let (count, rate) = if is_full() { (10_000, 1_000) } else { (1_000, 150) };
    let scene = Scene::with(rate, |_| {}).await;
    let connector = TlsConnector::from(scene.tls.client_config(&["h2"]));
    let (usage, to, bytes) = (scene.usage(), scene.gateway.listener("secure"), Arc::new(AtomicU64::new(0)));
    // Some first, so that what the process sets up once is not counted.
    let mut held = JoinSet::new();
    open(&mut held, WARM, to, &connector, &bytes).await;
    bytes.store(0, Ordering::Relaxed);
    let before = usage.memory();
    open(&mut held, count, to, &connector, &bytes).await;
    // What the handshakes took and gave back belongs to no idle connection.
    sleep(Duration::from_secs(1)).await;
    let each = usage.memory().saturating_sub(before) / u64::try_from(count).unwrap();
    let bytes = bytes.load(Ordering::Relaxed);
    let figures = scene
        .take(to, "idle TLS HTTP/2 connections", Kind::Http1, move |target| async move {
            target.tally.bytes.store(bytes, Ordering::Relaxed);
            sleep(target.left()).await;
        })
        .await;
    let connections = scene.metrics().await.sum("spangate_connections", &[("listener", "secure")]);
    print(&format!("idle: {connections} held, {each} bytes of memory each, {bytes} bytes received in all"));
    figures.assert_bounded();
    assert!(connections >= as_f64(u64::try_from(count).unwrap()), "{connections} connections are held");
    assert!(each <= LARGEST_IDLE, "an idle connection takes {each} bytes");
    held.shutdown().await;
    scene.assert_settled().await;
}

/// The most that an idle connection may take, in bytes: 30 KiB.
const LARGEST_IDLE: u64 = 30 << 10;

/// Idle connections before those that are counted.
const WARM: usize = 50;

/// Opens so many connections, several at a time.
async fn open(
    held: &mut JoinSet<()>,
    count: usize,
    to: SocketAddr,
    connector: &TlsConnector,
    bytes: &Arc<AtomicU64>,
) {
    let mut left = count;
    while left > 0 {
        let turn = left.min(20);
        let opened = (0..turn).map(|_| async {
            let stream = TcpStream::connect(to).await.unwrap();
            let stream = Counted { stream, bytes: Arc::clone(bytes) };
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = connector.connect(name, stream).await.unwrap();
            stream.write_all(&hello()).await.unwrap();
            stream
        });
        for stream in join_all(opened).await {
            held.spawn(tend(stream));
        }
        left -= turn;
    }
}

/// Does what keeps a connection open and nothing else: acknowledges settings and pings.
async fn tend(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut frames = Frames::default();
    while let Some((head, payload)) = frames.next(&mut stream).await {
        if matches!(head.kind, SETTINGS | PING) && head.flags == 0 {
            let payload = if head.kind == PING { payload } else { Vec::new() };
            if stream.write_all(&frame(head.kind, ACK, 0, &payload)).await.is_err() {
                return;
            }
        }
    }
}

/// Counts what is written.
struct Counted {
    stream: TcpStream,
    bytes: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        Tally::add(&self.bytes, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
