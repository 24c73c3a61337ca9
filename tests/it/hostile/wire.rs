//! What an attacker holds: connections on which any bytes can be written, at a pace, and which count what they
//! wrote. It decides nothing about the bytes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    time::{sleep, timeout},
};

/// What the kernel keeps of written bytes: little, so that a count of them is about what was received.
const SEND_BUFFER: u32 = 16 << 10;

/// How much is written between two looks at the answers.
const PIECE: usize = 16 << 10;

/// What an attack did; counted while it runs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Bytes written, of which the gateway received all but what a socket may hold.
    pub(super) bytes: AtomicU64,
    /// Connections opened.
    pub(super) lines: AtomicU64,
    /// Connections that the gateway ended.
    pub(super) ended: AtomicU64,
    /// Attempts: requests, streams, or frames, whatever the attack is made of.
    pub(super) units: AtomicU64,
    /// Connections open at once, and the most that were.
    open: AtomicU64,
    pub(super) most_open: AtomicU64,
}

impl Tally {
    pub(super) fn add(count: &AtomicU64, more: usize) {
        count.fetch_add(u64::try_from(more).unwrap(), Ordering::Relaxed);
    }

    /// Counts a connection as opened.
    pub(super) fn opened(&self) {
        Self::add(&self.lines, 1);
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_open.fetch_max(open, Ordering::Relaxed);
    }

    /// Counts a connection as closed.
    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn get(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }
}

/// Whom to attack, and until when.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: std::net::SocketAddr,
    pub(super) until: Instant,
    pub(super) tally: Arc<Tally>,
}

impl Target {
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// What is left of the attack's time.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    write: OwnedWriteHalf,
    /// Kept by a line that does not read.
    _read: Option<OwnedReadHalf>,
    is_ended: Arc<AtomicBool>,
    until: Instant,
    tally: Arc<Tally>,
}

impl Line {
    /// Connects. `reads`: whether what comes back is read (and thrown away), or left where it is.
    pub(super) async fn open(target: &Target, reads: bool) -> Option<Self> {
        let stream = connect(target).await?;
        target.tally.opened();
        let (mut read, write) = stream.into_split();
        let is_ended = Arc::new(AtomicBool::new(false));
        let kept = if reads {
            let (is_ended, tally) = (Arc::clone(&is_ended), Arc::clone(&target.tally));
            drop(tokio::spawn(async move {
                let mut buffer = vec![0; 16 << 10];
                while matches!(read.read(&mut buffer).await, Ok(1..)) {}
                if !is_ended.swap(true, Ordering::Relaxed) {
                    Tally::add(&tally.ended, 1);
                }
            }));
            None
        } else {
            Some(read)
        };
        Some(Self { write, _read: kept, is_ended, until: target.until, tally: Arc::clone(&target.tally) })
    }

    /// Writes all of it; false when the gateway ended the connection, or the attack's time is over.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        for piece in bytes.chunks(PIECE) {
            let left = self.until.saturating_duration_since(Instant::now());
            if self.is_ended() || left.is_zero() {
                return false;
            }
            match timeout(left, self.write.write_all(piece)).await {
                Ok(Ok(())) => Tally::add(&self.tally.bytes, piece.len()),
                Ok(Err(_)) => {
                    if !self.is_ended.swap(true, Ordering::Relaxed) {
                        Tally::add(&self.tally.ended, 1);
                    }
                    return false;
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Whether the gateway ended it.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // The reader's end, when it comes now, is our own doing.
        self.is_ended.store(true, Ordering::Relaxed);
        self.tally.closed();
    }
}

/// A connection with a small send buffer; `None` when there is none to be had.
pub(super) async fn connect(target: &Target) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(SEND_BUFFER).unwrap();
    let stream = timeout(Duration::from_secs(5), socket.connect(target.address)).await.ok()?.ok()?;
    stream.set_nodelay(true).unwrap();
    Some(stream)
}

/// The same bytes again and again on several connections, each opened anew when the gateway ends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flood {
    /// Connections at once.
    pub(super) lines: u32,
    /// Bytes a second, over all of them.
    pub(super) rate: u32,
    /// Whether the answers are read.
    pub(super) reads: bool,
}

impl Flood {
    /// Two connections that are read, at 2 MB/s: some hundred thousand of the smallest frames a second.
    pub(super) const USUAL: Self = Self { lines: 2, rate: 2_000_000, reads: true };

    /// Runs until the target's time is over. `turn` gets its number on its connection, and says how many attempts it is.
    pub(super) async fn run(
        self,
        target: Target,
        opening: impl Fn() -> Vec<u8>,
        turn: impl Fn(u32) -> (usize, Vec<u8>),
    ) {
        let (target, opening, turn) = (&target, &opening, &turn);
        let rate = f64::from(self.rate) / f64::from(self.lines);
        let lanes = (0..self.lines).map(|_| async move {
            let began = Instant::now();
            let mut sent = 0.0;
            while !target.is_over() {
                let Some(mut line) = Line::open(target, self.reads).await else {
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let mut alive = line.send(&opening()).await;
                for number in 0.. {
                    if !alive {
                        break;
                    }
                    let (units, bytes) = turn(number);
                    alive = line.send(&bytes).await;
                    if alive {
                        Tally::add(&target.tally.units, units);
                    }
                    sent += f64::from(u32::try_from(bytes.len()).unwrap());
                    let due = began + Duration::from_secs_f64(sent / rate);
                    sleep(due.saturating_duration_since(Instant::now()).min(target.left())).await;
                }
                // A line that does not read learns of its end only when it writes.
                tokio::task::yield_now().await;
            }
        });
        join_all(lanes).await;
    }
}
