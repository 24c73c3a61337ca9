//! The authority's word and its silence: what each of its answers becomes for the runner, and how
//! long it is believed. Anything but its own 401 or 403 must never become one.

use std::time::Duration;

use base64::Engine as _;
use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use crate::support::{
    answer::{Answer, Refusal},
    authority::{Call, Script},
    client::{Export, Form},
    job::Job,
    server::Refusing,
    spans,
    world::{World, eventually, unlimited},
};

fn export(job: &Job) -> Export {
    Export::of(Form::Protobuf, job, &spans::export(job, 1))
}

async fn send(world: &World, job: &Job) -> Answer {
    world.send(&export(job)).await
}

fn undetermined() -> Vec<(&'static str, Script)> {
    let job = Job::new(1);
    let answer = |change: fn(&mut Value)| {
        let mut answer = job.answer();
        change(&mut answer);
        Script::allow(&job, 300).body(answer.to_string())
    };
    let padded = format!("{}{}", job.answer(), " ".repeat(70 << 10));
    vec![
        ("404", Script::status(404)),
        ("302", Script::status(302).header("location", "/api/v4/internal/ci/telemetry/auth")),
        ("307", Script::status(307).header("location", "/api/v4/internal/ci/telemetry/auth")),
        ("400", Script::status(400)),
        ("422", Script::status(422)),
        ("500", Script::status(500)),
        ("502", Script::status(502)),
        ("503", Script::status(503).header("retry-after", "3600")),
        ("204", Script::status(204).body("")),
        ("HTML", Script::allow(&job, 300).body("<html>Sign in</html>").header("content-type", "text/html")),
        ("no body", Script::allow(&job, 300).body("")),
        ("no object", Script::allow(&job, 300).body("[]")),
        ("cut short", Script::allow(&job, 300).body("{\"trace_id\":\"0000000000")),
        ("70 KiB", Script::allow(&job, 300).body(padded)),
        ("no trace_id", answer(|answer| drop(answer.as_object_mut().unwrap().remove("trace_id")))),
        ("zero trace_id", answer(|answer| answer["trace_id"] = json!("0".repeat(32)))),
        ("short trace_id", answer(|answer| answer["trace_id"] = json!("1e240a"))),
        ("upper trace_id", answer(|answer| answer["trace_id"] = json!("000000000000000000000000001E240A"))),
        ("number trace_id", answer(|answer| answer["trace_id"] = json!(123_456))),
        ("reset", Script::reset()),
    ]
}

/// Scenario: every answer that is no word about the credential, each met by a gateway of its own; then the authority recovers.
/// Guarantees: 503 with a delay in each form, never a 401 or 403, nothing forwarded, nothing remembered against the sender.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_undetermined_is_503() {
    for (name, script) in undetermined() {
        let world = World::with(unlimited).await;
        let job = Job::new(1);
        world.authority.allow(&job);
        world.authority.always(script);
        for form in Form::ALL {
            let export = Export::of(form, &job, &spans::export(&job, 1));
            let answer = world.send(&export).await;
            assert!(answer.status == 503 || form == Form::Grpc, "{name}: {answer:?}");
            answer.assert_refused(form, Refusal::UNAVAILABLE);
        }
        assert_eq!(world.collector.count(), 0, "{name}");
        // Each question may be asked twice; a redirect that is followed would be a third.
        assert!((3..=6).contains(&world.authority.count()), "{name}: {} calls", world.authority.count());
        world.authority.always(None);
        let (world, job) = (&world, &job);
        eventually("it is asked again and served", || async move {
            let answer = send(world, job).await;
            assert!([200, 503].contains(&answer.status), "{answer:?}");
            answer.status == 200
        })
        .await;
    }
}

/// Scenario: the authority hangs, under the default configuration; nothing listens where it should be.
/// Guarantees: 503 well within the runner's 5 s, and at once when the connection is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_is_not_there() {
    let job = Job::new(1);
    let world = World::start().await;
    world.authority.always(Script::hang());
    let answer = send(&world, &job).await;
    answer.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    assert!(answer.took < Duration::from_secs(4), "{:?}", answer.took);

    let nobody = Refusing::new();
    let world = World::with(|config| config.gitlab.url = nobody.url()).await;
    let answer = send(&world, &job).await;
    answer.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    assert!(answer.took < Duration::from_secs(4), "{:?}", answer.took);
}

/// Scenario: positive answers whose headers forbid or do not allow keeping them.
/// Guarantees: each export asks again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_kept_is_asked_each_time() {
    let job = Job::new(1);
    let answer = || Script::status(200).body(job.answer().to_string());
    for (name, script) in [
        ("no Cache-Control", answer()),
        ("zero", answer().header("cache-control", "private, max-age=0")),
        ("no-store", answer().header("cache-control", "no-store, max-age=300")),
        ("unreadable", answer().header("cache-control", "private, max-age=soon")),
        ("negative", answer().header("cache-control", "private, max-age=-5")),
    ] {
        let world = World::start().await;
        world.authority.know(&job, script);
        for _ in 0..3 {
            send(&world, &job).await.assert_accepted(Form::Protobuf);
        }
        assert_eq!(world.authority.count(), 3, "{name}");
    }
}

