//! What a token holds on the heap while it waits for keys, counted by the allocator.

use std::{fmt::Write as _, net::IpAddr, sync::Arc, time::Duration};

use allocation_counter::measure;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use spangate::{
    config::{Gitlab, Oidc as Config, OidcProvider},
    metrics::Metrics,
    validate::{
        IdentityPolicy, Question, Validator,
        credentials::{Accepts, Credentials, Digester, HeaderNames},
        oidc::Oidc,
    },
};
use tokio::time::Instant;

use super::{AUDIENCE, Key, gitlab_claims};

/// Scenario: a token of some 8,000 bytes whose claims are hundreds of small objects, while its provider's keys are not there yet.
/// Guarantees: it holds little more than its own length while it waits: thousands of them may.
#[test]
fn a_token_that_waits_is_small() {
    spangate::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let issuer = "https://gitlab.example.com";
    let provider =
        OidcProvider { issuer: issuer.into(), audiences: vec![AUDIENCE.into()], ..OidcProvider::default() };
    let digester = Arc::new(Digester::random());
    let oidc = Oidc::new(
        &Config { providers: vec![provider] },
        &[],
        IdentityPolicy::new("runner"),
        Arc::clone(&digester),
        Arc::new(Metrics::new()),
        None,
    )
    .unwrap();
    let mut claims = gitlab_claims(issuer, AUDIENCE);
    claims["x"] = vec![serde_json::json!({ "": 0 }); 600].into();
    let mut value = String::from("Bearer ");
    write!(value, "{}", Key::p256("k1").token(&claims)).unwrap();
    assert!((6_000..8_000).contains(&value.len()), "{}", value.len());
    let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&value).unwrap())]);
    let names = HeaderNames::from_config(&Gitlab::default()).unwrap();
    let accepts = Accepts { pair: false, bearer: true };
    let question = Question {
        credentials: Arc::new(Credentials::from_headers(&headers, &names, accepts, &digester).unwrap()),
        client: IpAddr::from([127, 0, 0, 1]),
        correlation_id: "id".into(),
        deadline: Instant::now() + Duration::from_secs(4),
    };
    let mut waiting = oidc.validate(&question);
    let heap = measure(|| assert!((&mut waiting).now_or_never().is_none(), "there are no keys"));
    assert!(heap.bytes_current < 4_096, "{} bytes, {} at most", heap.bytes_current, heap.bytes_max);
}
