//! What an attack cost, and whom: the bounds that hold for every attack, and its row of the table. It measures nothing.

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use super::{
    good::{Good, Kind},
    priority,
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

/// The most by which good exports may take longer beside an attack, by the medians of the rounds: held where the latencies
/// are the gateway's. Of all exports together it is printed only: what is done once, as memory that the machine hands out
/// for the first time, makes one round of eight slow, which is seen in them.
pub(super) const LONGEST_WAIT: f64 = 2.0;

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
    /// What good exports took without an attack, and beside it.
    pub(super) quiet: Latency,
    pub(super) beside: Latency,
    pub(super) sent: usize,
    pub(super) refused: Vec<String>,
    pub(super) tally: Arc<Tally>,
}

/// 99th percentiles of good exports.
#[derive(Debug)]
pub(super) struct Latency {
    /// Of the exports of all rounds together: a round has too few for what is seen in one of them to mean much.
    p99: Duration,
    /// Of each round.
    rounds: Vec<Duration>,
}

impl Latency {
    pub(super) fn of(rounds: &[Good]) -> Self {
        let mut latencies: Vec<_> = rounds.iter().flat_map(|good| good.latencies.iter().copied()).collect();
        latencies.sort_unstable();
        let all = Good { latencies, refused: Vec::new() };
        Self { p99: all.p99(), rounds: rounds.iter().map(Good::p99).collect() }
    }

    /// Of an odd number of rounds the middle one, of an even number the later of two.
    fn median(&self) -> Duration {
        let mut rounds = self.rounds.clone();
        rounds.sort_unstable();
        rounds[rounds.len() / 2]
    }

    /// That of all rounds; the median, the least and the most of one; in milliseconds.
    fn show(&self) -> String {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let ends = [self.rounds.iter().min(), self.rounds.iter().max()];
        let [least, most] = ends.map(|end| milliseconds(*end.unwrap()));
        let [all, median] = [self.p99, self.median()].map(milliseconds);
        format!("{all:.2} ({median:.2}, {least:.2}-{most:.2})")
    }
}

impl Figures {
    pub(super) fn bytes(&self) -> u64 {
        Tally::get(&self.tally.bytes)
    }

    /// Holds what every attack must leave as it is.
    pub(super) fn assert_bounded(&self) {
        self.assert_within(CONNECTION);
    }

    /// Holds that none of it was the gateway's.
    pub(super) fn assert_unharmed(&self) {
        let Self { name, growth, cpu, .. } = self;
        assert!(self.sent > 0 && self.refused.is_empty(), "{name}: good exports were refused: {self:?}");
        assert!(*growth <= ALLOCATOR, "{name}: {growth} bytes of memory for nothing: {self:?}");
        // On a busy machine the same exports cost more in one round than in the next.
        let room = NOISE.as_secs_f64() + as_f64(self.sent as u64) * self.good_request / 2.0;
        assert!(*cpu <= room, "{name}: {cpu} s of CPU for nothing, {room} would be in bounds: {self:?}");
        let ratio = self.ratio();
        assert!(
            !priority::are_set() || (LONGEST_WAIT.recip()..=LONGEST_WAIT).contains(&ratio),
            "{name}: the machine is too busy for figures: p99 {:?}, quiet {:?}",
            self.beside,
            self.quiet
        );
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
        let late = (self.quiet.median() * 50).max(Duration::from_secs(3));
        let worst = self.beside.rounds.iter().max();
        assert!(worst <= Some(&late), "{name}: p99 {:?}, quiet {:?}", self.beside, self.quiet);
        let ratio = self.ratio();
        assert!(
            !priority::are_set() || ratio <= LONGEST_WAIT,
            "{name}: good exports take {ratio} times as long: p99 {:?}, quiet {:?}",
            self.beside,
            self.quiet
        );
    }

    /// How much longer good exports take beside it, by the medians of the rounds.
    fn ratio(&self) -> f64 {
        self.beside.median().as_secs_f64() / self.quiet.median().as_secs_f64()
    }

    /// One row of the table.
    pub(super) fn print(&self) {
        let bytes = as_f64(self.bytes().max(1));
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let get = |count| Tally::get(count);
        let row = format!(
            "| {} | {:.2} | {} | {} | {} | {:.1} | {:.0} | {:.2} | {:.2} | {:.1} ({}) | {:.1} | {} | {} | {:.1} | {:.1} | {} of {} |",
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
            self.quiet.show(),
            self.beside.show(),
            self.beside.p99.as_secs_f64() / self.quiet.p99.as_secs_f64(),
            self.ratio(),
            self.refused.len(),
            self.sent,
        );
        print(&row);
    }
}

/// The heads of the rows' columns.
const COLUMNS: &str = "| attack | MiB sent | attempts | connections | ended by the gateway | RSS growth, MiB | KiB an open connection | CPU s | memory, x bytes | CPU, x good byte (of) | CPU a connection, x good request | p99 quiet, ms: all rounds (median, least-most of one) | p99 beside, ms | ratio, all rounds | ratio of medians | good refused |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// Prints a line, where figures are wanted; the heads of the columns stand before the first one.
pub(super) fn print(line: &str) {
    static HEADS: Once = Once::new();
    if is_full() {
        HEADS.call_once(|| eprintln!("{COLUMNS}"));
        eprintln!("{line}");
    }
}
