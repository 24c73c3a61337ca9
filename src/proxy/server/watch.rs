//! How long a connection may live: a slow request head is cut, an idle or old connection is asked to close, a drain lets
//! open requests end. One timer a connection, set again only when it fires, so that a request costs no timer.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{AnswerBody, Peer, after, trouble::End};

/// How long things may last on one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// A request head.
    pub(super) head: Duration,
    /// A time without a request.
    pub(super) idle: Duration,
    /// The same as long as no request was let in.
    pub(super) stranger: Duration,
    /// The connection; `None`: for ever.
    pub(super) age: Option<Duration>,
}

/// What a connection has been doing. Times are milliseconds since it began, plus one; 0 is "not".
///
/// Relaxed is enough: a stale read is put right when the timer fires next.
pub(super) struct Activity {
    began: Instant,
    /// When the first bytes of a head came that is not whole yet.
    head: AtomicU64,
    /// When a request last began or ended; 0 until the first one.
    last: AtomicU64,
    /// Requests that are not answered to the last byte.
    open: AtomicUsize,
    /// Whether bytes between requests are the beginning of a head (HTTP/1 only).
    heads: bool,
    /// From when on the connection is old; `u64::MAX`: never.
    old: u64,
    /// Its place is needed for others.
    unwanted: AtomicBool,
    /// Whose connection it is.
    pub(super) peer: Arc<Peer>,
}

