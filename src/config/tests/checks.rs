//! Values that each could be right and together can't.

use std::path::PathBuf;

use super::{
    super::{KeyOrigin, check::MAX_LISTENERS, render},
    GOOD, load, mistakes, with,
};

mod store;
mod trusted;

/// Scenario: one value at a time is set to something that can't work with the rest.
/// Guarantees: each is refused under its own name; the good neighbours of each are accepted.
#[test]
#[expect(clippy::too_many_lines, reason = "a table, one line a case")]
fn values_that_do_not_fit_together() {
    let bad = [
        ("listeners", "[]", "listeners"),
        ("listeners.0.name", "a b", "listeners.0.name"),
        ("listeners.0.address", "0.0.0.0:8151", "listeners.0.address"),
        ("listeners.0.signals", "[]", "listeners.0.signals"),
        ("listeners.0.signals", "[traces, logs, traces]", "listeners.0.signals.2"),
        ("listeners.0.authentication", "[]", "listeners.0.authentication"),
        ("listeners.0.authentication", "[gitlab, gitlab]", "listeners.0.authentication.1"),
        ("listeners.0.tls", "{ cert_file: a }", "listeners.0.tls.key_file"),
        ("listeners.0.proxy_protocol", "v2", "listeners.0.proxy_protocol"),
        ("listeners.0.proxy_protocol", "v3", "listeners.0.proxy_protocol"),
        ("listeners.0.trusted_hops", "[10.0.0.0/33]", "listeners.0.trusted_hops.0"),
        ("listeners.0.trusted_hops", "[lb.example.com]", "listeners.0.trusted_hops.0"),
        ("listeners.0.trusted_hops", "[\"::ffff:10.0.0.0/104\"]", "listeners.0.trusted_hops.0"),
        ("listeners.0.trusted_hops", "[10.0.0.0/8, 10.0.0.0/8]", "listeners.0.trusted_hops.1"),
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
        ("gitlab.retry_ratio", "1.5", "gitlab.retry_ratio"),
        ("gitlab.retry_ratio", "nan", "gitlab.retry_ratio"),
        ("gitlab.ramp", "2m", "gitlab.ramp"),
        ("gitlab.breaker.faults", "0", "gitlab.breaker.faults"),
        ("gitlab.breaker.ratio", "-0.1", "gitlab.breaker.ratio"),
        ("gitlab.breaker.max_open", "0s", "gitlab.breaker.max_open"),
        ("gitlab.breaker.max_open", "31s", "gitlab.breaker.max_open"),
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
        ("limits.per_runner", "{ spans_per_second: 5, burst: 100ms }", "limits.per_runner.burst"),
        ("limits.per_project", "{ requests_per_second: 1, burst: 500ms }", "limits.per_project.burst"),
        ("limits.global", "{ bytes_per_second: 1, burst: 0s, mode: shadow }", "limits.global.burst"),
        ("limits.throttle_status", "500", "limits.throttle_status"),
        ("limits.throttle_status", "off", "limits.throttle_status"),
        ("limits.per_client_failures.per_minute", "0", "limits.per_client_failures.per_minute"),
        ("limits.per_client_failures.max_in_flight", "0", "limits.per_client_failures.max_in_flight"),
        ("attributes.service_name", "", "attributes.service_name"),
        ("attributes.protected.prefixes", "[\"\"]", "attributes.protected.prefixes.0"),
        ("attributes", "{ mode: transparent, also_strip: [span] }", "attributes.also_strip"),
        ("attributes", "{ mode: transparent, sets: [cicd] }", "attributes.sets"),
        ("attributes.sets", "[ci]", "attributes.sets.0"),
        ("attributes.gitlab_url", "gitlab.example.com", "attributes.gitlab_url"),
        ("attributes.gitlab_url", "https://user:secret@gitlab.example.com", "attributes.gitlab_url"),
        ("intake.max_inflated_size", "1MiB", "intake.max_inflated_size"),
        ("intake.max_in_flight_bytes", "1MiB", "intake.max_in_flight_bytes"),
        ("intake.max_in_flight_bytes", "some", "intake.max_in_flight_bytes"),
        ("intake.max_streams", "0", "intake.max_streams"),
        ("collector.max_connections", "0", "collector.max_connections"),
        ("intake.idle_timeout", "0s", "intake.idle_timeout"),
        ("intake.stranger_idle_timeout", "0s", "intake.stranger_idle_timeout"),
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
        ("listeners.0.signals", "[logs, traces]"),
        ("listeners.0.trusted_hops", "[10.0.0.0/8, 192.0.2.7, \"2001:db8::/32\"]"),
        ("intake.max_in_flight_bytes", "auto"),
        ("intake.max_in_flight_bytes", "64MiB"),
        ("intake.max_connections_per_client", "0"),
        ("intake.max_connection_age", "0s"),
        ("gitlab.url", "http://[::1]:8080/gitlab/"),
        ("gitlab.max_queue", "0"),
        ("cache.max_ttl", "0s"),
        ("cache.max_size", "1MiB"),
        ("cache.outage", "strict"),
        ("cache.stale_while_revalidate", "60s"),
        ("limits.per_job", "{ mode: off, requests_per_second: 0 }"),
        ("limits.per_runner", "{ requests_per_second: 5, spans_per_second: 0, bytes_per_second: 1MiB }"),
        ("limits.per_listener", "{ requests_per_second: 500, mode: shadow }"),
        ("limits.per_project", "{ burst: 0s }"),
        ("limits.global", "{ mode: off, requests_per_second: 1, burst: 0s }"),
        ("limits.throttle_status", "503"),
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
    assert!(mistakes(&format!("{GOOD}listeners:\n{crowd}")).contains("at most 10"));
    let all = "signals: [traces, metrics, logs, profiles]";
    let crowd = |listeners: u16| {
        let lines =
            (0..listeners).map(|n| format!("  - {{ name: l{n}, address: 127.0.0.1:{}, {all} }}\n", 9000 + n));
        format!("{GOOD}listeners:\n{}", lines.collect::<String>())
    };
    assert!(load(&crowd(2)).is_ok());
    assert!(mistakes(&crowd(3)).contains("at most 10 signals"));
}

/// A configuration with these keys of one provider.
fn provider(keys: &str) -> String {
    format!(
        "listeners: [{{ authentication: [oidc], address: '127.0.0.1:0' }}]\ncollector: {{ endpoints: [http://c:1] }}\n\
         oidc: {{ providers: [ {{ {keys} }} ] }}\n"
    )
}

/// Scenario: a provider with the least that it needs, and each place for keys; no GitLab, because no listener needs one.
/// Guarantees: it can be used, and the discovery document is looked for below the issuer.
#[test]
fn providers_need_little() {
    let least = "issuer: 'https://gitlab.example.com/git/', audiences: [spangate]";
    let config = load(&provider(least)).expect("valid");
    let discovery = "https://gitlab.example.com/git/.well-known/openid-configuration";
    assert_eq!(config.oidc.providers[0].key_origin(), KeyOrigin::Discovery(discovery.into()));
    for more in [
        "jwks_url: 'https://keys.example.com/keys?app=1'",
        "discovery: 'http://127.0.0.1:1/d', algorithms: [PS256, ES512]",
        "keys_file: /keys.json, service_name: x, trace_id_claim: trace",
        "require: { a.b: [c, '1', 'true'], /d.e/f: [g] }, facts: { job_id: job_id }, attributes: { h: i.j }",
    ] {
        let config = load(&provider(&format!("{least}, {more}"))).expect(more);
        assert_eq!(load(&render::effective_yaml(&config)).expect("reads back"), config, "{more}");
    }
    let named = provider("issuer: urn:corp, audiences: [spangate], jwks_url: 'https://keys.example.com'");
    assert!(load(&named).is_ok());
}

/// Scenario: each mistake that a provider can have.
/// Guarantees: each is reported where it is to be mended.
#[test]
fn mistakes_of_providers() {
    let good = "issuer: 'https://gitlab.example.com', audiences: [spangate]";
    for (keys, expected) in [
        ("audiences: [a], keys_file: k", "oidc.providers.0.issuer: must be the `iss`"),
        ("issuer: 'a b', audiences: [a], keys_file: k", "oidc.providers.0.issuer: must be the `iss`"),
        ("issuer: 'https://i'", "oidc.providers.0.audiences: must name the audience"),
        ("issuer: 'https://i', audiences: ['']", "oidc.providers.0.audiences: must name the audience"),
        ("issuer: urn:corp, audiences: [a]", "oidc.providers.0.issuer: is no URL"),
        (&format!("{good}, jwks_url: ftp://x"), "oidc.providers.0.jwks_url: is no URL"),
        (
            &format!("{good}, jwks_url: 'https://u:p@x'"),
            "oidc.providers.0.jwks_url: must not hold a user name",
        ),
        (
            &format!("{good}, jwks_url: 'https://x', keys_file: k"),
            "oidc.providers.0.keys_file: oidc.providers.0.jwks_url is set too",
        ),
        (
            &format!("{good}, jwks_url: 'https://x', discovery: 'https://y'"),
            "oidc.providers.0.discovery: oidc.providers.0.jwks_url is set too",
        ),
        (&format!("{good}, keys_file: k, ca_file: c"), "oidc.providers.0.ca_file: has no use"),
        (&format!("{good}, algorithms: []"), "oidc.providers.0.algorithms: at least one"),
        (&format!("{good}, algorithms: [none]"), "oidc.providers.0.algorithms.0: \"none\" is none of: RS256"),
        (
            &format!("{good}, algorithms: [RS256, HS256]"),
            "oidc.providers.0.algorithms.1: \"HS256\" is none of: RS256",
        ),
        (&format!("{good}, require: {{ a: [] }}"), "oidc.providers.0.require: a: at least one value"),
        (&format!("{good}, require: {{ a..b: [x] }}"), "oidc.providers.0.require: \"a..b\" names no claim"),
        (&format!("{good}, facts: {{ job: x }}"), "oidc.providers.0.facts.job: \"job\" is none of: job_id"),
        (&format!("{good}, facts: {{ job_id: '' }}"), "oidc.providers.0.facts: \"\" names no claim"),
        (&format!("{good}, attributes: {{ a: '' }}"), "oidc.providers.0.attributes: a: must give the key"),
        (&format!("{good}, trace_id_claim: 'a.'"), "oidc.providers.0.trace_id_claim: \"a.\" names no claim"),
        (
            "issuer: 'https://accounts.google.com', audiences: [a]",
            "oidc.providers.0.require: this issuer gives tokens",
        ),
        (
            "issuer: accounts.google.com, audiences: [a], keys_file: k",
            "oidc.providers.0.require: this issuer gives tokens",
        ),
        (
            "issuer: 'https://gitlab.com', audiences: [a], require: { ref: [main] }",
            "oidc.providers.0.require: this issuer gives tokens",
        ),
    ] {
        let found = mistakes(&provider(keys));
        assert!(found.lines().any(|line| line.contains(expected)), "{keys}: {found}");
    }
    for claim in ["google.compute_engine.project_id", "/google/compute_engine/project_number", "email"] {
        let google =
            format!("issuer: 'https://accounts.google.com', audiences: [a], require: {{ {claim}: [x] }}");
        assert!(load(&provider(&google)).is_ok(), "{claim}");
    }
}

/// Scenario: a listener that takes bearer tokens without a provider, a provider without such a listener, an issuer twice, 17
/// providers, attributes with a transparent body.
/// Guarantees: each is a mistake.
#[test]
fn providers_and_listeners_go_together() {
    let base = "gitlab: { url: https://gitlab.example.com }\ncollector: { endpoints: [http://c:1] }\n";
    let one = |index: usize| format!("{{ issuer: 'https://i{index}', audiences: [a] }}");
    let all: Vec<_> = (0..17).map(one).collect();
    for (text, expected) in [
        ("listeners: [{ authentication: [gitlab, oidc] }]".to_owned(), "listeners.0.authentication: has oidc, and oidc.providers is empty"),
        (format!("oidc: {{ providers: [{}] }}", one(1)), "oidc.providers: has no use"),
        (format!("oidc: {{ providers: [{}, {}] }}", one(1), one(1)), "oidc.providers.1.issuer: another provider"),
        (format!("oidc: {{ providers: [{}] }}", all.join(", ")), "oidc.providers: at most 16"),
        (
            "oidc: { providers: [{ issuer: 'https://i', audiences: [a], attributes: { b: c.d } }] }\nattributes: { mode: transparent }".to_owned(),
            "oidc.providers.0.attributes: needs attributes.mode: inject",
        ),
    ] {
        let found = mistakes(&format!("{base}{text}\n"));
        assert!(found.lines().any(|line| line.contains(expected)), "{text}: {found}");
    }
}
