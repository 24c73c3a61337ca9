//! GitLab in trouble, over real sockets: how soon it is left alone, what runners are told meanwhile,
//! and how it is asked again. Figures under a crowd stand with the guard itself, in virtual time.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use spangate::config::Config;

use crate::support::{
    answer::{Answer, Refusal},
    authority::Script,
    client::{Export, Form},
    job::Job,
    logs::Captured,
    spans,
    world::{World, eventually, unlimited},
};

const BREAKER: &str = "spangate_authority_breaker_state";
const SHED: &str = "spangate_authority_shed_total";

async fn send(world: &World, job: &Job) -> Answer {
    world.send(&Export::of(Form::Protobuf, job, &spans::export(job, 1))).await
}

/// Quick to open, and to try again.
fn quick(config: &mut Config) {
    unlimited(config);
    config.gitlab.timeout = Duration::from_millis(400);
    config.gitlab.breaker.faults = 4;
    config.gitlab.breaker.max_open = Duration::from_secs(1);
    config.cache.refresh_ahead = 0.0;
}

async fn breaker(world: &World) -> f64 {
    world.metrics().await.sum(BREAKER, &[])
}

/// Sends exports of new jobs, from number `first`, until the breaker is open; each is told to come back.
async fn open(world: &World, name: &str, first: u64) {
    for job in first..first + 100 {
        let answer = send(world, &Job::new(job)).await;
        answer.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
        if world.metrics().await.sum(SHED, &[("reason", "breaker_open")]) > 0.0 {
            return;
        }
    }
    panic!("{name}: it never opens");
}

/// Scenario: a GitLab that hangs, is slow, resets connections, answers garbage, 500, 404 or a redirect, each met by a gateway of
/// its own with one known job; then it recovers.
/// Guarantees: never a 401 or 403; the breaker opens, and from then on new jobs are told at once and without a call, but for
/// trials; the known job is served all the time; ten seconds after the recovery, at the latest, all are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gitlab_in_trouble_is_left_alone() {
    let slow = Script::allow(&Job::new(1), 300).delay(Duration::from_millis(800));
    let troubles = [
        ("hang", Script::hang()),
        ("slow", slow),
        ("reset", Script::reset()),
        ("garbage", Script::status(200).body("<html>Sign in</html>")),
        ("500", Script::status(500)),
        ("404", Script::status(404)),
        ("302", Script::status(302).header("location", "/")),
    ];
    join_all(troubles.map(|(name, script)| async move {
        let world = World::with(quick).await;
        let (known, fresh) = (Job::new(1), Job::new(2));
        world.authority.know(&known, Script::allow(&known, 1));
        send(&world, &known).await.assert_accepted(Form::Protobuf);
        tokio::time::sleep(Duration::from_millis(1100)).await;

        world.authority.always(script);
        open(&world, name, 1_000).await;
        let (before, began) = (world.authority.count(), Instant::now());
        for job in 2_000..2_040 {
            let answer = send(&world, &Job::new(job)).await;
            answer.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
            send(&world, &known).await.assert_accepted(Form::Protobuf);
        }
        // A trial each 750 ms or more, however long this took.
        let trials = usize::try_from(began.elapsed().as_millis() / 750).unwrap() + 1;
        let asked = world.authority.count() - before;
        assert!(asked <= trials, "{name}: {asked} calls past an open breaker");

        world.authority.always(None);
        world.authority.allow(&known);
        world.authority.allow(&fresh);
        let back = Instant::now();
        let (world, fresh) = (&world, &fresh);
        eventually("new jobs are served again", || async move {
            let answer = send(world, fresh).await;
            assert!([200, 503].contains(&answer.status), "{name}: {answer:?}");
            answer.status == 200
        })
        .await;
        assert!(back.elapsed() < Duration::from_secs(10), "{name}: after {:?}", back.elapsed());
        assert_eq!(format!("{name} {}", breaker(world).await), format!("{name} 0"));
    }))
    .await;
}

/// Scenario: sixty wrong pairs, then sixty with tokens so odd that GitLab's own web server answers 400, 413 or 431.
/// Guarantees: nobody can shut others out with tokens: the breaker stays closed, and a new job is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sender_can_open_the_breaker() {
    let world = World::with(quick).await;
    for status in [401, 403, 400, 413, 422, 431] {
        world.authority.always(Script::status(status));
        join_all((0..20).map(|job| {
            let (world, job) = (&world, Job::new(u64::from(status) * 100 + job));
            async move { send(world, &job).await }
        }))
        .await;
    }
    world.authority.always(None);
    let job = Job::new(1);
    world.authority.allow(&job);
    send(&world, &job).await.assert_accepted(Form::Protobuf);
    assert!(world.authority.count() > 100, "{} calls", world.authority.count());
    assert_eq!(format!("{}", breaker(&world).await), "0");
}

