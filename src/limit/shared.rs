//! Limits that replicas share through a store (Redis or Valkey). It decides what goes to the store and what
//! comes back; a request is still charged to the states in this process, at once, and never waits for the store
//! but for two questions of at most [`DEADLINE`]: what others know of a job that is new here, and whether another
//! replica was just told "no" about a pair that is new here.
//!
//! - `pending`: what was charged here since the last flush. `step`: the task that tells it and follows.
//! - `line`: what a store can be asked; `redis` asks a real one.
//! - [`denials`]: a validator before the authority.
//!
//! Not promised: an exact limit. Between two flushes each replica knows only itself, so a burst can be as large
//! as all replicas' together; it stands in the state as a debt, and over time the limit holds.

pub mod denials;
mod line;
mod pending;
mod presence;
#[cfg(feature = "redis")]
mod redis;
mod step;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::task::AbortHandle;

use crate::{
    config::{self, StoreType},
    metrics::Metrics,
};

use super::{Entry, Ledger, Level, Subject, local::Local};

use self::{
    line::{Dial, Row},
    pending::{Pending, Slot},
    presence::Presence,
    step::Step,
};

/// The time for one call to the store. A request asks at most two questions.
pub const DEADLINE: Duration = Duration::from_millis(20);

/// Why a store can't be used; the text names the file to mend and quotes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A file can't be read or holds nothing usable.
    #[error("limits.store.{key}: {}: {problem}", path.display())]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// This build can't speak to it.
    #[error("limits.store.type: this build has no client for Redis: build it with the feature `redis`")]
    NotBuilt,
}

/// States that can follow what other replicas charged.
trait Follower: fmt::Debug + Send + Sync + 'static {
    /// Sets the state of an entry to at least so many nanoseconds ahead of the present, or so many spans of a budget
    /// spent.
    fn follow(&self, entry: Entry, ahead: u64);

    /// From now on each cost counts so many times.
    fn set_share(&self, replicas: u32);
}

impl Follower for Local {
    fn follow(&self, entry: Entry, ahead: u64) {
        Local::follow(self, entry, ahead, Instant::now());
    }

    fn set_share(&self, replicas: u32) {
        Local::set_share(self, replicas);
    }
}

/// A store that replicas share.
#[derive(Debug)]
pub struct Store {
    dial: Arc<dyn Dial>,
    pending: Arc<Pending>,
    presence: Arc<Presence>,
    /// Set at the start; it holds this store, so not the other way round.
    follower: OnceLock<Weak<dyn Follower>>,
    metrics: Arc<Metrics>,
}

/// Keeps this replica in step until it is dropped.
#[derive(Debug)]
pub struct InStep(AbortHandle);

impl Drop for InStep {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Store {
    /// The store of a configuration; `None` where each replica keeps limits by itself. It reads files and opens no
    /// socket.
    ///
    /// # Errors
    /// [`StoreError`] says which file to mend.
    pub fn open(config: &config::Store, metrics: &Arc<Metrics>) -> Result<Option<Self>, StoreError> {
        match config.r#type {
            StoreType::Local => Ok(None),
            StoreType::Redis => dial(config).map(|dial| Some(Self::with(dial, metrics))),
        }
    }

    fn with(dial: Arc<dyn Dial>, metrics: &Arc<Metrics>) -> Self {
        let (pending, presence) = (Arc::default(), Arc::new(Presence::new(Arc::clone(metrics))));
        Self { dial, pending, presence, follower: OnceLock::new(), metrics: Arc::clone(metrics) }
    }

    /// Begins to keep these states in step with those of the other replicas.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use = "dropped, it ends"]
    pub fn start(&self, limits: &Arc<Local>) -> InStep {
        self.follow_with(Arc::clone(limits) as _)
    }

    fn follow_with(&self, follower: Arc<dyn Follower>) -> InStep {
        // Started twice, the first ones are followed on.
        drop(self.follower.set(Arc::downgrade(&follower)));
        let step = Step::new(
            Arc::clone(&self.dial),
            Arc::clone(&self.pending),
            Arc::clone(&self.presence),
            follower,
            Arc::clone(&self.metrics),
        );
        InStep(tokio::spawn(step.run()).abort_handle())
    }

    /// Brings in what the other replicas know of these keys, if the store says so in time.
    async fn meet(&self, line: Arc<dyn line::Line>, slots: Vec<Slot>) {
        let rows = slots.into_iter().map(|slot| Row { slot, rates: [0; 3], budget: 0 }).collect();
        let seen = self.presence.ask(line.charge(rows)).await;
        if let (Ok(seen), Some(follower)) = (seen, self.follower.get().and_then(Weak::upgrade)) {
            for seen in seen {
                step::follow(&*follower, &self.pending, seen);
            }
        }
    }
}

impl Ledger for Store {
    fn note(&self, entry: Entry, nanos: i64) {
        if !self.pending.note(entry, nanos) {
            self.metrics.limit_store_untold(1);
        }
    }

    fn first_sight(&self, subject: Subject<'_>) -> Option<BoxFuture<'_, ()>> {
        let line = self.presence.line()?;
        let job = Slot { level: Level::Job, key: subject.job? };
        Some(Box::pin(self.meet(line, vec![job])))
    }
}

#[cfg(feature = "redis")]
fn dial(config: &config::Store) -> Result<Arc<dyn Dial>, StoreError> {
    redis::Redis::open(config).map(|redis| Arc::new(redis) as _)
}

#[cfg(not(feature = "redis"))]
fn dial(_config: &config::Store) -> Result<Arc<dyn Dial>, StoreError> {
    Err(StoreError::NotBuilt)
}
