//! A scriptable OpenID provider: a discovery document, a JWKS that a test changes, and every way to be down.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use http::Response;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use super::{
    server::{FakeServer, Problems, Reaction, Seen, Speaks},
    tls::TestTls,
    tokens::{Key, jwks},
};

#[derive(Debug, Default)]
struct State {
    /// `None`: it resets every connection.
    keys: Mutex<Option<Value>>,
    fetches: AtomicUsize,
}

/// The fake.
#[derive(Debug)]
pub(crate) struct Issuer {
    server: FakeServer,
    state: Arc<State>,
    scheme: &'static str,
}

impl Issuer {
    /// Starts one that has these keys.
    pub(crate) async fn start(keys: &[&Key]) -> Self {
        Self::over(None, keys).await
    }

    /// The same over TLS, as `https://localhost:PORT`.
    pub(crate) async fn over(tls: Option<&TestTls>, keys: &[&Key]) -> Self {
        let state = Arc::new(State { keys: Mutex::new(Some(jwks(keys))), ..State::default() });
        let (scheme, host) = if tls.is_some() { ("https", "localhost") } else { ("http", "127.0.0.1") };
        let settings = tls.map(|tls| tls.server_config(&["http/1.1"]));
        let server = FakeServer::start(Speaks::Http1, settings, Problems::default(), {
            let state = Arc::clone(&state);
            move |seen| {
                let base = format!("{scheme}://{}", seen.headers["host"].to_str().unwrap());
                assert!(base.contains(host), "asked as {base}");
                std::future::ready(answer(&state, &base, &seen))
            }
        })
        .await;
        Self { server, state, scheme }
    }

    /// Its `iss`.
    pub(crate) fn url(&self) -> String {
        let host = if self.scheme == "https" { "localhost" } else { "127.0.0.1" };
        format!("{}://{host}:{}", self.scheme, self.server.address().port())
    }

    /// From now on it has these keys, and no others.
    pub(crate) fn has(&self, keys: &[&Key]) {
        *self.state.keys.lock().unwrap() = Some(jwks(keys));
    }

    /// From now on it resets every connection.
    pub(crate) fn is_down(&self) {
        *self.state.keys.lock().unwrap() = None;
    }

    /// How often its keys were fetched.
    pub(crate) fn fetches(&self) -> usize {
        self.state.fetches.load(Ordering::SeqCst)
    }
}

fn answer(state: &State, base: &str, seen: &Seen) -> Reaction {
    let Some(keys) = state.keys.lock().unwrap().clone() else { return Reaction::Reset };
    let (status, body) = match seen.path.as_str() {
        "/.well-known/openid-configuration" => {
            (200, json!({ "issuer": base, "jwks_uri": format!("{base}/keys") }))
        }
        "/keys" => {
            state.fetches.fetch_add(1, Ordering::SeqCst);
            (200, keys)
        }
        _ => (404, Value::Null),
    };
    assert!(!seen.headers.contains_key("authorization"), "a credential for the provider");
    let answer = Response::builder().status(status).header("content-type", "application/json");
    Reaction::Answer(answer.body(Full::from(body.to_string()).boxed_unsync()).unwrap())
}