/// Scenario: GitLab answers one job of a runner with 429 and a minute; another job of that runner has a verdict that has ended.
/// Guarantees: that runner's other jobs cause no call and hear 429 with 2 to 15 s, the one with the old verdict is served, and so
/// are other runners.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_429_pauses_one_runner() {
    let world = World::with(quick).await;
    let runner = Job::new(1).runner_token;
    let [stale, first, second] = [1, 2, 3].map(|seed| Job { runner_token: runner.clone(), ..Job::new(seed) });
    let other = Job::new(4);
    world.authority.know(&stale, Script::allow(&stale, 1));
    for job in [&first, &second, &other] {
        world.authority.allow(job);
    }
    send(&world, &stale).await.assert_accepted(Form::Protobuf);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.authority.next(Script::status(429).header("retry-after", "60"));
    send(&world, &first).await.assert_refused(Form::Protobuf, Refusal::RATE_LIMITED);
    assert_eq!(world.authority.count(), 2);
    for form in Form::ALL {
        let export = Export::of(form, &second, &spans::export(&second, 1));
        world.send(&export).await.assert_refused(form, Refusal::RATE_LIMITED);
    }
    send(&world, &stale).await.assert_accepted(Form::Protobuf);
    assert_eq!(world.authority.count(), 2, "the runner is paused");
    send(&world, &other).await.assert_accepted(Form::Protobuf);
    let paused = world.metrics().await.sum(SHED, &[("reason", "paused")]);
    assert!((paused - 4.0).abs() < 0.5, "{paused} questions were held back");
}

/// Scenario: about one job GitLab says good, 500, good, 401 (of a replica that lags behind) and then good, as verdicts end.
/// Guarantees: the job is never denied or refused; the 401 alone is asked about a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flip_flop_denies_nobody() {
    let world = World::with(quick).await;
    let job = Job::new(1);
    world.authority.know(&job, Script::allow(&job, 1));
    for (word, questions) in [(None, 1), (Some(500), 2), (None, 3), (Some(401), 5), (None, 6)] {
        if let Some(status) = word {
            world.authority.next(Script::status(status));
        }
        send(&world, &job).await.assert_accepted(Form::Protobuf);
        assert_eq!(world.authority.count(), questions, "{word:?}");
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
}

/// Scenario: the breaker opens, a reload follows, and GitLab comes back.
/// Guarantees: the reload neither asks GitLab nor forgets that it is down. Opening is told as a warning that says what to do,
/// closing as news, each once; no line holds a token.
#[tokio::test]
async fn a_reload_does_not_forget_an_outage() {
    let captured = Captured::start();
    let world = World::with(|config| {
        quick(config);
        config.gitlab.breaker.max_open = Duration::from_secs(2);
    })
    .await;
    world.authority.always(Script::status(500));
    open(&world, "500", 1).await;
    let before = world.authority.count();
    world.running.reload(&world.config).expect("a good configuration");
    send(&world, &Job::new(500)).await.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    assert_eq!(format!("{}", breaker(&world).await), "2");
    assert!(world.authority.count() <= before + 1, "a trial at most");
    world.authority.always(None);
    let job = Job::new(600);
    world.authority.allow(&job);
    eventually("it is asked again", || async { send(&world, &job).await.status == 200 }).await;
    let log = captured.text();
    let lines = |part: &str| log.lines().filter(|line| line.contains(part)).collect::<Vec<_>>();
    let [opened] = lines("GitLab is not asked for now")[..] else { panic!("{log}") };
    assert!(opened.contains("WARN") && opened.contains("HTTP status 500"), "{opened}");
    let [closed] = lines("GitLab answers again")[..] else { panic!("{log}") };
    assert!(closed.contains("INFO"), "{closed}");
    assert!(!log.contains("Secret"), "a token in the log");
}

/// Scenario: GitLab hangs, one question may be in flight and none may wait; twenty exports of new jobs come at once.
/// Guarantees: all but one are shed, and a warning tells why and where to look, at most once a second.
#[tokio::test]
async fn a_full_house_is_told() {
    let captured = Captured::start();
    let world = World::with(|config| {
        quick(config);
        (config.gitlab.max_concurrency, config.gitlab.max_queue) = (1, 0);
    })
    .await;
    world.authority.always(Script::hang());
    let jobs: Vec<_> = (1..=20).map(Job::new).collect();
    join_all(jobs.iter().map(|job| send(&world, job))).await;
    assert!(world.metrics().await.sum(SHED, &[("reason", "busy")]) > 10.0);
    let log = captured.text();
    let told: Vec<_> = log.lines().filter(|line| line.contains("GitLab was not asked, because")).collect();
    assert!((1..=3).contains(&told.len()), "{log}");
    assert!(told[0].contains("WARN") && told[0].contains("gitlab.max_concurrency"), "{}", told[0]);
    assert!(log.contains("cause=\"busy\""), "{log}");
}
