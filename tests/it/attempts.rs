//! Attempts with unknown tokens while they are under way: one address cannot fill the authority's queue,
//! and a fleet that starts behind one address is not held up.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use spangate::config::Mode;

use crate::support::{
    answer::Refusal,
    authority::Script,
    client::{Export, Form, Wire},
    job::Job,
    session::Session,
    spans,
    world::{World, eventually, unlimited},
};

fn export(job: &Job) -> Export {
    Export::of(Form::Protobuf, job, &spans::export(job, 1))
}

/// Scenario: one address sends 100 bad pairs at the same moment to an authority that takes its time, where 20 may be
/// under way; a runner with a good, known pair sends from the same address meanwhile.
/// Guarantees: the authority is asked 20 questions, the rest get 429 that names the limit; the known runner
/// is served; the 20 failures are charged, so that fewer may be under way afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_can_not_fill_the_queue() {
    let world = World::with(|config| {
        config.limits.per_client_failures.max_in_flight = 20;
        config.gitlab.ramp = Duration::ZERO;
    })
    .await;
    let good = Job::new(1);
    world.authority.allow(&good);
    world.send(&export(&good)).await.assert_accepted(Form::Protobuf);
    let asked = world.authority.count();
    world.authority.always(Script::status(401).delay(Duration::from_secs(1)));

    let flood = |seeds: std::ops::Range<u64>| {
        let world = &world;
        join_all(seeds.map(|seed| async move { world.send(&export(&Job::new(seed))).await }))
    };
    let honest = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            world.send(&export(&good)).await.assert_accepted(Form::Protobuf);
        }
    };
    let (answers, ()) = tokio::join!(flood(100..200), honest);
    let limited: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    for answer in &limited {
        answer.assert_refused(Form::Protobuf, Refusal::RATE_LIMITED);
        let policy = answer.header("ratelimit-policy").unwrap();
        assert_eq!(policy, "\"client_in_flight\";q=20;qu=\"concurrent-requests\"");
    }
    assert_eq!((world.authority.count() - asked, limited.len()), (20, 80));

    let answers = flood(200..300).await;
    let asked_again = answers.iter().filter(|answer| answer.status == 401).count();
    // Two thirds of 20, and one more for every three failures that time has given back.
    assert!((13..=16).contains(&asked_again), "{asked_again}");
    let metrics = world.metrics().await.0;
    assert!(metrics.contains("limit=\"client_in_flight\",decision=\"refused\""), "{metrics}");
}

/// Scenario: 120 good jobs, all unknown, begin at the same moment behind one address while the authority takes 100 ms for
/// each answer.
/// Guarantees: every one of them is let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_start_behind_one_address_is_let_in() {
    // All of the authority from the start.
    let world = World::with(|config| config.gitlab.ramp = Duration::ZERO).await;
    let jobs: Vec<_> = (1..=120).map(Job::new).collect();
    for job in &jobs {
        world.authority.know(job, Script::allow(job, 300).delay(Duration::from_millis(100)));
    }
    let exports: Vec<_> = jobs.iter().map(export).collect();
    for answer in join_all(exports.iter().map(|export| world.send(export))).await {
        answer.assert_accepted(Form::Protobuf);
    }
    assert_eq!(world.authority.count(), 120);
}

/// Scenario: where five attempts may be under way, an address begins 50 that the authority never answers, and hangs up;
/// twice.
/// Guarantees: their places come back, at no cost: a good job is let in afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_up_gives_its_place_back() {
    let world = World::with(|config| {
        unlimited(config);
        config.limits.per_client_failures = spangate::config::PerClientFailures {
            max_in_flight: 5,
            ..spangate::config::PerClientFailures::default()
        };
    })
    .await;
    let good = Job::new(1);
    world.authority.allow(&good);
    let address = world.address();
    for round in 0..2 {
        world.authority.always(Script::hang());
        let hanging: Vec<_> = (0..50)
            .map(|seed| {
                let export = export(&Job::new(1_000 + 100 * round + seed));
                tokio::spawn(async move { drop(export.try_send(address).await) })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        hanging.iter().for_each(tokio::task::JoinHandle::abort);
        world.authority.always(None);
        let (world, export) = (&world, export(&good));
        let export = &export;
        eventually("a good job is let in", || async move { world.send(export).await.status == 200 }).await;
    }
}

/// Scenario: an address has failed as often as it may and goes on over one connection, with bad pairs and with none: over HTTP/1.1, over
/// HTTP/2, behind a hop, and with the limit in shadow.
/// Guarantees: over a connection of its own each answer that a used-up budget gives takes its 100 ms; else none has to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guesser_is_held_up() {
    for (wire, mode, forwarded, is_held) in [
        (Wire::Http1, Mode::Enforce, None, true),
        (Wire::H2c, Mode::Enforce, None, false),
        (Wire::Http1, Mode::Enforce, Some("192.0.2.9"), false),
        (Wire::Http1, Mode::Shadow, None, false),
    ] {
        let world = World::with(|config| {
            config.limits.per_client_failures.per_minute = 1;
            config.limits.per_client_failures.mode = mode;
            config.listeners[0].trusted_hops = vec!["127.0.0.0/8".parse().unwrap()];
        })
        .await;
        let mut session = Session::open(&wire, world.address()).await.unwrap();
        let mut quickest = Duration::MAX;
        let refused = if mode == Mode::Enforce { [401, 429, 401, 429] } else { [401; 4] };
        for (seed, expected) in (101_u64..).zip([401].into_iter().chain(refused)) {
            let job = Job::new(seed);
            let bare = Export::new(Form::Protobuf, &spans::export(&job, 1));
            let guess = if seed.is_multiple_of(2) { bare } else { export(&job) };
            let guess = match forwarded {
                Some(client) => guess.header("x-forwarded-for", client),
                None => guess,
            };
            let began = Instant::now();
            assert_eq!(
                session.exchange(&guess).await.unwrap().status,
                expected,
                "{seed}, {wire:?}, {mode:?}"
            );
            if seed > 101 {
                quickest = quickest.min(began.elapsed());
            }
        }
        let held = quickest >= Duration::from_millis(100);
        assert_eq!(held, is_held, "{quickest:?}, {wire:?}, {mode:?}, {forwarded:?}");
    }
}
