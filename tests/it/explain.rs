//! `spangate explain` beside a real gateway with the same authority: what it says must be what happens,
//! and no token may be in what it says.

mod bearer;

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Parser as _;
use serde_json::{Value, json};
use spangate::{
    cli::{
        args::{Cli, Command},
        explain,
    },
    config::{AttributesMode, Config},
};
use tempfile::TempDir;

use crate::support::{
    authority::{Authority, Script},
    client::{Export, Form},
    job::{Job, Verified},
    process,
    server::Refusing,
    spans,
    world::{World, config, unlimited},
};

/// A configuration and a pair, in files.
struct Files(TempDir);

impl Files {
    fn new(config: &Config, job: &Job) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.write("config", &serde_json::to_string(config).unwrap());
        files.write("runner", &format!("{}\n", job.runner_token));
        files.write("job", &format!("{}\r\n", job.job_token));
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn line(&self, more: &[&str]) -> Vec<String> {
        let mut line = vec!["explain".to_owned()];
        for (flag, name) in
            [("--config", "config"), ("--runner-token-file", "runner"), ("--job-token-file", "job")]
        {
            line.extend([flag.to_owned(), self.path(name).display().to_string()]);
        }
        line.extend(more.iter().map(ToString::to_string));
        line
    }

    fn parsed(&self, more: &[&str]) -> Command {
        let line = std::iter::once("spangate".to_owned()).chain(self.line(more));
        Cli::try_parse_from(line).unwrap().command
    }

    /// Runs it in this process: exit code, stdout, stderr, none with a token.
    async fn run(&self, more: &[&str]) -> (u8, String, String) {
        let Command::Explain(args) = self.parsed(more) else { panic!("{more:?}") };
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let code = explain::run_to(&args, &mut out, &mut errors).await;
        let [out, errors] = [out, errors].map(|bytes| String::from_utf8(bytes).unwrap());
        self.assert_no_token(&out);
        self.assert_no_token(&errors);
        (code, out, errors)
    }

    fn assert_no_token(&self, text: &str) {
        for name in ["runner", "job", "bearer"] {
            let token = std::fs::read(self.path(name)).unwrap_or_default();
            let piece = String::from_utf8_lossy(&token[..token.len() / 2]).into_owned();
            assert!(piece.len() < 8 || !text.contains(&piece), "a token in {text}");
        }
    }

    async fn explained(&self) -> (u8, Value) {
        let (code, out, errors) = self.run(&["--json"]).await;
        assert_eq!(errors, "");
        (code, serde_json::from_str(&out).unwrap())
    }
}

fn attributes(explained: &Value) -> Vec<(String, Value, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = explained["admitted"]["attributes"].as_array().unwrap();
    list.iter().map(|one| (text(&one["key"]), one["value"].clone(), text(&one["from"]))).collect()
}

