//! Bearer tokens through the whole gateway: what a provider's word lets in, what is written of it, and what
//! becomes of exports while a provider is down, changes its keys, or is told of keys that do not exist.

mod examples;
mod reload;
mod waiting;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spangate::{
    app,
    config::{Authentication, Config, Fact, OidcProvider},
};

use crate::support::{
    answer::{Answer, Refusal},
    client::{Export, Form},
    collector::Collector,
    issuer::Issuer,
    job::Job,
    logs::Captured,
    spans,
    tls::TestTls,
    tokens::{Key, after, gitlab_claims},
    world::{World, eventually, get, loopback, text, unlimited},
};

const AUDIENCE: &str = "https://telemetry.example.com";

/// A configuration with one provider, whose listener takes bearer tokens only and needs no GitLab.
fn bearer_only(config: &mut Config, issuer: &Issuer) {
    unlimited(config);
    config.gitlab.url = String::new();
    config.listeners[0].authentication = vec![Authentication::Oidc];
    config.oidc.providers = vec![provider(issuer)];
}

fn provider(issuer: &Issuer) -> OidcProvider {
    OidcProvider {
        issuer: issuer.url(),
        audiences: vec![AUDIENCE.into()],
        facts: [(Fact::JobId, "job_id".to_owned()), (Fact::ProjectId, "project_id".to_owned())].into(),
        attributes: [("runner_environment".to_owned(), "gitlab.runner.environment".to_owned())].into(),
        ..OidcProvider::default()
    }
}

async fn world(issuer: &Issuer, change: impl FnOnce(&mut Config)) -> World {
    World::with(|config| {
        bearer_only(config, issuer);
        change(config);
    })
    .await
}

/// An export of a job's spans with a bearer token.
fn export(form: Form, token: &str) -> Export {
    Export::new(form, &spans::export(&Job::new(1), 2)).header("authorization", format!("Bearer {token}"))
}

fn token(key: &Key, issuer: &Issuer) -> String {
    key.token(&gitlab_claims(&issuer.url(), AUDIENCE))
}

async fn send(world: &World, token: &str) -> Answer {
    world.send(&export(Form::Protobuf, token)).await
}

/// Every challenge of a 401, in the order in which they came.
fn challenges(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("www-authenticate").iter().map(|value| value.to_str().unwrap()).collect()
}

/// Scenario: exports with a good token in each form, by senders that claim a job and a runner environment of their own.
/// Guarantees: taken whatever their trace; what the provider vouches for is written, the sender's claims are gone, and the
/// token goes no further.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_vouches_for_is_written() {
    for key in [Key::rsa("k1"), Key::p256("k1"), Key::ed25519("k1")] {
        let issuer = Issuer::start(&[&key]).await;
        let world = world(&issuer, |_| {}).await;
        let token = token(&key, &issuer);
        let mut request = spans::export(&Job::new(1), 2);
        let resource = request.resource_spans[0].resource.as_mut().unwrap();
        resource.attributes.push(spans::text("gitlab.runner.environment", "forged"));
        resource.attributes.push(spans::text("GITLAB_RUNNER_environment", "forged"));
        for (form, scheme) in Form::ALL.into_iter().zip(["Bearer", "bearer", "BEARER"]) {
            let export = Export::new(form, &request).header("authorization", format!("{scheme} {token}"));
            world.send(&export).await.assert_accepted(form);
        }
        for received in world.collector.received() {
            assert!(!received.headers.contains_key("authorization"));
            let arrived = received.request();
            let attributes = &arrived.resource_spans[0].resource.as_ref().unwrap().attributes;
            for wanted in [
                spans::int("ci.job.id", 302),
                spans::int("ci.project.id", 20),
                spans::text("service.name", "gitlab-ci-runner"),
                spans::text("gitlab.runner.environment", "self-hosted"),
            ] {
                let of_key: Vec<_> = attributes.iter().filter(|own| own.key == wanted.key).collect();
                assert_eq!(of_key, [&wanted]);
            }
            let forged = attributes.iter().any(|own| own.key.starts_with("GITLAB"));
            assert!(!forged, "{attributes:?}");
        }
        assert_eq!(world.collector.count(), 3);
        let metrics = world.metrics().await;
        assert!(metrics.sum("spangate_jwks_fetches_total", &[("outcome", "ok")]) > 0.5);
        assert!(metrics.sum("spangate_cache_entries", &[("kind", "bearer_positive")]) > 0.5);
        assert!(metrics.0.contains(&format!("spangate_jwks_age_seconds{{issuer=\"{}\"}}", issuer.url())));
        assert_eq!(world.authority.count(), 0);
    }
}

