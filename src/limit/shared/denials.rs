//! Denials that replicas share: a validator that stands before the authority and answers "no" where another replica
//! was told so about the very same pair a moment ago. It never makes a denial of its own, and never says yes.
//!
//! Never a false 401, so a shared word is believed only where this replica's own would be:
//! - It is about these very bytes at this authority, asked with the same secret: all of that is in the mark. A replica
//!   whose own signature GitLab refuses must not speak for those whose is good.
//! - A holder of the replicas' secret said it, and for how long: a store that anybody can write to can hold back
//!   words, or bring them again within their time, and no more.
//! - Pairs that are good here are never looked up ([`Validator::validate_anew`]): only GitLab's own second word ends
//!   those. What is said about such a pair is not told to others either.
//! - The first word about a job can come from a database that lags behind. That one replica would have kept it as
//!   long for all of its senders; others keep it no more than once over.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    metrics::Metrics,
    validate::{
        Denial, Question, Undetermined, Validator, Verdict,
        credentials::{Credentials, Digester, Mark},
    },
};

use super::{Store, presence::Presence};

/// Clocks of replicas may differ by this much; beyond it words only go unheard.
const SKEW: Duration = Duration::from_secs(1);

/// A validator that hears of other replicas' denials before it asks.
pub struct Denials<V> {
    inner: V,
    shared: Option<Shared>,
}

/// What it takes to share.
#[derive(Clone, Debug)]
struct Shared {
    presence: Arc<Presence>,
    digester: Arc<Digester>,
    /// Names the authority and who asks it.
    authority: Arc<[u8]>,
    /// How long a denial is believed.
    ttl: Duration,
    metrics: Arc<Metrics>,
}

impl<V> Denials<V> {
    /// Without a store it only passes questions on. `authority` must differ for whoever would be answered differently;
    /// `ttl` is `cache.negative_ttl`.
    pub fn new(
        inner: V,
        store: Option<&Store>,
        digester: &Arc<Digester>,
        authority: &[u8],
        ttl: Duration,
    ) -> Self {
        let shared = store.filter(|_| !ttl.is_zero()).map(|store| Shared {
            presence: Arc::clone(&store.presence),
            digester: Arc::clone(digester),
            authority: authority.into(),
            ttl,
            metrics: Arc::clone(&store.metrics),
        });
        Self { inner, shared }
    }
}

impl Shared {
    fn mark(&self, credentials: &Credentials) -> Option<Mark> {
        self.digester.mark(&self.authority, credentials)
    }

    /// What another replica was told, if the store says so in time.
    async fn recall(&self, mark: Mark) -> Option<Denial> {
        if self.presence.is_purged() {
            return None;
        }
        let line = self.presence.line()?;
        let word = self.presence.ask(line.recall(mark)).await.ok()??;
        let word = self.digester.unseal(mark, &word)?;
        read(word, unix_millis(), self.ttl)
    }

    /// Tells other replicas, behind the back of the request.
    fn tell(&self, mark: Mark, denial: Denial) {
        let (Some(line), Some(word)) = (self.presence.line(), word(denial, unix_millis(), self.ttl)) else {
            return;
        };
        let (presence, ttl) = (Arc::clone(&self.presence), self.ttl);
        let sealed = self.digester.seal(mark, &word);
        drop(tokio::spawn(async move {
            // Nobody depends on it.
            drop(presence.ask(line.remember(mark, sealed, ttl)).await);
        }));
    }
}

impl<V: Validator> Validator for Denials<V> {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        let shared = self.shared.as_ref();
        let Some((shared, mark)) =
            shared.and_then(|shared| Some((shared, shared.mark(&question.credentials)?)))
        else {
            return self.inner.validate(question);
        };
        Box::pin(async move {
            if let Some(denial) = shared.recall(mark).await {
                shared.metrics.limit_store_denial();
                return Ok(Verdict::Deny(denial));
            }
            let answer = self.inner.validate(question).await;
            if let Ok(Verdict::Deny(denial)) = &answer {
                shared.tell(mark, *denial);
            }
            answer
        })
    }

    fn validate_anew<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        self.inner.validate_anew(question)
    }

    fn known(&self, credentials: &Credentials) -> bool {
        self.inner.known(credentials)
    }

    fn grace(&self) -> Duration {
        self.inner.grace()
    }

    fn record_entries(&self) {
        self.inner.record_entries();
    }

    /// Until all words that were said before it are over, none is believed.
    fn purge(&self) -> usize {
        if let Some(shared) = &self.shared {
            shared.presence.purge_until(Instant::now().checked_add(shared.ttl.saturating_add(SKEW)));
        }
        self.inner.purge()
    }
}

impl<V: fmt::Debug> fmt::Debug for Denials<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denials").field("inner", &self.inner).field("shared", &self.shared.is_some()).finish()
    }
}

/// A denial and until when it holds; `None` for one that is not about a token pair.
fn word(denial: Denial, now: u64, ttl: Duration) -> Option<[u8; 9]> {
    let kind = match denial {
        Denial::Unauthenticated => 1,
        Denial::Forbidden => 2,
        Denial::UnknownClient => return None,
    };
    let mut word = [kind; 9];
    let [_, until @ ..] = &mut word;
    *until = now.saturating_add(millis(ttl)).to_be_bytes();
    Some(word)
}

fn read(word: &[u8], now: u64, ttl: Duration) -> Option<Denial> {
    let (kind, until) = word.split_first()?;
    let until = u64::from_be_bytes(until.try_into().ok()?);
    let longest = now.saturating_add(millis(ttl.saturating_add(SKEW)));
    if !(now..=longest).contains(&until) {
        return None;
    }
    match kind {
        1 => Some(Denial::Unauthenticated),
        2 => Some(Denial::Forbidden),
        _ => None,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn unix_millis() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, millis)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test, as it should")]
mod tests;
