//! The whole gateway when it is too full, and what it takes for a sender's address: over real sockets, with an authority and
//! a collector.

use std::time::Duration;

use futures_util::future::join_all;
use spangate::config::{Config, Network, ProxyProtocol, ShareOfMemory, units::ByteSize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    early_answer::Upload,
    support::{
        answer::Refusal,
        authority::Script,
        client::{Export, Form, Wire},
        job::Job,
        process::Spangate,
        session::Session,
        spans,
        world::{World, config, eventually, unlimited},
    },
};

/// 100 kB for bodies, and time enough to hold them.
fn little_memory(config: &mut Config) {
    unlimited(config);
    config.intake.max_request_size = ByteSize(100_000);
    config.intake.max_inflated_size = ByteSize(100_000);
    config.intake.max_in_flight_bytes = ShareOfMemory::Fixed(ByteSize(100_000));
    config.intake.deadline = Duration::from_secs(20);
    config.intake.body_timeout = Duration::from_secs(20);
}

/// Scenario: slow uploads hold 80 % of the memory for bodies; senders that are known, that are not, and one without good
/// tokens come, in each form; then the uploads end.
/// Guarantees: known senders are served as ever; others get 503 with a delay, nobody is asked about them, and a malformed
/// credential is still a 401; afterwards all are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_before_known_senders() {
    let world = World::with(little_memory).await;
    let (known, stranger) = (Job::new(1), Job::new(2));
    world.authority.allow(&known);
    world.authority.allow(&stranger);
    world.send(&Export::of(Form::Protobuf, &known, &spans::export(&known, 1))).await;
    let mut slow = Upload::begin(world.address(), &known, 90_000).await;
    slow.write(&vec![0; 82_000]).await;
    let (world, stranger) = (&world, &stranger);
    eventually("strangers are refused", || async move {
        world.metrics().await.sum("spangate_overload_stage", &[]) > 0.5
    })
    .await;
    let asked = world.authority.count();
    for form in Form::ALL {
        world.send(&Export::of(form, &known, &spans::export(&known, 1))).await.assert_accepted(form);
        let export = Export::of(form, stranger, &spans::export(stranger, 1));
        world.send(&export).await.assert_refused(form, Refusal::UNAVAILABLE);
        let none = Export::new(form, &spans::export(stranger, 1));
        world.send(&none).await.assert_refused(form, Refusal::UNAUTHENTICATED);
    }
    assert_eq!(world.authority.count(), asked);
    let metrics = world.metrics().await;
    assert!(metrics.sum("spangate_requests_total", &[("outcome", "shed")]) > 2.5);
    assert!(metrics.sum("spangate_overload_shed_total", &[("stage", "strangers")]) > 2.5);
    drop(slow);
    eventually("all are served again", || async move {
        let export = Export::of(Form::Protobuf, stranger, &spans::export(stranger, 1));
        world.send(&export).await.status == 200
    })
    .await;
}

/// Scenario: a sender's verdict is past its end, GitLab does not answer, and uploads hold 82 % of the memory for bodies; it
/// exports in each form.
/// Guarantees: it is served on its old verdict, as a sender that is known, also over HTTP/2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_that_bridges_is_known() {
    let world = World::with(|config| {
        little_memory(config);
        config.gitlab.timeout = Duration::from_millis(300);
        config.cache.max_ttl = Duration::from_secs(1);
    })
    .await;
    let known = Job::new(1);
    world.authority.allow(&known);
    let mut slow = Upload::begin(world.address(), &known, 90_000).await;
    slow.write(&vec![0; 82_000]).await;
    eventually("the memory is full", async || {
        world.metrics().await.sum("spangate_overload_stage", &[]) > 0.5
    })
    .await;
    world.authority.always(Script::hang());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for form in Form::ALL {
        world.send(&Export::of(form, &known, &spans::export(&known, 1))).await.assert_accepted(form);
    }
    assert!(world.metrics().await.sum("spangate_verdicts_total", &[("source", "stale")]) > 0.5);
}

