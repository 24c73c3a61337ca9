//! What an attack cost, and whom: the bounds that hold for every attack, and its row of the table. It measures nothing.

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use super::{
    good::Kind,
    scene::{as_f64, is_full},
    wire::Tally,
};

/// What a connection may take by itself, on top of what its bytes may: the goal for an idle one.
const CONNECTION: u64 = 30 << 10;

/// The most that a byte from a stranger may cost, in memory by bytes, in CPU time by that of a byte of good traffic.
const AMPLIFICATION: u64 = 10;

/// Growth that is the allocator's and not the attack's: every thread of the process has an arena, and keeps some.
const ALLOCATOR: u64 = 8 << 20;

/// CPU time that is no attack's: the kernel tells it in steps of 10 ms, and the good sender's differs from run to run.
const NOISE: Duration = Duration::from_millis(150);

/// What an attack cost, and whom.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Resident memory at its most, over what it was before.
    pub(super) growth: u64,
    /// CPU seconds of the gateway, less what the good sender costs when it is alone.
    pub(super) cpu: f64,
    /// CPU seconds for one byte of good traffic of the kind.
    pub(super) good_byte: f64,
    /// The same for one whole request of it.
    pub(super) good_request: f64,
    /// The 99th percentile of good exports in each round without an attack, and in each beside it.
    pub(super) quiet: Vec<Duration>,
    pub(super) beside: Vec<Duration>,
    pub(super) sent: usize,
    pub(super) refused: Vec<String>,
    pub(super) tally: Arc<Tally>,
}

impl Figures {
    pub(super) fn bytes(&self) -> u64 {
        Tally::get(&self.tally.bytes)
    }

    /// Holds what every attack must leave as it is.
    pub(super) fn assert_bounded(&self) {
        self.assert_within(CONNECTION);
    }

    /// The same where a connection may take more by itself.
    pub(super) fn assert_within(&self, connection: u64) {
        let Self { name, growth, cpu, .. } = self;
        let (bytes, open) = (self.bytes(), Tally::get(&self.tally.most_open));
        assert!(bytes > 0 && self.sent > 0, "{name}: nothing was sent: {self:?}");
        assert!(self.refused.is_empty(), "{name}: good exports were refused: {:?}", self.refused);
        let room = bytes * AMPLIFICATION + open * connection + ALLOCATOR;
        assert!(*growth <= room, "{name}: {growth} bytes of memory for {bytes} bytes: {self:?}");
        // A connection that brings hardly a byte is worth a good request: it has to be accepted and ended all the same.
        let worth =
            as_f64(bytes) * self.good_byte + as_f64(Tally::get(&self.tally.lines)) * self.good_request;
        let room = worth * as_f64(AMPLIFICATION) + NOISE.as_secs_f64();
        assert!(*cpu <= room, "{name}: {cpu} s of CPU, {room} would be in bounds: {self:?}");
        // Other work on the machine delays good exports too; what an attack may not do is stop them.
        let late = (median(&self.quiet) * 50).max(Duration::from_secs(3));
        let worst = self.beside.iter().max();
        assert!(worst <= Some(&late), "{name}: p99 {:?}, quiet {:?}", self.beside, self.quiet);
    }

    /// One row of the table.
    pub(super) fn print(&self) {
        let bytes = as_f64(self.bytes());
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let get = |count| Tally::get(count);
        let row = format!(
            "| {} | {:.2} | {} | {} | {} | {:.1} | {:.0} | {:.2} | {:.2} | {:.1} ({}) | {:.1} | {} | {} | {:.1} | {} of {} |",
            self.name,
            mib(bytes),
            get(&self.tally.units),
            get(&self.tally.lines),
            get(&self.tally.ended),
            mib(as_f64(self.growth)),
            as_f64(self.growth) / 1024.0 / as_f64(get(&self.tally.most_open).max(1)),
            self.cpu,
            as_f64(self.growth) / bytes,
            self.cpu / bytes / self.good_byte,
            self.kind.name(),
            self.cpu / as_f64(get(&self.tally.lines).max(1)) / self.good_request,
            spread(&self.quiet),
            spread(&self.beside),
            median(&self.beside).as_secs_f64() / median(&self.quiet).as_secs_f64(),
            self.refused.len(),
            self.sent,
        );
        print(&row);
    }
}

/// Of an odd number of rounds the middle one.
fn median(rounds: &[Duration]) -> Duration {
    let mut rounds = rounds.to_vec();
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}

/// The median and both ends, in milliseconds.
fn spread(rounds: &[Duration]) -> String {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let [least, most] = [rounds.iter().min(), rounds.iter().max()].map(|end| milliseconds(*end.unwrap()));
    format!("{:.2} ({least:.2}-{most:.2})", milliseconds(median(rounds)))
}

/// The heads of the rows' columns.
const COLUMNS: &str = "| attack | MiB sent | attempts | connections | ended by the gateway | RSS growth, MiB | KiB an open connection | CPU s | memory, x bytes | CPU, x good byte (of) | CPU a connection, x good request | p99 quiet, ms: median of rounds (range) | p99 beside, ms | ratio of medians | good refused |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// Prints a line, where figures are wanted; the heads of the columns stand before the first one.
pub(super) fn print(line: &str) {
    static HEADS: Once = Once::new();
    if is_full() {
        HEADS.call_once(|| eprintln!("{COLUMNS}"));
        eprintln!("{line}");
    }
}