/// Scenario: a good pair.
/// Guarantees: exit code 0 after one question in the contract's form; the attributes are those that a gateway writes,
/// with their sources; trace, times, protected keys and limits are those of the configuration; the text has the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_pair_is_explained() {
    let (job, authority) = (Job::new(1), Authority::start().await);
    authority.know(&job, Script::allow(&job, 100));
    let mut config = config(&authority.url(), "http://127.0.0.1:9");
    config.attributes.protected.keys = vec!["team.name".into()];
    config.attributes.protected.prefixes = vec!["cost.".into()];
    let files = Files::new(&config, &job);
    let (code, said) = files.explained().await;
    assert_eq!((code, &said["verdict"], authority.count()), (0, &json!("allow"), 1), "{said:#}");
    let correlation_id = said["asked"]["correlation_id"].as_str().unwrap();
    assert_eq!(authority.calls()[0].headers["x-request-id"], correlation_id);

    let mut written: Vec<_> = attributes(&said).into_iter().map(|(key, value, _)| (key, value)).collect();
    written.sort_by(|a, b| a.0.cmp(&b.0));
    let expected: Vec<_> = job
        .verified()
        .into_iter()
        .map(|(key, value)| match value {
            Verified::Int(number) => (key, json!(number)),
            Verified::Text(text) => (key, json!(text)),
        })
        .collect();
    assert_eq!(written, expected);
    assert!(
        attributes(&said).contains(&("ci.job.id".into(), job.job_id.into(), "job_id".into())),
        "{said:#}"
    );
    let admitted = &said["admitted"];
    assert_eq!(
        (&admitted["trace_id"], &admitted["trace_gate"]),
        (&json!(job.trace_hex()), &json!("enforce"))
    );
    assert_eq!(said["kept"]["seconds"], json!([90, 100]));
    assert_eq!((&said["sender_gets"], &said["hint"]), (&Value::Null, &json!("")));
    let has = |list: &str, key: &str| admitted[list].as_array().unwrap().contains(&key.into());
    assert!(has("protected_keys", "team.name") && has("protected_keys", "ci.job.id"), "{admitted:#}");
    assert_eq!(admitted["protected_prefixes"], json!(["cost."]));
    assert_eq!(admitted["limits"][0]["amount"], "2000 a second, 1s at once");
    assert_eq!(admitted["limits"][1]["of"], format!("all requests of job {}", job.job_id));
    assert_eq!(admitted["limits"][4]["amount"], "1000 spans in all, each up to 4KiB");

    let (code, out, _) = files.run(&[]).await;
    assert_eq!(code, 0);
    for line in [
        format!("runner token    {} bytes", job.runner_token.len()),
        format!("asked           {}/api/v4/internal/ci/telemetry/auth", authority.url()),
        "verdict         ALLOW: GitLab vouches for this pair".to_owned(),
        format!("trace           {}: every span must have it (traces.trace_id: enforce)", job.trace_hex()),
        format!("  ci.job.id                     = {}  (job_id)", job.job_id),
        "  cost.*".to_owned(),
        format!(
            "  job_requests     20 a second, 2s at once, of all requests of job {} (enforce)",
            job.job_id
        ),
    ] {
        assert!(out.lines().any(|found| found == line), "no line {line:?} in\n{out}");
    }
}

/// Scenario: every kind of answer that is no yes, each explained beside a gateway that is asked by an export.
/// Guarantees: HTTP status and outcome are what that gateway's sender gets; 1 for a denial, 2 for everything undetermined;
/// a hint is there; no attribute is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_those_of_the_gateway() {
    let job = Job::new(1);
    for (script, code, hint) in [
        (Script::status(401), 1, "does GitLab ask for signed calls"),
        (Script::status(403), 1, "the runner that took the job"),
        (Script::status(401).header("content-type", "text/html"), 2, "spangate conform"),
        (Script::status(429), 2, "rate limits"),
        (Script::status(404), 2, "relative URL root"),
        (Script::status(302).header("location", "/"), 2, "redirect"),
        (Script::status(500), 2, "log has the correlation id"),
        (Script::allow(&job, 1).body("{}"), 2, "spangate conform"),
        (Script::reset(), 2, "gitlab.ca_file"),
    ] {
        let world = World::with(unlimited).await;
        world.authority.always(script.clone());
        let (found, said) = Files::new(&world.config, &job).explained().await;
        let answer = world.send(&Export::of(Form::Protobuf, &job, &spans::export(&job, 1))).await;
        assert_eq!((found, &said["admitted"]), (code, &Value::Null), "{script:?}: {said:#}");
        assert_eq!(said["sender_gets"]["http_status"], answer.status, "{script:?}: {said:#}");
        let outcome = said["sender_gets"]["outcome"].as_str().unwrap();
        let seen = world.metrics().await.sum("spangate_requests_total", &[("outcome", outcome)]);
        assert!((seen - 1.0).abs() < 0.1, "{script:?}: {said:#}");
        assert_eq!(said["verdict"], if code == 1 { "deny" } else { "undetermined" }, "{said:#}");
        assert_eq!(said["sender_gets"]["retries"], answer.headers.contains_key("retry-after"), "{said:#}");
        assert!(said["hint"].as_str().unwrap().contains(hint), "{script:?}: {said:#}");
    }
}

