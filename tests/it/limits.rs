//! Rates: a job that sends too fast, a client that keeps failing. Who is within the limits must not
//! feel those who are not.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use spangate::{
    config::{Config, Mode, units::ByteSize},
    otlp::compression::Encoding,
};

use crate::{
    early_answer::Upload,
    support::{
        answer::Refusal,
        authority::Script,
        client::{Export, Form, Wire},
        job::Job,
        session::Session,
        spans,
        world::World,
    },
};

fn slow_jobs(config: &mut Config) {
    config.limits.per_job.requests_per_second = 5;
    config.limits.per_job.burst = Duration::from_secs(1);
}

/// Scenario: a job sends 30 exports at once where 5 a second are allowed, in each form; another job sends one.
/// Guarantees: 429 / `RESOURCE_EXHAUSTED` with a delay for what is too much; the first few and the other job pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_has_a_rate() {
    for form in Form::ALL {
        let world = World::with(slow_jobs).await;
        let (eager, calm) = (Job::new(1), Job::new(2));
        world.authority.allow(&eager);
        world.authority.allow(&calm);
        let export = Export::of(form, &eager, &spans::export(&eager, 1));
        let started = Instant::now();
        let answers = join_all((0..30).map(|_| world.send(&export))).await;
        let (passed, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.is_success(form));
        for answer in &refused {
            answer.assert_refused(form, Refusal::RATE_LIMITED);
        }
        // Five at once, and one more for every 200 ms that this took.
        let most = 6 + usize::try_from(started.elapsed().as_millis() / 200).unwrap();
        assert!((5..=most).contains(&passed.len()), "{} of 30 passed", passed.len());
        assert_eq!(world.collector.count(), passed.len());
        let calm = Export::of(form, &calm, &spans::export(&calm, 1));
        world.send(&calm).await.assert_accepted(form);
    }
}

/// Scenario: the same 30 exports with the limits in `shadow` and in `off`.
/// Guarantees: all pass; `shadow` counts what it would have refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadowed_rate_only_counts() {
    for mode in [Mode::Shadow, Mode::Off] {
        let world = World::with(|config| {
            slow_jobs(config);
            config.limits.per_job.mode = mode;
        })
        .await;
        let job = Job::new(1);
        world.authority.allow(&job);
        let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
        for answer in join_all((0..30).map(|_| world.send(&export))).await {
            answer.assert_accepted(Form::Protobuf);
        }
        let labels = [("limit", "job_requests"), ("decision", "would_refuse")];
        let counted = world.metrics().await.sum("spangate_limit_decisions_total", &labels);
        assert_eq!(counted > 0.0, mode == Mode::Shadow, "{counted} under {mode:?}");
    }
}

/// Scenario: a job sends more spans, or more bytes, in a second than it may, with few requests.
/// Guarantees: 429 with a delay, and nothing of the refused request arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_and_bytes_have_rates() {
    let spans_rate = |config: &mut Config| config.limits.per_job.spans_per_second = 50;
    let bytes_rate = |config: &mut Config| config.limits.per_job.bytes_per_second = ByteSize(32 << 10);
    for limit in [spans_rate as fn(&mut Config), bytes_rate] {
        let world = World::with(limit).await;
        let job = Job::new(1);
        world.authority.allow(&job);
        // Two seconds' worth may come at once: one export of these passes, a second does not.
        let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 80));
        world.send(&export).await.assert_accepted(Form::Protobuf);
        let answer = world.send(&export).await;
        answer.assert_refused(Form::Protobuf, Refusal::RATE_LIMITED);
        assert_eq!(world.collector.count(), 1);
    }
}

