//! Shared limits on a cluster of three nodes: keys of several jobs on different ones, and one of them that fails. It
//! decides nothing about which node holds what.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use spangate::config::{Config, Topology};

use crate::support::{
    client::{Export, Form},
    job::Job,
    redis::Redis,
    spans,
    world::eventually,
};

use super::fleet::{Fleet, Load, Seen, settled};

/// Requests a second of each job that both gateways together may take.
const LIMIT: u32 = 30;

/// Three masters without replicas, each with a third of the slots; `None` where no Redis is installed.
async fn nodes(full_coverage: &str) -> Option<Vec<Redis>> {
    let arguments = [
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "1000",
        "--cluster-require-full-coverage",
        full_coverage,
        "--repl-diskless-sync-delay",
        "0",
    ];
    let nodes = [(); 3].iter().map(|()| Redis::start(&arguments)).collect::<Option<Vec<_>>>()?;
    let slots = ["0 5460", "5461 10922", "10923 16383"];
    for (epoch, (node, slots)) in (1..).zip(nodes.iter().zip(slots)) {
        for command in [
            format!("CLUSTER SET-CONFIG-EPOCH {epoch}"),
            format!("CLUSTER ADDSLOTSRANGE {slots}"),
            format!("CLUSTER MEET 127.0.0.1 {}", nodes[0].port()),
        ] {
            let answer = node.ask(&command);
            assert!(answer.starts_with("+OK"), "{command}: {answer}");
        }
    }
    for node in &nodes {
        eventually("each node knows the others and their slots", || async {
            let told = node.ask("CLUSTER INFO");
            let parts = ["cluster_state:ok", "cluster_known_nodes:3", "cluster_slots_ok:16384"];
            parts.iter().all(|part| told.contains(part))
        })
        .await;
    }
    Some(nodes)
}

/// Another node, which takes the place of one of these if it fails.
async fn replica(nodes: &[Redis], of: usize) -> Redis {
    let replica = Redis::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]).unwrap();
    replica.ask(&format!("CLUSTER MEET 127.0.0.1 {}", nodes[of].port()));
    let id = nodes[of].ask("CLUSTER MYID");
    let id = id.lines().nth(1).unwrap();
    eventually("it becomes a replica", || async {
        replica.ask(&format!("CLUSTER REPLICATE {id}")).starts_with("+OK")
    })
    .await;
    eventually("it has all", || async { replica.ask("INFO replication").contains("master_link_status:up") })
        .await;
    for node in nodes {
        eventually("each node knows it", || async {
            node.ask("CLUSTER NODES").contains(&format!("slave {id}"))
        })
        .await;
    }
    replica
}

/// Two gateways on such a cluster, and for each node a job that it holds.
struct World {
    fleet: Fleet,
    jobs: Vec<Job>,
}

impl World {
    async fn start(full_coverage: &str, spans_per_job: u64) -> Option<Self> {
        Some(Self::on(nodes(full_coverage).await?, spans_per_job).await)
    }

