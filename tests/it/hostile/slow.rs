//! Clients that take their time: heads and bodies that trickle in and never end.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{
    good::{self, Kind},
    scene::{Scene, as_f64, is_full, rate},
    wire::{Line, Tally, Target},
};

/// Slow clients at once.
pub(super) fn crowd() -> usize {
    if is_full() { 2_000 } else { 200 }
}

/// Writes what follows piece by piece until the gateway ends the connection; `place`: its number in the crowd, which
/// comes over half a second rather than at once, so that it is not the kernel that turns it away.
pub(super) async fn trickle(target: &Target, place: usize, opening: &[u8], piece: &[u8]) {
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
    let scene = Scene::with(rate(), |config| config.intake.header_timeout = Duration::from_millis(500)).await;
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
    let scene = Scene::with(rate(), |config| config.intake.body_timeout = Duration::from_millis(500)).await;
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