/// Scenario: a job sends JSON whose every byte is in keys that no reader knows, then more of it; a job whose bytes
/// are used up goes on sending.
/// Guarantees: bytes that were only parsed are charged too, and a request that was refused for its bytes counts
/// as a request: neither is a way to make the gateway work for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_in_vain_is_charged() {
    let world = World::with(|config| {
        slow_jobs(config);
        config.limits.per_job.bytes_per_second = ByteSize(64 << 10);
    })
    .await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let junk = format!("{{\"unknown\":\"{}\"}}", "x".repeat(60 << 10));
    let export = Export::raw(Form::Json, junk).tokens(&job);
    world.send(&export).await.assert_accepted(Form::Json);
    let mut reasons = Vec::new();
    for _ in 0..8 {
        let answer = world.send(&export).await;
        reasons.push(answer.assert_refused(Form::Json, Refusal::RATE_LIMITED));
    }
    assert!(reasons[0].contains("job_bytes"), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("job_requests")), "{reasons:?}");
    assert_eq!(world.collector.count(), 0);
}

/// Scenario: a job whose spans are used up goes on sending short exports in each form.
/// Guarantees: what it made the gateway read is charged, until its bytes are used up as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_refused_spans_are_charged() {
    for form in Form::ALL {
        let world = World::with(|config| {
            config.limits.per_job.spans_per_second = 1;
            config.limits.per_job.bytes_per_second = ByteSize(3 << 10);
            config.limits.per_job.burst = Duration::from_secs(8);
        })
        .await;
        let job = Job::new(1);
        world.authority.allow(&job);
        let export = Export::of(form, &job, &spans::export(&job, 9));
        world.send(&export).await.assert_accepted(form);
        for _ in 0..8 {
            world.send(&export).await.assert_refused(form, Refusal::RATE_LIMITED);
        }
        let labels = [("limit", "job_bytes"), ("decision", "refused")];
        assert!(world.metrics().await.sum("spangate_limit_decisions_total", &labels) > 0.0, "{form:?}");
    }
}

/// Scenario: one export with more spans, or more bytes, than the whole burst of the job holds, and a small one after it; the same
/// compressed.
/// Guarantees: the large one arrives whole, because no retry of it could ever be smaller; the next one waits for the
/// debt with a 429 that the exporter honours, never a 413 that it drops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_above_the_burst_is_not_lost() {
    let spans_rate = |config: &mut Config| config.limits.per_job.spans_per_second = 20;
    let bytes_rate = |config: &mut Config| config.limits.per_job.bytes_per_second = ByteSize(2 << 10);
    for limit in [spans_rate as fn(&mut Config), bytes_rate] {
        let world = World::with(limit).await;
        for (seed, form) in (1..).zip(Form::ALL) {
            let job = Job::new(seed);
            world.authority.allow(&job);
            let before = world.collector.count();
            world.send(&Export::of(form, &job, &spans::export(&job, 200))).await.assert_accepted(form);
            assert_eq!(world.collector.count(), before + 1);
            let small = Export::of(form, &job, &spans::export(&job, 1));
            world.send(&small).await.assert_refused(form, Refusal::RATE_LIMITED);
            assert_eq!(world.collector.count(), before + 1);

            let job = Job::new(seed + 100);
            world.authority.allow(&job);
            let long = Export::of(form, &job, &spans::export(&job, 200)).compressed(Encoding::Gzip);
            world.send(&long).await.assert_accepted(form);
            assert_eq!(world.collector.count(), before + 2);
        }
    }
}

/// Scenario: one address sends bad pairs without end; a runner with a good, known pair sends from the same address.
/// Guarantees: after 60 failures in a minute the authority is no longer bothered; the good runner is served on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_limited_per_client() {
    let world = World::start().await;
    let good = Job::new(1);
    world.authority.allow(&good);
    let honest = Export::of(Form::Protobuf, &good, &spans::export(&good, 1));
    world.send(&honest).await.assert_accepted(Form::Protobuf);
    let asked = world.authority.count();
    let started = Instant::now();
    let mut limited = 0;
    for seed in 100..220 {
        let bad = Job::new(seed);
        let before = world.authority.count();
        let answer = world.send(&Export::of(Form::Protobuf, &bad, &spans::export(&bad, 1))).await;
        if answer.status == 429 {
            answer.assert_refused(Form::Protobuf, Refusal::RATE_LIMITED);
            assert_eq!(world.authority.count(), before, "asked although the client is over its limit");
            limited += 1;
        } else {
            answer.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
        }
    }
    let failed = world.authority.count() - asked;
    let most = 61 + usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!((60..=most).contains(&failed), "{failed} failures reached the authority");
    assert_eq!(limited, 120 - failed);
    for _ in 0..3 {
        world.send(&honest).await.assert_accepted(Form::Protobuf);
    }
    let nothing = Export::new(Form::Grpc, &spans::export(&good, 1));
    let answer = world.send(&nothing).await;
    assert!([8, 16].contains(&answer.grpc_code().unwrap()), "{answer:?}");
}