/// Scenario: GitLab does not answer, and 30 strangers on one HTTP/2 connection send bodies that nobody reads yet; a known
/// sender exports all the time.
/// Guarantees: what strangers may have sent is in the budget for bodies: no more of them wait than 80 % of it hold, the others
/// are told to come again, nothing stays held, and the known sender is served throughout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_bodies_of_strangers_are_in_the_budget() {
    let world = World::with(|config| {
        unlimited(config);
        config.intake.max_request_size = ByteSize(1_000_000);
        config.intake.max_inflated_size = ByteSize(1_000_000);
        config.intake.max_in_flight_bytes = ShareOfMemory::Fixed(ByteSize(1_000_000));
    })
    .await;
    let known = Job::new(100);
    world.authority.allow(&known);
    let small = Export::of(Form::Protobuf, &known, &spans::export(&known, 1));
    world.send(&small).await.assert_accepted(Form::Protobuf);
    world.authority.always(Script::hang());
    let session = Session::open(&Wire::H2c, world.address()).await.unwrap();
    let exchanges = (0..30).map(|seed| {
        let mut session = session.share();
        let export = Export::raw(Form::Protobuf, vec![0; 150_000]).tokens(&Job::new(seed)).over(Wire::H2c);
        tokio::spawn(async move { session.exchange(&export).await.unwrap() })
    });
    let exchanges: Vec<_> = exchanges.collect();
    let mut most = 0.0_f64;
    while !exchanges.iter().all(tokio::task::JoinHandle::is_finished) {
        world.send(&small).await.assert_accepted(Form::Protobuf);
        most = most.max(world.metrics().await.sum("spangate_in_flight_bytes", &[]));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for answer in join_all(exchanges).await {
        answer.unwrap().assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
    }
    assert!((150_000.0..800_000.0).contains(&most), "{most} bytes were held");
    let metrics = world.metrics().await;
    assert!(metrics.sum("spangate_in_flight_bytes", &[]).abs() < 0.5);
    let told = |outcome| metrics.sum("spangate_requests_total", &[("outcome", outcome)]);
    assert!((1.5..5.5).contains(&told("undetermined")), "{} waited for GitLab", told("undetermined"));
    assert!(told("shed") > 24.5, "{}", told("shed"));
}