    async fn on(nodes: Vec<Redis>, spans_per_job: u64) -> Self {
        let urls: String = nodes.iter().map(|node| node.url() + "\n").collect();
        let change = |config: &mut Config| {
            config.limits.per_job.requests_per_second = LIMIT;
            config.limits.per_job.burst = Duration::from_millis(500);
            config.traces.max_spans_per_job = spans_per_job;
            config.limits.store.topology = Topology::Cluster;
        };
        let fleet = Fleet::around(nodes, &urls, 2, change).await;
        fleet.all_up(true).await;
        let mut jobs = [const { None }; 3];
        for seed in 10.. {
            if jobs.iter().all(Option::is_some) {
                break;
            }
            assert!(seed < 100, "ninety jobs leave a node without one");
            let job = Job::new(seed);
            fleet.authority.allow(&job);
            let before: Vec<_> = fleet.redis.iter().map(held).collect();
            let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
            export.send(fleet.gateways[0].address()).await.assert_accepted(Form::Protobuf);
            let until = Instant::now() + Duration::from_secs(10);
            let place = loop {
                // A replica among them hears of it later.
                let mut nodes = fleet.redis.iter().zip(&before).take(jobs.len());
                if let Some(place) = nodes.position(|(node, before)| held(node) > *before) {
                    break place;
                }
                assert!(Instant::now() < until, "no node was told of the job");
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            jobs[place].get_or_insert(job);
        }
        Self { fleet, jobs: jobs.into_iter().flatten().collect() }
    }

    /// The place of the node that replicas are counted on.
    fn counts(&self) -> usize {
        self.fleet.redis.iter().position(counts).unwrap()
    }

    /// How often each gateway has said that it goes on alone.
    fn times_alone(&self) -> Vec<usize> {
        let told = "this replica goes on with its share";
        self.fleet.gateways.iter().map(|gateway| gateway.output().matches(told).count()).collect()
    }

    /// A load on each job, of twice its limit.
    fn load(&self) -> Vec<Load> {
        self.jobs.iter().map(|job| Load::start(&self.fleet, job, [LIMIT; 2])).collect()
    }
}

/// Whether replicas are counted on a node.
fn counts(node: &Redis) -> bool {
    node.ask("KEYS *:replicas").contains(":replicas")
}

/// How many jobs a node knows.
fn held(node: &Redis) -> usize {
    node.ask("KEYS *:job:*").matches(":job:").count()
}

#[expect(clippy::print_stdout, reason = "figures, for who asks with --nocapture")]
async fn during(load: &[Load], seconds: u64, what: &str) -> Vec<Seen> {
    let seen = join_all(load.iter().map(|load| load.during(Duration::from_secs(seconds)))).await;
    for (place, seen) in seen.iter().enumerate() {
        println!("{what}, job on node {place}: {seen}");
        seen.assert_only_limited();
        seen.assert_not_waiting();
    }
    seen
}

fn assert_at_most(seen: &[Seen], highest: f64) {
    for seen in seen {
        assert!(seen.admitted_per_second() <= highest * f64::from(LIMIT), "{seen}");
    }
}

/// What a node does to the others' clients when it fails.
#[derive(Clone, Copy)]
enum Failure {
    /// It is killed; its memory is lost.
    Dies,
    /// It takes connections and says nothing.
    Hangs,
}

/// Loads three jobs, each on another node, lets a node fail that does not count the replicas, and has it come back.
#[expect(clippy::print_stdout, reason = "figures, for who asks with --nocapture")]
async fn one_node_fails(full_coverage: &str, spans_per_job: u64, failure: Failure) {
    let Some(mut world) = World::start(full_coverage, spans_per_job).await else { return };
    let load = world.load();
    during(&load, 1, "burst").await;
    settled("steady", &load, 3, LIMIT, [0.9, 1.1]).await;

    let fails = (world.counts() + 1) % 3;
    println!("node {fails} fails, node {} counts the replicas", world.counts());
    let alone = world.times_alone();
    match failure {
        Failure::Dies => world.fleet.redis[fails].kill(),
        Failure::Hangs => world.fleet.redis[fails].signal("STOP"),
    }
    world.fleet.serves_newcomers(1_000).await;
    let first = during(&load, 1, "first second").await;
    // Each may have had up to its own full rate until it noticed.
    assert_at_most(&first, 2.5);
    settled("without it", &load, 3, LIMIT, [0.7, 1.2]).await;
    world.fleet.serves_newcomers(2_000).await;
    for (before, now) in alone.into_iter().zip(world.times_alone()) {
        // Once, and no more than twice by chance: limits must not come and go while the node is away.
        assert!((1..=3).contains(&(now - before)), "{now} times alone, {before} before");
    }

    let returned = Instant::now();
    match failure {
        Failure::Dies => world.fleet.redis[fails].restart(),
        Failure::Hangs => world.fleet.redis[fails].signal("CONT"),
    }
    world.fleet.all_up(true).await;
    println!("all share again after {:?}", returned.elapsed());
    during(&load, 1, "settling").await;
    settled("after", &load, 3, LIMIT, [0.9, 1.1]).await;
    for load in load {
        load.stop().await;
    }
}

/// Scenario: two gateways on a cluster that answers for no slot while one node is down (Redis' default); a node hangs for
/// some seconds.
/// Guarantees: for jobs on every node both gateways hold one limit; while the cluster is down each keeps to its share of
/// every job's; no request fails or waits for it; afterwards all share again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_stops_with_a_node_stops_nobody() {
    one_node_fails("yes", 1_000, Failure::Hangs).await;
}

/// Scenario: the same on a cluster that goes on without the slots of a node; it is killed and comes back empty. The jobs have
/// used up their budgets of spans: all there is to tell are rates, which nobody keeps to try the store with.
/// Guarantees: as above, for jobs on the nodes that are left too; nobody takes the nodes that are left for the whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_stops_nobody() {
    one_node_fails("no", 4, Failure::Dies).await;
}

/// Scenario: the node that counts the replicas takes connections and says nothing any more, and stands in `url_file`; a replica
/// takes its place.
/// Guarantees: no request fails or waits for it; the gateways find it by themselves, and all share one limit again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_is_found() {
    let Some(mut nodes) = nodes("yes").await else { return };
    // Where the names of the first part lie.
    nodes.push(replica(&nodes, 2).await);
    let world = World::on(nodes, 1_000).await;
    assert_eq!(world.counts(), 2);
    let load = world.load();
    during(&load, 1, "burst").await;
    let failed = Instant::now();
    world.fleet.redis[2].signal("STOP");
    world.fleet.serves_newcomers(1_000).await;
    let first = during(&load, 1, "first second").await;
    assert_at_most(&first, 2.5);
    world.fleet.all_up(true).await;
    println!("all share again after {:?}", failed.elapsed());
    assert!(counts(&world.fleet.redis[3]));
    during(&load, 1, "settling").await;
    settled("after", &load, 3, LIMIT, [0.9, 1.1]).await;
    for load in load {
        load.stop().await;
    }
}
