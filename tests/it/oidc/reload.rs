//! What of providers outlives a reload or a purge, and what does not: keys, verdicts, trust, metrics.

use std::time::{Duration, Instant};

use http::Method;
use spangate::config::Authentication;

use super::{AUDIENCE, provider, send, set, token, world};
use crate::support::{
    answer::Refusal,
    client::Form,
    issuer::Issuer,
    tls::TestTls,
    tokens::{Key, gitlab_claims, jwks},
    world::{World, ask, text},
};

/// Scenario: keys that stand in a file; another key takes the place of the one in it, then a reload.
/// Guarantees: a cached verdict that rests on the key that is gone ends with the reload; the new key counts from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_reads_a_file_of_keys_again() {
    let (old, new) = (Key::p256("old"), Key::p256("new"));
    let issuer = Issuer::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let keys_file = folder.path().join("keys");
    let write = |key: &Key| std::fs::write(&keys_file, jwks(&[key]).to_string()).unwrap();
    write(&old);
    let world = world(&issuer, |config| config.oidc.providers[0].keys_file = keys_file.clone()).await;
    // Signatures on this curve differ each time: the same token, or no verdict of it is cached.
    let cached = token(&old, &issuer);
    send(&world, &cached).await.assert_accepted(Form::Protobuf);
    write(&new);
    world.running.reload(&world.config).expect("a good configuration");
    send(&world, &cached).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    send(&world, &token(&new, &issuer)).await.assert_accepted(Form::Protobuf);
    assert_eq!(issuer.fetches(), 0);
}

/// Scenario: a reload that changes other things, then one that requires what the sender's token does not have.
/// Guarantees: keys and verdicts outlive the first; after the second the token is refused, by the same keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_keys() {
    let key = Key::p256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let world = world(&issuer, |_| {}).await;
    let token = token(&key, &issuer);
    send(&world, &token).await.assert_accepted(Form::Protobuf);
    issuer.is_down();
    let mut config = world.config.clone();
    config.traces.max_spans_per_job = 7;
    config.cache.max_ttl = Duration::from_mins(1);
    world.running.reload(&config).expect("a good configuration");
    send(&world, &token).await.assert_accepted(Form::Protobuf);
    let hits =
        world.metrics().await.sum("spangate_verdicts_total", &[("source", "hit"), ("verdict", "allow")]);
    assert!(hits > 0.5);
    config.oidc.providers[0].require = [("ref_protected".to_owned(), vec!["true".to_owned()])].into();
    world.running.reload(&config).expect("a good configuration");
    send(&world, &token).await.assert_refused(Form::Protobuf, Refusal::FORBIDDEN);
    config.oidc.providers[0].keys_file = "/absent/keys".into();
    let problem = world.running.reload(&config).unwrap_err().to_string();
    assert!(problem.contains("oidc.providers.0.keys_file: /absent/keys"), "{problem}");
    send(&world, &token).await.assert_refused(Form::Protobuf, Refusal::FORBIDDEN);
    assert_eq!(issuer.fetches(), 1);
}

/// Scenario: a provider takes away a key whose token is in the cache, and an operator purges.
/// Guarantees: the token is refused within a second of the purge, although nobody named another key; a token of the new key
/// passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_taken_away_stops_with_a_purge() {
    let (old, new) = (Key::p256("old"), Key::p256("new"));
    let issuer = Issuer::start(&[&old]).await;
    let folder = tempfile::tempdir().unwrap();
    let (token_file, operator) = (folder.path().join("token"), "operator-0123456789abcdef0123456789");
    std::fs::write(&token_file, operator).unwrap();
    let world = world(&issuer, |config| config.admin.token_file = token_file).await;
    // Signatures on this curve differ each time: the same token, or no verdict of it is cached.
    let cached = token(&old, &issuer);
    send(&world, &cached).await.assert_accepted(Form::Protobuf);
    issuer.has(&[&new]);
    let shown = [("authorization", &*format!("Bearer {operator}"))];
    let began = Instant::now();
    let purged = ask(world.running.admin(), Method::POST, "/-/cache/purge", &shown).await;
    assert_eq!((purged.status, text(&purged).as_str()), (200, "1 verdicts forgotten\n"));
    send(&world, &cached).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    send(&world, &token(&new, &issuer)).await.assert_accepted(Form::Protobuf);
}

/// Scenario: a reload takes the providers away after a token was taken.
/// Guarantees: the metrics of their keys and verdicts are gone, and do not stand still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reload_takes_away_is_no_metric() {
    let key = Key::p256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let world = World::with(|config| {
        config.listeners[0].authentication = vec![Authentication::Gitlab, Authentication::Oidc];
        config.oidc.providers = vec![provider(&issuer)];
    })
    .await;
    send(&world, &token(&key, &issuer)).await.assert_accepted(Form::Protobuf);
    let of_providers = async || {
        let text = world.metrics().await.0;
        let is_theirs =
            |line: &&str| line.contains("bearer_") || line.starts_with("spangate_jwks_age_seconds{");
        text.lines().filter(is_theirs).count()
    };
    assert!(of_providers().await >= 4);
    let mut config = world.config.clone();
    config.listeners[0].authentication = vec![Authentication::Gitlab];
    config.oidc.providers.clear();
    world.running.reload(&config).expect("a good configuration");
    assert_eq!(of_providers().await, 0);
}

/// Scenario: the CA certificates of a provider change in their file: first another authority's stand there, then the
/// right ones, then the others again; a reload after each.
/// Guarantees: a reload reads them again, without a restart; what was had under other ones is nobody's word any more: 503.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_reads_the_ca_again() {
    let (key, tls, other) = (Key::rsa("k1"), TestTls::new(), TestTls::new());
    let issuer = Issuer::over(Some(&tls), &[&key]).await;
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let trust = |tls: &TestTls| std::fs::copy(tls.client().ca_file, &ca_file).unwrap();
    trust(&other);
    let world = world(&issuer, |config| config.oidc.providers[0].ca_file = ca_file.clone()).await;
    let token_of = |subject: &str| {
        let mut claims = gitlab_claims(&issuer.url(), AUDIENCE);
        set(&mut claims, "/sub", subject);
        key.token(&claims)
    };
    send(&world, &token_of("a")).await.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    trust(&tls);
    world.running.reload(&world.config).expect("a good configuration");
    send(&world, &token_of("a")).await.assert_accepted(Form::Protobuf);
    trust(&other);
    world.running.reload(&world.config).expect("a good configuration");
    send(&world, &token_of("b")).await.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    assert_eq!(issuer.fetches(), 1);
}