/// Scenario: strangers hold nearly all places, silent or after a refusal, and go on coming; a known sender exports over
/// connections of its own.
/// Guarantees: each of its exports is taken, and the number of connections stays within its bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_senders_get_through_a_crowd_of_strangers() {
    let world = World::with(|config| {
        unlimited(config);
        config.intake.max_connections = 20;
    })
    .await;
    let known = Job::new(1);
    world.authority.allow(&known);
    let export = Export::of(Form::Protobuf, &known, &spans::export(&known, 1));
    world.send(&export).await.assert_accepted(Form::Protobuf);
    let address = world.address();
    let crowd = tokio::spawn(async move {
        let mut held = std::collections::VecDeque::new();
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // Refused, and idle from then on.
            stream
                .write_all(b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
            held.push_back(stream);
            if held.len() > 200 {
                held.pop_front();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    for _ in 0..30 {
        world.send(&export).await.assert_accepted(Form::Protobuf);
        let open = world.metrics().await.sum("spangate_connections", &[("listener", "runners")]);
        assert!(open <= 20.5, "{open} connections");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    crowd.abort();
    let shed = world.metrics().await;
    assert!(shed.sum("spangate_overload_shed_total", &[("stage", "idle")]) > 0.5);
}

/// Scenario: a crowd takes all places, says nothing, or the beginning of a request, or no more than that it speaks HTTP/2, and goes on
/// coming; a known sender exports over a connection that it has, and over new ones.
/// Guarantees: each of its exports is taken: who asks nothing goes before it, and before its time is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_crowd_pushes_out_no_known_sender() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for said in [&b""[..], b"G", PREFACE] {
        let world = World::with(|config| {
            unlimited(config);
            config.intake.max_connections = 200;
        })
        .await;
        let known = Job::new(1);
        world.authority.allow(&known);
        let export = Export::of(Form::Protobuf, &known, &spans::export(&known, 1));
        let mut session = Session::open(&Wire::Http1, world.address()).await.unwrap();
        session.exchange(&export).await.unwrap().assert_accepted(Form::Protobuf);
        let address = world.address();
        let crowd = tokio::spawn(async move {
            let mut held = std::collections::VecDeque::new();
            loop {
                let mut stream = TcpStream::connect(address).await.unwrap();
                // One that is closed already is as good.
                drop(stream.write_all(said).await);
                held.push_back(stream);
                if held.len() > 400 {
                    held.pop_front();
                } else if held.len() < 200 {
                    continue;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let world = &world;
        eventually("places are short", || async move {
            world.metrics().await.sum("spangate_overload_shed_total", &[("stage", "idle")]) > 0.5
        })
        .await;
        for _ in 0..30 {
            session.exchange(&export).await.unwrap().assert_accepted(Form::Protobuf);
            world.send(&export).await.assert_accepted(Form::Protobuf);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!crowd.is_finished(), "the crowd did not hold out");
        crowd.abort();
    }
}

fn hops(config: &mut Config, networks: &[&str]) {
    let networks = networks.iter().map(|text| text.parse::<Network>().unwrap());
    config.listeners[0].trusted_hops = networks.collect();
}

/// Scenario: the peer is a trusted hop and forwards for two clients, one of which fails all the time; then a hop's header is
/// garbage; then the peer is no hop and claims to forward.
/// Guarantees: GitLab is told the client; failures are the client's own and lock out no other; who may not forward
/// is itself, and so is a hop with an unreadable header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_behind_a_hop_is_found() {
    for (hop, expected) in [("127.0.0.0/8", "192.0.2.9"), ("192.0.2.0/24", "127.0.0.1")] {
        let world = World::with(|config| {
            hops(config, &[hop]);
            config.limits.per_client_failures.per_minute = 3;
        })
        .await;
        let job = Job::new(1);
        world.authority.allow(&job);
        let export = |job: &Job, forwarded: &str| {
            Export::of(Form::Protobuf, job, &spans::export(job, 1)).header("x-forwarded-for", forwarded)
        };
        world.send(&export(&job, "198.51.100.1, 192.0.2.9")).await.assert_accepted(Form::Protobuf);
        assert_eq!(world.authority.calls()[0].headers["x-forwarded-for"], expected);
        if expected == "127.0.0.1" {
            continue;
        }
        let chain = vec!["127.0.0.1"; 3000].join(",");
        for (index, forwarded) in ["192.0.2.9, garbage", "", &chain].into_iter().enumerate() {
            let job = Job::new(10 + index as u64);
            world.authority.allow(&job);
            world.send(&export(&job, forwarded)).await.assert_accepted(Form::Protobuf);
            let told = world.authority.calls().last().unwrap().headers["x-forwarded-for"].clone();
            assert_eq!(told, "127.0.0.1", "{forwarded}");
        }
        for bad in 20..24 {
            world.send(&export(&Job::new(bad), "192.0.2.66")).await;
        }
        let (one, other) = (Job::new(30), Job::new(31));
        world.authority.allow(&one);
        world.authority.allow(&other);
        let locked = world.send(&export(&one, "192.0.2.66")).await;
        locked.assert_refused(Form::Protobuf, Refusal::RATE_LIMITED);
        world.send(&export(&other, "192.0.2.67")).await.assert_accepted(Form::Protobuf);
    }
}

/// Scenario: a hop sends a PROXY header that names a client, and another hop behind it forwards for a third.
/// Guarantees: the header names the peer; `X-Forwarded-For` counts only where that peer is a hop too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_header_and_forwarding_go_together() {
    let world = World::with(|config| {
        hops(config, &["127.0.0.0/8", "10.0.0.0/8"]);
        config.listeners[0].proxy_protocol = ProxyProtocol::V1;
    })
    .await;
    for (index, (source, expected)) in
        [("192.0.2.9", "192.0.2.9"), ("10.0.0.7", "198.51.100.1")].into_iter().enumerate()
    {
        let job = Job::new(1 + index as u64);
        world.authority.allow(&job);
        let mut stream = TcpStream::connect(world.address()).await.unwrap();
        let head = format!(
            "PROXY TCP4 {source} 10.0.0.1 4711 4318\r\n\
             POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\n\
             X-Forwarded-For: 198.51.100.1\r\nRunner-Token: {}\r\nJob-Token: {}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n",
            job.runner_token, job.job_token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let told = world.authority.calls().last().unwrap().headers["x-forwarded-for"].clone();
        assert_eq!(told, expected, "{source}");
    }
}

/// Scenario: the real process with three connections; its limit of file descriptors falls to what it has open, and more
/// connections come; then the limit rises again.
/// Guarantees: held connections still work, the process counts what it could not accept and hardly uses the processor, and
/// those who waited are served once there are descriptors again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lack_of_descriptors_is_survived() {
    let mut config = config("http://127.0.0.1:1", "http://127.0.0.1:1");
    config.intake.stranger_idle_timeout = Duration::from_mins(1);
    config.intake.header_timeout = Duration::from_mins(1);
    let spangate = Spangate::start(&config).await;
    let ask = async |stream: &mut TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 404"), "{:?}", &answer[..length]);
    };
    let mut held = TcpStream::connect(spangate.address()).await.unwrap();
    ask(&mut held).await;
    let mut scraper = TcpStream::connect(spangate.admin()).await.unwrap();
    let pid = spangate.pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = limit_descriptors(pid, open);
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(TcpStream::connect(spangate.address()).await.unwrap());
    }
    let spent = processor_ticks(pid);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let spent = processor_ticks(pid) - spent;
    assert!(spent < 20, "{spent} ticks of 10 ms in 600 ms");
    ask(&mut held).await;
    scraper.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut metrics = String::new();
    scraper.read_to_string(&mut metrics).await.unwrap();
    let failed = "spangate_connection_errors_total{listener=\"runners\",reason=\"accept\"} ";
    let failed = metrics.lines().find_map(|line| line.strip_prefix(failed)).unwrap();
    assert!(failed.parse::<u64>().unwrap() >= 2, "{failed}");
    limit_descriptors(pid, before);
    for stream in &mut waiting {
        ask(stream).await;
    }
}

/// Sets the soft limit of open files of a process of ours, and says what it was.
fn limit_descriptors(pid: u32, most: usize) -> usize {
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new("prlimit").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let pid = format!("--pid={pid}");
    let before = run(&[&pid, "--nofile", "--noheadings", "--raw", "--output=SOFT"]);
    run(&[&pid, &format!("--nofile={most}:")]);
    before.trim().parse().unwrap()
}

/// Processor time, user and system (proc(5)).
fn processor_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