/// Scenario: no token, a token of another audience, of nobody's issuer, of a bearer who may not send, a token pair, both at once.
/// Guarantees: 401 and 403 in each form, with the challenge that fits what the listener takes, and nothing of the token in the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_fit_the_listener() {
    let key = Key::p256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let both = World::with(|config| {
        unlimited(config);
        config.listeners[0].authentication = vec![Authentication::Gitlab, Authentication::Oidc];
        config.oidc.providers = vec![provider(&issuer)];
    })
    .await;
    let only = world(&issuer, |config| {
        config.oidc.providers[0].require = [("namespace_path".to_owned(), vec!["another".to_owned()])].into();
    })
    .await;
    let pair = Export::of(Form::Protobuf, &Job::new(1), &spans::export(&Job::new(1), 1));
    let refused = |audience: &str| key.token(&gitlab_claims(&issuer.url(), audience));
    for form in Form::ALL {
        let bare = only.send(&Export::new(form, &spans::export(&Job::new(1), 1))).await;
        let sentence = bare.assert_refused(form, Refusal::UNAUTHENTICATED);
        assert_eq!(sentence, "no credentials: send a bearer token");
        assert_eq!(challenges(&bare), ["Bearer realm=\"spangate\""]);
        let other = only.send(&export(form, &refused("another"))).await;
        let sentence = other.assert_refused(form, Refusal::UNAUTHENTICATED);
        assert_eq!(sentence, "this bearer token is not accepted");
        assert_eq!(challenges(&other), ["Bearer realm=\"spangate\", error=\"invalid_token\""]);
        let forbidden = only.send(&export(form, &refused(AUDIENCE))).await;
        let sentence = forbidden.assert_refused(form, Refusal::FORBIDDEN);
        assert_eq!(sentence, "this bearer token is good, but its bearer may not send here");
        let stranger = key.token(&gitlab_claims("https://stranger.example.com", AUDIENCE));
        only.send(&export(form, &stranger)).await.assert_refused(form, Refusal::UNAUTHENTICATED);
    }
    let answer = only.send(&pair).await;
    let sentence = answer.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    assert_eq!(sentence, "a token pair is not accepted here: send a bearer token");
    let bare = both.send(&pair.clone().without("runner-token").without("job-token")).await;
    let sentence = bare.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    assert_eq!(sentence, "no credentials: send a runner token and a job token, or a bearer token");
    let told = challenges(&bare);
    assert!(
        told.len() == 2 && told[0] == "Bearer realm=\"spangate\"" && told[1].starts_with("GitLab-CI "),
        "{told:?}"
    );
    let two = pair.header("authorization", format!("Bearer {}", token(&key, &issuer)));
    both.send(&two).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    send(&both, &token(&key, &issuer)).await.assert_accepted(Form::Protobuf);
    assert_eq!(both.authority.count(), 0);
}

/// Scenario: two providers, one of which is down at the start and comes up later.
/// Guarantees: ready once the first try has failed; the one that is up serves at once; tokens of the other get 503, and pass when it is up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_down_at_the_start() {
    let (key, late) = (Key::p256("k1"), Key::p256("k2"));
    let (up, down) = (Issuer::start(&[&key]).await, Issuer::start(&[&late]).await);
    down.is_down();
    let world = world(&up, |config| config.oidc.providers.push(provider(&down))).await;
    let admin = world.running.admin();
    eventually("ready", || async { get(admin, "/-/readiness").await.status == 200 }).await;
    send(&world, &token(&key, &up)).await.assert_accepted(Form::Protobuf);
    for form in Form::ALL {
        let answer = world.send(&export(form, &token(&late, &down))).await;
        answer.assert_refused(form, Refusal::UNAVAILABLE);
    }
    down.has(&[&late]);
    let token = token(&late, &down);
    eventually("its tokens pass", || async { send(&world, &token).await.status == 200 }).await;
}

/// Scenario: a provider that takes the connection and is silent, right after the start.
/// Guarantees: not ready yet, with the reason in the probe's body, although started and alive; a token waits for two of its
/// four seconds, and then hears to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_waits_for_keys() {
    let silent = std::net::TcpListener::bind(loopback()).unwrap();
    let key = Key::p256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let world = world(&issuer, |config| {
        config.oidc.providers[0].jwks_url = format!("http://{}", silent.local_addr().unwrap());
    })
    .await;
    let probe = get(world.running.admin(), "/-/readiness").await;
    assert_eq!((probe.status, text(&probe).as_str()), (503, "waiting for keys\n"));
    for path in ["/-/liveness", "/-/startup"] {
        assert_eq!(get(world.running.admin(), path).await.status, 200, "{path}");
    }
    let began = Instant::now();
    send(&world, &token(&key, &issuer)).await.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    assert!(began.elapsed() < Duration::from_millis(3_500), "{:?}", began.elapsed());
}

