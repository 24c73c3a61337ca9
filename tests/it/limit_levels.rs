//! The levels above the job, over the wire: who shares a limit, what a refused sender is told, and that
//! nothing stays charged for what came to nothing.

use std::time::Duration;

use futures_util::future::join_all;
use spangate::config::{LevelRates, Limits, Listener, Mode, PerRunner, units::ByteSize};

use crate::support::{
    answer::{Answer, Refusal},
    client::{Export, Form},
    collector::Reply,
    job::Job,
    spans,
    world::{World, loopback, unlimited},
};

fn rates([requests, spans, bytes]: [u32; 3], burst: u64) -> LevelRates {
    LevelRates {
        requests_per_second: requests,
        spans_per_second: spans,
        bytes_per_second: ByteSize(bytes.into()),
        burst: Duration::from_secs(burst),
        mode: Mode::Enforce,
    }
}

/// One export passes, as a debt of as many seconds as it has bytes.
fn one_export() -> LevelRates {
    rates([0, 0, 1], 1)
}

/// A world with two listeners and no limit but these.
async fn world(change: impl FnOnce(&mut Limits)) -> World {
    World::with(|config| {
        unlimited(config);
        config.listeners.push(Listener { name: "others".into(), address: loopback(), ..Listener::default() });
        change(&mut config.limits);
    })
    .await
}

/// Two jobs of one project, and one of another.
fn jobs(world: &World) -> [Job; 3] {
    let mut jobs = [Job::new(1), Job::new(2), Job::new(3)];
    jobs[1].project_id = jobs[0].project_id;
    for job in &jobs {
        world.authority.allow(job);
    }
    jobs
}

fn export(job: &Job) -> Export {
    Export::of(Form::Protobuf, job, &spans::export(job, 2))
}

fn fields(answer: &Answer) -> (&str, &str) {
    (answer.header("ratelimit-policy").unwrap(), answer.header("ratelimit").unwrap())
}

/// Scenario: one export uses up the bytes of each project, of each listener, of all; then another job of that project sends,
/// and one of another project, this one also through another listener.
/// Guarantees: who shares the level with the first is refused by just that limit, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn levels_are_shared_over_the_wire() {
    type Set = fn(&mut Limits, LevelRates);
    let levels: [(&str, Set, [bool; 4]); 3] = [
        ("project_bytes", |limits, rates| limits.per_project = rates, [true, false, true, false]),
        ("listener_bytes", |limits, rates| limits.per_listener = rates, [true, false, false, true]),
        ("global_bytes", |limits, rates| limits.global = rates, [true, false, false, false]),
    ];
    for (name, set, passes) in levels {
        let world = world(|limits| set(limits, one_export())).await;
        let [first, second, third] = jobs(&world);
        let (runners, others) = (world.address(), world.running.listener("others").unwrap());
        let sent = [(&first, runners), (&second, runners), (&third, runners), (&third, others)];
        for ((job, to), passes) in sent.into_iter().zip(passes) {
            let answer = export(job).send(to).await;
            if passes {
                answer.assert_accepted(Form::Protobuf);
            } else {
                answer.assert_refused(Form::Protobuf, Refusal::RATE_LIMITED);
                assert_eq!(fields(&answer).0, format!("\"{name}\";q=1;qu=\"content-bytes\";w=1"));
            }
        }
    }
}

/// Scenario: a limit of requests, of spans and of bytes is met in each form, once with `throttle_status: 503`.
/// Guarantees: over HTTP 429 or 503 with `Retry-After` and both fields, which agree on the wait; over gRPC
/// `RESOURCE_EXHAUSTED` with `RetryInfo`, whatever the status is set to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sender_is_told_which_limit_and_how_long() {
    let refusals = [(429, Refusal::RATE_LIMITED), (503, Refusal { http: 503, ..Refusal::RATE_LIMITED })];
    for (status, refusal) in refusals {
        for (set, policy) in [
            (rates([1, 0, 0], 2), "\"global_requests\";q=2;w=2"),
            (rates([0, 1, 0], 600), "\"global_spans\";q=600;qu=\"spans\";w=600"),
            (rates([0, 0, 1], 600), "\"global_bytes\";q=600;qu=\"content-bytes\";w=600"),
        ] {
            let world = world(|limits| {
                limits.global = set;
                limits.throttle_status = status;
            })
            .await;
            let [job, ..] = jobs(&world);
            for form in Form::ALL {
                let export = Export::of(form, &job, &spans::export(&job, 300));
                let answers = join_all((0..8).map(|_| world.send(&export))).await;
                let refused = answers.iter().find(|answer| !answer.is_success(form)).unwrap();
                refused.assert_refused(form, refusal);
                if form == Form::Grpc {
                    assert_eq!(refused.header("ratelimit-policy"), None);
                    continue;
                }
                let (told, left) = fields(refused);
                assert_eq!(told, policy);
                let (name, _) = policy.split_once(';').unwrap();
                let wait = refused.header("retry-after").unwrap();
                assert!(left.starts_with(&format!("{name};r=")), "{left}");
                assert!(left.ends_with(&format!(";t={wait}")), "{left} {wait}");
            }
        }
    }
}

/// Scenario: one export uses up the bytes of every level; five come to nothing because the collector fails, then one comes
/// through, then one more is sent.
/// Guarantees: all levels gave back what came to nothing, and keep what did not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_levels_are_given_back() {
    let world = world(|limits| {
        (limits.global, limits.per_listener, limits.per_project) = (one_export(), one_export(), one_export());
        limits.per_runner = PerRunner { bytes_per_second: ByteSize(1), ..PerRunner::default() };
    })
    .await;
    let [job, ..] = jobs(&world);
    world.collector.always(Reply::Refuse { http: 503, grpc: 14, retry_after: None });
    for _ in 0..5 {
        world.send(&export(&job)).await.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    }
    world.collector.always(Reply::Accept);
    world.send(&export(&job)).await.assert_accepted(Form::Protobuf);
    world.send(&export(&job)).await.assert_refused(Form::Protobuf, Refusal::RATE_LIMITED);
}
