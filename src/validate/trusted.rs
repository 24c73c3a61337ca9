//! Senders that are trusted without a token, and the one way to an [`Identity`] for them. Here stand those
//! that a closed network vouches for; [`super::mtls`] has those with a certificate. It asks nobody.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::{BoxFuture, ready};

use crate::{
    config::{Authentication, Config},
    otlp::{rewrite::Stamp, service::ServiceNames},
};

use super::{
    Allowed, Identity, Places, Question, Undetermined, Validator, Verdict,
    cache_control::Stale,
    credentials::{Digester, Sender},
};

/// What holds for a sender without a token.
#[derive(Clone, Debug)]
pub struct Trusted {
    name: Arc<str>,
    service_names: ServiceNames,
}

impl Trusted {
    /// Its name: the one of its certificate that is known here, or that of the listener.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The values that `service.name` may have in its resources.
    #[must_use]
    pub fn service_names(&self) -> &ServiceNames {
        &self.service_names
    }

    /// The identity of such a sender: of no job, no trace and no attribute, because nobody tells of any. `kind` keeps
    /// its key for limits apart from those of another kind.
    pub(super) fn identity(
        digester: &Digester,
        kind: &str,
        name: &str,
        service_names: &[String],
    ) -> Arc<Identity> {
        Arc::new(Identity {
            trace_id: None,
            claims: None,
            job_key: None,
            project_key: None,
            runner_key: digester.key(&[kind.as_bytes(), name.as_bytes()]),
            places: Places::default(),
            stamp: Stamp::default(),
            trusted: Some(Box::new(Self {
                name: name.into(),
                service_names: ServiceNames::new(service_names.iter().map(String::as_str)),
            })),
        })
    }
}

/// A verdict that no cache keeps: the next one is as cheap.
pub(super) fn allow(identity: &Arc<Identity>) -> Verdict {
    Verdict::Allow(Allowed {
        identity: Arc::clone(identity),
        max_age: None,
        stale: Stale::NEVER,
        expires_at: None,
    })
}

/// The listeners that only a closed network reaches, each with the identity of all that comes in there.
#[derive(Debug)]
pub struct Network(HashMap<String, Arc<Identity>>);

impl Network {
    /// Those of a configuration.
    #[must_use]
    pub fn from_config(config: &Config, digester: &Digester) -> Self {
        let listeners = config.listeners.iter();
        let closed = listeners.filter(|listener| listener.authentication.contains(&Authentication::None));
        Self(
            closed
                .map(|listener| {
                    let name = &listener.name;
                    (name.clone(), Trusted::identity(digester, "network", name, &listener.service_names))
                })
                .collect(),
        )
    }
}

impl Validator for Network {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        let identity = match question.credentials.sender() {
            Some(Sender::Network { listener }) => self.0.get(&**listener),
            _ => None,
        };
        // A listener that a reload took out of the configuration serves on until a restart.
        Box::pin(ready(identity.map(allow).ok_or(Undetermined::NoAuthority)))
    }
}
