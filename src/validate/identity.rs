//! From what an authority vouched for to an [`Identity`]: which attributes are asserted, in which
//! type and order. It decides names only; it never judges a credential.

use std::sync::Arc;

use crate::otlp::{
    TraceId,
    rewrite::{Stamp, Value},
};

use super::{
    Claims, Identity,
    credentials::{Credentials, Digester},
};

/// Every attribute key that the gateway asserts. No sender may set one, also where the authority
/// gave no value for it: an absent fact must not become a sender's claim.
///
/// Source: the attributes that GitLab's design for job telemetry names, and OpenTelemetry's `service.name`.
pub const ASSERTED_KEYS: &[&str] = &[
    "ci.job.id",
    "ci.project.id",
    "ci.pipeline.id",
    "ci.pipeline.source",
    "ci.runner.id",
    "ci.runner_manager.system_xid",
    "ci.runner.type",
    "service.name",
];

/// How verified facts become an identity; the same for all verdicts under one configuration.
#[derive(Clone, Debug)]
pub struct IdentityPolicy {
    service_name: Arc<str>,
}

impl IdentityPolicy {
    /// A policy under which runners' spans get this `service.name`.
    #[must_use]
    pub fn new(service_name: &str) -> Self {
        Self { service_name: service_name.into() }
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
            None => digester.key(&[b"pair", credentials.digest().as_bytes()]),
        };
        let stamp = Stamp::new(self.attributes(&claims));
        Identity { trace_id, claims, job_key, runner_key: credentials.runner_key(), stamp }
    }

    /// The verified attributes, those without a value left out, in the order of [`ASSERTED_KEYS`].
    fn attributes<'a>(&'a self, claims: &'a Claims) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let int = |id: Option<u64>| id.and_then(|id| i64::try_from(id).ok()).map(Value::Int);
        let string = |text: &'a Option<String>| text.as_deref().map(Value::String);
        let values = [
            int(claims.job_id),
            int(claims.project_id),
            int(claims.pipeline_id),
            string(&claims.pipeline_source),
            int(claims.runner_id),
            string(&claims.runner_manager_system_xid),
            string(&claims.runner_type),
            Some(Value::String(&self.service_name)),
        ];
        ASSERTED_KEYS.iter().copied().zip(values).filter_map(|(key, value)| Some((key, value?)))
    }
}

#[cfg(test)]
mod tests {
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

    /// Scenario: an authority that told everything, and one that told nothing.
    /// Guarantees: each fact gets its own key and type; absent facts get none; the service name is always there.
    #[test]
    fn attributes_by_name_and_type() {
        let policy = IdentityPolicy::new("gitlab-ci-runner");
        assert_eq!(
            policy.attributes(&full()).collect::<Vec<_>>(),
            [
                ("ci.job.id", Value::Int(7)),
                ("ci.project.id", Value::Int(9)),
                ("ci.pipeline.id", Value::Int(8)),
                ("ci.pipeline.source", Value::String("push")),
                ("ci.runner.id", Value::Int(10)),
                ("ci.runner_manager.system_xid", Value::String("s_1")),
                ("ci.runner.type", Value::String("group_type")),
                ("service.name", Value::String("gitlab-ci-runner")),
            ]
        );
        assert_eq!(
            policy.attributes(&Claims::default()).collect::<Vec<_>>(),
            [("service.name", Value::String("gitlab-ci-runner"))]
        );
    }

    /// Scenario: an id that no signed 64-bit attribute can hold.
    /// Guarantees: it is left out, never wrapped into another job's id.
    #[test]
    fn an_id_out_of_range_is_left_out() {
        let claims = Claims { job_id: Some(u64::MAX), ..Claims::default() };
        let policy = IdentityPolicy::new("x");
        assert!(policy.attributes(&claims).all(|(key, _)| key != "ci.job.id"));
    }

    /// Scenario: one job under two token pairs, and two pairs of which no job is known.
    /// Guarantees: the job's key follows the job's id where it is known, else the pair; the runner's key follows the runner.
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
        assert_eq!(unknown(&first).trace_id(), trace);
    }
}
