//! The list: what it lets in, what it refuses, and how its mistakes are told.

use std::{fmt::Write, net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::*;
use crate::validate::credentials::test_support;

const TRACE: &str = "00000000000000000000000000123456";

fn hash(token: &str) -> String {
    sha256(token.as_bytes()).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn load(text: &str) -> Result<Fixed, BuildError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.yaml");
    fs::write(&path, text).unwrap();
    load_file(&path)
}

fn load_file(path: &Path) -> Result<Fixed, BuildError> {
    let identity = IdentityPolicy::new("gitlab-ci-runner").keeping_claims();
    Fixed::load(path, identity, Arc::new(Digester::random()), Arc::new(Metrics::new()))
}

fn entry(runner: &str, job: &str, more: &str) -> String {
    let (runner, job) = (hash(runner), hash(job));
    format!("  - runner_token_sha256: {runner}\n    job_token_sha256: {job}\n    trace_id: {TRACE}\n{more}")
}

fn pair(runner: &str, job: &str) -> Credentials {
    test_support::pair(&Digester::random(), runner, job)
}

async fn judge(fixed: &Fixed, runner: &str, job: &str) -> Verdict {
    let question = Question {
        credentials: Arc::new(pair(runner, job)),
        client: IpAddr::from([127, 0, 0, 1]),
        correlation_id: "c".into(),
        deadline: Instant::now(),
    };
    fixed.validate(&question).await.unwrap()
}

fn problems(text: &str) -> Vec<String> {
    match load(text) {
        Err(BuildError::Entries { problems, .. }) => problems,
        other => panic!("{other:?}"),
    }
}

/// Scenario: two listed pairs, their tokens crossed, and tokens that nobody listed.
/// Guarantees: a pair is let in with its facts; crossed good tokens are forbidden; anything else is unauthenticated.
#[tokio::test]
async fn the_list_decides() {
    let more =
        "    max_age: 60s\n    expires_at: 2226-11-22T14:40:00Z\n    job_id: 42\n    project_path: a/b\n";
    let list = format!("tokens:\n{}{}", entry("r1", "j1", more), entry("r2", "j2", ""));
    let fixed = load(&list).unwrap();
    let Verdict::Allow(first) = judge(&fixed, "r1", "j1").await else { panic!() };
    assert_eq!(first.identity.trace_id().unwrap().to_string(), TRACE);
    let claims = Claims { job_id: Some(42), project_path: Some("a/b".into()), ..Claims::default() };
    assert_eq!(first.identity.claims(), Some(&claims));
    assert_eq!((first.max_age, first.expires_at), (Some(Duration::from_mins(1)), Some(8_106_705_600)));
    let Verdict::Allow(second) = judge(&fixed, "r2", "j2").await else { panic!() };
    assert_eq!((second.max_age, second.expires_at), (None, None));

    for (runner, job, denial) in [
        ("r2", "j1", Denial::Forbidden),
        ("r1", "j2", Denial::Forbidden),
        ("r3", "j1", Denial::Unauthenticated),
        ("r1", "j3", Denial::Unauthenticated),
        ("j1", "r1", Denial::Unauthenticated),
        ("r3", "j3", Denial::Unauthenticated),
    ] {
        let verdict = judge(&fixed, runner, job).await;
        assert!(matches!(verdict, Verdict::Deny(seen) if seen == denial), "{runner} {job}: {verdict:?}");
    }
}

/// Scenario: pairs that end now, later, never and long ago, one token of each listed twice, through the second at which
/// one ends.
/// Guarantees: an entry holds up to its end and not in it; then its pair is unauthenticated, and so is one of its
/// tokens with another's unless that token is in an entry that still holds.
#[test]
fn what_has_ended_is_denied() {
    let entries = [
        entry(
            "r1",
            "j1",
            "    expires_at: 1000
",
        ),
        entry(
            "r1",
            "j2",
            "    expires_at: 2000
",
        ),
        entry("r2", "j2", "    expires_at: 500\n"),
        entry("r2", "j3", ""),
        entry("r3", "j4", ""),
    ];
    let fixed = load(&format!(
        "tokens:
{}",
        entries.concat()
    ))
    .unwrap();
    let judge = |runner, job, now| match fixed.judge(&pair(runner, job), now).unwrap() {
        Verdict::Allow(_) => "allow",
        Verdict::Deny(Denial::Unauthenticated) => "unauthenticated",
        Verdict::Deny(Denial::Forbidden) => "forbidden",
        Verdict::Deny(Denial::UnknownClient) => "unknown_client",
    };
    for (runner, job, at_999, at_1000, at_2000) in [
        ("r1", "j1", "allow", "unauthenticated", "unauthenticated"),
        ("r1", "j2", "allow", "allow", "unauthenticated"),
        ("r2", "j2", "unauthenticated", "unauthenticated", "unauthenticated"),
        ("r2", "j3", "allow", "allow", "allow"),
        ("r2", "j1", "forbidden", "unauthenticated", "unauthenticated"),
        ("r1", "j3", "forbidden", "forbidden", "unauthenticated"),
        // The entry of this job token that comes last ends first.
        ("r3", "j2", "forbidden", "forbidden", "unauthenticated"),
    ] {
        let seen = [999, 1000, 2000].map(|now| judge(runner, job, now));
        assert_eq!(seen, [at_999, at_1000, at_2000], "{runner} {job}");
    }
}

/// Scenario: a listed pair, one that has ended, tokens crossed and unlisted; then each is judged.
/// Guarantees: known is what is listed and has not ended; asking that counts nothing, each verdict counts once.
#[tokio::test]
async fn known_is_what_is_listed_and_verdicts_are_counted() {
    let entries = [
        entry("r1", "j1", ""),
        entry(
            "r2",
            "j2",
            "    expires_at: 1000
",
        ),
    ];
    let fixed = load(&format!(
        "tokens:
{}",
        entries.concat()
    ))
    .unwrap();
    let pairs = [("r1", "j1"), ("r2", "j2"), ("r1", "j2"), ("r3", "j3")];
    let known = pairs.map(|(runner, job)| fixed.known(&pair(runner, job)));
    assert_eq!(known, [true, false, false, false]);
    for (runner, job) in pairs {
        judge(&fixed, runner, job).await;
    }
    let text = fixed.metrics.render();
    for (verdict, count) in [("allow", 1), ("deny", 3)] {
        let line = format!("spangate_verdicts_total{{source=\"hit\",verdict=\"{verdict}\"}} {count}");
        assert!(text.contains(&line), "{text}");
    }
}

/// Scenario: the list as JSON, numbers as numbers, digests in upper case, and an empty list.
/// Guarantees: all are read; an empty list lets nobody in.
#[tokio::test]
async fn json_and_other_spellings() {
    let list = serde_json::json!({ "tokens": [{
        "runner_token_sha256": hash("r").to_uppercase(), "job_token_sha256": hash("j"), "trace_id": TRACE,
        "job_id": 7, "expires_at": 7_900_000_000_u64, "pipeline_source": "push", "runner_manager_system_xid": "s_1",
    }] });
    let fixed = load(&list.to_string()).unwrap();
    let Verdict::Allow(allowed) = judge(&fixed, "r", "j").await else { panic!() };
    assert_eq!(
        (allowed.identity.claims().unwrap().job_id, allowed.expires_at),
        (Some(7), Some(7_900_000_000))
    );
    let empty = load("tokens: []\n").unwrap();
    assert!(matches!(judge(&empty, "r", "j").await, Verdict::Deny(Denial::Unauthenticated)));
}

/// Scenario: a list with many mistakes in several entries.
/// Guarantees: every one is told with line, entry and field; no value is quoted.
#[test]
fn all_mistakes_are_told() {
    let list = format!(
        "tokens:\n{}{}{}",
        entry("r1", "j1", "    job_id: 0\n    max_age: soon\n    expires_at: canary\n    colour: canary\n"),
        "  - runner_token_sha256: canary\n    trace_id: '00000000000000000000000000000000'\n    runner_type: \"canary\\n\"\n    glrt-canary: x\n",
        entry("r1", "j1", ""),
    );
    let told = problems(&list);
    let expected = [
        "line 2: tokens[0]: max_age must be a duration, as 60s",
        "line 2: tokens[0]: expires_at must be Unix seconds or a time in RFC 3339",
        "line 2: tokens[0]: job_id must be a positive number of at most 63 bits",
        "line 2: tokens[0]: unknown field colour",
        "line 9: tokens[1]: runner_token_sha256 must be 64 hex digits, as sha256sum prints them",
        "line 9: tokens[1]: job_token_sha256 is missing",
        "line 9: tokens[1]: trace_id must be 32 lower-case hex digits other than all zero",
        "line 9: tokens[1]: runner_type must be 1 to 1024 bytes without control characters",
        "line 9: tokens[1]: an unknown field",
        "line 13: tokens[2]: is listed twice",
    ];
    assert_eq!(told, expected);
    let error = load(&list).unwrap_err();
    let printed = format!("{error} {error:?}");
    assert!(printed.contains("tokens.yaml: 10 mistake(s): "), "{printed}");
    assert!(!printed.contains("canary"), "{printed}");
}

/// Scenario: files that are no list of tokens, plain tokens in them included, and no file.
/// Guarantees: the error names key and file and shows nothing of the content.
#[test]
fn what_is_no_list_is_refused() {
    for text in [
        "",
        "canary",
        "tokens: canary\n",
        "tokens:\n  - canary\n",
        "entries: []\n",
        "tokens: []\nrunner_token: canary\n",
        "tokens:\n  - {job_id: [canary]}\n",
        "tokens:\n  - {job_id: 1, job_id: 2}\n",
        "tokens: [\n",
    ] {
        let told = load(text).unwrap_err().to_string();
        assert!(
            told.starts_with("fixed.file: ") && told.contains("tokens.yaml: is no list of tokens"),
            "{told}"
        );
        assert!(!told.contains("canary"), "{text}: {told}");
    }
    let absent = load_file(Path::new("/nonexistent/t"));
    assert!(absent.unwrap_err().to_string().starts_with("fixed.file: /nonexistent/t: cannot be read"));
}
