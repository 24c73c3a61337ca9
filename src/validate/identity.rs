//! From what an authority vouched for to an [`Identity`]: facts, keys for limits, and the attributes that
//! are stamped on resources ([`super::attributes`] says which). It never judges a credential.

use std::sync::Arc;

use prost::Message as _;

use crate::{
    config::{AttributeSet, Config},
    otlp::{TraceId, rewrite::Stamp},
};

use super::{
    Claims, Identity,
    attributes::{self, Facts},
    credentials::{Credentials, Digester},
};

/// How verified facts become an identity; the same for all verdicts under one configuration. Two that
/// are equal write the same attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityPolicy {
    service_name: Arc<str>,
    /// Sorted, each once.
    sets: Arc<[AttributeSet]>,
    gitlab_url: Option<Arc<str>>,
}

impl IdentityPolicy {
    /// A policy under which runners' spans get this `service.name`, and no more than what is always on.
    #[must_use]
    pub fn new(service_name: &str) -> Self {
        Self { service_name: service_name.into(), sets: Arc::default(), gitlab_url: None }
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
        Self {
            sets: sets.into(),
            gitlab_url: url.map(Arc::from),
            ..Self::new(&config.attributes.service_name)
        }
    }

    /// Makes the identity of a sender. Only after an authority vouched for these credentials.
    pub(in crate::validate) fn identify(
        self: &Arc<Self>,
        digester: &Digester,
        trace_id: TraceId,
        claims: &Claims,
        credentials: &Credentials,
    ) -> Identity {
        // The runner token is shared by many managers and a job's token may be renewed: the job's id
        // is the better key where it is known.
        let job_key = match claims.job_id {
            Some(id) => digester.key(&[b"job", &id.to_be_bytes()]),
            None => digester.key(&[b"pair", credentials.digest().as_bytes()]),
        };
        Identity {
            trace_id: Some(trace_id),
            claims: claims.encode_to_vec().into(),
            job_key: Some(job_key),
            runner_key: credentials.runner_key(),
            policy: Arc::clone(self),
        }
    }

    /// The verified attributes, encoded.
    pub(in crate::validate) fn stamp(&self, claims: &Claims) -> Stamp {
        let facts =
            Facts { claims, service_name: &self.service_name, gitlab_url: self.gitlab_url.as_deref() };
        let attributes: Vec<_> = attributes::verified(&self.sets, facts).collect();
        Stamp::new(attributes.iter().map(|(key, value)| (*key, value.encode())))
    }
}

#[cfg(test)]
mod tests {
    use AttributeSet::{Cicd, Vcs};

    use super::*;
    use crate::validate::{answer::MAX_TEXT, credentials::test_support};

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
    }

    /// Scenario: one job under two token pairs, and two pairs of which no job is known.
    /// Guarantees: the job's key follows the job's id where it is known, else the pair; the runner's key follows the runner.
    #[test]
    fn keys_follow_the_job_and_the_runner() {
        let digester = Digester::random();
        let policy = Arc::new(IdentityPolicy::new("x"));
        let trace = TraceId::from_lower_hex("000000000000000000000000001e240a").unwrap();
        let [first, second] = ["job-a", "job-b"].map(|job| test_support::pair(&digester, "runner", job));
        let identify = |credentials, claims: Claims| policy.identify(&digester, trace, &claims, credentials);
        assert_eq!(identify(&first, full()).job_key(), identify(&second, full()).job_key());
        let unknown = |credentials| identify(credentials, Claims::default());
        assert_ne!(unknown(&first).job_key(), unknown(&second).job_key());
        assert_ne!(unknown(&first).job_key(), identify(&first, full()).job_key());
        assert_eq!(unknown(&first).runner_key(), unknown(&second).runner_key());
        assert_eq!(unknown(&first).trace_id(), Some(trace));
    }

    /// Scenario: an identity of all facts, one of none, and one of the longest that an answer may hold.
    /// Guarantees: the facts come back as they were told; the weight grows with them and is no less than what they take.
    #[test]
    fn facts_are_kept_whole() {
        let digester = Digester::random();
        let policy = Arc::new(IdentityPolicy::new("x"));
        let trace = TraceId::from_lower_hex("000000000000000000000000001e240a").unwrap();
        let pair = test_support::pair(&digester, "runner", "job");
        let longest = Claims {
            project_path: Some("p".repeat(MAX_TEXT)),
            pipeline_source: Some("s".repeat(MAX_TEXT)),
            cell_id: Some(i64::MAX.cast_unsigned()),
            ..full()
        };
        let mut weights = Vec::new();
        for claims in [Claims::default(), full(), longest] {
            let identity = policy.identify(&digester, trace, &claims, &pair);
            assert_eq!(identity.claims(), claims);
            assert_eq!(identity.stamp(), policy.stamp(&claims));
            assert!(identity.weight() >= size_of::<Identity>() + claims.encoded_len());
            weights.push(identity.weight());
        }
        assert!(weights[0] < weights[1] && weights[1] + 2 * MAX_TEXT <= weights[2], "{weights:?}");
    }
}
