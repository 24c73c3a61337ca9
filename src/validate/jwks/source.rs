//! The keys of one provider over time: fetched in the background, kept while the provider is silent, fetched
//! again at once when a token names a key that is not known. It decides when to fetch and when a key counts
//! as unknown for good; a silence never becomes a denial.
//!
//! A key is unknown for good only by a set whose fetch began after the token was here. A token of a key that
//! was published a moment ago could else be refused by a set from before.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    config::{KeyOrigin, OidcProvider, SignatureAlgorithm},
    metrics::Metrics,
    validate::{Undetermined, oidc::token::Token},
};

use super::{
    KeySet,
    fetch::{Fetched, Fetcher},
};

/// How a signature and the keys go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::validate) enum Fit {
    /// The signature is of a key of this provider.
    Good,
    /// It is not of the key that the token names.
    Bad,
    /// The provider has no such key.
    Unknown,
}

/// When keys are fetched.
#[derive(Clone, Copy, Debug)]
pub(in crate::validate) struct Pace {
    /// Least time from one fetch that a token asked for to the next.
    cool_down: Duration,
    /// Least and longest time that a set is taken for current, whatever its `Cache-Control` says.
    shortest: Duration,
    longest: Duration,
    /// The time of a set that does not say.
    usual: Duration,
    /// Pauses after a failure: the first one, and what doubling ends at.
    first_retry: Duration,
    last_retry: Duration,
    /// The whole time for one fetch, discovery included.
    fetch: Duration,
}

impl Pace {
    const DEFAULT: Self = Self {
        cool_down: Duration::from_secs(30),
        shortest: Duration::from_mins(1),
        longest: Duration::from_hours(1),
        usual: Duration::from_mins(5),
        first_retry: Duration::from_secs(1),
        last_retry: Duration::from_mins(1),
        fetch: Duration::from_secs(5),
    };
}

/// Whose keys, from where, for what. A reload keeps the keys of a source for which these are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    issuer: String,
    origin: KeyOrigin,
    algorithms: Vec<SignatureAlgorithm>,
}

impl Wanted {
    fn of(config: &OidcProvider) -> Self {
        let OidcProvider { issuer, algorithms, .. } = config;
        Self { issuer: issuer.clone(), origin: config.key_origin(), algorithms: algorithms.clone() }
    }
}

/// A digest of the CA certificates that are trusted on the way; `None` without a file, or if it can't be read.
fn trust(config: &OidcProvider) -> Option<Vec<u8>> {
    Some(digest(&SHA256, &std::fs::read(&config.ca_file).ok()?).as_ref().to_vec())
}

/// The keys of one provider.
pub(in crate::validate) struct KeySource {
    wanted: Wanted,
    trust: Option<Vec<u8>>,
    /// `None`: the keys are of a file and never change.
    fetcher: Option<Fetcher>,
    state: watch::Sender<State>,
    is_kept: AtomicBool,
    pace: Pace,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// When the fetch of these keys began, and when it ended.
    began: Option<Instant>,
    landed: Option<Instant>,
    /// A fetch is under way, or about to begin.
    is_pending: bool,
    /// When a token last asked for a fetch.
    asked: Option<Instant>,
    /// When the last fetch that brought nothing began, and why it did.
    failed: Option<(Instant, Undetermined)>,
    /// Since when nothing is held against these keys; until a fetch that begins later has ended.
    doubted: Option<Instant>,
}

impl State {
    /// A fetch has ended. One that began before a doubt settles nothing: another one has to follow at once.
    fn ended(&mut self, began: Instant) {
        self.doubted = self.doubted.filter(|since| *since > began);
        self.is_pending = self.doubted.is_some();
    }
}