/// Scenario: five exports under a verdict for 300 s; then another pair's verdict for 1 s, before and after its end.
/// Guarantees: one question while a verdict holds, and a new one once it ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_is_believed_for_its_time() {
    let world = World::with(|config| config.cache.refresh_ahead = 0.0).await;
    let (long, short) = (Job::new(1), Job::new(2));
    world.authority.allow(&long);
    world.authority.know(&short, Script::allow(&short, 1));
    for form in [Form::Protobuf, Form::Json, Form::Grpc, Form::Protobuf, Form::Grpc] {
        world.send(&Export::of(form, &long, &spans::export(&long, 1))).await.assert_accepted(form);
    }
    assert_eq!(world.authority.count(), 1);
    send(&world, &short).await.assert_accepted(Form::Protobuf);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    send(&world, &short).await.assert_accepted(Form::Protobuf);
    assert_eq!(world.authority.count(), 3);
}

/// Scenario: verdicts for 300 s, of a job whose token ended two minutes ago, and of one whose token ended just now.
/// Guarantees: a verdict outlives its job token by 60 s at most, so that a token that is over is asked about each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_does_not_outlive_its_token() {
    let world = World::start().await;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for (seed, ended, questions) in [(1, now - 120, 3), (2, now, 1)] {
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{ended}}}"));
        let job = Job { job_token: format!("glcbt-e30.{payload}.c2ln"), ..Job::new(seed) };
        world.authority.allow(&job);
        let before = world.authority.count();
        for _ in 0..3 {
            send(&world, &job).await.assert_accepted(Form::Protobuf);
        }
        assert_eq!(world.authority.count() - before, questions, "a token that ended at {ended}, now {now}");
    }
}

/// Scenario: a denied pair comes again within `negative_ttl`, in other forms, and after it; GitLab's mind has changed by then.
/// Guarantees: a denial is remembered for that long only. A pair with one byte changed is another question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_is_remembered_for_seconds() {
    assert_eq!(spangate::config::Cache::default().negative_ttl, Duration::from_secs(5));
    let world = World::with(|config| config.cache.negative_ttl = Duration::from_secs(2)).await;
    let job = Job::new(1);
    let started = std::time::Instant::now();
    send(&world, &job).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    let grpc = Export::of(Form::Grpc, &job, &spans::export(&job, 1));
    world.send(&grpc).await.assert_refused(Form::Grpc, Refusal::UNAUTHENTICATED);
    // On a machine that is too busy for this the two exports are 2 s apart, and there is nothing to see.
    if started.elapsed() < Duration::from_secs(2) {
        assert_eq!(world.authority.count(), 1);
    }
    let before = world.authority.count();
    let mut other = job.clone();
    other.job_token.push('x');
    send(&world, &other).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    assert_eq!(world.authority.count(), before + 1);
    world.authority.allow(&job);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    send(&world, &job).await.assert_accepted(Form::Protobuf);
}

/// Scenario: GitLab answers 429 and asks for a minute.
/// Guarantees: the runner hears 429 with our own delay of 2 to 15 s, and nothing is remembered against it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttling_authority() {
    for form in Form::ALL {
        let world = World::start().await;
        let job = Job::new(1);
        world.authority.always(Script::status(429).header("retry-after", "60"));
        let answer = world.send(&Export::of(form, &job, &spans::export(&job, 1))).await;
        answer.assert_refused(form, Refusal::RATE_LIMITED);
        assert_eq!(world.authority.count(), 1, "a 429 is no reason to ask again at once");
    }
}

/// Scenario: a verdict has ended when the authority fails, throttles, hangs up or answers nonsense.
/// Guarantees: it serves on within its stale bound; a job in the middle of its work loses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_verdict_bridges_an_outage() {
    let world = World::with(|config| config.gitlab.timeout = Duration::from_millis(500)).await;
    let job = Job::new(1);
    world.authority.know(&job, Script::allow(&job, 1));
    send(&world, &job).await.assert_accepted(Form::Protobuf);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    for script in
        // The 429 comes last: after it the runner's calls pause.
        [
            Script::status(500),
            Script::reset(),
            Script::hang(),
            Script::status(404),
            Script::status(429),
        ]
    {
        world.authority.always(script);
        send(&world, &job).await.assert_accepted(Form::Protobuf);
    }
    assert!(world.authority.count() >= 5, "{} calls", world.authority.count());
    let metrics = world.metrics().await;
    let stale = metrics.sum("spangate_verdicts_total", &[("source", "stale"), ("verdict", "allow")]);
    assert!(stale >= 5.0, "{stale} verdicts from beyond their end");
}

/// Scenario: a pair that was good is denied once, as by a replica that lags behind, then is good again; then it is denied for good.
/// Guarantees: the single denial does no harm; a repeated one is believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_denial_of_a_good_pair_is_asked_about_again() {
    let world = World::with(|config| config.cache.refresh_ahead = 0.0).await;
    let job = Job::new(1);
    world.authority.know(&job, Script::allow(&job, 1));
    send(&world, &job).await.assert_accepted(Form::Protobuf);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    world.authority.next(Script::status(401));
    send(&world, &job).await.assert_accepted(Form::Protobuf);
    assert_eq!(world.authority.count(), 3);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    world.authority.know(&job, Script::status(401));
    send(&world, &job).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    assert_eq!(world.authority.count(), 5);
}

