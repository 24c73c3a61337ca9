//! `spangate conform` against an endpoint that keeps the contract and against endpoints with one fault
//! each. Held: every fault is found by the check that is about it, and no token is ever printed.

mod faults;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Parser as _;
use http::Method;
use serde_json::Value;
use spangate::cli::{
    args::{Cli, Command},
    conform,
};
use tempfile::TempDir;

use crate::support::{
    authority::{Authority, Script},
    job::Job,
    process,
    server::Refusing,
    tls::TestTls,
};

use faults::{Fault, fault, faults, kept, on_yes};

const SECRET: [u8; 32] = [9; 32];

/// Two jobs of two runners, and everything in files.
struct Kit {
    folder: TempDir,
    job: Job,
    other: Job,
}

impl Kit {
    fn new() -> Self {
        let kit = Self { folder: TempDir::new().unwrap(), job: Job::new(1), other: Job::new(2) };
        for (name, content) in [
            ("runner", format!("{}\n", kit.job.runner_token)),
            ("job", kit.job.job_token.clone()),
            ("other", format!("{}\r\n", kit.other.job_token)),
            ("secret", STANDARD.encode(SECRET)),
        ] {
            std::fs::write(kit.path(name), content).unwrap();
        }
        kit
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An endpoint that knows both jobs and asks for a signature.
    fn set_up(&self, authority: &Authority) {
        authority.allow(&self.job);
        authority.allow(&self.other);
        authority.require_signature(SECRET);
    }

    /// The command line without the program's name.
    fn line(&self, url: &str, more: &[&str]) -> Vec<String> {
        let mut line: Vec<String> = ["conform", "--url", url].map(String::from).into();
        for (flag, name) in [
            ("--runner-token-file", "runner"),
            ("--job-token-file", "job"),
            ("--other-job-token-file", "other"),
            ("--secret-file", "secret"),
        ] {
            line.extend([flag.to_owned(), self.path(name).display().to_string()]);
        }
        line.extend(more.iter().map(ToString::to_string));
        line
    }

    /// Runs it in this process: exit code, stdout, stderr.
    async fn run(&self, line: &[String]) -> (u8, String, String) {
        let cli =
            Cli::try_parse_from(std::iter::once("spangate").chain(line.iter().map(String::as_str))).unwrap();
        let Command::Conform(args) = cli.command else { panic!("{line:?}") };
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let code = conform::run_to(&args, &mut out, &mut errors).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, errors) = (text(out), text(errors));
        self.assert_no_token(&out);
        self.assert_no_token(&errors);
        (code, out, errors)
    }

    fn assert_no_token(&self, text: &str) {
        let secret = STANDARD.encode(SECRET);
        for token in [&self.job.runner_token, &self.job.job_token, &self.other.job_token, &secret] {
            assert!(!text.contains(&token[..token.len() / 2]), "a token in {text}");
        }
    }
}

/// The results in JSON: outcomes by check.
fn outcomes(out: &str) -> BTreeMap<String, String> {
    let report: Value = serde_json::from_str(out).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap();
    let by_check: BTreeMap<_, _> =
        checks.iter().map(|check| (text(&check["check"]), text(&check["outcome"]))).collect();
    assert_eq!(by_check.len(), checks.len(), "a check was told twice: {out}");
    by_check
}

fn with(outcomes: &BTreeMap<String, String>, outcome: &str) -> BTreeSet<String> {
    outcomes.iter().filter(|(_, found)| *found == outcome).map(|(check, _)| check.clone()).collect()
}

fn set(checks: &[&str]) -> BTreeSet<String> {
    checks.iter().map(ToString::to_string).collect()
}

