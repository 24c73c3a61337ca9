//! Keeps one replica in step with the others: a task that tells the store what was charged here, hears what
//! all have charged together, and decides when this replica goes on alone. It never refuses a request itself.
//!
//! - In step: every [`FLUSH`] what was charged is told, and the answer goes into the local states. A state only
//!   ever moves ahead: what all admitted too much between two flushes is paid back by all.
//! - No answer for [`PATIENCE`], or an error: alone. Each charge counts as often as there are replicas, so that
//!   all together stay within the limits. What is charged meanwhile is not told later, but for budgets: time has
//!   undone it.
//! - The first answer ends that.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    limit::{Entry, Unit},
    metrics::Metrics,
};

use super::{
    Follower,
    line::{Dial, Line, Row, Seen, Trouble},
    pending::{Advance, Pending, Slot},
    presence::Presence,
};

/// More replicas than this are not believed: whoever writes to the store could else make every share nothing.
const MAX_REPLICAS: u32 = 256;

/// How often what was charged is told, within a fifth: replicas that started together must not stay together.
pub(super) const FLUSH: Duration = Duration::from_millis(50);

/// Most keys told in one flush: about 8 ms of the store's time where it shares a core with others. What is more waits
/// for the next flush.
const MAX_ROWS: usize = 500;

/// How long the store may be silent before this replica goes on alone.
const PATIENCE: Duration = Duration::from_millis(250);

/// A connection that was silent for this long is given up for a new one.
const GIVE_UP: Duration = Duration::from_secs(1);

/// Longest time for a new connection, TLS and password included.
pub(super) const CONNECT: Duration = Duration::from_secs(1);

/// Pauses between connections grow up to this, so that a store that comes back is not stormed.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// A store that answers signs of life but no charges is tried ever more seldom, so that limits and log don't flap:
/// whoever was not in step for this long gets a longer pause than the last time.
const STEADY: Duration = Duration::from_secs(10);
const MAX_PENALTY: Duration = Duration::from_mins(1);

/// How often a replica says that it lives, and how long that holds.
const REGISTER: Duration = Duration::from_secs(1);
const LIFE: Duration = Duration::from_secs(4);

/// A smaller number of replicas is believed once it has held for this long: a store that lost its memory
/// hears of them one by one.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    InStep,
    Alone,
}

/// The task.
#[derive(Debug)]
pub(super) struct Step {
    name: String,
    dial: Arc<dyn Dial>,
    line: Option<Arc<dyn Line>>,
    pending: Arc<Pending>,
    presence: Arc<Presence>,
    follower: Arc<dyn Follower>,
    metrics: Arc<Metrics>,
    phase: Phase,
    /// Since the first call without an answer.
    silent_since: Option<Instant>,
    registered: Option<Instant>,
    /// Since when fewer replicas are told of.
    fewer_since: Option<Instant>,
    in_step_since: Option<Instant>,
    pause: Duration,
    /// The first pause after going alone.
    penalty: Duration,
}

