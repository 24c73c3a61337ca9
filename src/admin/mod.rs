//! The operator's listener: metrics, probes, a small index, and the purge of the verdict cache. It
//! answers from memory; it never asks the authority or a collector, so that trouble there can't take
//! every replica out at once.

mod token;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use http_body_util::Full;

use crate::metrics;

pub use token::{Token, TokenError};

/// What the probes tell of the process.
#[derive(Debug, Default)]
pub struct Health {
    started: AtomicBool,
    draining: AtomicBool,
    waiting: AtomicBool,
    generation: AtomicU64,
}

impl Health {
    /// A process that has not started yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listeners are bound and a configuration holds.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Relaxed);
        self.configuration_applied();
    }

    /// It has to wait for what it decides by (keys of OpenID providers), or has to no more.
    pub fn set_waiting(&self, is_waiting: bool) {
        self.waiting.store(is_waiting, Ordering::Relaxed);
    }

    /// The process is about to end: load balancers shall send nothing new. There is no way back.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// A configuration took effect, the first one or a later one.
    pub fn configuration_applied(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether listeners are bound.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// Whether the process is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How many configurations took effect since the start, the first one included.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    fn state(&self) -> &'static str {
        if self.is_draining() {
            "draining"
        } else if self.is_started() && self.waiting.load(Ordering::Relaxed) {
            "waiting for keys"
        } else if self.is_started() {
            "ready"
        } else {
            "starting"
        }
    }
}

/// What the listener can do; `app` knows how.
pub trait Operations {
    /// The text of the metrics.
    fn render(&self) -> String;

    /// The token of `admin.token_file`; `None` where none is configured.
    fn token(&self) -> Option<Arc<Token>>;

    /// Forgets every verdict; returns how many there were.
    fn purge(&self) -> usize;

    /// Somebody asked for a change without showing the token.
    fn refused(&self);
}

/// Where verdicts are purged.
const PURGE: &str = "/-/cache/purge";

/// Answers a request on the admin listener. Its body is not looked at.
pub fn respond<B>(
    health: &Health,
    operations: &impl Operations,
    request: &Request<B>,
) -> Response<Full<Bytes>> {
    let is_probed = |good: bool| if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let state = health.state();
    let path = request.uri().path();
    let (status, kind, body) = match path {
        PURGE => return purge(operations, request),
        _ if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            return with_header(
                answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned()),
                (ALLOW, "GET, HEAD"),
            );
        }
        "/metrics" => (StatusCode::OK, metrics::CONTENT_TYPE, operations.render()),
        "/-/liveness" => (StatusCode::OK, PLAIN, "alive\n".to_owned()),
        "/-/readiness" => (is_probed(state == "ready"), PLAIN, format!("{state}\n")),
        "/-/startup" => {
            let started = health.is_started();
            (is_probed(started), PLAIN, if started { "started\n" } else { "starting\n" }.to_owned())
        }
        "/" => (StatusCode::OK, PLAIN, index(health)),
        _ => (StatusCode::NOT_FOUND, PLAIN, "not found; / lists what is here\n".to_owned()),
    };
    answer(status, kind, body)
}

