//! The end of a verdict: a revoked pair, with a purge and without one, and what an operator must show to
//! purge. Short times come from the authority's own `Cache-Control`.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use http::Method;
use tempfile::TempDir;

use crate::support::{
    answer::{Answer, Refusal},
    authority::Script,
    client::{Export, Form},
    job::Job,
    logs::Captured,
    spans,
    world::{World, ask, eventually, get, text, unlimited},
};

const TOKEN: &str = "operator-0123456789abcdef0123456789abcdef";
const PURGE: &str = "/-/cache/purge";

/// A file with the operator's token.
struct TokenFile(TempDir);

impl TokenFile {
    fn new() -> Self {
        let file = Self(TempDir::new().unwrap());
        file.write(TOKEN);
        file
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("token")
    }

    fn write(&self, content: &str) {
        fs::write(self.path(), format!("{content}\n")).unwrap();
    }
}

async fn purge(admin: SocketAddr, token: &str) -> Answer {
    ask(admin, Method::POST, PURGE, &[("authorization", &format!("Bearer {token}"))]).await
}

async fn send(world: &World, job: &Job) -> Answer {
    world.send(&Export::of(Form::Protobuf, job, &spans::export(job, 1))).await
}

/// Scenario: two good pairs and a denied one are in the cache for minutes; one of the good ones is revoked, then an operator purges.
/// Guarantees: the revoked pair is refused by its next export, within a second of the purge, on one word of the authority;
/// the other one goes on, asked about once; the purge tells and counts what it forgot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_pair_stops_with_a_purge() {
    let file = TokenFile::new();
    let world = World::with(|config| {
        unlimited(config);
        config.admin.token_file = file.path();
    })
    .await;
    let (revoked, other, stranger) = (Job::new(1), Job::new(2), Job::new(3));
    world.authority.allow(&revoked);
    world.authority.allow(&other);
    for job in [&revoked, &other] {
        send(&world, job).await.assert_accepted(Form::Protobuf);
    }
    send(&world, &stranger).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    world.authority.know(&revoked, Script::status(401));
    send(&world, &revoked).await.assert_accepted(Form::Protobuf);
    assert_eq!(world.authority.count(), 3);

    let purged = Instant::now();
    let answer = purge(world.running.admin(), TOKEN).await;
    assert_eq!((answer.status, text(&answer).as_str()), (200, "3 verdicts forgotten\n"));
    send(&world, &revoked).await.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
    assert!(purged.elapsed() < Duration::from_secs(1), "{:?}", purged.elapsed());
    assert_eq!(world.authority.count(), 4);
    for _ in 0..3 {
        send(&world, &other).await.assert_accepted(Form::Protobuf);
    }
    assert_eq!(world.authority.count(), 5);
    let counted = world.metrics().await.sum("spangate_cache_purges_total", &[]);
    assert!((0.9..1.1).contains(&counted), "{counted}");
}

/// Scenario: no purge; a pair is revoked while its verdict holds for one second and, by the authority's word, one more while
/// it is asked for anew. Exports come all the time.
/// Guarantees: it is refused within max-age and the stale bound (with the half second that a second word and a busy
/// machine take), on the authority's own word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_pair_stops_in_time_without_a_purge() {
    for directives in ["private, max-age=1, stale-while-revalidate=1", "private, max-age=1, must-revalidate"]
    {
        let world = World::with(unlimited).await;
        let job = Job::new(1);
        world.authority.know(&job, Script::allow(&job, 1).cache_control(directives));
        let asked = Instant::now();
        send(&world, &job).await.assert_accepted(Form::Protobuf);
        world.authority.know(&job, Script::status(401));
        let refused = loop {
            let answer = send(&world, &job).await;
            if answer.status != 200 {
                break answer;
            }
            assert!(asked.elapsed() < Duration::from_secs(3), "{directives}: it is still served");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        refused.assert_refused(Form::Protobuf, Refusal::UNAUTHENTICATED);
        assert!((2..=3).contains(&world.authority.count()), "{} questions", world.authority.count());
    }
}

