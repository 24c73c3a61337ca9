//! What counts as a credential on arrival, and where it ends: asked about only when its shape is
//! right, told to the authority alone, never to the collector or the log.

use crate::support::{
    answer::Refusal,
    client::{Export, Form},
    job::Job,
    logs::Captured,
    spans,
    world::{World, unlimited},
};

const GOOD_RUNNER: &str = "glrt-t1_RunnerSecret00000001Kq8wzX0";
const GOOD_JOB: &str = "glcbt-64_JobSecret00000001pYv-7_Tn.Zm4=";

/// Scenario: every way in which credentials can be missing, half, doubled, of two kinds, or of an impossible shape.
/// Guarantees: 401 in each form, without one question to the authority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_credentials_are_never_asked_about() {
    let world = World::with(unlimited).await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let (long_runner, long_job) = ("r".repeat(513), "j".repeat(4097));
    let bearer = "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln";
    let cases: &[&[(&str, &str)]] = &[
        &[],
        &[("runner-token", GOOD_RUNNER)],
        &[("job-token", GOOD_JOB)],
        &[("runner-token", GOOD_RUNNER), ("runner-token", GOOD_RUNNER), ("job-token", GOOD_JOB)],
        &[("runner-token", GOOD_RUNNER), ("job-token", GOOD_JOB), ("job-token", "another")],
        &[("runner-token", GOOD_RUNNER), ("job-token", GOOD_JOB), ("authorization", bearer)],
        &[("runner-token", GOOD_RUNNER), ("authorization", "bearer x")],
        &[("authorization", bearer)],
        &[("runner-token", ""), ("job-token", GOOD_JOB)],
        &[("runner-token", GOOD_RUNNER), ("job-token", "")],
        &[("runner-token", "glrt-a b"), ("job-token", GOOD_JOB)],
        &[("runner-token", "glrt-a,glrt-b"), ("job-token", GOOD_JOB)],
        &[("runner-token", "glrt-a/b"), ("job-token", GOOD_JOB)],
        &[("runner-token", "glrt-\u{e4}"), ("job-token", GOOD_JOB)],
        &[("runner-token", GOOD_RUNNER), ("job-token", "glcbt-64_\"quoted\"")],
        &[("runner-token", &long_runner), ("job-token", GOOD_JOB)],
        &[("runner-token", GOOD_RUNNER), ("job-token", &long_job)],
    ];
    for headers in cases {
        for form in Form::ALL {
            let mut export = Export::new(form, &spans::export(&job, 1));
            for (name, value) in *headers {
                export = export.header(name, value);
            }
            let sentence = world.send(&export).await.assert_refused(form, Refusal::UNAUTHENTICATED);
            for (_, value) in headers.iter().filter(|(_, value)| value.len() > 3) {
                assert!(!sentence.contains(value), "a sentence that quotes a credential: {sentence}");
            }
        }
    }
    assert_eq!((world.authority.count(), world.collector.count()), (0, 0));
}

/// Scenario: tokens of the greatest length and of every character that a token may have, with and without a prefix.
/// Guarantees: they are asked about and told to the authority exactly as they came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_need_no_prefix_and_may_be_long() {
    let world = World::with(unlimited).await;
    let every = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.=-";
    let (long_runner, long_job) = ("R".repeat(512), "J".repeat(4096));
    for (runner, token) in [("r", "j"), (every, every), (&long_runner, &long_job)] {
        let mut job = Job::new(1);
        runner.clone_into(&mut job.runner_token);
        token.clone_into(&mut job.job_token);
        world.authority.allow(&job);
        for form in Form::ALL {
            let export = Export::of(form, &job, &spans::export(&job, 1));
            world.send(&export).await.assert_accepted(form);
        }
        let call = world.authority.calls().pop().unwrap();
        assert_eq!(call.headers["runner-token"], runner);
        assert_eq!(call.headers["job-token"], token);
    }
    assert_eq!(world.authority.count(), 3);
}