/// The one change that can be asked for. Without a token in the configuration it is not there at all: what
/// empties the cache sends every pair to the authority again.
fn purge<B>(operations: &impl Operations, request: &Request<B>) -> Response<Full<Bytes>> {
    let Some(token) = operations.token() else {
        let how = "switched off: set admin.token_file to a file with a token, and reload\n";
        return answer(StatusCode::NOT_FOUND, PLAIN, how.to_owned());
    };
    if *request.method() != Method::POST {
        let refusal = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only POST\n".to_owned());
        return with_header(refusal, (ALLOW, "POST"));
    }
    if !token.is_shown(request.headers()) {
        operations.refused();
        let how = "show the token of admin.token_file: Authorization: Bearer TOKEN\n";
        let refusal = answer(StatusCode::UNAUTHORIZED, PLAIN, how.to_owned());
        return with_header(refusal, (WWW_AUTHENTICATE, "Bearer realm=\"spangate admin\""));
    }
    answer(StatusCode::OK, PLAIN, format!("{} verdicts forgotten\n", operations.purge()))
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn with_header(
    mut response: Response<Full<Bytes>>,
    (name, value): (HeaderName, &'static str),
) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn index(health: &Health) -> String {
    format!(
        "spangate {}\nstate: {}\nconfiguration: number {} since the start\n\n\
         /metrics        OpenMetrics\n\
         /-/liveness     200 while the process answers\n\
         /-/readiness    200 when ready, 503 while starting, waiting for keys or draining\n\
         /-/startup      200 once started\n\
         /-/cache/purge  POST with the token of admin.token_file: every verdict is forgotten\n",
        env!("CARGO_PKG_VERSION"),
        health.state(),
        health.generation(),
    )
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// Counts what it is asked for; without a token.
    #[derive(Default)]
    struct Counting {
        renders: AtomicU64,
        purges: AtomicU64,
    }

    impl Operations for Counting {
        fn render(&self) -> String {
            self.renders.fetch_add(1, Ordering::Relaxed);
            "metrics\n# EOF\n".to_owned()
        }

        fn token(&self) -> Option<Arc<Token>> {
            None
        }

        fn purge(&self) -> usize {
            usize::try_from(self.purges.fetch_add(1, Ordering::Relaxed)).unwrap()
        }

        fn refused(&self) {
            panic!("nobody is refused where nothing is on");
        }
    }

    fn to(operations: &Counting, health: &Health, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        respond(health, operations, &request)
    }

    fn ask(health: &Health, method: &Method, path: &str) -> (u16, String, String) {
        let response = to(&Counting::default(), health, method, path);
        let kind = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        let status = response.status().as_u16();
        let body = futures_util::FutureExt::now_or_never(response.into_body().collect());
        let body = body.expect("answers without waiting").unwrap().to_bytes();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Scenario: the life of a process, probed at each step.
    /// Guarantees: alive always; ready only between start and drain, and the body says why not.
    #[test]
    fn probes_follow_the_life_of_the_process() {
        let health = Health::new();
        let probes = || {
            ["/-/liveness", "/-/readiness", "/-/startup"].map(|path| {
                let (status, _, body) = ask(&health, &Method::GET, path);
                format!("{status} {}", body.trim_end())
            })
        };
        assert_eq!(probes(), ["200 alive", "503 starting", "503 starting"]);
        health.set_waiting(true);
        health.set_started();
        assert_eq!(probes(), ["200 alive", "503 waiting for keys", "200 started"]);
        health.set_waiting(false);
        assert_eq!(probes(), ["200 alive", "200 ready", "200 started"]);
        health.configuration_applied();
        assert_eq!(health.generation(), 2);
        health.set_draining();
        assert_eq!(probes(), ["200 alive", "503 draining", "200 started"]);
        let (_, _, body) = ask(&health, &Method::GET, "/");
        assert!(body.contains("state: draining\nconfiguration: number 2"), "{body}");
    }

    /// Scenario: the metrics, unknown paths, other methods.
    /// Guarantees: the content type that Prometheus needs; 404 and 405 with `Allow`; metrics are made only when asked for.
    #[test]
    fn paths_and_methods() {
        let health = Health::new();
        let (status, kind, body) = ask(&health, &Method::GET, "/metrics");
        assert_eq!(
            (status, kind.as_str()),
            (200, "application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        assert_eq!(body, "metrics\n# EOF\n");
        assert_eq!(ask(&health, &Method::HEAD, "/metrics").0, 200);
        for path in ["/metrics/", "/-/ready", "/..", "/-/cache", "/-/cache/purge/", "/v1/traces"] {
            assert_eq!(ask(&health, &Method::GET, path).0, 404, "{path}");
        }
        let operations = Counting::default();
        let refused = to(&operations, &health, &Method::POST, "/metrics");
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refused.headers()[ALLOW], "GET, HEAD");
        assert_eq!(to(&operations, &health, &Method::GET, "/-/liveness").status(), StatusCode::OK);
        assert_eq!(operations.renders.load(Ordering::Relaxed), 0);
    }

    /// Scenario: a purge is asked for where no token is configured.
    /// Guarantees: it does nothing, and the answer says how it is switched on.
    #[test]
    fn a_purge_is_off_without_a_token() {
        let (health, operations) = (Health::new(), Counting::default());
        for method in [Method::POST, Method::GET] {
            let refused = to(&operations, &health, &method, PURGE);
            assert_eq!(refused.status(), StatusCode::NOT_FOUND);
        }
        assert_eq!(operations.purges.load(Ordering::Relaxed), 0);
        assert!(ask(&health, &Method::POST, PURGE).2.contains("admin.token_file"));
    }
}