/// Scenario: forty senders go on while the provider publishes a new key, signs with it at once and takes the old one away.
/// Guarantees: no export is refused or lost, and the keys are fetched once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load() {
    let (old, new) = (Key::p256("old"), Key::rsa("new"));
    let issuer = Issuer::start(&[&old]).await;
    let world = world(&issuer, |_| {}).await;
    let tokens = |key: &Key| -> Vec<String> {
        let claims = |subject: usize| {
            let mut claims = gitlab_claims(&issuer.url(), AUDIENCE);
            claims["sub"] = format!("sender-{subject}").into();
            claims
        };
        (0..40).map(|subject| key.token(&claims(subject))).collect()
    };
    let (before, after) = (tokens(&old), tokens(&new));
    for (round, tokens) in [&before, &before, &after, &after].into_iter().enumerate() {
        if round == 2 {
            issuer.has(&[&new]);
        }
        let all = futures_util::future::join_all(tokens.iter().map(|token| send(&world, token))).await;
        for answer in all {
            answer.assert_accepted(Form::Protobuf);
        }
    }
    assert_eq!((world.collector.count(), issuer.fetches()), (160, 2));
}

/// Scenario: the provider goes down; senders with tokens of its known key come, and one with a key that nobody has seen.
/// Guarantees: known keys serve, new tokens of theirs included; the other gets 503, never 401.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_keys_serve_while_the_provider_is_down() {
    let (key, unknown) = (Key::p256("k1"), Key::p256("k2"));
    let issuer = Issuer::start(&[&key]).await;
    let world = world(&issuer, |_| {}).await;
    send(&world, &token(&key, &issuer)).await.assert_accepted(Form::Protobuf);
    issuer.is_down();
    for _ in 0..3 {
        let answer = send(&world, &token(&unknown, &issuer)).await;
        answer.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
        send(&world, &token(&key, &issuer)).await.assert_accepted(Form::Protobuf);
    }
}

/// Scenario: two hundred tokens, each signed by a key of its own that the provider does not have.
/// Guarantees: none passes; the first is denied by fresh keys, the rest gets 503; the provider is asked once for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unknown_keys_is_bounded() {
    let key = Key::p256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let world = world(&issuer, |_| {}).await;
    send(&world, &token(&key, &issuer)).await.assert_accepted(Form::Protobuf);
    let mut told = Vec::new();
    for index in 0..200 {
        let stranger = Key::ed25519(&format!("stranger-{index}"));
        told.push(send(&world, &token(&stranger, &issuer)).await.status);
    }
    assert_eq!(told[0], 401);
    assert!(told[1..].iter().all(|status| *status == 503), "{told:?}");
    assert_eq!((issuer.fetches(), world.collector.count()), (2, 1));
}

/// Scenario: a token near its end, one that is past it but within what clocks may be apart, and both some seconds later.
/// Guarantees: a verdict is never served from the cache past the token's end, and past the leeway the token is refused, also while the
/// provider is down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_token_ends_with_its_exp() {
    let key = Key::p256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let world = world(&issuer, |_| {}).await;
    let ending = |exp: i64| {
        let mut claims = gitlab_claims(&issuer.url(), AUDIENCE);
        claims["exp"] = after(exp).into();
        key.token(&claims)
    };
    let (late, later) = (ending(-25), ending(-24));
    for token in [&late, &late, &later] {
        send(&world, token).await.assert_accepted(Form::Protobuf);
    }
    let hits =
        world.metrics().await.sum("spangate_verdicts_total", &[("source", "hit"), ("verdict", "allow")]);
    assert!(hits < 0.5, "{hits} hits");
    issuer.is_down();
    for token in [&late, &later] {
        eventually("refused", || async { send(&world, token).await.status == 401 }).await;
    }
}

/// Scenario: a provider behind TLS with a private CA, found by discovery, with that CA configured and with none.
/// Guarantees: its tokens pass under its own CA only; else they get 503.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_ca() {
    let (key, tls) = (Key::rsa("k1"), TestTls::new());
    let issuer = Issuer::over(Some(&tls), &[&key]).await;
    let trusting = world(&issuer, |config| config.oidc.providers[0].ca_file = tls.client().ca_file).await;
    send(&trusting, &token(&key, &issuer)).await.assert_accepted(Form::Protobuf);
    let doubting = world(&issuer, |_| {}).await;
    send(&doubting, &token(&key, &issuer)).await.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
}