impl Activity {
    /// HTTP/1: the first head is awaited from now on.
    pub(super) fn expecting_heads(peer: Arc<Peer>, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self::new(1, true, peer, bounds))
    }

    /// HTTP/2: heads come in frames between others; idle time alone counts.
    pub(super) fn multiplexed(peer: Arc<Peer>, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self::new(0, false, peer, bounds))
    }

    fn new(head: u64, heads: bool, peer: Arc<Peer>, bounds: Bounds) -> Self {
        let old = bounds.age.and_then(|age| u64::try_from(age.as_millis()).ok()).unwrap_or(u64::MAX);
        let began = Instant::now();
        Self {
            began,
            head: head.into(),
            last: 0.into(),
            open: 0.into(),
            heads,
            old,
            unwanted: false.into(),
            peer,
        }
    }

    /// Whether a request was let in on it.
    pub(super) fn is_known(&self) -> bool {
        self.peer.is_admitted()
    }

    /// For how long nothing has happened on it; `None` while something does. A first head that does not get whole is
    /// nothing: whoever waits with it is no better than who says nothing at all.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        let idle = self.now().saturating_sub(self.last.load(Ordering::Relaxed).max(1));
        let is_idle = !self.is_busy() || (self.is_fresh() && self.open.load(Ordering::Relaxed) == 0);
        is_idle.then_some(Duration::from_millis(idle))
    }

    /// Its place is needed: if no request has come on it yet, none is waited for when it is asked to leave.
    pub(super) fn is_in_the_way(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }

    pub(super) fn bytes_came(&self) {
        if self.heads && self.open.load(Ordering::Relaxed) == 0 && self.head.load(Ordering::Relaxed) == 0 {
            self.head.store(self.now(), Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn at(&self, mark: u64, time: Duration) -> Instant {
        after(after(self.began, Duration::from_millis(mark.saturating_sub(1))), time)
    }

    /// Whether a request is open or a head has begun to come.
    fn is_busy(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0 || self.head.load(Ordering::Relaxed) > 0
    }

    fn is_fresh(&self) -> bool {
        self.last.load(Ordering::Relaxed) == 0
    }

    /// What must happen when, if nothing else does.
    fn due(&self, phase: Phase, bounds: Bounds) -> (Instant, Due) {
        let Bounds { head: header_timeout, idle, stranger, .. } = bounds;
        let last = self.last.load(Ordering::Relaxed);
        let open = self.open.load(Ordering::Relaxed) > 0;
        let head = self.head.load(Ordering::Relaxed);
        match phase {
            // A peer that doesn't read our last bytes, or doesn't hang up, gets no more than a head's time.
            Phase::Closing(since) if !open => (self.at(last.max(since), header_timeout), Due::Leave),
            // A stranger's stream could be open for good, its answer never taken.
            Phase::Closing(since) if !self.is_known() => (self.at(last.max(since), ANSWER), Due::Cut),
            Phase::Closing(since) => (self.at(last.max(since), idle), Due::Cut),
            Phase::Draining if !open && self.unwanted.load(Ordering::Relaxed) => (self.began, Due::Leave),
            _ if head > 0 && !open => (self.at(head, header_timeout), Due::Cut),
            Phase::Draining => (self.at(last, header_timeout), Due::Close),
            Phase::Open => {
                let idle = self.at(last, if self.is_known() { idle } else { stranger });
                // Over HTTP/1 the next answer says that it is the last, so that no request meets a closing connection.
                let old = bounds.age.filter(|_| !self.heads).map_or(idle, |age| self.at(1, age));
                (idle.min(old), Due::Close)
            }
        }
    }
}

/// How long a request of a sender that was never let in may go on when its connection is to close: longer than the
/// longest way to an answer by default (`intake.deadline`).
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    /// The drain has begun, and the first request is still awaited: it may be on its way already.
    Draining,
    /// Asked to close, since then.
    Closing(u64),
}

#[derive(Clone, Copy)]
enum Due {
    /// Close gracefully.
    Close,
    /// Drop the connection: nothing is open on it any more.
    Leave,
    /// Drop the connection: its peer is too slow.
    Cut,
}

/// Drives a connection to its end, and says how it ended.
///
/// The connection comes boxed: as an argument it would take its room twice, in a future that lives as long as it does.
pub(super) async fn attend<C>(
    mut connection: Pin<Box<C>>,
    close: impl Fn(Pin<&mut C>),
    activity: &Activity,
    bounds: Bounds,
    drain: &CancellationToken,
) -> End
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut drained = pin!(drain.cancelled());
    let mut timer = pin!(sleep_until(activity.due(Phase::Open, bounds).0));
    let mut phase = Phase::Open;
    poll_fn(|cx| {
        loop {
            // First the connection: a request whose bytes have come is served, even when the drain has begun.
            if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                return Poll::Ready(match end {
                    Ok(()) => End::Good,
                    Err(error) => End::Broken { error, is_busy: activity.is_busy() },
                });
            }
            if phase == Phase::Open && drained.as_mut().poll(cx).is_ready() {
                phase = Phase::Draining;
            }
            if phase == Phase::Draining && !activity.is_fresh() {
                phase = Phase::Closing(activity.now());
                close(connection.as_mut());
                continue;
            }
            let (due, what) = activity.due(phase, bounds);
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() < due {
                timer.as_mut().reset(due);
                continue;
            }
            match what {
                Due::Leave => return Poll::Ready(End::Good),
                Due::Cut => return Poll::Ready(End::TooSlow),
                Due::Close => {
                    phase = Phase::Closing(activity.now());
                    close(connection.as_mut());
                }
            }
        }
    })
    .await
}

/// One request, from its head to the last byte of its answer.
pub(super) struct Turn {
    activity: Arc<Activity>,
    /// Whether the connection was old when it began.
    pub(super) is_late: bool,
}

impl Turn {
    pub(super) fn begin(activity: Arc<Activity>) -> Self {
        let now = activity.now();
        activity.open.fetch_add(1, Ordering::Relaxed);
        activity.head.store(0, Ordering::Relaxed);
        activity.last.store(now, Ordering::Relaxed);
        Self { is_late: now > activity.old, activity }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.activity.last.store(self.activity.now(), Ordering::Relaxed);
        self.activity.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body that holds its request's turn.
pub(super) struct Held {
    body: AnswerBody,
    _turn: Turn,
}

impl Held {
    pub(super) fn new(body: AnswerBody, turn: Turn) -> Self {
        Self { body, _turn: turn }
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
