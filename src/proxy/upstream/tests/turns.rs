//! No more exports at once than `collector.max_connections` over HTTP: who waits, for how long, and that no place is lost.

use std::{
    future::{Future, pending},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    config::{Collector, Protocol},
    metrics::Metrics,
    otlp::status::PartialSuccess,
};

use super::{
    super::{Upstream, UpstreamError, bound::most_connections, pool},
    AnswerBody, Fake, deliver,
    delivery::fine,
    nobody, outgoing, send,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// A collector that answers when it is let, and counts what it holds.
struct Slow {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    answers: Semaphore,
    asked: AtomicUsize,
    held: Gauge,
    open: Gauge,
}

/// How many there are, and the most that there were.
#[derive(Debug, Default)]
struct Gauge {
    now: AtomicUsize,
    peak: AtomicUsize,
}

/// One of them.
struct One<'a>(&'a Gauge);

impl Gauge {
    fn one(&self) -> One<'_> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        One(self)
    }

    fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Slow {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts {
            answers: Semaphore::new(0),
            asked: AtomicUsize::new(0),
            held: Gauge::default(),
            open: Gauge::default(),
        });
        let all = Arc::clone(&counts);
        drop(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(tokio::spawn(serve(stream, Arc::clone(&all))));
            }
        }));
        Self { address, counts }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn answer(&self, count: usize) {
        self.counts.answers.add_permits(count);
    }

    async fn asked(&self, count: usize) {
        eventually(|| self.counts.asked.load(Ordering::SeqCst) == count).await;
        // One more would have come by then.
        sleep(Duration::from_millis(50)).await;
        assert_eq!(self.counts.asked.load(Ordering::SeqCst), count, "exports at the collector");
    }
}

async fn serve(mut stream: TcpStream, counts: Arc<Counts>) {
    let _open = counts.open.one();
    let mut request = Vec::new();
    while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
        if !request.ends_with(b"onetwo") {
            continue;
        }
        request.clear();
        let held = counts.held.one();
        counts.asked.fetch_add(1, Ordering::SeqCst);
        tokio::select! {
            answer = counts.answers.acquire() => answer.unwrap().forget(),
            // Nothing is sent before the answer: this is a hang-up.
            _ = stream.readable() => return,
        }
        drop(held);
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.is_err() {
            return;
        }
    }
}

async fn eventually(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it never held");
}

fn config(endpoints: &[String], max_connections: usize) -> Collector {
    let endpoints = endpoints.to_vec();
    Collector { endpoints, max_connections, timeout: PATIENCE, ..Collector::default() }
}

fn bounded(endpoints: &[String], max_connections: usize) -> Upstream {
    pool(&config(endpoints, max_connections), None, Arc::new(Metrics::new())).unwrap()
}

fn spawn(upstream: &Upstream) -> JoinHandle<Result<PartialSuccess, UpstreamError>> {
    let upstream = upstream.clone();
    tokio::spawn(async move { send(&upstream).await })
}

async fn passes(
    export: impl Future<Output = Result<Result<PartialSuccess, UpstreamError>, tokio::task::JoinError>>,
) {
    assert_eq!(timeout(PATIENCE, export).await.unwrap().unwrap(), Ok(PartialSuccess::default()));
}

/// Scenario: three exports, a collector that holds its answers, and two that may be under way.
/// Guarantees: the third one is not sent before one of the others ends; then it is, and all pass.
#[tokio::test]
async fn the_third_waits_for_its_turn() {
    let slow = Slow::start().await;
    let upstream = bounded(&[slow.url()], 2);
    let exports: Vec<_> = (0..3).map(|_| spawn(&upstream)).collect();
    slow.asked(2).await;
    slow.answer(1);
    slow.asked(3).await;
    slow.answer(2);
    for export in exports {
        passes(export).await;
    }
    assert_eq!(slow.counts.held.peak(), 2);
}

/// Scenario: 200 exports at once to one collector, to two, and to one of two that is down, with four that may be under way.
/// Guarantees: all pass; no more than four are ever under way, and no more sockets open than are reckoned with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_sockets_than_reckoned() {
    let slow = Slow::start().await;
    let (other, nobody) = (Slow::start().await, nobody().await);
    slow.answer(600);
    other.answer(200);
    for endpoints in [vec![slow.url()], vec![slow.url(), other.url()], vec![nobody, slow.url()]] {
        let upstream = bounded(&endpoints, 4);
        let exports: Vec<_> = (0..200).map(|_| spawn(&upstream)).collect();
        for export in exports {
            passes(export).await;
        }
        let most = most_connections(&config(&endpoints, 4));
        assert_eq!(most, 8);
        let (slow, other) = (&slow.counts, &other.counts);
        assert!(slow.held.peak() <= 4 && other.held.peak() <= 4, "{slow:?}, {other:?}");
        // It may see a new connection before the end of an old one.
        assert!(slow.open.peak() + other.open.peak() <= most + 4, "{slow:?}, {other:?}");
        drop(upstream);
        eventually(|| slow.open.now.load(Ordering::SeqCst) + other.open.now.load(Ordering::SeqCst) == 0)
            .await;
    }
}