/// Scenario: other header names for the tokens; the default names carry other values.
/// Guarantees: the configured names are read and used towards the authority; the others mean nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_header_names_are_configurable() {
    let world = World::with(|config| {
        config.gitlab.runner_token_header = "X-Ci-Runner".into();
        config.gitlab.job_token_header = "X-Ci-Job".into();
    })
    .await;
    let job = Job::new(1);
    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
    world.send(&export).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    assert_eq!((world.authority.count(), world.collector.count()), (0, 0));

    // The fake wants the default names; what matters is that it was asked under the configured ones.
    let renamed = export
        .without("runner-token")
        .without("job-token")
        .header("x-ci-runner", &job.runner_token)
        .header("x-ci-job", &job.job_token);
    world.send(&renamed).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    let problems = world.authority.take_problems();
    assert_eq!(problems, ["0 times runner-token", "0 times job-token"]);
    let call = world.authority.calls().pop().unwrap();
    assert_eq!(call.headers["x-ci-runner"], job.runner_token.as_str());
    assert_eq!(call.headers["x-ci-job"], job.job_token.as_str());
}

/// Scenario: a good export brings headers that only GitLab's own parts, or the gateway, may set.
/// Guarantees: none of them, and no credential, reaches the collector or passes to the authority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_headers_end_here() {
    let job = Job::new(1);
    let forged = [
        ("x-gitlab-ci-job-id", "forged"),
        ("x-gitlab-anything", "forged"),
        ("gitlab-workhorse-api-request", "forged"),
        ("gitlab-kas-api-request", "forged"),
        ("gitlab-ci-telemetry-api-request", "forged"),
        ("cookie", "_gitlab_session=forged"),
        ("x-forwarded-for", "203.0.113.66"),
    ];
    for world in [World::start().await, World::grpc(|_| {}).await] {
        world.authority.allow(&job);
        for form in Form::ALL {
            let mut export = Export::of(form, &job, &spans::export(&job, 1));
            for (name, value) in forged {
                export = export.header(name, value);
            }
            world.send(&export).await.assert_accepted(form);
        }
        for received in world.collector.received() {
            for (name, value) in &received.headers {
                let (name, value) = (name.as_str(), String::from_utf8_lossy(value.as_bytes()));
                assert!(!name.starts_with("x-gitlab-"), "{name}");
                assert!(!(name.starts_with("gitlab-") && name.ends_with("-api-request")), "{name}");
                for secret in [&job.runner_token, &job.job_token, "forged", "203.0.113.66"] {
                    assert!(!value.contains(secret), "{name}: {value}");
                }
            }
            let body = String::from_utf8_lossy(&received.raw).into_owned();
            assert!(!body.contains(&job.runner_token) && !body.contains(&job.job_token));
        }
        for call in world.authority.calls() {
            for (name, _) in forged.iter().filter(|(name, _)| *name != "x-forwarded-for") {
                assert!(!call.headers.contains_key(*name), "the authority was sent {name}");
            }
            assert_eq!(call.headers["x-forwarded-for"], "127.0.0.1", "the address of whoever connected");
        }
    }
}

/// Scenario: good, denied, malformed and undetermined exports in one thread, with everything logged at the finest level.
/// Guarantees: no line of ours or of a library holds a token.
#[tokio::test]
async fn no_token_is_logged() {
    let captured = Captured::start();
    let world = World::start().await;
    let (job, stranger) = (Job::new(1), Job::new(2));
    world.authority.allow(&job);
    for form in Form::ALL {
        let request = spans::export(&job, 1);
        world.send(&Export::of(form, &job, &request)).await.assert_accepted(form);
        world.send(&Export::of(form, &stranger, &request)).await;
        world.send(&Export::of(form, &job, &request).header("job-token", "JobSecret!!")).await;
    }
    let log = captured.text();
    assert!(!log.is_empty(), "nothing was captured");
    for secret in ["RunnerSecret", "JobSecret", "Kq8wzX0", "pYv-7_Tn"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a token in the log");
    }
}
