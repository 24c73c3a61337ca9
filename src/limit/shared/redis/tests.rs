//! The scripts and calls against a real server: plain, with a password, over TLS, a cluster, sentinels.

use std::time::Instant;

use super::*;
use crate::{
    config::{StoreType, Topology},
    limit::shared::{pending::Slot, step::CONNECT},
};

#[path = "../../../../tests/it/support/redis.rs"]
#[expect(dead_code, reason = "shared with the integration tests, which use all of it")]
mod server;

use self::server::Redis as Server;

/// A configuration for this text of `url_file`; the folder holds the file.
fn config(urls: &str, topology: Topology) -> (tempfile::TempDir, config::Store) {
    let folder = tempfile::tempdir().unwrap();
    let url_file = folder.path().join("urls");
    std::fs::write(&url_file, urls).unwrap();
    (folder, config::Store { r#type: StoreType::Redis, url_file, topology, ..config::Store::default() })
}

async fn line(urls: &str, topology: Topology) -> Arc<dyn Line> {
    crate::tls::install_provider();
    let (_folder, config) = config(urls, topology);
    Redis::open(&config).unwrap().dial().await.unwrap()
}

fn row(key: u64, rates: [i64; 3], budget: i64) -> Row {
    Row { slot: Slot { level: Level::Job, key }, rates, budget }
}

async fn charge(line: &Arc<dyn Line>, row: Row) -> Seen {
    let seen = line.charge(vec![row]).await.unwrap();
    assert_eq!(seen[0].slot, row.slot);
    seen[0]
}

/// Whether `ahead` is `wanted` less the time since `started`.
fn is_about(ahead: u64, wanted: u64, started: Instant) -> bool {
    let passed = u64::try_from(started.elapsed().as_micros()).unwrap();
    (wanted.saturating_sub(passed + 1_000)..=wanted).contains(&ahead)
}

/// Scenario: two connections charge one job's rates and budget, give some back, give back more than there was; a third
/// key is only looked at; the clock goes on.
/// Guarantees: states are the sums of all charges less the time that passed, never behind the present, and looking
/// leaves no key behind; what has an end in the store ends there.
#[tokio::test]
async fn charges_of_all_add_up() {
    let Some(server) = Server::start(&[]) else { return };
    let (one, other) =
        (line(&server.url(), Topology::Single).await, line(&server.url(), Topology::Single).await);
    let started = Instant::now();
    charge(&one, row(1, [2_000_000, 0, 5_000_000], 10)).await;
    let seen = charge(&other, row(1, [3_000_000, 1_000_000, 0], 7)).await;
    assert!(is_about(seen.ahead[0], 5_000_000, started), "{seen:?}");
    assert!(is_about(seen.ahead[1], 1_000_000, started), "{seen:?}");
    assert!(is_about(seen.ahead[2], 5_000_000, started), "{seen:?}");
    assert_eq!(seen.spent, 17);
    let seen = charge(&one, row(1, [-1_000_000, -9_000_000, 0], -4)).await;
    assert!(is_about(seen.ahead[0], 4_000_000, started), "{seen:?}");
    assert_eq!((seen.ahead[1], seen.spent), (0, 13));
    let seen = charge(&other, row(1, [0; 3], -100)).await;
    assert_eq!(seen.spent, 0);

    let seen = charge(&one, row(2, [0; 3], 0)).await;
    assert_eq!((seen.ahead, seen.spent), ([0; 3], 0));
    charge(&one, row(3, [50_000, 0, 0], 0)).await;
    charge(&one, row(4, [50_000, 0, 0], 1)).await;
    assert!(server.ask("DBSIZE").starts_with(":3"), "{}", server.ask("DBSIZE"));
    let life = |key: u64| {
        let answer = server.ask(&format!("PTTL spangate:{{{key}}}:job:{key:016x}"));
        answer.trim_start_matches(':').lines().next().unwrap().parse::<u64>().unwrap()
    };
    assert!((900..=1_050).contains(&life(3)), "{}", life(3));
    assert!((4_100_000..=4_200_000).contains(&life(4)), "{}", life(4));
}

/// Scenario: a charge of a year; the largest numbers.
/// Guarantees: nobody is kept out for longer than the bound, and the script takes every number.
#[tokio::test]
async fn no_state_is_too_far_ahead() {
    let Some(server) = Server::start(&[]) else { return };
    let line = line(&server.url(), Topology::Single).await;
    let bound = u64::try_from(MAX_AHEAD.as_micros()).unwrap();
    for far in [365 * 86_400 * 1_000_000, i64::MAX] {
        let seen = charge(&line, row(1, [far; 3], 0)).await;
        assert_eq!(seen.ahead, [bound; 3]);
    }
    let seen = charge(&line, row(1, [i64::MIN; 3], 0)).await;
    assert_eq!(seen.ahead, [0; 3]);
}

/// Scenario: 2,000 keys in twenty calls, then the script is forgotten by the server, then again.
/// Guarantees: each row's answer is its own; a server that knows no script is told it.
#[tokio::test]
async fn many_rows_go_in_few_calls() {
    let Some(server) = Server::start(&[]) else { return };
    let line = line(&server.url(), Topology::Single).await;
    let rows: Vec<_> = (0..2_000).map(|key| row(key, [0; 3], i64::try_from(key).unwrap() + 1)).collect();
    for round in 1..=2 {
        let started = Instant::now();
        let seen = line.charge(rows.clone()).await.unwrap();
        println!("2,000 keys in {:?}", started.elapsed());
        for (seen, row) in seen.iter().zip(&rows) {
            assert_eq!((seen.slot, seen.spent), (row.slot, round * (row.slot.key + 1)));
        }
        server.ask("SCRIPT FLUSH");
    }
}

/// Scenario: three replicas register, one of them twice; then only one does, with a short life.
/// Guarantees: each counts once, and who says nothing for as long as a word holds is not counted.
#[tokio::test]
async fn replicas_count_while_they_say_so() {
    let Some(server) = Server::start(&[]) else { return };
    let line = line(&server.url(), Topology::Single).await;
    let short = Duration::from_millis(200);
    for (replica, wanted) in [("a", 1), ("b", 2), ("a", 2), ("c", 3)] {
        assert_eq!(line.register(replica, Duration::from_mins(1)).await.unwrap(), wanted);
    }
    sleep(short * 2).await;
    assert_eq!(line.register("a", short).await.unwrap(), 1);
}

/// Scenario: a word is kept for 100 ms and asked for before and after.
/// Guarantees: it is told as it was, and ends by itself.
#[tokio::test]
async fn words_end_by_themselves() {
    let Some(server) = Server::start(&[]) else { return };
    let line = line(&server.url(), Topology::Single).await;
    let (mark, word) = (Mark([7; 16]), vec![0, 255, 10, 13]);
    assert_eq!(line.recall(mark).await.unwrap(), None);
    line.remember(mark, word.clone(), Duration::from_millis(100)).await.unwrap();
    assert_eq!(line.recall(mark).await.unwrap(), Some(word));
    sleep(Duration::from_millis(150)).await;
    assert_eq!(line.recall(mark).await.unwrap(), None);
}

/// Scenario: a server with a password: the right one, a wrong one, none.
/// Guarantees: the right one serves; otherwise the error says what it is about, and never the password.
#[tokio::test]
async fn passwords_are_used_and_never_shown() {
    let Some(server) = Server::start(&["--requirepass", "s3cret-Word"]) else { return };
    let url = |password: &str| format!("redis://{password}127.0.0.1:{}/0\n", server.port());
    let line = line(&url(":s3cret-Word@"), Topology::Single).await;
    assert_eq!(charge(&line, row(1, [0; 3], 1)).await.spent, 1);
    assert!(!format!("{line:?}").contains("s3cret"));
    for password in [":wr0ng-Word@", ""] {
        let (_folder, config) = config(&url(password), Topology::Single);
        let redis = Redis::open(&config).unwrap();
        assert!(!format!("{redis:?} {config:?}").contains("Word"));
        let trouble = match redis.dial().await {
            Err(trouble) => trouble,
            Ok(line) => line.register("a", Duration::from_secs(1)).await.unwrap_err(),
        };
        assert!(matches!(trouble, Trouble::Failed(_)), "{trouble:?}");
        assert!(!trouble.to_string().contains("Word"), "{trouble}");
    }
}

/// Scenario: a server that speaks TLS only, with its own CA, another CA, the system's, and in clear text.
/// Guarantees: only its own CA serves; everything else ends in an error.
#[tokio::test]
async fn tls_checks_the_certificate() {
    crate::tls::install_provider();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: String| {
        std::fs::write(path(name), text).unwrap();
        path(name).display().to_string()
    };
    let own =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (write("own.pem", own.cert.pem()), write("own.key", own.signing_key.serialize_pem()));
    write("other.pem", other.cert.pem());
    let arguments = [
        "--tls-port",
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &cert,
        "--tls-auth-clients",
        "no",
    ];
    let Some(server) = Server::start(&arguments) else { return };
    for (scheme, ca, serves) in [
        ("rediss", "own.pem", true),
        ("rediss", "other.pem", false),
        ("rediss", "", false),
        ("redis", "", false),
    ] {
        let (_folder, mut config) =
            config(&format!("{scheme}://localhost:{}", server.port()), Topology::Single);
        if !ca.is_empty() {
            config.ca_file = path(ca);
        }
        let redis = Redis::open(&config).unwrap();
        let asked = async { redis.dial().await?.register("a", Duration::from_secs(1)).await };
        let answer =
            tokio::time::timeout(Duration::from_secs(2), asked).await.unwrap_or(Err(Trouble::Timeout));
        assert_eq!(answer.is_ok(), serves, "{scheme} {ca}: {answer:?}");
    }
}

/// A cluster of one server.
async fn cluster() -> Option<Server> {
    let server = Server::start(&["--cluster-enabled", "yes"])?;
    server.ask("CLUSTER ADDSLOTSRANGE 0 16383");
    let until = Instant::now() + Duration::from_secs(10);
    while !server.ask("CLUSTER INFO").contains("cluster_state:ok") {
        assert!(Instant::now() < until, "{}", server.ask("CLUSTER INFO"));
        sleep(Duration::from_millis(20)).await;
    }
    Some(server)
}

/// Scenario: a cluster of one server that holds all slots is asked for keys of all parts in one flush.
/// Guarantees: everything works as on one server, although no call may touch two slots.
#[tokio::test]
async fn a_cluster_serves() {
    let Some(server) = cluster().await else { return };
    let line = line(&server.url(), Topology::Cluster).await;
    let rows: Vec<_> = (0..100).map(|key| row(key, [0; 3], i64::try_from(key).unwrap() + 1)).collect();
    let seen = line.charge(rows).await.unwrap();
    assert_eq!(seen.len(), 100);
    assert!(seen.iter().all(|seen| seen.spent == seen.slot.key + 1), "{seen:?}");
    assert_eq!(line.register("a", Duration::from_secs(9)).await.unwrap(), 1);
    line.remember(Mark([3; 16]), vec![1], Duration::from_secs(9)).await.unwrap();
    assert_eq!(line.recall(Mark([3; 16])).await.unwrap(), Some(vec![1]));
}

/// A sentinel that watches a master as `main`; the folder holds its file.
fn sentinel(master: &Server) -> Option<(Server, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sentinel.conf");
    let watch =
        format!("sentinel monitor main 127.0.0.1 {} 1\nsentinel auth-pass main s3cret\n", master.port());
    std::fs::write(&file, watch).unwrap();
    Some((Server::start_with(Some(&file), &["--sentinel"])?, folder))
}

/// Scenario: a sentinel watches a master with a password; another name is asked for.
/// Guarantees: the sentinel tells where the master is and the master's password is used there; an unknown name is an error.
#[tokio::test]
async fn a_sentinel_tells_the_master() {
    let Some(master) = Server::start(&["--requirepass", "s3cret"]) else { return };
    let Some((sentinel, _folder)) = sentinel(&master) else { return };
    for (name, serves) in [("main", true), ("other", false)] {
        let urls = format!("redis://:s3cret@{name}/0\n# the sentinels\n{}\n", sentinel.url());
        let (_folder, config) = config(&urls, Topology::Sentinel);
        let redis = Redis::open(&config).unwrap();
        let asked = async { redis.dial().await?.register("a", Duration::from_secs(9)).await };
        let answer =
            tokio::time::timeout(Duration::from_secs(5), asked).await.unwrap_or(Err(Trouble::Timeout));
        assert_eq!(answer == Ok(1), serves, "{name}: {answer:?}");
    }
}

/// Scenario: the first address of the file is a host that takes connections and says nothing: of the sentinels, of the
/// nodes of a cluster.
/// Guarantees: the others are found in the time for one connection.
#[tokio::test]
async fn an_address_that_hangs_keeps_nobody_from_the_others() {
    let Some(master) = Server::start(&["--requirepass", "s3cret"]) else { return };
    let Some((sentinel, _folder)) = sentinel(&master) else { return };
    let Some(node) = cluster().await else { return };
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let hanging = format!("redis://{}/0", listener.local_addr().unwrap());
    for (urls, topology) in [
        (format!("redis://:s3cret@main/0\n{hanging}\n{}\n", sentinel.url()), Topology::Sentinel),
        (format!("{hanging}\n{}\n", node.url()), Topology::Cluster),
    ] {
        let (_folder, config) = config(&urls, topology);
        let redis = Redis::open(&config).unwrap();
        // Nothing of a try is left for the next one to go on with: each must do by itself.
        let mut found = 0;
        for _ in 0..3 {
            let asked = async { redis.dial().await?.register("a", Duration::from_secs(9)).await };
            let started = Instant::now();
            let answer = tokio::time::timeout(CONNECT, asked).await.unwrap_or(Err(Trouble::Timeout));
            println!("{topology:?}: {answer:?} after {:?}", started.elapsed());
            found += u32::from(answer == Ok(1));
        }
        assert_eq!(found, 3, "{topology:?}");
    }
}
