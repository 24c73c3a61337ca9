//! The shipped examples, as they stand but for their addresses, with tokens as their real providers write them.

use std::path::Path;

use crate::support::tokens::google_claims;

use super::*;

/// An example from config/examples, whose provider's keys are those of `issuer`, before a collector on loopback.
async fn example(name: &str, issuer: &Issuer) -> World {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name);
    let shipped = Config::load(&path, &|_| None, &[]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    World::with(|config| {
        let (collector, gitlab) = (config.collector.endpoints.clone(), config.gitlab.url.clone());
        let (admin, shutdown) = (config.admin.clone(), config.shutdown.clone());
        *config = shipped;
        config.listeners[0].name = "runners".into();
        config.listeners[0].address = loopback();
        config.collector.endpoints = collector;
        (config.admin, config.shutdown) = (admin, shutdown);
        config.oidc.providers[0].jwks_url = format!("{}/keys", issuer.url());
        if !config.gitlab.url.is_empty() {
            config.gitlab.url = gitlab;
        }
    })
    .await
}

fn written(world: &World, wanted: &[(&str, &str)]) {
    let arrived = world.collector.only().request();
    let attributes = &arrived.resource_spans[0].resource.as_ref().unwrap().attributes;
    for (key, value) in wanted {
        let of_key: Vec<_> = attributes.iter().filter(|own| own.key == *key).collect();
        assert_eq!(of_key, [&spans::text(key, value)]);
    }
}

/// Scenario: machines of our project and of another one, with identity tokens as Google's metadata server gives them.
/// Guarantees: the example lets ours in, says which machine it was, and gives the other a 403.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn google_compute_engine() {
    let key = Key::rsa("5aaff47c21d06e266ccee1f6ab4aac58ef4ea8f1");
    let issuer = Issuer::start(&[&key]).await;
    let world = example("google-compute-engine.yaml", &issuer).await;
    let mut claims = google_claims(AUDIENCE);
    let stranger = key.token(&claims);
    send(&world, &stranger).await.assert_refused(Form::Protobuf, Refusal::FORBIDDEN);
    set(&mut claims, "/google/compute_engine/project_id", "my-runners-project");
    send(&world, &key.token(&claims)).await.assert_accepted(Form::Protobuf);
    let machine = [
        ("service.name", "hosted-runner"),
        ("host.name", "runner-7"),
        ("host.id", "152986662232938449"),
        ("cloud.account.id", "my-runners-project"),
        ("cloud.availability_zone", "us-west1-a"),
    ];
    written(&world, &machine);
}

/// Scenario: jobs of a group that may send and of another one, with ID tokens as GitLab gives them; and a runner with its pair.
/// Guarantees: the example lets both in by what they bring, and gives the other group's job a 403.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gitlab_id_tokens() {
    let key = Key::rsa("kewiQq9jiC84CvSsJYOB-N6A8WFLSV20Mb-y7IlWDSQ");
    let issuer = Issuer::start(&[&key]).await;
    let world = example("gitlab-id-tokens.yaml", &issuer).await;
    let mut claims = gitlab_claims("https://gitlab.example.com", AUDIENCE);
    send(&world, &key.token(&claims)).await.assert_accepted(Form::Protobuf);
    written(
        &world,
        &[
            ("service.name", "gitlab-ci-job"),
            ("gitlab.runner.environment", "self-hosted"),
            ("ci.pipeline.source", "push"),
        ],
    );
    set(&mut claims, "/namespace_path", "another-group");
    send(&world, &key.token(&claims)).await.assert_refused(Form::Protobuf, Refusal::FORBIDDEN);
    let job = Job::new(1);
    world.authority.allow(&job);
    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
    world.send(&export).await.assert_accepted(Form::Protobuf);
}
