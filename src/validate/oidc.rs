//! Bearer tokens of OpenID providers, judged here by the provider's public keys. It denies only what is wrong
//! with these very bytes; while it has no keys to tell by, or none that are new enough, it says so.
//!
//! The order matters: what needs no key comes before the key, so that a token that is refused anyway never
//! makes us fetch keys; what a token must say beyond that counts only once its signature is good.

mod provider;
mod refusal;
pub mod token;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use serde_json::Map;
use tokio::time::Instant;

use crate::{config, config::AttributeSet, metrics::Metrics, telemetry::RateCap};

use super::{
    Allowed, BuildError, IdentityPolicy, Question, Undetermined, Validator, Verdict,
    cache_control::Stale,
    credentials::{Credentials, Digester},
    jwks::{Fit, KeySource},
    refusal_row::RefusalRow,
    signer::unix_seconds,
};

use self::{provider::Provider, token::Token};

pub use self::refusal::Refusal;

/// How far clocks may be apart.
const LEEWAY: u64 = 30;
/// Longest wait for keys: what GitLab gets for a question, because the collector needs the rest here too.
const WAIT: Duration = Duration::from_secs(2);
/// Log lines a second for one kind of refusal.
const LINES_PER_SECOND: u32 = 5;

/// Judges bearer tokens.
pub struct Oidc {
    providers: Vec<Provider>,
    policy: IdentityPolicy,
    digester: Arc<Digester>,
    metrics: Arc<Metrics>,
    refusals: RefusalRow,
    log_cap: RateCap,
}

impl Oidc {
    /// The providers of a configuration. Keys of `before` are kept where they come from the same place; no
    /// other ones are fetched before [`Self::start`].
    ///
    /// # Errors
    /// Every mistake, with the key of the provider to mend.
    pub fn new(
        config: &config::Oidc,
        sets: &[AttributeSet],
        policy: IdentityPolicy,
        digester: Arc<Digester>,
        metrics: Arc<Metrics>,
        before: Option<&Self>,
    ) -> Result<Self, Vec<BuildError>> {
        let mut problems = Vec::new();
        let mut providers = Vec::new();
        for (index, config) in config.providers.iter().enumerate() {
            let known = before.iter().flat_map(|before| &before.providers).map(|provider| &provider.keys);
            let keys = match known.into_iter().find(|keys| keys.is_of(config)) {
                Some(keys) => Ok(Arc::clone(keys)),
                None => KeySource::new(config, Arc::clone(&metrics)).map(Arc::new),
            };
            let built =
                keys.map_err(|problem| vec![problem]).and_then(|keys| Provider::new(config, sets, keys));
            match built {
                Ok(provider) => providers.push(provider),
                Err(found) => problems.extend(found.into_iter().map(|(key, problem)| BuildError::Provider {
                    index,
                    key,
                    problem,
                })),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            providers,
            policy,
            digester,
            metrics,
            refusals: RefusalRow::default(),
            log_cap: RateCap::new(LINES_PER_SECOND),
        })
    }

    /// Begins to fetch keys; harmless when called again. Needs a runtime.
    pub fn start(&self) {
        self.providers.iter().for_each(|provider| {
            provider.warn();
            provider.keys.start();
        });
    }

    /// Returns when every provider's first fetch has brought keys or failed; a failure is no reason to wait.
    pub fn settled(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let keys: Vec<_> = self.providers.iter().map(|provider| Arc::clone(&provider.keys)).collect();
        async move {
            join_all(keys.iter().map(|keys| keys.settled())).await;
        }
    }

    async fn judge(&self, question: &Question) -> Result<Verdict, Undetermined> {
        let token = question.credentials.bearer().ok_or(Undetermined::NoAuthority)?;
        let end =
            Instant::now().checked_add(WAIT).map_or(question.deadline, |end| end.min(question.deadline));
        match self.examine(token, end).await {
            Ok(Ok(allowed)) => {
                self.refusals.ended();
                Ok(Verdict::Allow(allowed))
            }
            Ok(Err(refusal)) => {
                self.tell_refusal(question, refusal);
                self.count_refusal(refusal);
                Ok(Verdict::Deny(refusal.denial()))
            }
            Err(trouble) => {
                let what = "no key at hand can tell whether a bearer token is good";
                let issuer = self.issuer_of(&question.credentials);
                question.tell(&trouble, issuer, &self.log_cap, what);
                Err(trouble)
            }
        }
    }

