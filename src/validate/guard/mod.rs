//! The guard between the cache and GitLab: a question that can't be answered in time, or that would
//! make trouble worse, is not asked. It never says allow or deny itself; each of its refusals is
//! [`Undetermined`], so the sender is told to come again and a verdict that is stale may serve.
//!
//! In this order, the cheapest and surest first:
//! 1. `pauses`: a runner whose questions were answered with 429 pauses, alone.
//! 2. `breaker`: while GitLab fails nobody is asked but one probe at a time; looked at before the
//!    queue, so that nobody waits for nothing, and again behind it, because it may have opened meanwhile.
//! 3. `places`: a cap on questions in flight with a bounded queue; `pace` says how high the cap is,
//!    because neither a start nor a recovery may let everything through at once.

mod breaker;
mod pace;
mod pauses;
mod places;

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{config, metrics::Metrics};

use self::{
    breaker::{Breaker, Change, Outcome, Phase, Rules},
    pace::Pace,
    pauses::Pauses,
    places::Places,
};

use super::{Question, Undetermined, Validator, Verdict};

/// A validator behind a guard.
pub struct Guard<V> {
    inner: V,
    state: Arc<State>,
    settings: Settings,
    metrics: Arc<Metrics>,
}

/// What the guard knows of an authority. It outlives a change of settings: a reload must not forget
/// that GitLab is down.
#[derive(Debug)]
pub struct State {
    breaker: Breaker,
    places: Places,
    pace: Pace,
    pauses: Pauses,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    timeout: Duration,
    max_concurrency: usize,
    max_queue: usize,
    ramp: Duration,
    adaptive: bool,
    breaker: Rules,
}

impl State {
    /// Nothing known yet: the breaker is closed, the ramp begins.
    #[must_use]
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            breaker: Breaker::new(now),
            places: Places::new(),
            pace: Pace::new(now),
            pauses: Pauses::default(),
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Validator> Guard<V> {
    /// A guard before `inner`, with what is known of it.
    #[must_use]
    pub fn new(inner: V, config: &config::Gitlab, state: Arc<State>, metrics: Arc<Metrics>) -> Self {
        let settings = Settings {
            timeout: config.timeout,
            max_concurrency: config.max_concurrency,
            max_queue: config.max_queue,
            ramp: config.ramp,
            adaptive: config.adaptive_concurrency,
            breaker: Rules {
                faults: config.breaker.faults,
                ratio: config.breaker.ratio,
                max_open: config.breaker.max_open,
            },
        };
        metrics.authority_breaker(state.breaker.phase() as i64);
        Self { inner, state, settings, metrics }
    }

    async fn ask(&self, question: &Question) -> Result<Verdict, Undetermined> {
        let Self { state, settings, .. } = self;
        let started = Instant::now();
        let runner = question.credentials.runner_key();
        if let Some(left) = state.pauses.left(runner, started) {
            return Err(Undetermined::Paused(left));
        }
        if let Some(wait) = state.breaker.refusal(started) {
            return Err(Undetermined::BreakerOpen(wait));
        }
        // Waiting for a place counts too: the sender sees one wait, not two.
        let end =
            started.checked_add(settings.timeout).map_or(question.deadline, |end| end.min(question.deadline));
        let wanted = state.pace.places(settings.max_concurrency, settings.ramp, settings.adaptive, started);
        let place = state.places.take(wanted, settings.max_queue, end).await?;

        let asked = Instant::now();
        let pass = state.breaker.pass(asked).map_err(Undetermined::BreakerOpen)?;
        self.show_breaker();
        let answer = self.inner.validate(&Question { deadline: end, ..question.clone() }).await;
        drop(place);

        let now = Instant::now();
        match &answer {
            Ok(_) => state.pauses.answered(runner),
            Err(Undetermined::Throttled) => state.pauses.throttled(runner, now),
            Err(_) => {}
        }
        let times @ (took, budget) = (now.saturating_duration_since(asked), settings.timeout);
        if state.breaker.phase() == Phase::HalfOpen {
            // Before the breaker closes: not one question more than the foot of the ramp allows.
            state.pace.restart(now);
        }
        let outcome = match outcome(&answer) {
            // It had spent most of its budget in the queue: that it ran out is no fault of GitLab's.
            Outcome::Fault
                if matches!(answer, Err(Undetermined::Timeout)) && took.saturating_mul(2) < budget =>
            {
                Outcome::Neither
            }
            outcome => outcome,
        };
        state.pace.learn(outcome, times, settings.max_concurrency, now);
        match pass.ended(outcome, &settings.breaker, now, random()) {
            Some(Change::Opened) => tracing::warn!(
                error_message = answer.as_ref().err().map(tracing::field::display),
                "GitLab is not asked for now but by one probe at a time: known runners are served from the cache, \
                 others get 503; see that gitlab.url answers"
            ),
            Some(Change::Closed) => tracing::info!(
                "GitLab answers again: questions are asked as before, at first a few at a time"
            ),
            None => {}
        }
        self.show_breaker();
        answer
    }

    fn show_breaker(&self) {
        self.metrics.authority_breaker(self.state.breaker.phase() as i64);
    }
}

impl<V: Validator> Validator for Guard<V> {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        Box::pin(async move {
            let answer = self.ask(question).await;
            if let Err(shed @ (Undetermined::Busy | Undetermined::BreakerOpen(_) | Undetermined::Paused(_))) =
                &answer
            {
                self.metrics.authority_shed(shed.label());
            }
            answer
        })
    }
}

/// What an answer says about the authority's health; see [`breaker`] for what counts and why.
fn outcome(answer: &Result<Verdict, Undetermined>) -> Outcome {
    match answer {
        Err(
            Undetermined::Timeout
            | Undetermined::Unreachable(_)
            | Undetermined::BadAnswer(_)
            | Undetermined::Status(300..=399 | 404 | 500..),
        ) => Outcome::Fault,
        // Whoever refuses is up, and so is what stands behind it.
        Ok(_)
        | Err(
            Undetermined::Throttled
            | Undetermined::ForeignRefusal
            | Undetermined::ClocksApart
            | Undetermined::Status(_),
        ) => Outcome::Word,
        Err(
            Undetermined::Busy
            | Undetermined::BreakerOpen(_)
            | Undetermined::Paused(_)
            | Undetermined::UnknownKey
            | Undetermined::NoAuthority,
        ) => Outcome::Neither,
    }
}

/// Between 0 and 1; for jitter only.
fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or(0);
    f64::from(bits) / f64::from(u32::MAX)
}

impl<V: fmt::Debug> fmt::Debug for Guard<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("inner", &self.inner)
            .field("breaker", &self.state.breaker.phase())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