/// Scenario: the CA in `ca_file` is replaced by another one and back, each time with a reload.
/// Guarantees: what came over the CA that is gone counts no more; with the right one keys are fetched again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_reads_the_ca_again() {
    let (key, tls, other) = (Key::p256("k1"), TestTls::new(), TestTls::new());
    let issuer = Issuer::over(Some(&tls), &[&key]).await;
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca");
    std::fs::copy(tls.client().ca_file, &ca_file).unwrap();
    let world = world(&issuer, |config| config.oidc.providers[0].ca_file = ca_file.clone()).await;
    let token = token(&key, &issuer);
    send(&world, &token).await.assert_accepted(Form::Protobuf);
    std::fs::copy(other.client().ca_file, &ca_file).unwrap();
    world.running.reload(&world.config).expect("a good configuration");
    send(&world, &token).await.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    std::fs::copy(tls.client().ca_file, &ca_file).unwrap();
    world.running.reload(&world.config).expect("a good configuration");
    send(&world, &token).await.assert_accepted(Form::Protobuf);
}

/// Scenario: good, refused and undetermined tokens in one thread, with everything logged at the finest level.
/// Guarantees: no line holds a token or a claim of one; the operator is told why one was refused.
#[tokio::test]
async fn no_bearer_token_is_logged() {
    let captured = Captured::start();
    let (key, unknown) = (Key::p256("k1"), Key::p256("k2"));
    let issuer = Issuer::start(&[&key]).await;
    let world = world(&issuer, |_| {}).await;
    let good = token(&key, &issuer);
    let other = key.token(&gitlab_claims(&issuer.url(), "another"));
    let unknown = token(&unknown, &issuer);
    send(&world, &good).await.assert_accepted(Form::Protobuf);
    send(&world, &other).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    issuer.is_down();
    send(&world, &unknown).await.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    let log = captured.text();
    assert!(log.contains("its aud has none of the provider's `audiences`"), "{log}");
    assert!(log.contains("the keys of an OpenID provider cannot be fetched"), "{log}");
    let parts =
        [&good, &other, &unknown].map(|token| token.split('.').map(str::to_owned).collect::<Vec<_>>());
    for secret in parts.iter().flatten().map(String::as_str).chain(["sample-user", "feature-branch-1"]) {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "of a token in the log");
    }
}

/// Scenario: 49 tokens of another audience, a good one, 60 more of another audience, each with a digest of its own.
/// Guarantees: a mistake that refuses everybody is told once, after fifty in a row, with what to check; all are refused as before.
#[tokio::test]
async fn nothing_but_refusals_is_told() {
    let captured = Captured::start();
    let key = Key::p256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let world = world(&issuer, |_| {}).await;
    let refused = async |count: u32| {
        for number in 0..count {
            let mut claims = gitlab_claims(&issuer.url(), "another");
            claims["nonce"] = json!(format!("{count}-{number}"));
            send(&world, &key.token(&claims)).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
        }
    };
    let told = || captured.text().matches("bearer tokens were refused and none was good").count();
    refused(49).await;
    send(&world, &token(&key, &issuer)).await.assert_accepted(Form::Protobuf);
    refused(1).await;
    assert_eq!(told(), 0, "{}", captured.text());
    refused(59).await;
    assert_eq!(told(), 1, "{}", captured.text());
    assert!(captured.text().contains("check `audiences`"), "{}", captured.text());
}

/// Scenario: mistakes in providers that show only when files are opened.
/// Guarantees: the start is refused with each of them.
#[tokio::test]
async fn a_start_with_bad_providers_is_refused() {
    let issuer = Issuer::start(&[]).await;
    let collector = Collector::http().await;
    let mut config = crate::support::world::config("", &collector.url());
    bearer_only(&mut config, &issuer);
    let good = config.oidc.providers[0].clone();
    config.oidc.providers = vec![
        OidcProvider { keys_file: "/absent/a".into(), ..good.clone() },
        OidcProvider { ca_file: "/absent/b".into(), ..good },
    ];
    let problem = app::start(config).await.unwrap_err().to_string();
    for place in ["oidc.providers.0.keys_file: /absent/a", "oidc.providers.1.ca_file: /absent/b"] {
        assert!(problem.contains(place), "{problem}");
    }
}

/// Names that a test reads better with.
fn set(claims: &mut Value, pointer: &str, value: &str) {
    *claims.pointer_mut(pointer).unwrap() = json!(value);
}
