//! The OpenID providers of a configuration behind their cache, and what of both outlives a reload: keys
//! while they come from the same place, verdicts while nothing about the providers has changed.

use std::sync::Arc;

use crate::{
    cache::verdict::Cached,
    config::{self, Config},
    validate::{IdentityPolicy, Validator, oidc::Oidc},
};

use super::{StartError, build::Lasting, files::digests};

/// Who knows bearer tokens.
#[derive(Clone, Debug)]
pub(super) struct Bearer {
    oidc: Arc<Oidc>,
    cached: Arc<Cached<Arc<Oidc>>>,
    made_of: Parts,
}

/// What a verdict about a bearer token rests on.
#[derive(Clone, Debug, PartialEq)]
struct Parts {
    config: config::Oidc,
    policy: IdentityPolicy,
    /// Digests of the files of keys and of CAs.
    files: Vec<Option<Vec<u8>>>,
}

/// Providers that are ready to be asked.
#[derive(Debug)]
pub(super) struct Prepared {
    bearer: Bearer,
    cache: config::Cache,
    /// Whether the cache is that of the providers before.
    keeps_cache: bool,
}

impl Bearer {
    /// Builds the providers; `None` where none is configured.
    pub(super) fn prepare(
        config: &Config,
        lasting: &Lasting,
        before: Option<&Self>,
    ) -> Result<Option<Prepared>, StartError> {
        if config.oidc.providers.is_empty() {
            return Ok(None);
        }
        let policy = IdentityPolicy::from_config(config);
        let before_of = before.map(|before| &*before.oidc);
        let oidc = Arc::new(providers(config, policy.clone(), lasting, before_of)?);
        let files = digests(&config.oidc.key_files());
        let made_of = Parts { config: config.oidc.clone(), policy, files };
        let kept = before.filter(|before| before.made_of == made_of).map(|before| Arc::clone(&before.cached));
        let keeps_cache = kept.is_some();
        if before.is_some() && !keeps_cache {
            tracing::warn!(
                "the OpenID providers or what is written of their word changed: every bearer token is judged anew"
            );
        }
        let cached = kept.unwrap_or_else(|| {
            let (kinds, metrics) = (["bearer_positive", "bearer_negative"], Arc::clone(&lasting.metrics));
            Arc::new(Cached::counted_as(kinds, Arc::clone(&oidc), &config.cache, metrics))
        });
        let bearer = Self { oidc, cached, made_of };
        Ok(Some(Prepared { bearer, cache: config.cache.clone(), keeps_cache }))
    }

    pub(super) fn validator(&self) -> Arc<dyn Validator> {
        Arc::clone(&self.cached) as _
    }

    /// Ends when the first fetch of every provider's keys has.
    pub(super) fn settled(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.oidc.settled()
    }
}

/// The providers without a cache; keys of `before` are kept where they come from the same place.
pub(super) fn providers(
    config: &Config,
    policy: IdentityPolicy,
    lasting: &Lasting,
    before: Option<&Oidc>,
) -> Result<Oidc, StartError> {
    Oidc::new(
        &config.oidc,
        &config.attributes.sets,
        policy,
        Arc::clone(&lasting.digester),
        Arc::clone(&lasting.metrics),
        before,
    )
    .map_err(|problems| StartError(problems.iter().map(ToString::to_string).collect()))
}

impl Prepared {
    pub(super) fn validator(&self) -> Arc<dyn Validator> {
        self.bearer.validator()
    }

    /// Begins to fetch keys, and puts the new times of the cache in force.
    pub(super) fn take_over(self) -> Bearer {
        let Self { bearer, cache, keeps_cache } = self;
        bearer.oidc.start();
        if keeps_cache {
            bearer.cached.reconfigure(Arc::clone(&bearer.oidc), &cache);
        }
        bearer
    }
}