/// Scenario: 200 exports with one new pair at once, while the authority takes 300 ms.
/// Guarantees: it is asked once, and all of them are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_question_for_many_who_wait() {
    let world = World::with(unlimited).await;
    let job = Job::new(1);
    world.authority.know(&job, Script::allow(&job, 300).delay(Duration::from_millis(300)));
    let export = export(&job);
    let answers = join_all((0..200).map(|_| world.send(&export))).await;
    for answer in answers {
        answer.assert_accepted(Form::Protobuf);
    }
    assert_eq!(world.authority.count(), 1);
    assert_eq!(world.collector.count(), 200);
}

/// Scenario: 100 different pairs at once against a cap of 4 questions in flight.
/// Guarantees: the authority never sees more than the cap, and all are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_in_flight_are_capped() {
    let world = World::with(|config| {
        unlimited(config);
        config.gitlab.max_concurrency = 4;
        // Waiting for a place counts: this test is not about how long a busy machine makes it.
        config.gitlab.timeout = Duration::from_secs(20);
        config.intake.deadline = Duration::from_secs(25);
    })
    .await;
    let jobs: Vec<Job> = (1..=100).map(Job::new).collect();
    for job in &jobs {
        world.authority.know(job, Script::allow(job, 300).delay(Duration::from_millis(10)));
    }
    let exports: Vec<Export> = jobs.iter().map(export).collect();
    for answer in join_all(exports.iter().map(|export| world.send(export))).await {
        answer.assert_accepted(Form::Protobuf);
    }
    assert!(world.authority.most_in_flight() <= 4, "{} at once", world.authority.most_in_flight());
}

/// Scenario: the caller whose export caused the question hangs up while another one waits for the same answer.
/// Guarantees: the other one is served, by the one question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_hangs_up_cancels_nothing() {
    let world = World::start().await;
    let job = Job::new(1);
    world.authority.know(&job, Script::allow(&job, 300).delay(Duration::from_millis(600)));
    let (address, first) = (world.address(), export(&job));
    let first = tokio::spawn(async move { first.send(address).await });
    eventually("the question is asked", || async { world.authority.count() == 1 }).await;
    let second = export(&job);
    let second = tokio::spawn(async move { second.send(address).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.abort();
    second.await.unwrap().assert_accepted(Form::Protobuf);
    assert_eq!(world.authority.count(), 1);
}

/// Scenario: the gateway asks, with and without a secret.
/// Guarantees: the question has the contract's form (the fake checks the rest), and a secret signs it as GitLab's other parts do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_question_has_the_contracts_form() {
    let job = Job::new(1);
    let plain = World::start().await;
    plain.authority.allow(&job);
    send(&plain, &job).await.assert_accepted(Form::Protobuf);
    let call: Call = plain.authority.calls().remove(0);
    assert_eq!(call.headers["runner-token"], job.runner_token.as_str());
    assert_eq!(call.headers["job-token"], job.job_token.as_str());
    assert_eq!(call.headers["x-forwarded-for"], "127.0.0.1");
    assert!(!call.headers.contains_key("gitlab-ci-telemetry-api-request"));

    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("secret");
    let key = *b"0123456789abcdef0123456789abcdef";
    std::fs::write(&file, base64::engine::general_purpose::STANDARD.encode(key) + "\n").unwrap();
    let signed = World::with(|config| config.gitlab.secret_file = file.clone()).await;
    signed.authority.allow(&job);
    send(&signed, &job).await.assert_accepted(Form::Protobuf);
    let call = signed.authority.calls().remove(0);
    let token = call.headers["gitlab-ci-telemetry-api-request"].to_str().unwrap();
    let mut rules = Validation::new(Algorithm::HS256);
    rules.set_issuer(&["gitlab-ci-telemetry-gateway"]);
    rules.set_audience(&["gitlab"]);
    rules.set_required_spec_claims(&["iss", "aud", "exp", "nbf"]);
    rules.validate_nbf = true;
    let claims =
        jsonwebtoken::decode::<Value>(token, &DecodingKey::from_secret(&key), &rules).unwrap().claims;
    let time = |name: &str| claims[name].as_u64().unwrap_or_else(|| panic!("{name} in {claims}"));
    assert_eq!(time("nbf"), time("iat") - 5);
    assert_eq!(time("exp"), time("iat") + 30);
}

/// Scenario: GitLab lives below a relative URL root.
/// Guarantees: the root stays in front of the endpoint's path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relative_url_root_is_kept() {
    let world = World::with(|config| config.gitlab.url.push_str("/gitlab/")).await;
    let job = Job::new(1);
    world.authority.allow(&job);
    send(&world, &job).await.assert_accepted(Form::Protobuf);
    let problems = world.authority.take_problems();
    assert_eq!(problems, ["path /gitlab/api/v4/internal/ci/telemetry/auth"]);
}
