//! Guessing: bad tokens from one address, each pair another one, from one thread. What it sends is made beforehand, and of
//! the answers it looks at the last one of many, so that the gateway is what bounds it.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use super::{
    figures::print,
    good::{Kind, head},
    rounds::Times,
    scene::{Scene, as_f64, is_full},
    wire::{Tally, Target, connect},
};

/// Connections of a guesser that waits for its answers.
const LINES: usize = 8;

/// Of one that does not: 100,000 requests a second, if each connection is given up after 256 ms.
const IMPATIENT_LINES: usize = 400;

/// Requests in one write: HTTP/1.1 lets them be pipelined.
const PIPELINED: usize = 64;

/// Scenario: somebody tries tokens from the address that the good sender has too: as fast as they are answered, and (in a
/// long run) 100,000 a second, over new connections where answers are late.
/// Guarantees: the authority is asked no more than the limit on failures allows; no pair is accepted; memory and CPU are
/// bounded; good exports, whose verdict is cached, go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tokens() {
    if is_full() {
        guesses("bad tokens, 100,000/s", IMPATIENT_LINES, Some(100_000)).await;
    }
    guesses("bad tokens, without a pause", LINES, None).await;
}

async fn guesses(name: &'static str, lines: usize, rate: Option<u32>) {
    let scene = Scene::start().await;
    let began = Instant::now();
    let figures = scene
        .measure(name, Kind::Http1, move |target| async move {
            let pause = rate.map(|rate| Duration::from_secs((lines * PIPELINED) as u64) / rate);
            join_all((0..lines).map(|line| guess(&target, line, lines, pause))).await;
        })
        .await;
    let refused = scene.metrics().await;
    let refused = ["unauthenticated", "client_failures"]
        .map(|outcome| refused.sum("spangate_requests_total", &[("outcome", outcome)]));
    let times = Times::of_mode();
    let (seconds, attack) = (began.elapsed().as_secs() + 1, (times.attack * times.rounds).as_secs());
    let each_second = |count: f64| count / as_f64(attack);
    print(&format!(
        "{name}: {:.0} sent and {:.0} answered a second, {refused:?} refused as unknown and by the limit; {} questions",
        each_second(as_f64(Tally::get(&figures.tally.units))),
        each_second(refused.iter().sum()),
        scene.authority.count()
    ));
    figures.assert_bounded();
    assert!(refused.iter().all(|refused| *refused > 0.0), "{refused:?} refused");
    // One question is the good sender's. 60 a minute lets 60 fail at once and one a second after them; a failure is
    // charged when it is known, so that each time during the attack all that are under way pass: one of each connection.
    let most = 1 + 60 + seconds + u64::try_from(lines).unwrap() * (1 + attack);
    assert!(scene.authority.count() as u64 <= most, "{} questions", scene.authority.count());
    scene.assert_only_good_arrives().await;
}

/// Writes batches of requests and takes in the answers to them. They come in the order of the requests, so that the last
/// one, which names the batch, stands for all.
/// `pause`: how long after one batch the next is due, and how long its answers are waited for.
async fn guess(target: &Target, line: usize, lines: usize, pause: Option<Duration>) {
    // Other pairs than in the rounds before.
    let mut batch = Batch::new(line, 4 * Tally::get(&target.tally.units));
    let every = pause.unwrap_or_default();
    // In turn: a steady rate is meant, not bursts of all at once.
    let mut due = Instant::now() + every * u32::try_from(line).unwrap() / u32::try_from(lines).unwrap();
    let mut answers = vec![0; 64 << 10];
    while !target.is_over() {
        sleep(due.saturating_duration_since(Instant::now()).min(target.left())).await;
        let Some(mut stream) = connect(target).await else { return };
        target.tally.opened();
        while !target.is_over() {
            sleep(due.saturating_duration_since(Instant::now()).min(target.left())).await;
            due += every;
            batch.turn();
            let exchange = async {
                let (mut read, mut write) = stream.split();
                let written = async {
                    let written = write.write_all(&batch.bytes).await.is_ok();
                    Tally::add(&target.tally.bytes, if written { batch.bytes.len() } else { 0 });
                    Tally::add(&target.tally.units, if written { PIPELINED } else { 0 });
                    written
                };
                let (written, answered) = tokio::join!(written, batch.answered(&mut read, &mut answers));
                written && answered
            };
            let patience = pause.unwrap_or(target.left()).min(target.left());
            if !timeout(patience, exchange).await.unwrap_or(false) {
                break;
            }
        }
        target.tally.closed();
    }
}

/// Requests that are made once: only the digits in their tokens, and in the name of the last one, change.
struct Batch {
    bytes: Vec<u8>,
    /// Where each token's digits stand.
    digits: Vec<usize>,
    /// What the last answer says.
    end: String,
    line: usize,
    number: u64,
}

/// Digits of a token.
const DIGITS: usize = 12;

/// Longer than any answer: in so many of the last bytes is the whole last one.
const LONGEST_ANSWER: usize = 1_024;

impl Batch {
    fn new(line: usize, number: u64) -> Self {
        let blank = "x".repeat(DIGITS);
        let pair = (format!("glrt-{line}-{blank}"), format!("glcbt-{line}-{blank}"));
        let request = head(&pair.0, &pair.1, "Content-Length: 0\r\n");
        let name = format!("X-Request-Id: end-{line}-{blank}\r\nContent-Length: 0\r\n");
        let bytes = request.repeat(PIPELINED - 1) + &head(&pair.0, &pair.1, &name);
        let digits = bytes.match_indices(&blank).map(|(at, _)| at).collect();
        Self { bytes: bytes.into(), digits, end: String::new(), line, number }
    }

    /// Makes every pair another one.
    fn turn(&mut self) {
        for at in &self.digits {
            self.number += 1;
            let digits = format!("{:0DIGITS$}", self.number);
            self.bytes[*at..*at + DIGITS].copy_from_slice(digits.as_bytes());
        }
        self.end = format!("end-{}-{:0DIGITS$}", self.line, self.number);
    }

    /// Reads until the last answer has come; false when none comes any more.
    async fn answered(&self, from: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> bool {
        let mut kept = 0;
        loop {
            let end = match from.read(&mut buffer[kept..]).await {
                Ok(0) | Err(_) => return false,
                Ok(length) => kept + length,
            };
            let tail = end.saturating_sub(LONGEST_ANSWER);
            if buffer[tail..end].windows(self.end.len()).any(|window| window == self.end.as_bytes()) {
                return true;
            }
            buffer.copy_within(tail..end, 0);
            kept = end - tail;
        }
    }
}