/// Scenario: an endpoint that keeps the contract, with and without a signature, with and without a second job.
/// Guarantees: every check passes, what could not be asked is said to be skipped, exit code 0, one line a check; the
/// questions differ from the gateway's only where a check is about that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_keeps_the_contract_passes() {
    let (kit, authority) = (Kit::new(), Authority::start().await);
    kit.set_up(&authority);
    let (code, out, errors) = kit.run(&kit.line(&authority.url(), &["--json"])).await;
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    let found = outcomes(&out);
    assert_eq!(with(&found, "skip"), set(&["http2"]), "{out}");
    assert_eq!((with(&found, "warn"), with(&found, "FAIL")), (set(&[]), set(&[])), "{out}");
    assert_eq!(with(&found, "ok").len(), 31, "{out}");

    let odd: BTreeSet<_> = authority.take_problems().into_iter().collect();
    let expected = [
        "0 times job-token",
        "0 times runner-token",
        "body b\"\"",
        "body b\"{\\\"spangate_conform\\\":{\\\"nested\\\":[1,\\\"two\\\",null]}}\"",
        "content-type: ",
        "method GET",
    ];
    assert_eq!(odd, set(&expected));

    let (code, out, errors) = kit.run(&kit.line(&authority.url(), &[])).await;
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    authority.take_problems();
    assert!(out.ends_with("the endpoint keeps the contract: 31 ok, 0 warn, 0 FAIL, 1 skipped\n"), "{out}");
    assert!(out.contains(&format!("\nok    trace-id                {}\n", kit.job.trace_hex())), "{out}");

    let plain = Authority::start().await;
    plain.allow(&kit.job);
    let line = kit.line(&plain.url(), &["--json"]);
    let without: Vec<_> = line[..line.len() - 5].iter().cloned().chain(["--json".into()]).collect();
    let (code, out, _) = kit.run(&without).await;
    plain.take_problems();
    let found = outcomes(&out);
    assert_eq!((code, with(&found, "warn")), (0, set(&["signature"])), "{out}");
    let skipped = [
        "http2",
        "other-runners-job",
        "signature-alg-none",
        "signature-expired",
        "signature-issuer",
        "signature-missing",
        "signature-wrong-key",
    ];
    assert_eq!(with(&found, "skip"), set(&skipped), "{out}");
}

/// Scenario: an endpoint over TLS with a certificate of its own that speaks both versions of HTTP, one that speaks
/// HTTP/1.1 only, and one whose certificate is not trusted.
/// Guarantees: HTTP/2 is taken where it is offered and HTTP/1.1 is asked beside it; without trust nothing is asked on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_of_http_are_asked() {
    let (kit, tls) = (Kit::new(), TestTls::new());
    let ca = tls.client().ca_file.display().to_string();
    for (alpn, http2) in [(&["h2", "http/1.1"][..], "ok"), (&["http/1.1"][..], "skip")] {
        let authority = Authority::start_tls(tls.server_config(alpn)).await;
        kit.set_up(&authority);
        let url = authority.url().replace("http://", "https://");
        let (code, out, _) = kit.run(&kit.line(&url, &["--json", "--ca-file", &ca])).await;
        authority.take_problems();
        let found = outcomes(&out);
        assert_eq!((code, found["http2"].as_str(), found["http1"].as_str()), (0, http2, "ok"), "{out}");

        let (code, out, _) = kit.run(&kit.line(&url, &["--json"])).await;
        assert_eq!((code, outcomes(&out).len(), authority.take_problems().len()), (1, 2, 0), "{out}");
        assert!(out.contains("--ca-file"), "{out}");
    }
}

/// Scenario: endpoints with one fault each.
/// Guarantees: exactly the checks that are about the fault fail, each says what to mend, and the exit code is 1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_found() {
    let kit = Kit::new();
    for (name, fault, failing) in faults() {
        let authority = Authority::start().await;
        kit.set_up(&authority);
        authority.break_by(fault);
        let (code, out, errors) = kit.run(&kit.line(&authority.url(), &["--json"])).await;
        authority.take_problems();
        assert_eq!((code, errors.as_str()), (1, ""), "{name}: {out}");
        assert_eq!(with(&outcomes(&out), "FAIL"), set(failing), "{name}: {out}");
        let report: Value = serde_json::from_str(&out).unwrap();
        for check in report["checks"].as_array().unwrap().iter().filter(|check| check["outcome"] == "FAIL") {
            assert!(check["mend"].as_str().is_some_and(|mend| mend.len() > 10), "{name}: {check}");
        }
    }
}

