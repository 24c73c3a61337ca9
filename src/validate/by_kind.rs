//! One validator for every kind of credentials: it hands each question to the authority that knows
//! the kind. It judges nothing itself, and a kind without an authority is never a denial.

use std::sync::Arc;

use futures_util::future::{BoxFuture, ready};

use super::{
    Allowed, Question, Undetermined, Validator, Verdict,
    credentials::{Credentials, Sender},
};

/// The authorities by what they judge; `None` where the configuration names none.
#[derive(Debug, Default)]
pub struct ByKind {
    /// Knows token pairs.
    pub pair: Option<Arc<dyn Validator>>,
    /// Knows bearer tokens.
    pub bearer: Option<Arc<dyn Validator>>,
    /// Knows clients by their certificates' names.
    pub client: Option<Arc<dyn Validator>>,
    /// Knows listeners that only a closed network reaches.
    pub network: Option<Arc<dyn Validator>>,
}

impl ByKind {
    fn of(&self, credentials: &Credentials) -> Option<&dyn Validator> {
        let authority = match credentials.sender() {
            Some(Sender::Client { .. }) => &self.client,
            Some(Sender::Network { .. }) => &self.network,
            None if credentials.bearer().is_some() => &self.bearer,
            None => &self.pair,
        };
        authority.as_deref()
    }

    fn all(&self) -> impl Iterator<Item = &dyn Validator> {
        let all = [&self.pair, &self.bearer, &self.client, &self.network];
        all.into_iter().flatten().map(|authority| &**authority)
    }
}

impl Validator for ByKind {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        match self.of(&question.credentials) {
            Some(authority) => authority.validate(question),
            None => Box::pin(ready(Err(Undetermined::NoAuthority))),
        }
    }

    fn recall(&self, question: &Question) -> Option<Allowed> {
        self.of(&question.credentials)?.recall(question)
    }

    fn known(&self, credentials: &Credentials) -> bool {
        self.of(credentials).is_some_and(|authority| authority.known(credentials))
    }

    fn record_entries(&self) {
        for authority in self.all() {
            authority.record_entries();
        }
    }

    fn purge(&self) -> usize {
        self.all().fold(0, |sum, authority| sum.saturating_add(authority.purge()))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use tokio::time::Instant;

    use super::*;
    use crate::validate::{
        Denial,
        credentials::{Digester, test_support},
    };

    /// Denies everything in its own words, so that a test sees who was asked.
    #[derive(Debug)]
    struct Denies(Denial);

    impl Validator for Denies {
        fn validate<'a>(&'a self, _: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
            Box::pin(ready(Ok(Verdict::Deny(self.0))))
        }

        fn known(&self, _: &Credentials) -> bool {
            self.0 == Denial::Forbidden
        }
    }

    fn question(credentials: Credentials) -> Question {
        Question {
            credentials: Arc::new(credentials),
            client: IpAddr::from([127, 0, 0, 1]),
            correlation_id: "id".into(),
            deadline: Instant::now().checked_add(Duration::from_secs(1)).unwrap(),
        }
    }

    /// Scenario: a pair, a bearer token, a client and a closed network before some authorities, and before none.
    /// Guarantees: each kind reaches its own authority; without one the answer is undetermined, never a denial.
    #[tokio::test]
    async fn each_kind_has_its_authority() {
        let digester = Digester::random();
        let pair = || question(test_support::pair(&digester, "r", "j"));
        let bearer = || question(test_support::bearer(&digester, "a.b.c"));
        let both = ByKind {
            pair: Some(Arc::new(Denies(Denial::Forbidden))),
            bearer: Some(Arc::new(Denies(Denial::Unauthenticated))),
            client: Some(Arc::new(Denies(Denial::UnknownClient))),
            ..ByKind::default()
        };
        assert!(matches!(both.validate(&pair()).await, Ok(Verdict::Deny(Denial::Forbidden))));
        assert!(matches!(both.validate(&bearer()).await, Ok(Verdict::Deny(Denial::Unauthenticated))));
        assert!(both.known(&pair().credentials) && !both.known(&bearer().credentials));
        let client = || question(Credentials::of_client(&"a".into(), None, &digester));
        let network = || question(Credentials::of_network(&"a".into(), &digester));
        assert!(matches!(both.validate(&client()).await, Ok(Verdict::Deny(Denial::UnknownClient))));
        assert!(matches!(both.validate(&network()).await, Err(Undetermined::NoAuthority)));
        let none = ByKind::default();
        for question in [pair(), bearer(), client(), network()] {
            assert!(matches!(none.validate(&question).await, Err(Undetermined::NoAuthority)));
            assert!(!none.known(&question.credentials));
        }
    }
}
