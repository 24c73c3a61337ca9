//! What one request has taken from its limits, and its way back. It decides when a charge is given
//! back, never how much there is.

use tokio::time::Instant;

use crate::limit::{Cost, Decision, LimitStore, Subject};

use super::rejection::Rejection;

/// Everything that one request has taken so far. Dropped, it gives all of it back but for what
/// was made final or [deferred](Self::defer).
#[derive(Debug)]
pub(super) struct Charge<'a> {
    store: &'a dyn LimitStore,
    subject: Subject<'a>,
    cost: Cost,
    budget: u64,
    /// When something was taken last.
    at: Instant,
}

impl<'a> Charge<'a> {
    /// Nothing taken yet.
    pub(super) fn new(store: &'a dyn LimitStore, subject: Subject<'a>, at: Instant) -> Self {
        Self { store, subject, cost: Cost::default(), budget: 0, at }
    }

    /// Takes more, all of it or nothing, at the present time.
    pub(super) async fn take(&mut self, cost: Cost, now: Instant) -> Result<(), Rejection> {
        if cost == Cost::default() {
            return Ok(());
        }
        self.at = now;
        match self.store.take(&self.subject, cost, now.into_std()).await {
            Decision::Taken => {
                self.add(cost);
                Ok(())
            }
            Decision::Refused(refusal) => Err(Rejection::Limited(*refusal)),
        }
    }

    /// Takes `bytes` in place of the `known` ones that were taken before there was more to know, as one
    /// cost: a limit that lets a long body pass as a whole need not let its parts pass one by one.
    /// Refused, the known ones stay taken.
    pub(super) async fn exchange_bytes(
        &mut self,
        known: Cost,
        all: Cost,
        now: Instant,
    ) -> Result<(), Rejection> {
        self.store.give_back(&self.subject, known, 0, now.into_std());
        self.cost.bytes = self.cost.bytes.saturating_sub(known.bytes);
        let outcome = self.take(all, now).await;
        if outcome.is_err() {
            self.take(known, now).await?;
        }
        outcome
    }

    /// Takes more, of its spans as many as the job's budget has left, and says how many.
    pub(super) async fn take_spans(&mut self, cost: Cost, now: Instant) -> Result<u64, Rejection> {
        self.at = now;
        let taken = self.store.take_spans(&self.subject, cost, now.into_std()).await;
        let granted = taken.map_err(|refusal| Rejection::Limited(*refusal))?;
        self.budget = self.budget.saturating_add(granted);
        self.add(Cost { spans: granted, ..cost });
        Ok(granted)
    }

    fn add(&mut self, cost: Cost) {
        self.cost.requests = self.cost.requests.saturating_add(cost.requests);
        self.cost.spans = self.cost.spans.saturating_add(cost.spans);
        self.cost.bytes = self.cost.bytes.saturating_add(cost.bytes);
    }

    /// Makes final what taking a request in has cost, whatever became of it: the request and its
    /// bytes. Spans and budget can still be given back.
    pub(super) fn keep_intake(&mut self) {
        self.cost.requests = 0;
        self.cost.bytes = 0;
    }

    /// Moves what was taken into a second charge that forgets it when it is dropped early, until
    /// [`Deferred::restore`] moves it back.
    pub(super) fn defer(&mut self) -> Deferred {
        Deferred { cost: std::mem::take(&mut self.cost), budget: std::mem::take(&mut self.budget) }
    }
}

/// What a request has taken while its outcome is in other hands: final unless restored.
#[derive(Debug)]
pub(super) struct Deferred {
    cost: Cost,
    budget: u64,
}

impl Deferred {
    /// Makes it the charge's again, to be kept or given back.
    pub(super) fn restore(self, charge: &mut Charge<'_>) {
        charge.cost = self.cost;
        charge.budget = self.budget;
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        if self.cost != Cost::default() || self.budget > 0 {
            self.store.give_back(&self.subject, self.cost, self.budget, self.at.into_std());
        }
    }
}
