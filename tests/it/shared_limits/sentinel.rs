//! Shared limits while sentinels make another server the master: real servers, a real failover. It decides nothing
//! about who is elected.

use std::time::{Duration, Instant};

use spangate::config::Topology;
use tempfile::TempDir;

use crate::support::{redis::Redis, world::eventually};

use super::{
    LIMIT,
    fleet::{Fleet, Load, settled},
};

const PASSWORD: &str = "s3cret-Passw0rd";

/// A master, its replica, and three sentinels of which two agree that it is down.
struct Watched {
    master: Redis,
    replica: Redis,
    sentinels: Vec<Redis>,
    /// Holds the files that the sentinels write to.
    _folder: TempDir,
}

impl Watched {
    /// All of them, when they know each other; `None` where no Redis is installed.
    async fn start() -> Option<Self> {
        let secret = ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"];
        let master = Redis::start(&secret)?;
        let port = master.port().to_string();
        let replica = Redis::start(&[&secret[..], &["--replicaof", "127.0.0.1", &port]].concat())?;
        eventually("the replica has all", || async {
            ask(&replica, "INFO").contains("master_link_status:up")
        })
        .await;
        let folder = TempDir::new().unwrap();
        let mut sentinels = Vec::new();
        for place in 0..3 {
            let file = folder.path().join(place.to_string());
            let watch = format!(
                "sentinel monitor main 127.0.0.1 {port} 2\nsentinel auth-pass main {PASSWORD}\n\
                 sentinel down-after-milliseconds main 4000\nsentinel failover-timeout main 2000\n"
            );
            std::fs::write(&file, watch).unwrap();
            let sentinel = Redis::start_with(Some(&file), &["--sentinel"])?;
            // They talk to each other and to the servers every second or two otherwise.
            let quick = "SENTINEL DEBUG INFO-PERIOD 200 ASK-PERIOD 200 PUBLISH-PERIOD 200 PING-PERIOD 200";
            assert!(sentinel.ask(quick).starts_with("+OK"), "{}", sentinel.ask(quick));
            sentinels.push(sentinel);
        }
        for sentinel in &sentinels {
            let knows = ["slaves=1", "sentinels=3"];
            eventually("each sentinel knows all", || async {
                let told = ask(sentinel, "INFO sentinel");
                knows.iter().all(|part| told.contains(part))
            })
            .await;
        }
        Some(Self { master, replica, sentinels, _folder: folder })
    }

    /// What stands in `url_file`.
    fn urls(&self) -> String {
        let sentinels = self.sentinels.iter().map(Redis::url);
        [format!("redis://:{PASSWORD}@main/0")].into_iter().chain(sentinels).collect::<Vec<_>>().join("\n")
    }
}

/// The answer of a server, which wants the password, or of a sentinel, which does not mind it.
fn ask(server: &Redis, command: &str) -> String {
    try_ask(server, command).unwrap()
}

fn try_ask(server: &Redis, command: &str) -> std::io::Result<String> {
    server.try_ask(&format!("AUTH {PASSWORD}\r\n{command}"))
}

/// One that is just becoming a master cuts its clients off.
fn is_master(server: &Redis) -> bool {
    try_ask(server, "ROLE").is_ok_and(|role| role.contains("master"))
}

/// Scenario: under load the host of the master fails: the master is killed, and the sentinel beside it, the first one in
/// `url_file`, says nothing any more. The other two make the replica the master.
/// Guarantees: no request fails or waits for it; until then each gateway keeps to its share; each finds the new master by
/// itself, although the first sentinel hangs, and all together admit the limit again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_followed() {
    let Some(watched) = Watched::start().await else { return };
    let urls = watched.urls();
    let Watched { master, replica, sentinels, _folder } = watched;
    let mut fleet = Fleet::around(vec![master, replica], &urls, 2, |config| {
        config.limits.per_job.requests_per_second = LIMIT;
        config.limits.per_job.burst = Duration::from_millis(500);
        config.limits.store.topology = Topology::Sentinel;
    })
    .await;
    fleet.all_up(true).await;
    let wanted = f64::from(LIMIT);
    let load = Load::start(&fleet, &fleet.job, [60; 2]);
    load.during(Duration::from_secs(1)).await;
    let failed = Instant::now();
    fleet.redis[0].kill();
    sentinels[0].signal("STOP");
    fleet.serves_newcomers(1_000).await;
    let first = load.during(Duration::from_secs(1)).await;
    println!("first second: {first}");
    // Each may have had up to its own full rate until it noticed.
    assert!(first.admitted_per_second() <= wanted * 2.5, "{first}");
    let elected = eventually("the replica is the master", || async { is_master(&fleet.redis[1]) });
    let away = load.until(elected).await;
    println!("another master after {:?}; until then: {away}", failed.elapsed());
    away.assert_between(wanted * 0.7, wanted * 1.2);
    let joining = load.until(fleet.all_up(true)).await;
    println!("all share again after {:?}; until then: {joining}", failed.elapsed());
    // The first one back has the whole limit, until the other is there to tell what it takes.
    joining.assert_between(0.0, wanted * 2.0);

    let seen = first.and(away).and(joining);
    seen.assert_only_limited();
    seen.assert_not_waiting();
    load.during(Duration::from_secs(1)).await;
    settled("after", std::slice::from_ref(&load), 4, LIMIT, [0.9, 1.1]).await;
    load.stop().await;
    let kept = ask(&fleet.redis[1], "KEYS *");
    assert!(kept.contains(":job:") && kept.contains(":replicas"), "{kept}");
    for gateway in &fleet.gateways {
        let log = gateway.output();
        assert!(!log.contains(PASSWORD), "{log}");
        assert!(log.contains("this replica goes on with its share"), "{log}");
    }
}
