//! Attacks on bearer tokens, one by one, and what good tokens of real providers become.

#[path = "../../../tests/it/support/tokens.rs"]
pub(in crate::validate) mod tokens;

mod forgery;
mod good;

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::tokens::{Key, gitlab_claims, jwks};
use super::*;
use crate::{
    config::{OidcProvider, SignatureAlgorithm},
    validate::{Denial, Identity, credentials::test_support},
};

const ISSUER: &str = "https://gitlab.example.com";
const AUDIENCE: &str = "spangate";

/// A validator whose providers' keys stand in files.
struct World {
    oidc: Oidc,
    key: Key,
    digester: Arc<Digester>,
    _folder: TempDir,
}

impl World {
    /// One provider with one key, after `change`.
    fn of(key: Key, change: impl FnOnce(&mut OidcProvider)) -> Self {
        let set = jwks(&[&key]);
        Self::with(key, vec![(provider(change), set)])
    }

    /// Any providers, each with its JWKS.
    fn with(key: Key, providers: Vec<(OidcProvider, Value)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let digester = Arc::new(Digester::random());
        let providers = providers.into_iter().enumerate().map(|(index, (provider, set))| {
            let keys_file = folder.path().join(index.to_string());
            std::fs::write(&keys_file, set.to_string()).unwrap();
            OidcProvider { keys_file, ..provider }
        });
        let config = config::Oidc { providers: providers.collect() };
        let policy = IdentityPolicy::new("of-all").keeping_claims();
        let oidc =
            Oidc::new(&config, &[], policy, Arc::clone(&digester), Arc::new(Metrics::new()), None).unwrap();
        Self { oidc, key, digester, _folder: folder }
    }

    async fn validate(&self, token: &str) -> Result<Verdict, Undetermined> {
        let question = Question {
            credentials: Arc::new(test_support::bearer(&self.digester, token)),
            client: IpAddr::from([127, 0, 0, 1]),
            correlation_id: "id".into(),
            deadline: soon(),
        };
        self.oidc.validate(&question).await
    }

    /// What became of a token, with the reason for the operator.
    async fn examine(&self, token: &str) -> Result<Allowed, Refusal> {
        let examined = self.oidc.examine(token.as_bytes(), soon()).await.unwrap();
        // What the sender gets is by the reason, and by nothing else.
        match (&examined, self.validate(token).await) {
            (Ok(_), Ok(Verdict::Allow(_))) => {}
            (Err(refusal), Ok(Verdict::Deny(denial))) => assert_eq!(refusal.denial(), denial),
            (_, other) => panic!("{other:?}"),
        }
        examined
    }

    #[track_caller]
    fn allows(&self, token: &str) -> Allowed {
        let examined = futures_util::FutureExt::now_or_never(self.examine(token));
        examined.expect("keys of a file need no waiting").unwrap()
    }

    #[track_caller]
    fn refuses(&self, token: &str, refusal: Refusal) {
        let examined = futures_util::FutureExt::now_or_never(self.examine(token));
        assert_eq!(examined.expect("keys of a file need no waiting").err(), Some(refusal), "{token}");
    }
}

fn soon() -> Instant {
    Instant::now().checked_add(Duration::from_secs(5)).unwrap()
}

fn provider(change: impl FnOnce(&mut OidcProvider)) -> OidcProvider {
    let mut provider =
        OidcProvider { issuer: ISSUER.into(), audiences: vec![AUDIENCE.into()], ..OidcProvider::default() };
    change(&mut provider);
    provider
}

/// Good claims with one put in place of another, or taken away by `null`.
fn claims(name: &str, value: Value) -> Value {
    let mut claims = gitlab_claims(ISSUER, AUDIENCE);
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    } else {
        claims[name] = value;
    }
    claims
}