impl KeySource {
    /// The source that a provider names; a file is read now, a URL is fetched from [`Self::start`] on. One of `before`
    /// that would fetch the same keys in the same way goes on. Where only the trust in the way changed, its keys serve
    /// until the new trust has brought others. A file may hold other keys by now and is read again.
    ///
    /// # Errors
    /// The key of the provider to mend, and what is wrong with it.
    pub(in crate::validate) fn new<'a>(
        config: &OidcProvider,
        metrics: Arc<Metrics>,
        mut before: impl Iterator<Item = &'a Arc<Self>>,
    ) -> Result<Arc<Self>, (&'static str, String)> {
        let wanted = Wanted::of(config);
        let known = before.find(|known| known.fetcher.is_some() && known.wanted == wanted);
        match known {
            Some(known) if known.trust == trust(config) => Ok(Arc::clone(known)),
            Some(known) => {
                let source = Self::with_pace(config, metrics, known.pace)?;
                let (keys, landed) = {
                    let state = known.state.borrow();
                    (state.keys.clone(), state.landed)
                };
                source.state.send_modify(|state| (state.keys, state.landed) = (keys, landed));
                Ok(Arc::new(source))
            }
            None => Self::with_pace(config, metrics, Pace::DEFAULT).map(Arc::new),
        }
    }

    fn with_pace(
        config: &OidcProvider,
        metrics: Arc<Metrics>,
        pace: Pace,
    ) -> Result<Self, (&'static str, String)> {
        let wanted = Wanted::of(config);
        let trust = trust(config);
        let fetcher = Fetcher::new(&wanted.origin, &wanted.issuer, &config.ca_file, pace.fetch)?;
        let state = match &wanted.origin {
            KeyOrigin::File(path) => {
                State { keys: Some(Arc::new(from_file(path, &wanted.algorithms)?)), ..State::default() }
            }
            // Nothing is known before the first fetch: whoever asks waits for it.
            _ => State { is_pending: true, ..State::default() },
        };
        Ok(Self {
            wanted,
            trust,
            fetcher,
            state: watch::Sender::new(state),
            is_kept: AtomicBool::new(false),
            pace,
            metrics,
        })
    }

    /// Begins to fetch in the background, until the source is dropped; harmless when called again.
    pub(in crate::validate) fn start(self: &Arc<Self>) {
        if self.fetcher.is_some() && !self.is_kept.swap(true, Ordering::Relaxed) {
            drop(tokio::spawn(keep(Arc::downgrade(self))));
        }
    }

    /// Returns when the first fetch has brought keys or failed.
    pub(in crate::validate) async fn settled(&self) {
        let mut state = self.state.subscribe();
        // Closed means dropped: nobody waits for these keys any more.
        let _closed = state.wait_for(|state| !state.is_pending).await;
    }

    /// Fetches anew, for an operator who knows better: no token is held against the keys at hand before that fetch has
    /// ended. If it brings nothing they serve on, as in any silence. Keys of a file stay: a reload reads them.
    pub(in crate::validate) fn doubt(&self) {
        if self.fetcher.is_some() {
            self.state.send_modify(|state| {
                state.doubted = Some(Instant::now());
                state.is_pending = true;
            });
        }
    }

    /// Time since the keys were last fetched; `None` for a file, and before the first success.
    pub(in crate::validate) fn age(&self) -> Option<Duration> {
        self.state.borrow().landed.map(|at| at.elapsed())
    }

    /// Whether keys, or the word where they are, can be changed on their way here.
    pub(in crate::validate) fn is_in_clear_text(&self) -> bool {
        self.fetcher.as_ref().is_some_and(Fetcher::is_in_clear_text)
    }

    pub(in crate::validate) fn issuer(&self) -> &str {
        &self.wanted.issuer
    }

    /// Holds a token against the keys; waits for a fetch, until `end`, where only that can tell.
    ///
    /// # Errors
    /// [`Undetermined`] where no set of keys can tell, or none that is new enough.
    pub(in crate::validate) async fn check(
        &self,
        token: &Token<'_>,
        end: Instant,
    ) -> Result<Fit, Undetermined> {
        let here = Instant::now();
        let mut state = self.state.subscribe();
        loop {
            let (keys, began, failed) = {
                let state = state.borrow();
                let trusted = state.keys.clone().filter(|_| state.doubted.is_none());
                (trusted, state.began, state.failed.clone())
            };
            let fit = keys.map(|keys| keys.check(token));
            let is_final = self.fetcher.is_none() || began.is_some_and(|began| began >= here);
            match fit {
                Some(Fit::Unknown) if !is_final => {}
                Some(fit) => return Ok(fit),
                None => {}
            }
            // One failure is enough: the sender may try again.
            if let Some((_, trouble)) = failed.filter(|(began, _)| *began >= here) {
                return Err(trouble);
            }
            self.ask()?;
            match timeout_at(end, state.wait_for(|state| !state.is_pending)).await {
                Err(_) => return Err(Undetermined::Timeout),
                Ok(Err(_)) => return Err(Undetermined::NoAuthority),
                Ok(Ok(_)) => {}
            }
        }
    }

    /// Sees to it that a fetch is under way; an error where it is too soon for another one.
    fn ask(&self) -> Result<(), Undetermined> {
        let now = Instant::now();
        let mut outcome = Ok(());
        self.state.send_if_modified(|state| {
            let is_cooling =
                state.asked.is_some_and(|at| now.saturating_duration_since(at) < self.pace.cool_down);
            if is_cooling && !state.is_pending {
                let trouble = state.failed.as_ref().map(|(_, trouble)| trouble.clone());
                outcome = Err(trouble.unwrap_or(Undetermined::UnknownKey));
            }
            let asks = !state.is_pending && !is_cooling;
            if asks {
                state.asked = Some(now);
                state.is_pending = true;
            }
            asks
        });
        outcome
    }

    /// Fetches once and says how long to pause after it.
    async fn fetch(&self, fetcher: &Fetcher, failures: &mut u32) -> Duration {
        self.state.send_modify(|state| state.is_pending = true);
        let began = Instant::now();
        let answer = timeout(self.pace.fetch, fetcher.fetch()).await.unwrap_or(Err(Undetermined::Timeout));
        let read = answer.and_then(|Fetched { body, max_age }| {
            let keys = KeySet::read(&body, &self.wanted.algorithms).map_err(Undetermined::BadAnswer)?;
            Ok((keys, max_age))
        });
        match read {
            Ok((keys, max_age)) => {
                self.metrics.jwks_fetch("ok");
                if *failures > 0 {
                    tracing::info!(issuer = self.issuer(), "the provider's keys can be fetched again");
                }
                *failures = 0;
                self.state.send_modify(|state| {
                    state.keys = Some(Arc::new(keys));
                    (state.began, state.landed) = (Some(began), Some(Instant::now()));
                    state.failed = None;
                    state.ended(began);
                });
                max_age.unwrap_or(self.pace.usual).clamp(self.pace.shortest, self.pace.longest)
            }
            Err(trouble) => {
                self.metrics.jwks_fetch(trouble.label());
                let doubled =
                    self.pace.first_retry.saturating_mul(1_u32.checked_shl(*failures).unwrap_or(u32::MAX));
                *failures = failures.saturating_add(1);
                self.tell(&trouble);
                self.state.send_modify(|state| {
                    state.failed = Some((began, trouble));
                    state.ended(began);
                });
                doubled.min(self.pace.last_retry)
            }
        }
    }

    /// At most a line for each attempt, and attempts come a minute apart once they go on failing.
    fn tell(&self, trouble: &Undetermined) {
        let (key, meanwhile) = match (&self.wanted.origin, self.state.borrow().keys.is_some()) {
            (KeyOrigin::Jwks(_), has_keys) => ("jwks_url", has_keys),
            (_, has_keys) => ("discovery", has_keys),
        };
        let meanwhile = if meanwhile {
            "tokens of known keys are taken meanwhile"
        } else {
            "its tokens get 503 until then"
        };
        tracing::warn!(
            issuer = self.issuer(),
            error_message = %trouble,
            "the keys of an OpenID provider cannot be fetched; {meanwhile}: check its {key} and ca_file, and the way there"
        );
    }
}

fn from_file(path: &Path, algorithms: &[SignatureAlgorithm]) -> Result<KeySet, (&'static str, String)> {
    let problem = |problem: String| ("keys_file", format!("{}: {problem}", path.display()));
    let json = std::fs::read(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    KeySet::read(&json, algorithms).map_err(|error| problem(error.to_owned()))
}

/// Fetches until the source is gone.
async fn keep(source: Weak<KeySource>) {
    let mut failures = 0;
    loop {
        let Some(source_now) = source.upgrade() else { return };
        let Some(fetcher) = &source_now.fetcher else { return };
        let pause = source_now.fetch(fetcher, &mut failures).await;
        let mut state = source_now.state.subscribe();
        // What sleeps here must not hold the source.
        drop(source_now);
        tokio::select! {
            () = sleep(pause) => {}
            // An error means that the source was dropped, which the loop sees.
            _ = state.wait_for(|state| state.is_pending) => {}
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
