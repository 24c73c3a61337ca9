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
use tokio::time::Instant;

use crate::{config, config::AttributeSet, metrics::Metrics, telemetry::RateCap};

use super::{
    Allowed, BuildError, IdentityPolicy, Question, Undetermined, Validator, Verdict,
    cache_control::Stale,
    credentials::Digester,
    jwks::{Fit, KeySource},
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
            let built = KeySource::new(config, Arc::clone(&metrics), known)
                .map_err(|problem| vec![problem])
                .and_then(|keys| Provider::new(config, sets, keys));
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
        Ok(Self { providers, policy, digester, metrics, log_cap: RateCap::new(LINES_PER_SECOND) })
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
            Ok(Ok(allowed)) => Ok(Verdict::Allow(allowed)),
            Ok(Err(refusal)) => {
                self.tell_refusal(question, refusal);
                Ok(Verdict::Deny(refusal.denial()))
            }
            Err(trouble) => {
                let what = "no key at hand can tell whether a bearer token is good";
                question.tell(&trouble, &self.log_cap, what);
                Err(trouble)
            }
        }
    }

    async fn examine(&self, token: &[u8], end: Instant) -> Result<Result<Allowed, Refusal>, Undetermined> {
        let now = unix_seconds();
        let (token, provider, expires_at) = match self.without_key(token, now) {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        match provider.keys.check(&token, end).await? {
            Fit::Good => {}
            Fit::Bad => return Ok(Err(Refusal::Signature)),
            Fit::Unknown => return Ok(Err(Refusal::UnknownKey)),
        }
        // From here on the claims are the provider's own word.
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
        let issuer = token.text("iss").ok_or(Refusal::Issuer)?;
        let provider =
            self.providers.iter().find(|provider| provider.issuer() == issuer).ok_or(Refusal::Issuer)?;
        let expires_at = provider.refuse_early(&token, now, LEEWAY)?;
        Ok((token, provider, expires_at))
    }

    fn tell_refusal(&self, question: &Question, refusal: Refusal) {
        if let Some(suppressed) = self.log_cap.allow(refusal.label()) {
            tracing::info!(
                correlation_id = %question.correlation_id,
                credentials = %question.credentials.digest(),
                error_message = %refusal,
                suppressed,
                "a bearer token was refused"
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

    /// No verdict is kept here; but the next one shall not rest on a key that was taken away since.
    fn purge(&self) -> usize {
        self.providers.iter().for_each(|provider| provider.keys.doubt());
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
