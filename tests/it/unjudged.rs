//! What becomes of a listener when a reload takes away who knows its senders: nobody is denied, and the
//! operator is told at once and again with each wave of exports.

use spangate::config::{Authentication, Config, Listener, OidcProvider};

use crate::support::{
    answer::Refusal,
    client::{Export, Form},
    issuer::Issuer,
    job::Job,
    logs::Captured,
    spans,
    tokens::{Key, gitlab_claims},
    world::{World, loopback, unlimited},
};

/// A configuration that needs no authority at all.
fn closed(config: &Config) -> Config {
    let mut closed = config.clone();
    closed.gitlab.url = String::new();
    closed.oidc.providers.clear();
    closed.listeners = vec![Listener {
        address: loopback(),
        authentication: vec![Authentication::None],
        service_names: vec!["service".into()],
        ..Listener::default()
    }];
    closed
}

/// Scenario: token pairs and bearer tokens are taken; a reload leaves neither GitLab nor a provider, another one brings them back.
/// Guarantees: 503 meanwhile, never a denial; each kind is told at the reload, and the exports at a bounded rate with what to do and
/// with the cause in their own lines; no gauge keeps a value of what is gone; afterwards all is as before.
#[tokio::test]
async fn a_listener_without_an_authority_is_told() {
    let captured = Captured::start();
    let (key, job) = (Key::p256("k1"), Job::new(1));
    let issuer = Issuer::start(&[&key]).await;
    let world = World::with(|config| {
        unlimited(config);
        config.listeners[0].authentication = vec![Authentication::Gitlab, Authentication::Oidc];
        config.oidc.providers = vec![OidcProvider {
            issuer: issuer.url(),
            audiences: vec!["us".into()],
            ..OidcProvider::default()
        }];
    })
    .await;
    world.authority.allow(&job);
    let bearer = format!("Bearer {}", key.token(&gitlab_claims(&issuer.url(), "us")));
    let bearer = Export::new(Form::Protobuf, &spans::export(&job, 1)).header("authorization", bearer);
    let both = [Export::of(Form::Protobuf, &job, &spans::export(&job, 1)), bearer];
    for export in &both {
        world.send(export).await.assert_accepted(Form::Protobuf);
    }
    let gauges = ["spangate_cache_entries{", "spangate_cache_size_bytes{", "spangate_jwks_age_seconds{"];
    let metrics = world.metrics().await.0;
    assert!(gauges.iter().all(|gauge| metrics.contains(gauge)), "{metrics}");
    assert!(!captured.text().contains("no authority"), "{}", captured.text());

    world.running.reload(&closed(&world.config)).expect("a good configuration");
    for _ in 0..10 {
        for export in &both {
            world.send(export).await.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
        }
    }
    let log = captured.text();
    let lines = |part: &str| log.lines().filter(|line| line.contains(part)).collect::<Vec<_>>();
    for kind in ["gitlab", "oidc"] {
        let told = lines(&format!("kind=\"{kind}\""));
        assert!(matches!(told[..], [line] if line.contains("WARN") && line.contains("\"runners\"")), "{log}");
    }
    let told = lines("takes credentials that no authority knows");
    // Within a second or a little more.
    assert!((1..=15).contains(&told.len()) && told[0].contains("set gitlab.url"), "{log}");
    assert!(lines("cause=\"no_authority\"").len() > 1, "{log}");
    let metrics = world.metrics().await.0;
    assert!(!gauges.iter().any(|gauge| metrics.contains(gauge)), "{metrics}");

    world.running.reload(&world.config).expect("a good configuration");
    for export in &both {
        world.send(export).await.assert_accepted(Form::Protobuf);
    }
}
