//! What the verdict cache costs: memory for 100,000 verdicts, and CPU for a hit at 1, 1,000 and 100,000
//! of them in random order, beside the digest of the tokens alone. It asks a real authority over a
//! socket, a second process of its own, and prints a table in Markdown; it passes no judgement.
//!
//! `cargo bench --bench cache`; Linux only, for `/proc`.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that measures: whatever is not as it should be must end it"
)]

use std::{
    convert::Infallible,
    fs,
    hint::black_box,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use spangate::{
    cache::verdict::Cached,
    config,
    metrics::Metrics,
    tls,
    validate::{
        IdentityPolicy, Question, Validator, Verdict,
        credentials::{Accepts, Credentials, Digester, HeaderNames},
        gitlab::Gitlab,
    },
};
use tokio::{net::TcpListener, runtime::Runtime, time::Instant};

/// Verdicts whose memory is measured.
const MANY: u64 = 100_000;
/// Hits in one round.
const HITS: usize = 400_000;
const ROUNDS: usize = 5;
const AUTHORITY: &str = "--authority";

fn main() {
    if std::env::args().any(|argument| argument == AUTHORITY) {
        Runtime::new().unwrap().block_on(authority());
        return;
    }
    tls::install_provider();
    let authority = Authority::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(report(&authority.url));
}

/// The other process; ended with this one.
struct Authority {
    child: Child,
    url: String,
}

impl Authority {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(AUTHORITY)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, url: format!("http://{}", address.trim()) }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Says yes to everything, with every fact, each time about another job.
async fn authority() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let jobs = Arc::new(AtomicU64::new(0));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let jobs = Arc::clone(&jobs);
        tokio::spawn(async move {
            let service = service_fn(move |_| {
                let answer = answer(jobs.fetch_add(1, Ordering::Relaxed));
                async move { Ok::<_, Infallible>(answer) }
            });
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

fn answer(job: u64) -> Response<Full<Bytes>> {
    let pipeline = 1_600_000_000 + job / 8;
    let body = format!(
        r#"{{"trace_id":"{pipeline:032x}","job_id":{},"pipeline_id":{pipeline},"pipeline_source":"merge_request_event",
        "root_pipeline_id":{pipeline},"project_id":{},"project_path":"gitlab-org/verify-stage/runner/project-{:05}",
        "namespace_id":{},"root_namespace_id":9970,"organization_id":1,"cell_id":1,"runner_id":{},"runner_type":"project_type",
        "runner_manager_system_xid":"s_{:012x}","job_status":"running"}}"#,
        9_000_000_000 + job,
        50_000_000 + job % 20_000,
        job % 20_000,
        80_000_000 + job % 5_000,
        40_000_000 + job % 3_000,
        job % 3_000,
    );
    Response::builder()
        .header("content-type", "application/json")
        .header("cache-control", "private, max-age=300")
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

/// A gateway's steps 2 and 4, and nothing else of it.
struct Steps {
    digester: Arc<Digester>,
    names: HeaderNames,
    metrics: Arc<Metrics>,
    cached: Cached<Gitlab>,
    correlation_id: Arc<str>,
    deadline: Instant,
}

impl Steps {
    fn new(url: &str) -> Self {
        let gitlab = config::Gitlab { url: url.to_owned(), ..config::Gitlab::default() };
        // Nothing may end while figures are taken.
        let cache = config::Cache { max_ttl: Duration::from_hours(1), ..config::Cache::default() };
        let (digester, metrics) = (Arc::new(Digester::random()), Arc::new(Metrics::new()));
        let policy = IdentityPolicy::new("gitlab-ci-runner");
        let asked = Gitlab::new(&gitlab, policy, Arc::clone(&digester), Arc::clone(&metrics)).unwrap();
        Self {
            names: HeaderNames::from_config(&gitlab).unwrap(),
            cached: Cached::new(asked, &cache, Arc::clone(&metrics)),
            digester,
            metrics,
            correlation_id: "bench".into(),
            deadline: Instant::now() + Duration::from_hours(1),
        }
    }

    fn credentials(&self, headers: &HeaderMap) -> Credentials {
        let accepts = Accepts { pair: true, bearer: false };
        Credentials::from_headers(headers, &self.names, accepts, &self.digester).unwrap()
    }

    fn question(&self, headers: &HeaderMap) -> Question {
        Question {
            credentials: Arc::new(self.credentials(headers)),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            correlation_id: Arc::clone(&self.correlation_id),
            deadline: self.deadline,
        }
    }

    async fn ask(&self, headers: &HeaderMap) -> Verdict {
        self.cached.validate(&self.question(headers)).await.expect("the authority answers")
    }

    async fn fill(&self, tokens: &mut Tokens, pairs: std::ops::Range<u64>) {
        let asked = stream::iter(pairs).map(|pair| {
            let headers = tokens.of(pair);
            async move {
                let verdict = self.ask(&headers).await;
                assert!(matches!(verdict, Verdict::Allow(_)), "{verdict:?}");
            }
        });
        asked.buffer_unordered(16).collect::<()>().await;
    }

    /// A metric of the cache, as it is scraped.
    fn scraped(&self, name: &str) -> u64 {
        self.cached.record_entries();
        let text = self.metrics.render();
        let line = text.lines().find(|line| line.starts_with(name)).expect("a metric of the cache");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

/// The tokens of jobs, job tokens in the form and length that GitLab signs. They are written anew into
/// the same memory for each request, as they are when one is read from a socket.
struct Tokens {
    runner: HeaderValue,
    job: Vec<u8>,
}

impl Tokens {
    fn new() -> Self {
        let end = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 3_600;
        let payload = format!(
            r#"{{"iss":"https://gitlab.example.com","sub":"gid://gitlab/Ci::Build/9000000000","p":"zik0z","g":"a1b2c","o":"1","u":"7","iat":{},"nbf":{},"exp":{end},"version":"0.1.0","jti":"{:064x}","scoped_user_id":123456,"c":"1"}}"#,
            end - 3_600,
            end - 3_605,
            end
        );
        let head =
            URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT","kid":"0123456789abcdef0123456789abcdef"}"#);
        let signature = URL_SAFE_NO_PAD.encode([0xA5; 256]);
        Self {
            runner: HeaderValue::from_static(
                "glrt-t1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG.01.0w1x2y3z4",
            ),
            job: format!("glcbt-{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(payload)).into_bytes(),
        }
    }

    /// Each pair's job token has another signature.
    fn of(&mut self, pair: u64) -> HeaderMap {
        let end = self.job.len();
        for (at, digit) in self.job[end - 16..].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[usize::try_from((pair >> (4 * at)) & 15).unwrap()];
        }
        HeaderMap::from_iter([
            (http::HeaderName::from_static("runner-token"), self.runner.clone()),
            (http::HeaderName::from_static("job-token"), HeaderValue::from_bytes(&self.job).unwrap()),
        ])
    }
}

/// Resident memory in bytes.
fn resident() -> u64 {
    /// On every machine that this runs on.
    const PAGE: u64 = 4096;

    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PAGE
}

/// CPU time of this thread in nanoseconds: others on a busy machine add to the clock on the wall, not here.
fn cpu() -> u64 {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedstat.split(' ').next().unwrap().parse().unwrap()
}

/// Numbers without a pattern that a prefetcher could follow (`SplitMix64`).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

async fn report(url: &str) {
    let (steps, mut tokens) = (Steps::new(url), Tokens::new());
    // What is made once: connections, buffers, the allocator's arenas.
    steps.fill(&mut tokens, 1_000_000..1_002_000).await;
    assert_eq!(steps.cached.purge(), 2_000);
    let before = resident();
    steps.fill(&mut tokens, 0..MANY).await;
    let taken = resident() - before;
    assert_eq!(steps.scraped("spangate_cache_entries{kind=\"positive\"}"), MANY);
    let counted = steps.scraped("spangate_cache_size_bytes");
    #[expect(clippy::cast_precision_loss, reason = "figures of three digits")]
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("job token: {} bytes\n", tokens.job.len());
    println!("| {MANY} verdicts | MiB | bytes each |\n|---|---|---|");
    println!("| resident memory | {:.1} | {} |", mebibytes(taken), taken / MANY);
    println!("| as `cache.max_size` counts them | {:.1} | {} |\n", mebibytes(counted), counted / MANY);

    println!(
        "| verdicts | question with its digest, ns | question and hit, ns | hit, ns |\n|---|---|---|---|"
    );
    for verdicts in [1, 1_000, MANY] {
        steps.cached.purge();
        steps.fill(&mut tokens, 0..verdicts).await;
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let mut state = round as u64;
            let order: Vec<u64> = (0..HITS).map(|_| random(&mut state) % verdicts).collect();
            let start = cpu();
            for pair in &order {
                black_box(tokens.of(*pair));
            }
            let made = cpu();
            for pair in &order {
                black_box(steps.question(&tokens.of(*pair)));
            }
            let digested = cpu();
            for pair in &order {
                black_box(steps.ask(&tokens.of(*pair)).await);
            }
            let times = [(start, made), (made, digested), (digested, cpu())]
                .map(|(from, to)| to.saturating_sub(from));
            let [making, digest, both] = times.map(|time| time / HITS as u64);
            // To make the headers is in both, and no part of the gateway.
            rounds.push([
                digest.saturating_sub(making),
                both.saturating_sub(making),
                both.saturating_sub(digest),
            ]);
        }
        let figures = [0, 1, 2].map(|figure| {
            let mut sorted: Vec<u64> = rounds.iter().map(|round| round[figure]).collect();
            sorted.sort_unstable();
            format!("{} ({}-{})", sorted[ROUNDS / 2], sorted[0], sorted[ROUNDS - 1])
        });
        println!("| {verdicts} | {} |", figures.join(" | "));
    }
}
