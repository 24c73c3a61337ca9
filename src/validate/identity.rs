//! From what an authority vouched for to an [`Identity`]: facts, keys for limits, and the attributes that
//! are stamped on resources ([`super::attributes`] says which). It never judges a credential.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::{
    config::{AttributeSet, AttributesMode, Config},
    otlp::{
        TraceId,
        rewrite::{SharedKeys, Stamp},
    },
};

use super::{
    Claims, Identity, Places,
    attributes::{self, Facts, Verified},
    credentials::{Credentials, Digester},
};

/// An attribute as an operator reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its key.
    pub key: &'static str,
    /// Its value, with its type.
    pub value: Value,
    /// What the value is made of: a field of the authority's answer, or a sentence.
    pub from: &'static str,
}

/// How verified facts become an identity; the same for all verdicts under one configuration. Two that
/// are equal write the same attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityPolicy {
    service_name: Arc<str>,
    /// Sorted, each once.
    sets: Arc<[AttributeSet]>,
    gitlab_url: Option<Arc<str>>,
    /// Of all attributes that the sets write.
    keys: SharedKeys,
    keeps_claims: bool,
}

impl IdentityPolicy {
    /// A policy under which runners' spans get this `service.name`, and no more than what is always on.
    #[must_use]
    pub fn new(service_name: &str) -> Self {
        Self::of(service_name, &[], None)
    }

    /// The policy of a configuration.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        let mut sets = config.attributes.sets.clone();
        sets.sort_unstable();
        sets.dedup();
        let url = [&config.attributes.gitlab_url, &config.gitlab.url]
            .map(|url| url.trim_end_matches('/'))
            .into_iter()
            .find(|url| !url.is_empty());
        let policy = Self::of(&config.attributes.service_name, &sets, url);
        Self { keeps_claims: config.attributes.mode == AttributesMode::Transparent, ..policy }
    }

    fn of(service_name: &str, sets: &[AttributeSet], gitlab_url: Option<&str>) -> Self {
        Self {
            service_name: service_name.into(),
            sets: sets.into(),
            gitlab_url: gitlab_url.map(Arc::from),
            keys: SharedKeys::new(attributes::written_keys(sets)),
            keeps_claims: false,
        }
    }

    /// The same policy, under which identities keep the facts that they were made of. A cached verdict
    /// takes twice the memory with them, and only headers and an operator's eyes need them.
    #[must_use]
    pub fn keeping_claims(self) -> Self {
        Self { keeps_claims: true, ..self }
    }

    /// Makes the identity of a sender. Only after an authority vouched for these credentials.
    pub(in crate::validate) fn identify(
        &self,
        digester: &Digester,
        trace_id: TraceId,
        claims: Claims,
        credentials: &Credentials,
    ) -> Identity {
        // The runner token is shared by many managers and a job's token may be renewed: the job's id
        // is the better key where it is known.
        let job_key = match claims.job_id {
            Some(id) => digester.key(&[b"job", &id.to_be_bytes()]),
            None => digester.job_of(credentials),
        };
        let project_key = claims.project_id.map(|id| digester.key(&[b"project", &id.to_be_bytes()]));
        let stamp = self.stamp(&claims, &self.service_name, true, &[]);
        let (trace_id, job_key) = (Some(trace_id), Some(job_key));
        let (claims, runner_key) = (self.kept(claims), credentials.runner_key());
        let places = Places::default();
        Identity { trace_id, claims, job_key, project_key, runner_key, places, stamp, trusted: None }
    }

    /// What is written of a sender with these facts, for an operator's eyes.
    #[must_use]
    pub fn show(&self, claims: &Claims) -> Vec<Shown> {
        let shown = |(key, value, from)| {
            let value = match value {
                Verified::Int(number) => Value::from(number),
                Verified::Text(text) => Value::from(text),
            };
            Shown { key, value, from }
        };
        attributes::told(&self.sets, self.facts(claims, &self.service_name, true)).map(shown).collect()
    }

    fn facts<'a>(&'a self, claims: &'a Claims, service_name: &'a str, is_job: bool) -> Facts<'a> {
        Facts { claims, service_name, gitlab_url: self.gitlab_url.as_deref(), is_job }
    }

    /// Makes the identity of the sender of a bearer token. Only after its provider's signature was found good.
    pub(in crate::validate) fn identify_bearer(&self, digester: &Digester, bearer: Bearer<'_>) -> Identity {
        let Bearer { issuer, subject, trace_id, claims, is_job, service_name, attributes } = bearer;
        // Ids of two issuers' jobs say nothing of each other.
        let key_of = |what: &[u8], id: Option<u64>| {
            id.map(|id| digester.key(&[what, issuer.as_bytes(), &id.to_be_bytes()]))
        };
        let job_key = key_of(b"job of", claims.job_id);
        let project_key = key_of(b"project of", claims.project_id);
        let runner_key = digester.key(&[b"subject", issuer.as_bytes(), subject.as_bytes()]);
        let stamp = self.stamp(&claims, service_name.unwrap_or(&self.service_name), is_job, &attributes);
        let claims = self.kept(claims);
        let places = Places::default();
        Identity { trace_id, claims, job_key, project_key, runner_key, places, stamp, trusted: None }
    }

    fn kept(&self, claims: Claims) -> Option<Box<Claims>> {
        self.keeps_claims.then(|| Box::new(claims))
    }

    /// The verified attributes, encoded.
    fn stamp(
        &self,
        claims: &Claims,
        service_name: &str,
        is_job: bool,
        more: &[(&str, Verified<'_>)],
    ) -> Stamp {
        let own: Vec<_> =
            attributes::verified(&self.sets, self.facts(claims, service_name, is_job)).collect();
        let own = own.iter().map(|(key, value)| (*key, value.encode()));
        Stamp::with_keys(&self.keys, own.chain(more.iter().map(|(key, value)| (*key, value.encode()))))
    }
}

/// What a bearer token's provider vouched for.
pub(in crate::validate) struct Bearer<'a> {
    pub(in crate::validate) issuer: &'a str,
    pub(in crate::validate) subject: &'a str,
    pub(in crate::validate) trace_id: Option<TraceId>,
    pub(in crate::validate) claims: Claims,
    /// Whether its tokens are of CI jobs at all.
    pub(in crate::validate) is_job: bool,
    /// `None`: the one of all senders.
    pub(in crate::validate) service_name: Option<&'a str>,
    /// What is written beside the facts of a job.
    pub(in crate::validate) attributes: Vec<(&'a str, Verified<'a>)>,
}

