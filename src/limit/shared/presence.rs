//! How things stand with the store: whether a request may ask it something now, and how many replicas there are.
//! It decides nothing about a limit.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use tokio::time::{Instant, timeout};

use crate::metrics::Metrics;

use super::{
    DEADLINE,
    line::{Line, Trouble},
};

/// Shared by the task that keeps a replica in step and by the requests that ask on their way.
#[derive(Debug)]
pub(super) struct Presence {
    line: ArcSwapOption<Arc<dyn Line>>,
    /// Off from the first call that got no answer until the next one that did: so that one request at most waits
    /// in vain for each of its questions, and not every request until the store is given up.
    answers: AtomicBool,
    replicas: AtomicU32,
    /// Until then nobody believes what other replicas say of denials.
    purged_until: Mutex<Option<Instant>>,
    metrics: Arc<Metrics>,
}

impl Presence {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            line: ArcSwapOption::empty(),
            answers: AtomicBool::new(false),
            replicas: AtomicU32::new(1),
            purged_until: Mutex::new(None),
            metrics,
        }
    }

    /// One call, with its deadline, counted.
    pub(super) async fn ask<T>(&self, call: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let started = Instant::now();
        let answer = timeout(DEADLINE, call).await.unwrap_or(Err(Trouble::Timeout));
        let outcome = answer.as_ref().err().map_or("ok", Trouble::label);
        self.metrics.limit_store_request(outcome, started.elapsed());
        if answer.is_err() {
            self.answers.store(false, Ordering::Relaxed);
        }
        answer
    }

    /// The connection, for a request on its way: only while the store answers.
    pub(super) fn line(&self) -> Option<Arc<dyn Line>> {
        let line = self.line.load();
        self.answers.load(Ordering::Relaxed).then(|| line.as_deref().cloned()).flatten()
    }

    pub(super) fn connected(&self, line: Arc<dyn Line>) {
        self.line.store(Some(Arc::new(line)));
    }

    pub(super) fn disconnected(&self) {
        self.answers.store(false, Ordering::Relaxed);
        self.line.store(None);
    }

    pub(super) fn answered(&self) {
        self.answers.store(true, Ordering::Relaxed);
    }

    /// At least 1.
    pub(super) fn replicas(&self) -> u32 {
        self.replicas.load(Ordering::Relaxed)
    }

    pub(super) fn set_replicas(&self, replicas: u32) {
        self.replicas.store(replicas.max(1), Ordering::Relaxed);
    }

    /// Whether an operator had every verdict forgotten a moment ago.
    pub(super) fn is_purged(&self) -> bool {
        let until = self.purged_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn purge_until(&self, end: Option<Instant>) {
        *self.purged_until.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }
}