/// Scenario: the authority goes down for good while a verdict for one second is kept, with a stale bound of one second, with
/// a word of the authority against it, and under the strict policy.
/// Guarantees: the pair is served within the bound and gets 503 after it, and never a denial; without a bound it gets 503
/// from the end of its verdict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_ends_in_time_in_an_outage() {
    for (directives, strict, bridged) in [
        ("max-age=1", false, true),
        ("max-age=1, stale-if-error=0", false, false),
        ("max-age=1, must-revalidate", false, false),
        ("max-age=1, stale-if-error=60, stale-while-revalidate=60", true, false),
    ] {
        let world = World::with(|config| {
            unlimited(config);
            config.cache.stale_if_error = Duration::from_secs(1);
            if strict {
                config.cache.outage = spangate::config::Outage::Strict;
            }
        })
        .await;
        let job = Job::new(1);
        world.authority.know(&job, Script::allow(&job, 1).cache_control(directives));
        send(&world, &job).await.assert_accepted(Form::Protobuf);
        let asked = Instant::now();
        world.authority.always(Script::status(500));
        let refused = loop {
            let answer = send(&world, &job).await;
            if answer.status != 200 {
                break answer;
            }
            assert!(asked.elapsed() < Duration::from_secs(4), "{directives}: it is still served");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        refused.assert_refused(Form::Protobuf, Refusal::UNAVAILABLE);
        let stale = world.metrics().await.sum("spangate_verdicts_total", &[("source", "stale")]);
        assert_eq!(stale > 0.5, bridged, "{directives}: {stale} stale verdicts");
    }
}

/// Scenario: a question is in flight when an operator purges; the authority answers it with a good word afterwards.
/// Guarantees: who waited is served, and the next export asks again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_from_before_a_purge_fills_nothing() {
    let file = TokenFile::new();
    let world = World::with(|config| config.admin.token_file = file.path()).await;
    let job = Job::new(1);
    world.authority.know(&job, Script::allow(&job, 300).delay(Duration::from_millis(500)));
    let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
    let (address, first) = (world.address(), export.clone());
    let first = tokio::spawn(async move { first.send(address).await });
    eventually("the question is asked", || async { world.authority.count() == 1 }).await;
    assert_eq!(purge(world.running.admin(), TOKEN).await.status, 200);
    world.authority.know(&job, Script::status(403));
    first.await.unwrap().assert_accepted(Form::Protobuf);
    world.send(&export).await.assert_refused(Form::Protobuf, Refusal::FORBIDDEN);
    assert_eq!(world.authority.count(), 2);
}

/// Scenario: purges without a token in the configuration; with one, by those who do not show it, by other methods, and on the
/// runners' listener.
/// Guarantees: nothing is forgotten; 404 says how to switch it on, 401 names the scheme, 405 the method.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_operator_purges() {
    let file = TokenFile::new();
    let off = World::start().await;
    let answer = purge(off.running.admin(), TOKEN).await;
    assert!(answer.status == 404 && text(&answer).contains("admin.token_file"), "{answer:?}");

    let world = World::with(|config| config.admin.token_file = file.path()).await;
    let (job, admin) = (Job::new(1), world.running.admin());
    world.authority.allow(&job);
    send(&world, &job).await.assert_accepted(Form::Protobuf);
    let right = format!("Bearer {TOKEN}");
    for headers in [
        &[][..],
        &[("authorization", "")],
        &[("authorization", TOKEN)],
        &[("authorization", "Basic b3BlcmF0b3I6eA==")],
        &[("authorization", "Bearer operator-0123456789abcdef0123456789abcdeX")],
        &[("authorization", &right), ("authorization", &right)],
        &[("runner-token", TOKEN)],
    ] {
        let answer = ask(admin, Method::POST, PURGE, headers).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"spangate admin\""));
        assert!(!text(&answer).contains(TOKEN));
    }
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = ask(admin, method.clone(), PURGE, &[("authorization", &right)]).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    let elsewhere = ask(world.address(), Method::POST, PURGE, &[("authorization", &right)]).await;
    assert_eq!(elsewhere.status, 404);
    send(&world, &job).await.assert_accepted(Form::Protobuf);
    assert_eq!(world.authority.count(), 1, "a verdict was forgotten");
    assert!(!get(admin, "/metrics").await.body.windows(8).any(|part| part == b"operator"));
}