/// Scenario: faults that the gateway can live with.
/// Guarantees: they are warned of, and nothing fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_lived_with_is_a_warning() {
    type Row = (Fault, &'static [&'static str]);
    let rows: [Row; 4] = [
        (
            fault(|_, script| on_yes(script, |script| script.header("content-type", "text/plain"))),
            &["content-type"],
        ),
        (
            fault(|_, script| on_yes(script, |script| script.edit(|body| body["runner_type"] = Value::Null))),
            &["facts"],
        ),
        (
            fault(
                |seen, script| {
                    if seen.headers.contains_key("job-token") { script } else { Script::status(400) }
                },
            ),
            &["no-job-token", "no-tokens"],
        ),
        (
            fault(|seen, script| if seen.method == Method::GET { Script::status(401) } else { script }),
            &["get"],
        ),
    ];
    let kit = Kit::new();
    for (fault, warned) in rows {
        let authority = Authority::start().await;
        kit.set_up(&authority);
        authority.break_by(fault);
        let (code, out, _) = kit.run(&kit.line(&authority.url(), &["--json"])).await;
        authority.take_problems();
        let found = outcomes(&out);
        assert_eq!((code, with(&found, "FAIL"), with(&found, "warn")), (0, set(&[]), set(warned)), "{out}");
    }
}

/// Scenario: the real binary against a good endpoint, a broken one, nobody, and with files and flags that can't be used.
/// Guarantees: exit codes 0, 1, 1 and 64; findings on stdout, mistakes on stderr with the file to mend; no token in either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_binary_says_the_same() {
    let (kit, authority, nobody) = (Kit::new(), Authority::start().await, Refusing::new());
    kit.set_up(&authority);
    let run = async |line: Vec<String>| {
        let (code, out, errors) = process::run(&line).await;
        kit.assert_no_token(&out);
        kit.assert_no_token(&errors);
        (code, out, errors)
    };
    let (code, out, errors) = run(kit.line(&authority.url(), &[])).await;
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    assert!(
        out.starts_with(&format!("POST {}/api/v4/internal/ci/telemetry/auth\n", authority.url())),
        "{out}"
    );
    authority.break_by(|_, script| kept(script, None));
    let (code, out, _) = run(kit.line(&authority.url(), &[])).await;
    assert!(code == 1 && out.contains("\nFAIL  cache-control "), "{out}");
    authority.take_problems();
    let (code, out, _) = run(kit.line(&nobody.url(), &[])).await;
    assert!(code == 1 && out.contains("FAIL  good-pair ") && out.contains("could not be reached"), "{out}");

    let asked = authority.count();
    let absent = kit.path("absent").display().to_string();
    let spaced = kit.path("spaced").display().to_string();
    std::fs::write(Path::new(&spaced), format!("{} {}", kit.job.runner_token, kit.job.job_token)).unwrap();
    for (more, told) in [
        (["--runner-token-file", &*absent], "absent: cannot be read: "),
        (["--job-token-file", &absent], "absent: cannot be read: "),
        (["--other-job-token-file", &spaced], "a token has a character or a length that no token has"),
        (["--secret-file", &spaced], "gitlab.secret_file: "),
        (["--ca-file", &absent], "gitlab.ca_file: "),
        (["--job-token-header", "Runner-Token"], "gitlab.job_token_header: "),
        (["--url", "gitlab.example.com"], "gitlab.url: "),
    ] {
        let mut line = kit.line(&authority.url(), &[]);
        // clap takes a flag once.
        if let Some(at) = line.iter().position(|word| word == more[0]) {
            line.drain(at..at + 2);
        }
        line.extend(more.map(str::to_owned));
        let (code, out, errors) = run(line).await;
        assert_eq!((code, out.as_str()), (64, ""), "{more:?}: {errors}");
        assert!(errors.contains(told), "{more:?}: {errors}");
    }
    assert_eq!(authority.count(), asked);
}
