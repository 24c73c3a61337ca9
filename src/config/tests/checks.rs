//! Values that each could be right and together can't.

use std::path::PathBuf;

use super::{super::check::MAX_LISTENERS, GOOD, load, mistakes, with};

/// Scenario: one value at a time is set to something that can't work with the rest.
/// Guarantees: each is refused under its own name; the good neighbours of each are accepted.
#[test]
fn values_that_do_not_fit_together() {
    let bad = [
        ("listeners", "[]", "listeners"),
        ("listeners.0.name", "a b", "listeners.0.name"),
        ("listeners.0.address", "0.0.0.0:8151", "listeners.0.address"),
        ("listeners.0.signals", "[]", "listeners.0.signals"),
        ("listeners.0.authentication", "[]", "listeners.0.authentication"),
        ("listeners.0.tls", "{ cert_file: a }", "listeners.0.tls.key_file"),
        ("gitlab.url", "", "gitlab.url"),
        ("gitlab.url", "gitlab.example.com", "gitlab.url"),
        ("gitlab.url", "ftp://gitlab.example.com", "gitlab.url"),
        ("gitlab.url", "https://user:secret@gitlab.example.com", "gitlab.url"),
        ("gitlab.url", "https://gitlab.example.com?x", "gitlab.url"),
        ("gitlab.url", "https://gitlab.example.com/#x", "gitlab.url"),
        ("gitlab.url", "https://gitlab.example.com:99999", "gitlab.url"),
        ("gitlab.auth_path", "api", "gitlab.auth_path"),
        ("gitlab.auth_path", "/api?x", "gitlab.auth_path"),
        ("fixed.file", "/tokens", "fixed.file"),
        ("gitlab.runner_token_header", "Runner Token", "gitlab.runner_token_header"),
        ("gitlab.runner_token_header", "authorization", "gitlab.runner_token_header"),
        ("gitlab.job_token_header", "Transfer-Encoding", "gitlab.job_token_header"),
        ("gitlab.job_token_header", "runner-token", "gitlab.job_token_header"),
        ("gitlab.secret_header", "job-token", "gitlab.secret_header"),
        ("gitlab.secret_audience", "", "gitlab.secret_audience"),
        ("gitlab.timeout", "4s", "gitlab.timeout"),
        ("gitlab.timeout", "0s", "gitlab.timeout"),
        ("gitlab.max_concurrency", "0", "gitlab.max_concurrency"),
        ("cache.max_entries", "0", "cache.max_entries"),
        ("cache.refresh_ahead", "0.95", "cache.refresh_ahead"),
        ("cache.refresh_ahead", "nan", "cache.refresh_ahead"),
        ("cache.max_size", "1023KiB", "cache.max_size"),
        ("cache.outage", "open", "cache.outage"),
        ("cache.stale_if_error", "61s", "cache.stale_if_error"),
        ("cache.stale_while_revalidate", "61s", "cache.stale_while_revalidate"),
        ("traces.max_span_size", "0", "traces.max_span_size"),
        ("traces.max_spans_per_job", "0", "traces.max_spans_per_job"),
        ("limits.per_runner.requests_per_second", "0", "limits.per_runner.requests_per_second"),
        ("limits.per_job.burst", "10ms", "limits.per_job.burst"),
        ("limits.per_job.bytes_per_second", "0", "limits.per_job.bytes_per_second"),
        ("limits.per_client_failures.per_minute", "0", "limits.per_client_failures.per_minute"),
        ("attributes.service_name", "", "attributes.service_name"),
        ("attributes.protected.prefixes", "[\"\"]", "attributes.protected.prefixes.0"),
        ("attributes", "{ mode: transparent, also_strip: [span] }", "attributes.also_strip"),
        ("attributes", "{ mode: transparent, sets: [cicd] }", "attributes.sets"),
        ("attributes.sets", "[ci]", "attributes.sets.0"),
        ("attributes.gitlab_url", "gitlab.example.com", "attributes.gitlab_url"),
        ("attributes.gitlab_url", "https://user:secret@gitlab.example.com", "attributes.gitlab_url"),
        ("intake.max_inflated_size", "1MiB", "intake.max_inflated_size"),
        ("intake.max_in_flight_bytes", "1MiB", "intake.max_in_flight_bytes"),
        ("intake.max_streams", "0", "intake.max_streams"),
        ("collector.endpoints", "[]", "collector.endpoints"),
        ("collector.endpoints.0", "http://collector", "collector.endpoints.0"),
        ("collector.endpoints.0", "http://collector:0", "collector.endpoints.0"),
        ("collector.endpoints.0", "http://LOCALHOST:4318", "collector.endpoints.0"),
        ("collector.endpoints.0", "http://127.0.0.9:4318/", "collector.endpoints.0"),
        ("collector.endpoints.0", "http://collector:4318/v1/traces", "collector.endpoints.0"),
        ("collector.endpoints.0", "http://u:p@collector:4318", "collector.endpoints.0"),
        ("collector.endpoints", "[http://a:1, http://a:1]", "collector.endpoints.1"),
        ("collector.tls.ca_file", "/ca", "collector.tls"),
        ("collector", "{ endpoints: [https://a:1], tls: { key_file: a } }", "collector.tls.cert_file"),
        ("shutdown.deadline", "5s", "shutdown.deadline"),
    ];
    for (key, value, field) in bad {
        let found = with(&[(key, value)]).expect_err(&format!("{key}={value} is refused"));
        assert!(found.0.iter().any(|mistake| mistake.field == field), "{key}={value}: {found}");
        assert!(!found.to_string().contains("secret@"), "{found}");
    }
    for (key, value) in [
        ("listeners.0.address", "127.0.0.1:8152"),
        ("gitlab.url", "http://[::1]:8080/gitlab/"),
        ("gitlab.max_queue", "0"),
        ("cache.max_ttl", "0s"),
        ("cache.max_size", "1MiB"),
        ("cache.outage", "strict"),
        ("cache.stale_while_revalidate", "60s"),
        ("limits.per_job", "{ mode: off, requests_per_second: 0 }"),
        ("attributes.mode", "transparent"),
        ("attributes", "{ sets: [gitlab, cicd, vcs], gitlab_url: https://gitlab.example.com/git/ }"),
        ("collector.endpoints", "['https://[2001:db8::1]:4318/', http://b:1, http://127.0.0.1:4319]"),
        ("listeners.0.address", "10.0.0.1:4318"),
        ("collector", "{ endpoints: [https://a:1], tls: { ca_file: a } }"),
        ("log", "{ format: text, level: debug }"),
    ] {
        with(&[(key, value)]).unwrap_or_else(|mistakes| panic!("{key}={value}: {mistakes}"));
    }
    let fixed = load("fixed: { file: /tokens }\ncollector: { endpoints: [http://c:1] }\n")
        .expect("a file of tokens in place of GitLab");
    assert_eq!(fixed.fixed.file, PathBuf::from("/tokens"));
    let crowd = (0..=MAX_LISTENERS)
        .map(|n| format!("  - {{ name: l{n}, address: 127.0.0.1:{} }}", 9000 + n))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(mistakes(&format!("{GOOD}listeners:\n{crowd}")).contains("at most 12"));
    let all = "signals: [traces, metrics, logs, profiles]";
    let crowd = |listeners: u16| {
        let lines =
            (0..listeners).map(|n| format!("  - {{ name: l{n}, address: 127.0.0.1:{}, {all} }}\n", 9000 + n));
        format!("{GOOD}listeners:\n{}", lines.collect::<String>())
    };
    assert!(load(&crowd(3)).is_ok());
    assert!(mistakes(&crowd(4)).contains("at most 12 signals"));
}
