//! Guessing: bad tokens from one address, each pair another one, as fast as one thread can offer them.

use std::time::Instant;

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    figures::print,
    good::{Kind, head},
    scene::{Scene, as_f64},
    wire::{Tally, Target, connect},
};

/// Connections of the guesser.
const LINES: usize = 16;

/// Requests in one write: HTTP/1.1 lets them be pipelined.
const PIPELINED: usize = 64;

/// Scenario: somebody tries tokens, thousands a second, from the address that the good sender has too.
/// Guarantees: the authority is asked no more than the limit on failures allows; no pair is accepted; memory and CPU are
/// bounded; good exports, whose verdict is cached, go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tokens() {
    let scene = Scene::start().await;
    let began = Instant::now();
    let figures = scene
        .measure("bad tokens", Kind::Http1, |target| async move {
            join_all((0..LINES).map(|line| guess(&target, line))).await;
        })
        .await;
    let refused = scene.metrics().await;
    let refused = ["unauthenticated", "client_failures"]
        .map(|outcome| refused.sum("spangate_requests_total", &[("outcome", outcome)]));
    let seconds = began.elapsed().as_secs() + 1;
    print(&format!(
        "bad tokens: {refused:?} refused as unknown and by the limit; {} questions",
        scene.authority.count()
    ));
    figures.assert_bounded();
    let answered = as_f64(Tally::get(&figures.tally.units));
    assert!(refused.iter().sum::<f64>() >= answered, "{refused:?} refused of {answered}");
    // One question is the good sender's. 60 a minute lets 60 fail at once and one a second after them; a failure is
    // charged when it is known, so that each time all that are under way pass: one of each connection.
    let most = 1 + 60 + u64::try_from(LINES).unwrap() * (1 + seconds);
    assert!(scene.authority.count() as u64 <= most, "{} questions", scene.authority.count());
    scene.assert_only_good_arrives().await;
}

/// Writes batches of requests and counts the answers to them, which must all say no.
async fn guess(target: &Target, line: usize) {
    let mut number = 0_u64;
    while !target.is_over() {
        let Some(mut stream) = connect(target).await else { return };
        target.tally.opened();
        let mut answers = Vec::with_capacity(64 << 10);
        while !target.is_over() {
            let mut batch = Vec::new();
            for _ in 0..PIPELINED {
                number += 1;
                let pair = (format!("glrt-{line}-{number}"), format!("glcbt-{line}-{number}"));
                batch.extend_from_slice(head(&pair.0, &pair.1, "Content-Length: 0\r\n").as_bytes());
            }
            let exchange = async {
                stream.write_all(&batch).await.ok()?;
                answers.clear();
                let (mut count, mut looked_at) = (0, 0);
                while count < PIPELINED {
                    if matches!(stream.read_buf(&mut answers).await, Ok(0) | Err(_)) {
                        return None;
                    }
                    count += begun(&answers, looked_at);
                    looked_at = answers.len();
                }
                Some(())
            };
            let Ok(Some(())) = timeout(target.left(), exchange).await else { break };
            Tally::add(&target.tally.bytes, batch.len());
            Tally::add(&target.tally.units, PIPELINED);
        }
        target.tally.closed();
    }
}

/// How many answers begin in what was not looked at yet.
fn begun(answers: &[u8], looked_at: usize) -> usize {
    const BEGINNING: &[u8] = b"HTTP/1.1 ";
    let new = &answers[looked_at.saturating_sub(BEGINNING.len() - 1)..];
    new.windows(BEGINNING.len()).filter(|window| *window == BEGINNING).count()
}
