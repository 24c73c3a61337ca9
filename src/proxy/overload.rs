//! How full the gateway is, and what it does about it in stages: refuse strangers, ask idle connections to leave, accept
//! nobody. It decides by places for connections and by body bytes; a sender with a cached verdict is never refused here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::interval};

use crate::{metrics::Metrics, telemetry::RateCap};

use super::{body::InFlight, server::Connections};

/// How often fullness is looked at, beside each new connection: a flood needs longer to fill what is left of a stage.
const LOOK: Duration = Duration::from_millis(50);

/// A stage ends this many percent below where it begins, or it would come and go with each request.
const HYSTERESIS: u64 = 5;

/// Log lines a second about one stage.
const LINES_PER_SECOND: u32 = 1;

/// What is done about fullness; each stage does what those before it do too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing.
    Calm,
    /// Requests of senders without a cached verdict are refused before anybody is asked and before their bodies are read.
    Strangers,
    /// Connections end after their next request, idle ones at once, where places are what is scarce.
    Idle,
    /// No connection is accepted: the kernel's backlog holds them.
    Closed,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Calm, Self::Strangers, Self::Idle, Self::Closed];

    /// From how many percent on it holds.
    const fn begins(self) -> u64 {
        match self {
            Self::Calm => 0,
            Self::Strangers => 80,
            Self::Idle => 90,
            Self::Closed => 95,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Strangers => "strangers",
            Self::Idle => "idle",
            Self::Closed => "closed",
        }
    }

    fn of(percent: u64) -> Self {
        Self::ALL.into_iter().rev().find(|stage| percent >= stage.begins()).unwrap_or(Self::Calm)
    }

    /// The stage after this one, at so many percent.
    fn next(self, percent: u64) -> Self {
        Self::of(percent).max(self.min(Self::of(percent.saturating_add(HYSTERESIS))))
    }
}

/// The stage in force, and what it is found from.
#[derive(Debug)]
pub struct Overload {
    connections: Arc<Connections>,
    in_flight: InFlight,
    stage: watch::Sender<Stage>,
    /// The same for the request line, which must not take a lock.
    fast: AtomicU8,
    metrics: Arc<Metrics>,
    lines: RateCap,
}

impl Overload {
    /// Calm, until it is looked at.
    #[must_use]
    pub fn new(connections: Arc<Connections>, in_flight: InFlight, metrics: Arc<Metrics>) -> Self {
        metrics.overload_stage(0);
        Self {
            connections,
            in_flight,
            stage: watch::Sender::new(Stage::Calm),
            fast: AtomicU8::new(0),
            metrics,
            lines: RateCap::new(LINES_PER_SECOND),
        }
    }

    /// The places that it watches.
    #[must_use]
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Looks for ever, and makes room where places are scarce.
    pub async fn watch(&self) {
        let mut ticks = interval(LOOK);
        loop {
            ticks.tick().await;
            self.look();
            self.make_room();
        }
    }

    /// Whether a request whose sender has no cached verdict is refused; counts it as such.
    pub(super) fn sheds(&self, is_known: impl FnOnce() -> bool) -> bool {
        let sheds = self.fast.load(Ordering::Relaxed) >= Stage::Strangers as u8 && !is_known();
        if sheds {
            self.metrics.overload_shed(Stage::Strangers.label(), 1);
        }
        sheds
    }

    /// Whether a stranger's unread body finds no room: what is left from the first stage on is for senders who are known,
    /// however fast strangers come.
    pub(super) fn sheds_unread(&self, bytes: u64) -> bool {
        let held = self.in_flight.held().saturating_add(bytes);
        let sheds = percent(held, self.in_flight.all()) >= Stage::Strangers.begins();
        if sheds {
            self.metrics.overload_shed(Stage::Strangers.label(), 1);
        }
        sheds
    }

    /// Whether a new connection is to end after its first request: it came while places were scarce.
    pub(super) fn hurries(&self) -> bool {
        Stage::of(self.places()) >= Stage::Idle
    }

    /// Waits while no connection is accepted.
    pub(super) async fn accepting(&self) {
        if *self.stage.borrow() < Stage::Closed {
            return;
        }
        self.metrics.overload_shed(Stage::Closed.label(), 1);
        // Fails only without a sender, and that is here.
        let _open = self.stage.subscribe().wait_for(|stage| *stage < Stage::Closed).await.is_ok();
    }