/// Scenario: the only turn is taken, and another export has 2 s left.
/// Guarantees: it is told of the queue at half of its time, having been sent to nobody; the wait is counted; the next one passes.
#[tokio::test]
async fn who_waits_in_vain_is_told_so() {
    let slow = Slow::start().await;
    let metrics = Arc::new(Metrics::new());
    let upstream = pool(&config(&[slow.url()], 1), None, Arc::clone(&metrics)).unwrap();
    let first = spawn(&upstream);
    slow.asked(1).await;
    let mut late = outgoing(&[b"onetwo"]);
    let began = Instant::now();
    late.deadline = began + Duration::from_secs(2);
    assert_eq!(deliver(&upstream, late).await, Err(UpstreamError::Queue));
    let waited = began.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_millis(1900)).contains(&waited), "{waited:?}");
    slow.asked(1).await;
    slow.answer(2);
    passes(first).await;
    passes(spawn(&upstream)).await;
    let text = metrics.render();
    assert!(text.contains("spangate_collector_queued_total 1\n"), "{text}");
    assert!(text.contains("spangate_collector_duration_seconds_count 2\n"), "the wait is no request: {text}");
}

/// Scenario: an export waits for longer than `collector.timeout` until it is its turn.
/// Guarantees: the collector's time begins with the turn: it passes.
#[tokio::test]
async fn the_wait_is_not_the_collectors_time() {
    let slow = Slow::start().await;
    let short = Duration::from_millis(600);
    let config = Collector { timeout: short, ..config(&[slow.url()], 1) };
    let upstream = pool(&config, None, Arc::new(Metrics::new())).unwrap();
    let in_vain = spawn(&upstream);
    let (second, third) = (spawn(&upstream), spawn(&upstream));
    assert_eq!(in_vain.await.unwrap(), Err(UpstreamError::Timeout));
    assert_eq!(second.await.unwrap(), Err(UpstreamError::Timeout));
    slow.asked(3).await;
    slow.answer(1);
    passes(third).await;
}

/// Scenario: senders hang up: one whose export waits, one whose export is under way.
/// Guarantees: neither leaves a place taken, and the one that waited was sent to nobody.
#[tokio::test]
async fn a_hang_up_gives_its_place_back() {
    let slow = Slow::start().await;
    let upstream = bounded(&[slow.url()], 1);
    let (under_way, waiting) = (spawn(&upstream), spawn(&upstream));
    slow.asked(1).await;
    waiting.abort();
    drop(waiting.await);
    slow.asked(1).await;
    let next = spawn(&upstream);
    slow.asked(1).await;
    under_way.abort();
    slow.asked(2).await;
    slow.answer(2);
    passes(next).await;
    passes(spawn(&upstream)).await;
}

/// Scenario: the first collector is down, one export may be under way, and another one waits.
/// Guarantees: what could not be sent is tried once more with the turn that it has.
#[tokio::test]
async fn a_second_try_needs_no_second_turn() {
    let slow = Slow::start().await;
    let upstream = bounded(&[nobody().await, slow.url()], 1);
    let exports = [spawn(&upstream), spawn(&upstream)];
    slow.asked(1).await;
    slow.answer(2);
    for export in exports {
        passes(export).await;
    }
}

/// Scenario: of two collectors the first takes connections and never answers; eight exports at a time may be under way, and
/// eight senders send one after another for two seconds.
/// Guarantees: the other one gets nearly all: who hangs holds no more than its even part of the turns, not all of them.
#[tokio::test]
async fn one_that_hangs_takes_no_turns_from_the_others() {
    let (hangs, well) = (Slow::start().await, Fake::start(None, fine).await);
    let config = Collector { timeout: Duration::from_millis(500), ..config(&[hangs.url(), well.url()], 8) };
    let upstream = pool(&config, None, Arc::new(Metrics::new())).unwrap();
    let began = Instant::now();
    let senders = (0..8).map(|_| async {
        let (mut taken, mut lost) = (0, 0);
        while began.elapsed() < Duration::from_secs(2) {
            *(if send(&upstream).await.is_ok() { &mut taken } else { &mut lost }) += 1;
        }
        [taken, lost]
    });
    let all = futures_util::future::join_all(senders).await;
    let [taken, lost] =
        all.into_iter().fold([0, 0], |sum: [u32; 2], more| [sum[0] + more[0], sum[1] + more[1]]);
    // Each in its turn, as many would be lost as taken, 32 at the most.
    assert!(taken >= 200 && lost <= 20, "{taken} were taken, {lost} lost");
}

/// Scenario: three calls at once over gRPC to a collector that never answers, under a bound of one.
/// Guarantees: all three are sent: the key is about HTTP/1.1 only.
#[tokio::test]
async fn grpc_calls_wait_for_nobody() {
    let fake = Fake::start(None, pending::<http::Response<AnswerBody>>).await;
    let config = Collector { protocol: Protocol::Grpc, ..config(&[fake.url()], 1) };
    let upstream = pool(&config, None, Arc::new(Metrics::new())).unwrap();
    let calls: Vec<_> = (0..3).map(|_| spawn(&upstream)).collect();
    eventually(|| fake.requests() == 3).await;
    for call in calls {
        call.abort();
    }
}