/// Scenario: somebody asks for a purge with a token that is not the operator's.
/// Guarantees: the operator is warned, and neither token is in the log.
#[tokio::test]
async fn a_refused_purge_is_told() {
    let (captured, file) = (Captured::start(), TokenFile::new());
    let world = World::with(|config| config.admin.token_file = file.path()).await;
    let shown = "intruder-0123456789abcdef0123456789abcdef";
    assert_eq!(purge(world.running.admin(), shown).await.status, 401);
    let log = captured.text();
    let line = log.lines().find(|line| line.contains("a change on the admin listener was refused"));
    assert!(line.is_some_and(|line| line.contains("WARN")), "{log}");
    assert!(!log.contains(shown) && !log.contains(TOKEN), "{log}");
}

/// Scenario: the token in its file changes, then the file holds none, then the key is taken away; a reload after each.
/// Guarantees: the new token counts from the reload on and the old one no more; a file without a token refuses the reload
/// and leaves the token that was; without the key a purge is off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_reads_the_token_again() {
    let file = TokenFile::new();
    let world = World::with(|config| config.admin.token_file = file.path()).await;
    let (admin, mut config) = (world.running.admin(), world.config.clone());
    let other = "another-token-0123456789abcdef0123456789";
    file.write(other);
    assert_eq!((purge(admin, TOKEN).await.status, purge(admin, other).await.status), (200, 401));
    world.running.reload(&config).unwrap();
    assert_eq!((purge(admin, TOKEN).await.status, purge(admin, other).await.status), (401, 200));
    file.write("short");
    let problem = world.running.reload(&config).unwrap_err().to_string();
    assert!(problem.contains("admin.token_file") && !problem.contains("short"), "{problem}");
    assert_eq!(spangate::app::check(&config).unwrap_err().len(), 1);
    assert_eq!(purge(admin, other).await.status, 200);
    config.admin.token_file = PathBuf::new();
    world.running.reload(&config).unwrap();
    assert_eq!(purge(admin, other).await.status, 404);
}

/// Scenario: reloads that change who is asked, or in whose name: another secret in the same file, another URL, path, header; and
/// ones that change how it is asked.
/// Guarantees: after the former a known pair is asked about again, after the latter its verdict stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_authority_starts_with_an_empty_cache() {
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    let write = |text: &str| fs::write(&secret, text).unwrap();
    write("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let world = World::with(|config| {
        unlimited(config);
        config.gitlab.secret_file = secret.clone();
    })
    .await;
    let job = Job::new(1);
    world.authority.allow(&job);
    send(&world, &job).await.assert_accepted(Form::Protobuf);
    let mut config = world.config.clone();
    let mut questions = 1;
    let mut reload = async |what: &str, asked_again: bool, config: &spangate::config::Config| {
        world.running.reload(config).unwrap();
        for _ in 0..2 {
            send(&world, &job).await.assert_accepted(Form::Protobuf);
        }
        questions += usize::from(asked_again);
        assert_eq!(world.authority.count(), questions, "{what}");
    };
    config.gitlab.timeout = Duration::from_millis(1_900);
    config.cache.max_ttl = Duration::from_secs(100);
    reload("how long", false, &config).await;
    write("ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=");
    reload("the secret", true, &config).await;
    config.gitlab.url = config.gitlab.url.replace("127.0.0.1", "localhost");
    reload("the URL", true, &config).await;
    config.gitlab.auth_path.insert(0, '/');
    reload("the path", true, &config).await;
    config.gitlab.runner_token_header.make_ascii_uppercase();
    reload("the header of a token", true, &config).await;
    config.gitlab.secret_header = "Signature".into();
    reload("the header of the signature", true, &config).await;
    config.gitlab.secret_issuer = "another".into();
    reload("the issuer", true, &config).await;
    config.attributes.service_name = "another".into();
    reload("what is written", true, &config).await;
}