#[cfg(test)]
mod tests {
    use AttributeSet::{Cicd, Vcs};

    use super::*;
    use crate::validate::credentials::test_support;

    fn full() -> Claims {
        Claims {
            job_id: Some(7),
            pipeline_id: Some(8),
            pipeline_source: Some("push".into()),
            project_id: Some(9),
            runner_id: Some(10),
            runner_type: Some("group_type".into()),
            runner_manager_system_xid: Some("s_1".into()),
            ..Claims::default()
        }
    }

    /// Scenario: configurations with sets in another order or twice, with other sets, with another address of GitLab.
    /// Guarantees: policies are equal exactly when they write the same.
    #[test]
    fn equal_policies_write_the_same() {
        let policy = |sets: &[AttributeSet], url: &str| {
            let mut config = Config::default();
            config.gitlab.url = "https://internal".into();
            config.attributes.sets = sets.to_vec();
            config.attributes.gitlab_url = url.into();
            IdentityPolicy::from_config(&config)
        };
        assert_eq!(policy(&[Cicd, Vcs], ""), policy(&[Vcs, Cicd, Vcs], "https://internal/"));
        assert_ne!(policy(&[Cicd], ""), policy(&[Vcs], ""));
        assert_ne!(policy(&[Cicd], ""), policy(&[], ""));
        assert_ne!(policy(&[Cicd], ""), policy(&[Cicd], "https://gitlab.example.com"));
        assert_ne!(policy(&[], ""), policy(&[], "").keeping_claims());
    }

    /// Scenario: one job under two token pairs, and two pairs of which no job is known.
    /// Guarantees: the job's key follows the job's id where it is known, else the pair; the project's key follows its id or
    /// is not there; the runner's key follows the runner.
    #[test]
    fn keys_follow_the_job_and_the_runner() {
        let digester = Digester::random();
        let policy = IdentityPolicy::new("x");
        let trace = TraceId::from_lower_hex("000000000000000000000000001e240a").unwrap();
        let [first, second] = ["job-a", "job-b"].map(|job| test_support::pair(&digester, "runner", job));
        let identify = |credentials, claims: Claims| policy.identify(&digester, trace, claims, credentials);
        assert_eq!(identify(&first, full()).job_key(), identify(&second, full()).job_key());
        let unknown = |credentials| identify(credentials, Claims::default());
        assert_ne!(unknown(&first).job_key(), unknown(&second).job_key());
        assert_ne!(unknown(&first).job_key(), identify(&first, full()).job_key());
        assert_eq!(unknown(&first).runner_key(), unknown(&second).runner_key());
        assert_eq!(unknown(&first).trace_id(), Some(trace));
        let of_project = |id| {
            let claims = Claims { project_id: id, ..full() };
            identify(&first, claims).project_key()
        };
        assert_eq!(of_project(Some(7)), of_project(Some(7)));
        assert_ne!(of_project(Some(7)), of_project(Some(8)));
        assert_eq!((of_project(None), unknown(&first).project_key()), (None, None));
    }
}