    /// Judges one token with keys that are fetched for it, and says which check it failed: for an operator, never
    /// for its sender.
    ///
    /// # Errors
    /// [`Undetermined`] as for a sender, where no key can be had.
    pub async fn explain(&self, question: &Question) -> Result<Result<Allowed, Refusal>, Undetermined> {
        let token = question.credentials.bearer().ok_or(Undetermined::NoAuthority)?;
        self.start();
        self.settled().await;
        self.examine(token, Instant::now().checked_add(WAIT).unwrap_or(question.deadline)).await
    }

    async fn examine(&self, bytes: &[u8], end: Instant) -> Result<Result<Allowed, Refusal>, Undetermined> {
        let now = unix_seconds();
        let (mut token, provider, expires_at) = match self.without_key(bytes, now) {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        // Taken apart, claims can take a hundred times the bytes that they came in, and thousands of tokens may wait
        // for keys at once: they are read again afterwards.
        token.claims = Map::new();
        match provider.keys.check(&token, end).await? {
            Fit::Good => {}
            Fit::Bad => return Ok(Err(Refusal::Signature)),
            Fit::Unknown => return Ok(Err(Refusal::UnknownKey)),
        }
        // From here on the claims are the provider's own word.
        let token = match Token::read(bytes) {
            Ok(token) => token,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let identity = match provider.identify(&token, &self.policy, &self.digester) {
            Ok(identity) => identity,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(Ok(Allowed {
            identity: Arc::new(identity),
            max_age: Some(Duration::from_secs(expires_at.saturating_sub(now))),
            stale: Stale::default(),
            expires_at: Some(expires_at),
        }))
    }

    /// Everything that can be told without a key, which is never an approval.
    fn without_key<'t>(&self, token: &'t [u8], now: u64) -> Result<(Token<'t>, &Provider, u64), Refusal> {
        let token = Token::read(token)?;
        let provider = self.find(&token).ok_or(Refusal::Issuer)?;
        let expires_at = provider.refuse_early(&token, now, LEEWAY)?;
        Ok((token, provider, expires_at))
    }

    /// The issuer of the configured provider whose token this says it is, for an operator who has several; nothing
    /// that a token says is shown.
    #[must_use]
    pub fn issuer_of(&self, credentials: &Credentials) -> Option<&str> {
        let token = Token::read(credentials.bearer()?).ok()?;
        self.find(&token).map(Provider::issuer)
    }

    fn find(&self, token: &Token<'_>) -> Option<&Provider> {
        let issuer = token.text("iss")?;
        self.providers.iter().find(|provider| provider.issuer() == issuer)
    }

    fn tell_refusal(&self, question: &Question, refusal: Refusal) {
        if let Some(suppressed) = self.log_cap.allow(refusal.label()) {
            tracing::info!(
                correlation_id = %question.correlation_id,
                credentials = %question.credentials.digest(),
                issuer = self.issuer_of(&question.credentials),
                error_message = %refusal,
                suppressed,
                "a bearer token was refused"
            );
        }
    }

    /// A wrong audience or claim in the configuration refuses everybody, one token like the other.
    fn count_refusal(&self, refusal: Refusal) {
        if let Some(row) = self.refusals.refused(Instant::now()) {
            tracing::warn!(
                error_message = %refusal,
                "{row} bearer tokens were refused and none was good: if their senders are ours, check `audiences`, \
                 `require` and `algorithms` of oidc.providers with spangate explain --bearer-token-file"
            );
        }
    }
}

impl Validator for Oidc {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        Box::pin(self.judge(question))
    }

    /// A token's end is the end: nobody promised more.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    fn record_entries(&self) {
        let ages =
            self.providers.iter().filter_map(|provider| Some((provider.issuer(), provider.keys.age()?)));
        self.metrics.jwks_ages(ages);
    }

    /// A key that was stolen and taken away since would else make new verdicts at once.
    fn purge(&self) -> usize {
        self.providers.iter().for_each(|provider| provider.keys.renew());
        0
    }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.providers.iter().map(Provider::issuer)).finish()
    }
}

#[cfg(test)]
pub(super) mod tests;