    /// Finds the stage anew; told once for each change.
    pub(super) fn look(&self) {
        let (places, bytes) = (self.places(), percent(self.in_flight.held(), self.in_flight.all()));
        let changed = self.stage.send_if_modified(|stage| {
            // Closing the door frees no memory of those who are in, and holds up known senders' new connections.
            let next = stage.next(places.max(bytes.min(Stage::Closed.begins().saturating_sub(1))));
            let changed = next != *stage;
            *stage = next;
            self.fast.store(next as u8, Ordering::Relaxed);
            changed
        });
        if !changed {
            return;
        }
        let stage = *self.stage.borrow();
        self.metrics.overload_stage(i64::from(stage as u8));
        if let Some(suppressed) = self.lines.allow(stage.label()) {
            tracing::warn!(
                stage = stage.label(),
                connections_percent = places,
                in_flight_bytes_percent = bytes,
                suppressed,
                "the stage of overload changed"
            );
        }
    }

    /// Idle strangers go first, when the first stage begins by places; the others when it is the second.
    fn make_room(&self) {
        let stage = Stage::of(self.places());
        if stage < Stage::Strangers {
            return;
        }
        let all = self.connections.most();
        let share = |stage: Stage| {
            let percent = usize::try_from(stage.begins().saturating_sub(HYSTERESIS)).unwrap_or(0);
            all.saturating_mul(percent) / 100
        };
        let mut asked = self.connections.ask_to_leave(share(Stage::Strangers), false);
        if stage >= Stage::Idle {
            asked = asked.saturating_add(self.connections.ask_to_leave(share(Stage::Idle), true));
        }
        self.metrics.overload_shed(Stage::Idle.label(), u64::try_from(asked).unwrap_or(u64::MAX));
    }

    fn places(&self) -> u64 {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        percent(number(self.connections.taken()), number(self.connections.most()))
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: fullness rises and falls by one percent at a time, and jumps.
    /// Guarantees: each stage begins at its percentage and ends 5 below it; no stage flickers around its edge.
    #[test]
    fn stages_come_at_once_and_go_late() {
        let mut stage = Stage::Calm;
        for percent in 0..=100 {
            stage = stage.next(percent);
            assert_eq!(stage, Stage::of(percent), "{percent}");
        }
        for percent in (0..=100).rev() {
            stage = stage.next(percent);
            let expected = match percent {
                90.. => Stage::Closed,
                85.. => Stage::Idle,
                75.. => Stage::Strangers,
                _ => Stage::Calm,
            };
            assert_eq!(stage, expected, "{percent}");
        }
        assert_eq!(Stage::Calm.next(100), Stage::Closed);
        assert_eq!(Stage::Closed.next(0), Stage::Calm);
        assert_eq!(Stage::Calm.next(79), Stage::Calm);
        assert_eq!(Stage::Strangers.next(79), Stage::Strangers);
    }

    /// Scenario: bodies fill the budget step by step, and go.
    /// Guarantees: unknown senders are shed from 80 % on and only they; accepting never stops for bytes; it ends, and is counted.
    #[tokio::test(start_paused = true)]
    async fn bytes_make_stages() {
        let metrics = Arc::new(Metrics::new());
        let in_flight = InFlight::metered(100, Arc::clone(&metrics));
        let overload = Overload::new(Connections::new(10, 0), in_flight.clone(), Arc::clone(&metrics));
        let mut permit = in_flight.permit();
        permit.grow(79).unwrap();
        overload.look();
        assert!(!overload.sheds(|| panic!("nobody is asked")));
        permit.grow(1).unwrap();
        overload.look();
        assert!(overload.sheds(|| false) && !overload.sheds(|| true));
        overload.accepting().await;
        permit.grow(15).unwrap();
        overload.look();
        permit.grow(5).unwrap();
        overload.look();
        overload.accepting().await;
        drop(permit);
        overload.look();
        assert!(!overload.sheds(|| false));
        let text = metrics.render();
        for line in [
            "spangate_overload_stage 0",
            "spangate_overload_shed_total{stage=\"strangers\"} 1",
            "spangate_overload_shed_total{stage=\"closed\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