/// Scenario: tokens of a shape that no token has, one too long for the gateway, one that no header can carry.
/// Guarantees: refused with the gateway's 401 and without a question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_tokens_are_not_asked_about() {
    let (job, authority) = (Job::new(1), Authority::start().await);
    let files = Files::new(&config(&authority.url(), "http://127.0.0.1:9"), &job);
    for token in ["two words here", &"a".repeat(4097), "broken\nin the middle", "\u{fc}mlaut-token"] {
        files.write("job", token);
        let (code, said) = files.explained().await;
        assert_eq!((code, &said["verdict"], &said["asked"]), (1, &json!("deny"), &Value::Null), "{said:#}");
        assert_eq!(
            (&said["sender_gets"]["http_status"], &said["sender_gets"]["outcome"]),
            (&json!(401), &json!("credentials"))
        );
    }
    assert_eq!(authority.count(), 0);
}

/// Scenario: a job token that is a JWT with claims and an end, and an answer with a trace id only.
/// Guarantees: what the token fills in is named as such, and its end bounds how long the verdict is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_job_token_tells_is_named() {
    let authority = Authority::start().await;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let payload = json!({ "sub": "gid://gitlab/Ci::Build/4711", "p": "z", "exp": now + 40 }).to_string();
    let mut job = Job::new(1);
    job.job_token = format!("glcbt-eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(payload));
    let body = json!({ "trace_id": job.trace_hex(), "project_id": 35, "runner_id": 3 }).to_string();
    authority.know(&job, Script::allow(&job, 300).body(body));
    let (code, said) = Files::new(&config(&authority.url(), "http://127.0.0.1:9"), &job).explained().await;
    assert_eq!((code, &said["tokens"]["job_token_in_parts"]), (0, &json!(true)), "{said:#}");
    let both = |name: &str| format!("{name}, of the answer or of the job token");
    assert_eq!(
        attributes(&said),
        [
            ("ci.job.id".to_owned(), json!(4711), both("job_id")),
            ("ci.project.id".to_owned(), json!(35), both("project_id")),
            ("ci.runner.id".to_owned(), json!(3), "runner_id".to_owned()),
            ("service.name".to_owned(), json!("gitlab-ci-runner"), "attributes.service_name".to_owned()),
        ]
    );
    let longest = said["kept"]["seconds"][1].as_u64().unwrap();
    assert!((95..=100).contains(&longest), "{said:#}");
}

/// Scenario: a good and a refused pair, while nobody reads what is written.
/// Guarantees: the exit code is the verdict's all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_pipe_does_not_change_the_verdict() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let (job, authority) = (Job::new(1), Authority::start().await);
    let files = Files::new(&config(&authority.url(), "http://127.0.0.1:9"), &job);
    for (script, code) in [(Script::allow(&job, 300), 0), (Script::status(401), 1)] {
        authority.know(&job, script);
        for more in [&[][..], &["--json"]] {
            let Command::Explain(args) = files.parsed(more) else { panic!("{more:?}") };
            assert_eq!(explain::run_to(&args, &mut Closed, &mut Closed).await, code, "{more:?}");
        }
    }
}

/// Scenario: `attributes.mode: transparent`.
/// Guarantees: the headers that would be sent beside the body are shown, and that nothing is taken from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transparent_mode_shows_headers() {
    let (job, authority) = (Job::new(1), Authority::start().await);
    authority.allow(&job);
    let mut config = config(&authority.url(), "http://127.0.0.1:9");
    config.attributes.mode = AttributesMode::Transparent;
    let (code, said) = Files::new(&config, &job).explained().await;
    let id = ("x-gitlab-ci-job-id".to_owned(), json!(job.job_id.to_string()), "header".to_owned());
    assert!(code == 0 && attributes(&said).contains(&id), "{said:#}");
    assert_eq!(said["admitted"]["protected_keys"], json!([]));
}