/// Scenario: one address sends bad pairs without end over HTTP/2 and gives each request up while the authority thinks.
/// Guarantees: what comes of them is charged to it all the same: soon the authority is no longer bothered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_up_is_no_way_around_the_limit_of_failures() {
    let world = World::with(|config| config.gitlab.ramp = Duration::ZERO).await;
    world.authority.always(Script::status(401).delay(Duration::from_millis(50)));
    let session = Session::open(&Wire::H2c, world.address()).await.unwrap();
    let mut seeds = 100..;
    for _ in 0..10 {
        join_all(seeds.by_ref().take(30).map(|seed| {
            let (mut session, bad) = (session.share(), Job::new(seed));
            async move {
                let export = Export::of(Form::Protobuf, &bad, &spans::export(&bad, 1));
                let patience = Duration::from_millis(20);
                drop(tokio::time::timeout(patience, session.exchange(&export)).await);
            }
        }))
        .await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    // Sixty at once, those that ran meanwhile, and one more for each second.
    assert!((60..=130).contains(&world.authority.count()), "{} questions", world.authority.count());
}

/// Scenario: one address has ninety bad pairs under way at any time, for four seconds, while the authority takes its time.
/// Guarantees: beyond those that ran before the first refusal it is no more than the limit allows, however many come at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_are_no_way_around_the_limit_of_failures() {
    let world = World::with(|config| config.gitlab.ramp = Duration::ZERO).await;
    world.authority.always(Script::status(401).delay(Duration::from_millis(100)));
    let session = Session::open(&Wire::H2c, world.address()).await.unwrap();
    let started = Instant::now();
    join_all((0..90).map(|lane| {
        let mut session = session.share();
        async move {
            for seed in lane * 100_000.. {
                let bad = Job::new(seed);
                let export = Export::of(Form::Protobuf, &bad, &spans::export(&bad, 1));
                session.exchange(&export).await.unwrap();
                if started.elapsed() > Duration::from_secs(4) {
                    break;
                }
            }
        }
    }))
    .await;
    let most = 190 + usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!((60..=most).contains(&world.authority.count()), "{} questions", world.authority.count());
}

/// Scenario: the authority fails for a hundred exports from one address, then recovers.
/// Guarantees: our own trouble is not charged to the client: it is served at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_of_ours_is_no_failure_of_theirs() {
    let world = World::with(|config| config.limits.per_job.mode = Mode::Off).await;
    let job = Job::new(1);
    world.authority.allow(&job);
    world.authority.always(Script::status(500));
    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
    for _ in 0..100 {
        world.send(&export).await.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    }
    world.authority.always(None);
    let world = &world;
    let export = &export;
    crate::support::world::eventually("it is served", || async move {
        let answer = world.send(export).await;
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        answer.status == 200
    })
    .await;
}

/// Scenario: a job uploads more than its burst and stops before the end; then it exports again.
/// Guarantees: what came in vain was held in memory all the same, and is charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_vain_is_charged() {
    let world = World::with(|config| {
        config.limits.per_job.bytes_per_second = ByteSize(4 << 10);
        config.intake.body_timeout = Duration::from_millis(300);
    })
    .await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let mut upload = Upload::begin(world.address(), &job, 200_000).await;
    upload.write(&vec![0; 100_000]).await;
    assert!(upload.answer_head().await.starts_with("HTTP/1.1 503"));
    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
    let answer = world.send(&export).await;
    answer.assert_refused(Form::Protobuf, Refusal::RATE_LIMITED);
    let metrics = world.metrics().await;
    assert!(
        metrics.sum("spangate_limit_decisions_total", &[("limit", "job_bytes"), ("decision", "refused")])
            > 0.5
    );
}
