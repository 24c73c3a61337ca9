//! Which names make which sender, and which make none.

use std::{net::IpAddr, time::Duration};

use rcgen::{CertificateParams, KeyPair, SanType};
use tokio::time::Instant;

use super::*;
use crate::{
    config::Client,
    validate::{Allowed, credentials::Credentials, trusted::Network},
};

fn client(san: &str, service_names: &[&str]) -> Client {
    Client { san: san.into(), service_names: service_names.iter().map(|&name| name.into()).collect() }
}

fn config() -> Config {
    let listener = |name: &str, kind| Listener {
        name: name.into(),
        authentication: vec![kind],
        service_names: vec!["gitlab-ci-rails".into(), "gitlab-ci-job-router".into()],
        ..Listener::default()
    };
    let mut mtls = listener("mtls", Authentication::Mtls);
    mtls.clients =
        vec![client("spiffe://example.org/rails", &["gitlab-ci-rails"]), client("Router.example.org", &[])];
    let listeners =
        vec![mtls, listener("closed", Authentication::None), listener("pairs", Authentication::Gitlab)];
    Config { listeners, ..Config::default() }
}

fn names(sans: &[&str]) -> Arc<ClientNames> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = sans
        .iter()
        .map(|san| match *san {
            uri if uri.contains("://") => SanType::URI(uri.try_into().unwrap()),
            dns => SanType::DnsName(dns.try_into().unwrap()),
        })
        .collect();
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    Arc::new(ClientNames::of(certificate.der()))
}

fn question(credentials: Credentials) -> Question {
    Question {
        credentials: Arc::new(credentials),
        client: IpAddr::from([127, 0, 0, 1]),
        correlation_id: "id".into(),
        deadline: Instant::now().checked_add(Duration::from_secs(1)).unwrap(),
    }
}

/// The name of the sender, if the names are known at the listener.
async fn sender(listener: &str, sans: &[&str]) -> Result<String, Result<Verdict, Undetermined>> {
    let digester = Digester::random();
    let mtls = Mtls::from_config(&config(), &digester);
    let credentials = Credentials::of_client(&listener.into(), Some(&names(sans)), &digester);
    match mtls.validate(&question(credentials)).await {
        Ok(Verdict::Allow(Allowed { identity, max_age: None, .. })) => {
            Ok(identity.trusted().unwrap().name().to_string())
        }
        other => Err(other),
    }
}

/// Scenario: certificates with a known name alone, among others, in another case, and with two known ones.
/// Guarantees: each makes its own client; of two the first in the configuration, whatever their order in the certificate.
#[tokio::test]
async fn known_names_make_a_sender() {
    for (sans, expected) in [
        (&["spiffe://example.org/rails"][..], "spiffe://example.org/rails"),
        (&["other.example.org", "ROUTER.example.ORG"], "router.example.org"),
        (&["router.example.org", "spiffe://example.org/rails"], "spiffe://example.org/rails"),
    ] {
        assert_eq!(sender("mtls", sans).await.unwrap(), expected, "{sans:?}");
    }
}

/// Scenario: names that are nearly known, none at all, and no certificate.
/// Guarantees: each is denied as an unknown client; nothing is normalised, no part is enough.
#[tokio::test]
async fn other_names_do_not() {
    for sans in [
        &[][..],
        &["spiffe://example.org/Rails"],
        &["spiffe://EXAMPLE.org/rails"],
        &["spiffe://example.org/rails/"],
        &["spiffe://example.org/rails2"],
        &["spiffe://example.org//rails"],
        &["spiffe://example.org/%72ails"],
        &["a.router.example.org"],
        &["example.org"],
        &["*.example.org"],
        &["router.example.org."],
    ] {
        let verdict = sender("mtls", sans).await.unwrap_err();
        assert!(matches!(verdict, Ok(Verdict::Deny(Denial::UnknownClient))), "{sans:?}: {verdict:?}");
    }
    let digester = Digester::random();
    let without = question(Credentials::of_client(&"mtls".into(), None, &digester));
    let verdict = Mtls::from_config(&config(), &digester).validate(&without).await;
    assert!(matches!(verdict, Ok(Verdict::Deny(Denial::UnknownClient))), "{verdict:?}");
}

/// Scenario: known names at a listener of another kind and at one that is not there; a network that is not closed.
/// Guarantees: nobody is denied and nobody is let in: there is no authority.
#[tokio::test]
async fn a_listener_knows_its_own_kind_only() {
    for listener in ["closed", "pairs", "gone"] {
        let verdict = sender(listener, &["router.example.org"]).await.unwrap_err();
        assert!(matches!(verdict, Err(Undetermined::NoAuthority)), "{listener}: {verdict:?}");
    }
    let digester = Digester::random();
    let network = Network::from_config(&config(), &digester);
    for (listener, known) in [("closed", true), ("mtls", false), ("pairs", false), ("gone", false)] {
        let verdict = network.validate(&question(Credentials::of_network(&listener.into(), &digester))).await;
        assert_eq!(matches!(verdict, Ok(Verdict::Allow(_))), known, "{listener}");
        assert_eq!(matches!(verdict, Err(Undetermined::NoAuthority)), !known, "{listener}");
    }
}

/// Scenario: the identities of two clients and of a closed network.
/// Guarantees: none has a job, a trace or an attribute; each has its own key for limits, which lasts from one configuration to the next.
#[tokio::test]
async fn identities_prove_nothing_but_the_sender() {
    let digester = Digester::random();
    let keys = async || {
        let config = config();
        let (mtls, network) =
            (Mtls::from_config(&config, &digester), Network::from_config(&config, &digester));
        let client = |san| Credentials::of_client(&"mtls".into(), Some(&names(&[san])), &digester);
        let mut keys = Vec::new();
        for verdict in [
            mtls.validate(&question(client("router.example.org"))).await,
            mtls.validate(&question(client("spiffe://example.org/rails"))).await,
            network.validate(&question(Credentials::of_network(&"closed".into(), &digester))).await,
        ] {
            let Ok(Verdict::Allow(allowed)) = verdict else { panic!("{verdict:?}") };
            let identity = allowed.identity;
            assert!(identity.trace_id().is_none() && identity.job_key().is_none());
            assert!(identity.stamp().encoded().is_empty());
            keys.push(identity.runner_key());
        }
        keys
    };
    let mut first = keys().await;
    assert_eq!(first, keys().await);
    first.sort_unstable();
    first.dedup();
    assert_eq!(first.len(), 3);
}
