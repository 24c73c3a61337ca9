//! Limits, and the time at which they are asked.

use std::{ops::Deref, sync::Arc, time::Instant};

use governor::clock::{Clock as _, FakeRelativeClock};

use crate::{
    config::Config,
    limit::{Answer, Cost, Decision, Entry, Ledger, LimitStore as _, Refusal, Subject, local::Local},
    metrics::Metrics,
};

/// Limits under a clock that the test moves.
pub(super) struct Timed {
    pub(super) local: Local,
    clock: FakeRelativeClock,
    epoch: Instant,
}

impl Timed {
    pub(super) fn new(config: &Config, metrics: &Metrics, clock: FakeRelativeClock) -> Self {
        let local = Local::new(config, metrics);
        Self { epoch: local.epoch, local, clock }
    }

    pub(super) fn with_ledger(self, ledger: Arc<dyn Ledger>) -> Self {
        Self { local: self.local.with_ledger(ledger), ..self }
    }

    pub(super) fn now(&self) -> Instant {
        self.epoch.checked_add(self.clock.now().into()).unwrap()
    }

    pub(super) fn take(&self, subject: Subject<'_>, cost: Cost) -> Answer<'_, Decision> {
        self.local.take(&subject, cost, self.now())
    }

    pub(super) fn take_spans(
        &self,
        subject: Subject<'_>,
        cost: Cost,
    ) -> Answer<'_, Result<u64, Box<Refusal>>> {
        self.local.take_spans(&subject, cost, self.now())
    }

    pub(super) fn give_back(&self, subject: Subject<'_>, cost: Cost, budget: u64) {
        self.local.give_back(&subject, cost, budget, self.now());
    }

    pub(super) fn follow(&self, entry: Entry, ahead: u64) {
        self.local.follow(entry, ahead, self.now());
    }
}

impl Deref for Timed {
    type Target = Local;

    fn deref(&self) -> &Local {
        &self.local
    }
}
