//! `cache.max_size` against the allocator: what a cache really holds on the heap, counted, whatever an
//! authority says of senders.

use std::{fmt::Write as _, net::IpAddr, sync::Arc, time::Duration};

use allocation_counter::measure;
use http::{HeaderMap, HeaderValue};
use spangate::{
    cache::verdict::Cached,
    config::{self, units::ByteSize},
    metrics::Metrics,
    validate::{
        IdentityPolicy, Question, Validator, Verdict,
        credentials::{Accepts, Credentials, Digester, HeaderNames},
        fixed::Fixed,
    },
};
use tokio::time::Instant;

use crate::support::job::hex;

const MAX_SIZE: u64 = 1 << 20;

/// A list of so many tokens, each with four texts of this length, or none.
fn list(tokens: u32, text: usize) -> String {
    let sha256 = |token: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        hex(digest.as_ref())
    };
    let mut list = String::from("tokens:\n");
    for token in 0..tokens {
        let (runner, job) = (sha256("runner"), sha256(&format!("job{token}")));
        writeln!(list, "  - {{ runner_token_sha256: {runner}, job_token_sha256: {job}, max_age: 1h,")
            .unwrap();
        writeln!(list, "      trace_id: \"000000000000000000000000001e240a\",").unwrap();
        for name in ["pipeline_source", "project_path", "runner_type", "runner_manager_system_xid"] {
            if text > 0 {
                writeln!(list, "      {name}: \"{}\",", "x".repeat(text)).unwrap();
            }
        }
        list.push_str("    }\n");
    }
    list
}

/// Scenario: 1 MiB for verdicts, and three times as many as fit: with the longest texts that an authority's answer may hold,
/// with texts of usual length, and with nothing but a trace.
/// Guarantees: what the cache holds on the heap never passes the bound, and more than a third of it is used.
#[test]
fn the_heap_stays_within_max_size() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for (tokens, text) in [(700, 1024), (6_000, 20), (7_000, 0)] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), list(tokens, text)).unwrap();
        let (digester, metrics) = (Arc::new(Digester::random()), Arc::new(Metrics::new()));
        let policy = IdentityPolicy::new("gitlab-ci-runner");
        let fixed = Fixed::load(file.path(), policy, Arc::clone(&digester), Arc::clone(&metrics)).unwrap();
        let config = config::Cache { max_size: ByteSize(MAX_SIZE), ..config::Cache::default() };
        let cached = Cached::new(fixed, &config, metrics);
        let names = HeaderNames::from_config(&config::Gitlab::default()).unwrap();
        let ask = |token: u32| {
            let value = |text: &str| HeaderValue::from_str(text).unwrap();
            let headers = HeaderMap::from_iter([
                (names.runner_token.clone(), value("runner")),
                (names.job_token.clone(), value(&format!("job{token}"))),
            ]);
            let accepts = Accepts { pair: true, bearer: false };
            let question = Question {
                credentials: Arc::new(
                    Credentials::from_headers(&headers, &names, accepts, &digester).unwrap(),
                ),
                client: IpAddr::from([127, 0, 0, 1]),
                correlation_id: "test".into(),
                deadline: Instant::now() + Duration::from_secs(30),
            };
            let verdict = runtime.block_on(cached.validate(&question)).unwrap();
            assert!(matches!(verdict, Verdict::Allow(_)), "{verdict:?}");
        };
        // What is made once.
        (0..20).for_each(ask);
        assert_eq!(cached.purge(), 20);
        let held = measure(|| (0..tokens).for_each(ask));
        let held = u64::try_from(held.bytes_current).unwrap();
        assert!(held <= MAX_SIZE, "{held} bytes of {tokens} verdicts with texts of {text}");
        assert!(held > MAX_SIZE / 3, "{held} bytes of {tokens} verdicts with texts of {text}");
    }
}
