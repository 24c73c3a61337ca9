//! Connections that nobody uses, up to the places that there are and beyond. They have no bytes to be measured by; the
//! bound of each is its own, and that of all is the number of places.

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
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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
    good::Kind,
    rounds::{Rounds, Times},
    scene::{Scene, as_f64, is_full, rate},
    wire::{Line, Tally, Target},
};

/// How many idle connections the gateway is to hold.
const GOAL: usize = 10_000;

/// The most that an idle connection may take, in bytes: 30 KiB.
const LARGEST_IDLE: u64 = 30 << 10;

/// Idle connections before those that are counted.
const WARM: usize = 50;

/// Connections besides the idle ones: the good sender's and a few that come and go.
const OTHERS: usize = 20;

/// Scenario: 10,000 (in a short run 1,000) HTTP/2 connections under TLS that nobody uses, or as many as the limit of file
/// descriptors bears, and 1,000 good exports a second (150) beside them from a sender that is known.
/// Guarantees: a connection takes no more than it may, all of them are held, and good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections() {
    raise_descriptors();
    let (goal, rate) = if is_full() { (GOAL, 1_000) } else { (1_000, 150) };
    let scene = Scene::with(rate, |_| {}).await;
    let places = scene.places();
    // From 80 % of the places on idle strangers are asked to leave.
    let count = (places * 4).div_ceil(5).saturating_sub(1 + WARM + OTHERS).min(goal);
    let connector = TlsConnector::from(scene.tls.client_config(&["h2"]));
    let (usage, to, bytes) = (scene.usage(), scene.gateway.listener("secure"), Arc::new(AtomicU64::new(0)));
    let mut rounds = Rounds::begin(&scene, Kind::Http1).await;
    // Some first, so that what the process sets up once is not counted.
    let mut warm = JoinSet::new();
    open(&mut warm, WARM, to, &connector, &bytes).await;
    let (mut each, mut held) = (0, JoinSet::new());
    for round in 0..Times::of_mode().rounds {
        rounds.quiet().await;
        bytes.store(0, Ordering::Relaxed);
        let before = usage.memory();
        open(&mut held, count, to, &connector, &bytes).await;
        // What the handshakes took and gave back belongs to no idle connection.
        sleep(Duration::from_secs(1)).await;
        if round == 0 {
            each = usage.memory().saturating_sub(before) / u64::try_from(count).unwrap();
        }
        let sent = bytes.load(Ordering::Relaxed);
        rounds.forget_memory();
        rounds
            .beside(to, move |target| async move {
                target.tally.bytes.store(sent, Ordering::Relaxed);
                sleep(target.left()).await;
            })
            .await;
        let connections = scene.metrics().await.sum("spangate_connections", &[("listener", "secure")]);
        assert!(connections >= as_f64((WARM + count) as u64), "{connections} connections are held");
        held.shutdown().await;
        rounds.rest("secure", u32::try_from(WARM).unwrap()).await;
    }
    let figures = rounds.end("idle TLS HTTP/2 connections");
    print(&format!(
        "idle: {} held beside {rate} good exports a second, {:.1} KiB of memory each, {} bytes received in all; the \
         process keeps {} MiB after so many in each round",
        WARM + count,
        as_f64(each) / 1024.0,
        figures.bytes(),
        usage.memory() >> 20,
    ));
    if count < GOAL {
        print(&format!(
            "idle: FEWER THAN {GOAL}: the limit of file descriptors leaves {places} places beside what collectors take, and up \
             to 80 % of them idle strangers are let alone"
        ));
    }
    figures.assert_bounded();
    assert!(each <= LARGEST_IDLE, "an idle connection takes {each} bytes");
    warm.shutdown().await;
    scene.assert_settled().await;
}

/// The test's own end of each connection needs a descriptor too.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// Places in the test of more connections than there are.
const FEW: usize = 1_000;

/// Scenario (in a long run only; `overload` has a short one): a crowd takes all places and goes on coming: connections that
/// never say anything, and some HTTP/2 ones that are idle.
/// Guarantees: a sender that is known goes on over the connections that it has, all of them and without a refusal, at every
/// stage of overload; memory and CPU are bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_places() {
    if !is_full() {
        return;
    }
    let scene = Scene::with(rate(), |config| config.intake.max_connections = FEW).await;
    let figures = scene
        .measure("more connections than places", Kind::Http1Fresh, |target| async move {
            join_all((0..CROWD).map(|place| crowd(&target, place))).await;
        })
        .await;
    figures.assert_bounded();
    let metrics = scene.metrics().await;
    for stage in ["idle", "closed"] {
        let times = metrics.sum("spangate_overload_shed_total", &[("stage", stage)]);
        assert!(times > 0.5, "the stage {stage} was not reached: {figures:?}");
    }
}

/// Who comes at once, and keeps what it got.
const CROWD: usize = 20;

/// Opens connections until the end of the attack: one in twenty says that it speaks HTTP/2, the others nothing.
async fn crowd(target: &Target, place: usize) {
    let mut held = Vec::new();
    while !target.is_over() && held.len() < 2 * FEW / CROWD {
        let opened = tokio::time::timeout(target.left(), Line::open(target, true)).await;
        let Ok(Some(mut line)) = opened else { break };
        Tally::add(&target.tally.units, 1);
        let opening = if (held.len() + place).is_multiple_of(20) { hello() } else { Vec::new() };
        line.send(&opening).await;
        held.push(line);
        sleep(Duration::from_millis(2).min(target.left())).await;
    }
    sleep(target.left()).await;
}

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