impl Step {
    pub(super) fn new(
        dial: Arc<dyn Dial>,
        pending: Arc<Pending>,
        presence: Arc<Presence>,
        follower: Arc<dyn Follower>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            name: format!("{:016x}", random()),
            dial,
            line: None,
            pending,
            presence,
            follower,
            metrics,
            phase: Phase::Starting,
            silent_since: None,
            registered: None,
            fewer_since: None,
            in_step_since: None,
            pause: FLUSH,
            penalty: PATIENCE,
        }
    }

    /// Runs until it is dropped.
    pub(super) fn run(mut self) -> impl Future<Output = ()> {
        // At once: whoever asks for metrics first must not find that there is no store.
        self.show();
        async move {
            loop {
                if let Err(trouble) = self.round().await {
                    self.missed(&trouble);
                }
                sleep(jittered(self.pause)).await;
            }
        }
    }

    /// Asks whatever there is to ask; everything in it got an answer, or nothing of it counts.
    async fn round(&mut self) -> Result<(), Trouble> {
        let line = self.connect().await?;
        let is_due = self.registered.is_none_or(|last| last.elapsed() >= REGISTER);
        let mut is_heard = false;
        // Whether it is there is asked with the smallest question.
        if is_due || self.silent_since.is_some() || self.phase != Phase::InStep {
            self.silent_since.get_or_insert_with(Instant::now);
            let replicas = self.presence.ask(line.register(&self.name, LIFE)).await?;
            self.count(replicas);
            is_heard = true;
        }
        if self.phase != Phase::InStep {
            self.forget_rates();
        }
        let rows: Vec<_> = self.pending.take(MAX_ROWS).into_iter().filter_map(row).collect();
        if !rows.is_empty() {
            let told = rows.len();
            self.silent_since.get_or_insert_with(Instant::now);
            let seen = self.presence.ask(line.charge(rows)).await.inspect_err(|_| {
                // Told again, they could count twice: whether they did arrive is not known.
                self.metrics.limit_store_untold(u64::try_from(told).unwrap_or(u64::MAX));
            })?;
            for seen in seen {
                follow(&*self.follower, &self.pending, seen);
            }
            is_heard = true;
        }
        if is_heard {
            self.heard();
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<Arc<dyn Line>, Trouble> {
        if let Some(line) = &self.line {
            return Ok(Arc::clone(line));
        }
        let line = timeout(CONNECT, self.dial.dial()).await.unwrap_or(Err(Trouble::Timeout))?;
        self.presence.connected(Arc::clone(&line));
        self.line = Some(Arc::clone(&line));
        Ok(line)
    }

    fn count(&mut self, replicas: u32) {
        let replicas = replicas.min(MAX_REPLICAS);
        let now = Instant::now();
        self.registered = Some(now);
        if replicas >= self.presence.replicas() || self.fewer_since.get_or_insert(now).elapsed() >= SETTLE {
            self.fewer_since = None;
            self.presence.set_replicas(replicas);
        }
        self.show();
    }

    fn heard(&mut self) {
        self.silent_since = None;
        self.pause = FLUSH;
        if self.phase != Phase::InStep {
            self.phase = Phase::InStep;
            self.in_step_since = Some(Instant::now());
            self.follower.set_share(1);
            tracing::info!(
                replicas = self.presence.replicas(),
                "the store of limits answers: limits are shared"
            );
        }
        self.presence.answered();
        self.show();
    }

    fn missed(&mut self, trouble: &Trouble) {
        let silent = self.silent_since.map_or(Duration::ZERO, |since| since.elapsed());
        let is_lost = *trouble != Trouble::Timeout || self.line.is_none() || silent >= GIVE_UP;
        if is_lost {
            self.line = None;
            self.presence.disconnected();
        }
        if self.phase == Phase::Alone {
            self.forget_rates();
            self.pause = self.pause.saturating_mul(2).min(MAX_PAUSE.max(self.penalty));
        } else if is_lost || silent >= PATIENCE {
            self.go_alone(trouble);
        }
    }

    fn go_alone(&mut self, trouble: &Trouble) {
        let was_steady = self.in_step_since.is_none_or(|since| since.elapsed() >= STEADY);
        let penalty = if was_steady { PATIENCE } else { self.penalty.saturating_mul(2).min(MAX_PENALTY) };
        (self.phase, self.penalty, self.pause) = (Phase::Alone, penalty, penalty);
        let replicas = self.presence.replicas();
        self.follower.set_share(replicas);
        self.show();
        tracing::warn!(
            error_message = %trouble,
            replicas,
            "the store of limits does not answer: this replica goes on with its share of each limit, one part in \
             `replicas`; see that the addresses in limits.store.url_file answer within 20 ms"
        );
    }

    fn forget_rates(&self) {
        self.metrics.limit_store_untold(self.pending.forget_rates());
    }

    fn show(&self) {
        self.metrics.limit_store(self.phase == Phase::InStep, self.presence.replicas());
    }
}

/// Brings what all have charged together into the local states, with what was charged here since it was told.
pub(super) fn follow(follower: &dyn Follower, pending: &Pending, seen: Seen) {
    let Slot { level, key } = seen.slot;
    let Advance { rates, budget } = pending.of(seen.slot);
    let of_rates = [Unit::Requests, Unit::Spans, Unit::Bytes].into_iter().zip(seen.ahead).zip(rates);
    for ((unit, micros), more) in of_rates {
        if micros > 0 {
            let ahead = micros.saturating_mul(1_000).saturating_add_signed(more);
            follower.follow(Entry { level, key, unit }, ahead);
        }
    }
    if seen.spent > 0 {
        let spent = seen.spent.saturating_add_signed(budget);
        follower.follow(Entry { level, key, unit: Unit::Budget }, spent);
    }
}

/// In whole microseconds, rounded up where it counts against the sender: a store's numbers hold no finer time since
/// 1970. Twenty times a second that is at most 0.002 % of a rate.
fn row((slot, advance): (Slot, Advance)) -> Option<Row> {
    let rates = advance.rates.map(|nanos| {
        let whole = nanos.div_euclid(1_000);
        if nanos.rem_euclid(1_000) > 0 { whole.saturating_add(1) } else { whole }
    });
    (rates != [0; 3] || advance.budget != 0).then_some(Row { slot, rates, budget: advance.budget })
}

fn jittered(pause: Duration) -> Duration {
    let part = u32::try_from(random() >> 32).unwrap_or(0);
    pause.mul_f64(0.8 + 0.4 * f64::from(part) / f64::from(u32::MAX))
}

/// For jitter and names only.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test, as it should")]
mod tests;
