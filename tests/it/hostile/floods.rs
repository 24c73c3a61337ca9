//! Floods of HTTP/2 frames that are cheap to send: each would cost a naive server work or memory without end.

use super::{
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PRIORITY, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, frame, hello, stream,
    },
    good::{Kind, block},
    scene::Scene,
    wire::{Flood, Tally},
};

/// Tokens of nobody.
pub(super) const BAD: (&str, &str) = ("glrt-nobody", "glcbt-nobody");

/// What is wrong on a stream.
type Fault = fn(u32) -> Vec<u8>;

/// Frames in one write.
const MANY: u32 = 50;

/// A write of as many frames as make sense, by their number on the connection.
pub(super) fn many(number: u32, one: impl Fn(u32) -> Vec<u8>) -> (usize, Vec<u8>) {
    burst(MANY, number, one)
}

fn burst(size: u32, number: u32, one: impl Fn(u32) -> Vec<u8>) -> (usize, Vec<u8>) {
    let first = number * size;
    (usize::try_from(size).unwrap(), (first..first + size).flat_map(one).collect())
}

/// More resets in one write than may wait at once (`intake.max_streams`): a gateway that is fast meets them all together, too.
const RESETS: u32 = 400;

/// The head of an export that nobody may send; its stream stays open.
fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(BAD.0, BAD.1).0)
}

/// Scenario: requests that are reset as soon as they are sent, again and again (CVE-2023-44487).
/// Guarantees: bounded memory and CPU, connections that do it are ended, good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset() {
    let scene = Scene::start().await;
    let figures = scene
        .measure("rapid reset", Kind::Http2, |target| {
            Flood::USUAL.run(target, hello, |number| {
                burst(RESETS, number, |n| {
                    [open(stream(n)), frame(RST_STREAM, 0, stream(n), &8_u32.to_be_bytes())].concat()
                })
            })
        })
        .await;
    figures.assert_bounded();
    assert!(Tally::get(&figures.tally.ended) > 0, "no connection was ended: {figures:?}");
}

/// Scenario: requests that make the gateway reset them itself (CVE-2025-8671): window updates of 0 and beyond the
/// largest window, data after the end, a priority that depends on itself.
/// Guarantees: bounded memory and CPU, connections that do it are ended, good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_you_reset() {
    let scene = Scene::start().await;
    let faults: [(&str, Fault); 4] = [
        ("MadeYouReset: no increment", |stream| frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes())),
        ("MadeYouReset: window overflow", |stream| {
            frame(WINDOW_UPDATE, 0, stream, &(u32::MAX >> 1).to_be_bytes())
        }),
        ("MadeYouReset: data after the end", |stream| {
            [frame(DATA, END_STREAM, stream, &[]), frame(DATA, END_STREAM, stream, b"late")].concat()
        }),
        ("MadeYouReset: own priority", |stream| {
            frame(PRIORITY, 0, stream, &[stream.to_be_bytes().as_slice(), &[1]].concat())
        }),
    ];
    for (name, fault) in faults {
        let figures = scene
            .measure(name, Kind::Http2, move |target| {
                Flood::USUAL.run(target, hello, move |number| {
                    many(number, |n| [open(stream(n)), fault(stream(n))].concat())
                })
            })
            .await;
        figures.assert_bounded();
        assert!(Tally::get(&figures.tally.ended) > 0, "no connection was ended: {figures:?}");
    }
}

/// Scenario: a header block that goes on in CONTINUATION frames without end, empty ones and ones with a field each.
/// Guarantees: bounded memory and CPU, connections that do it are ended, good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn continuation_flood() {
    let scene = Scene::start().await;
    let figures = scene
        .measure("CONTINUATION flood", Kind::Http2, |target| {
            let opening = || [hello(), frame(HEADERS, 0, 1, &block(BAD.0, BAD.1).0)].concat();
            Flood::USUAL.run(target, opening, |number| {
                many(number, |n| match n % 2 {
                    0 => frame(CONTINUATION, 0, 1, &[]),
                    _ => frame(CONTINUATION, 0, 1, b"\0\x01a\x01b"),
                })
            })
        })
        .await;
    figures.assert_bounded();
    assert!(Tally::get(&figures.tally.ended) > 0, "no connection was ended: {figures:?}");
}

/// Scenario: a proven sender's upload of DATA frames that carry nothing, bare and padded, and of one byte each.
/// Guarantees: bounded memory and CPU, connections that do it are ended, good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_data_frames() {
    let scene = Scene::start().await;
    let job = scene.job.clone();
    let figures = scene
        .measure("empty DATA frames", Kind::Http2, move |target| {
            let head = block(&job.runner_token, &job.job_token);
            let opening = move || [hello(), frame(HEADERS, END_HEADERS, 1, &head.0)].concat();
            Flood::USUAL.run(target, opening, |number| {
                many(number, |n| match n % 3 {
                    0 => frame(DATA, 0, 1, &[]),
                    1 => frame(DATA, PADDED, 1, &[3, 0, 0, 0]),
                    _ => frame(DATA, 0, 1, b"\x0a"),
                })
            })
        })
        .await;
    figures.assert_bounded();
    assert!(Tally::get(&figures.tally.ended) > 0, "no connection was ended: {figures:?}");
}

/// Scenario: pings as fast as they go, from peers that read the answers and from peers that do not.
/// Guarantees: bounded memory and CPU: answers do not pile up; good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ping_flood() {
    let scene = Scene::start().await;
    for (name, reads) in [("PING flood", true), ("PING flood, answers unread", false)] {
        let flood = Flood { reads, ..Flood::USUAL };
        let turn = |number| many(number, |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes()));
        scene.measure(name, Kind::Http2, move |target| flood.run(target, hello, turn)).await.assert_bounded();
    }
}

/// Scenario: settings that change with every frame, from peers that read the acknowledgements and from peers that do not.
/// Guarantees: bounded memory and CPU: acknowledgements do not pile up; good exports go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_flood() {
    let scene = Scene::start().await;
    for (name, reads) in [("SETTINGS flood", true), ("SETTINGS flood, answers unread", false)] {
        let flood = Flood { reads, ..Flood::USUAL };
        let turn = |number| {
            many(number, |n| {
                // INITIAL_WINDOW_SIZE and HEADER_TABLE_SIZE, another value each time.
                let value = (n % 4096).to_be_bytes();
                frame(SETTINGS, 0, 0, &[&[0, 4], value.as_slice(), &[0, 1], &value].concat())
            })
        };
        scene.measure(name, Kind::Http2, move |target| flood.run(target, hello, turn)).await.assert_bounded();
    }
}