/// Scenario: a file of fixed tokens in place of GitLab: a listed pair, two tokens of different entries, unknown ones.
/// Guarantees: exit codes 0, 1, 1 with the file's own reasons, and nothing is said to be cached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_fixed_tokens_is_explained() {
    let (job, other) = (Job::new(1), Job::new(2));
    let sha256 = |token: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        digest.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    let entry = |job: &Job| {
        json!({
            "runner_token_sha256": sha256(&job.runner_token), "job_token_sha256": sha256(&job.job_token),
            "trace_id": job.trace_hex(), "job_id": job.job_id.to_string(),
        })
    };
    let mut config = config("", "http://127.0.0.1:9");
    let files = Files::new(&config, &job);
    files.write("tokens", &json!({ "tokens": [entry(&job), entry(&other)] }).to_string());
    config.fixed.file = files.path("tokens");
    files.write("config", &serde_json::to_string(&config).unwrap());

    let (code, said) = files.explained().await;
    assert_eq!((code, &said["why"]), (0, &json!("the pair is listed")), "{said:#}");
    assert_eq!(said["asked"]["whom"], files.path("tokens").display().to_string());
    assert!(said["kept"]["seconds"].is_null(), "{said:#}");
    files.write("job", &other.job_token);
    let (code, said) = files.explained().await;
    assert_eq!((code, &said["sender_gets"]["http_status"]), (1, &json!(403)), "{said:#}");
    files.write("job", "unknown-token");
    let (code, said) = files.explained().await;
    assert_eq!((code, &said["sender_gets"]["http_status"]), (1, &json!(401)), "{said:#}");
    assert!(said["hint"].as_str().unwrap().contains("sha256sum"), "{said:#}");
}

/// Scenario: the real binary with a good pair, a refused one and an authority that is not there; configurations and files that
/// can't be used.
/// Guarantees: exit codes 0, 1, 2 and 64; mistakes on stderr, each with what to mend; no token in either stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_binary_says_the_same() {
    let (job, authority, nobody) = (Job::new(1), Authority::start().await, Refusing::new());
    authority.allow(&job);
    let files = Files::new(&config(&authority.url(), "http://127.0.0.1:9"), &job);
    let run = async |more: &[&str]| {
        let (code, out, errors) = process::run(&files.line(more)).await;
        files.assert_no_token(&out);
        files.assert_no_token(&errors);
        (code, out, errors)
    };
    let (code, out, errors) = run(&[]).await;
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    assert!(out.contains("\nverdict         ALLOW: "), "{out}");
    authority.always(Script::status(401));
    let (code, out, _) = run(&[]).await;
    assert!(code == 1 && out.contains("\nverdict         DENY: ") && out.contains("HTTP 401"), "{out}");
    let (code, out, _) = run(&["--set", &format!("gitlab.url={}", nobody.url())]).await;
    assert!(
        code == 2 && out.contains("\nverdict         UNDETERMINED: ") && out.contains("HTTP 503"),
        "{out}"
    );

    for (more, told) in [
        (["--set", "gitlab.timeout=9s"], "--set: gitlab.timeout: must be shorter"),
        (["--set", "gitlab.secret_file=/absent/s"], "config: gitlab.secret_file: /absent/s: cannot be read"),
        (["--set", "gitlab.nothing=1"], "unknown key"),
    ] {
        let (code, out, errors) = run(&more).await;
        assert!(code == 64 && out.is_empty() && errors.contains(told), "{more:?}: {code} {out} {errors}");
    }
    for (content, told) in [("", "job: is empty"), (&*"x".repeat(9000), "job: is longer than 8192 bytes")] {
        files.write("job", content);
        let (code, out, errors) = run(&[]).await;
        assert!(code == 64 && out.is_empty() && errors.contains(told), "{code} {out} {errors}");
    }
}
