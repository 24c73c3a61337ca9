//! A scriptable GitLab Rails: it knows pairs, checks signatures if it has a secret, answers as it is told,
//! records every question and holds each against the contract's request form itself (a wrong one fails
//! the test).

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt as _, Full};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::{
    job::Job,
    server::{FakeServer, Problems, Reaction, Seen, Speaks},
};

/// Where the gateway must ask.
pub(crate) const AUTH_PATH: &str = "/api/v4/internal/ci/telemetry/auth";

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) headers: HeaderMap,
    pub(crate) at: Instant,
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    delay: Duration,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answer,
    Hang,
    Reset,
}

impl Script {
    /// A status, with the body that Rails gives it.
    pub(crate) fn status(status: u16) -> Self {
        let body = Bytes::from(format!("{{\"message\":\"{status}\"}}"));
        Self { status, headers: Vec::new(), body, delay: Duration::ZERO, end: End::Answer }
    }

    /// A 200 for a job that may be kept for `max_age` seconds.
    pub(crate) fn allow(job: &Job, max_age: u64) -> Self {
        Self::status(200)
            .body(job.answer().to_string())
            .header("cache-control", format!("private, max-age={max_age}"))
    }

    /// Another `Cache-Control`.
    pub(crate) fn cache_control(mut self, value: &str) -> Self {
        self.headers.retain(|(name, _)| *name != "cache-control");
        self.header("cache-control", value)
    }

    /// No answer, ever.
    pub(crate) fn hang() -> Self {
        Self { end: End::Hang, ..Self::status(200) }
    }

    /// The connection is reset once the question was read.
    pub(crate) fn reset() -> Self {
        Self { end: End::Reset, ..Self::status(200) }
    }

    /// Another body.
    pub(crate) fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// One more header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Without a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(given, _)| *given != name);
        self
    }

    /// The status.
    pub(crate) fn code(&self) -> u16 {
        self.status
    }

    /// The body as JSON, changed.
    pub(crate) fn edit(self, change: impl FnOnce(&mut serde_json::Value)) -> Self {
        let mut body = serde_json::from_slice(&self.body).unwrap();
        change(&mut body);
        self.body(body.to_string())
    }

    /// The answer comes this much later.
    pub(crate) fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// What it does wrong: the question and the right answer in, the answer that it gives out.
type Fault = Arc<dyn Fn(&Seen, Script) -> Script + Send + Sync>;

#[derive(Default)]
struct State {
    secret: Mutex<Option<[u8; 32]>>,
    fault: Mutex<Option<Fault>>,
    known: Mutex<HashMap<(String, String), Script>>,
    next: Mutex<VecDeque<Script>>,
    always: Mutex<Option<Script>>,
    calls: Mutex<Vec<Call>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

/// The fake.
pub(crate) struct Authority {
    server: FakeServer,
    state: Arc<State>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Authority {
    /// Starts one that knows nobody: every pair gets a 401.
    pub(crate) async fn start() -> Self {
        Self::listen(None).await
    }

    /// The same over TLS, in the versions of HTTP that these settings agree on.
    pub(crate) async fn start_tls(tls: Arc<rustls::ServerConfig>) -> Self {
        Self::listen(Some(tls)).await
    }

    async fn listen(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let state = Arc::new(State::default());
        let problems = Problems::default();
        let server = FakeServer::start(Speaks::Http1, tls, problems.clone(), {
            let state = Arc::clone(&state);
            move |seen| answer(Arc::clone(&state), problems.clone(), seen)
        })
        .await;
        Self { server, state }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// From now on every question must be signed with this secret under the default names.
    pub(crate) fn require_signature(&self, secret: [u8; 32]) {
        *self.state.secret.lock().unwrap() = Some(secret);
    }

    /// From now on it answers wrongly.
    pub(crate) fn break_by(&self, fault: impl Fn(&Seen, Script) -> Script + Send + Sync + 'static) {
        *self.state.fault.lock().unwrap() = Some(Arc::new(fault));
    }

    /// From now on the job's pair is good, and its verdict may be kept for 300 s.
    pub(crate) fn allow(&self, job: &Job) {
        self.know(job, Script::allow(job, 300));
    }

    /// From now on the job's pair gets this answer.
    pub(crate) fn know(&self, job: &Job, script: Script) {
        let pair = (job.runner_token.clone(), job.job_token.clone());
        self.state.known.lock().unwrap().insert(pair, script);
    }

    /// The next question gets this answer, whoever asks; several queue up.
    pub(crate) fn next(&self, script: Script) {
        self.state.next.lock().unwrap().push_back(script);
    }

    /// Every question gets this answer from now on; `None`: by the pairs again.
    pub(crate) fn always(&self, script: impl Into<Option<Script>>) {
        *self.state.always.lock().unwrap() = script.into();
    }

    /// Every question so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    /// How many questions came.
    pub(crate) fn count(&self) -> usize {
        self.state.calls.lock().unwrap().len()
    }

    /// What was wrong with the questions so far; taken away, so that it no longer fails the test.
    pub(crate) fn take_problems(&self) -> Vec<String> {
        self.server.problems().take()
    }

    /// The most questions that were open at once.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.state.most_in_flight.load(Ordering::SeqCst)
    }
}

/// Counts a question as open until it is answered or its asker is gone.
struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl State {
    /// As GitLab judges: route, signature, then the tokens.
    fn judge(&self, seen: &Seen) -> Script {
        if seen.method != Method::POST {
            return Script::status(405);
        }
        // A relative URL root may stand before it.
        if !seen.path.ends_with(AUTH_PATH) {
            return Script::status(404);
        }
        if self.secret.lock().unwrap().is_some_and(|secret| !is_signed(&seen.headers, &secret)) {
            return Script::status(401);
        }
        let (runner, job) = (value(&seen.headers, "runner-token"), value(&seen.headers, "job-token"));
        let known = self.known.lock().unwrap();
        let is_runner = known.keys().any(|(known, _)| *known == runner);
        let is_job = known.keys().any(|(_, known)| *known == job);
        match known.get(&(runner, job)) {
            Some(script) => script.clone(),
            // Both are good, but the job is another runner's.
            None if is_runner && is_job => Script::status(403),
            None => Script::status(401),
        }
    }
}

/// Whether the one signature is good now, under the contract's names.
fn is_signed(headers: &HeaderMap, secret: &[u8]) -> bool {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&["gitlab"]);
    validation.set_issuer(&["gitlab-ci-telemetry-gateway"]);
    validation.set_required_spec_claims(&["iss", "aud", "exp", "nbf"]);
    validation.validate_nbf = true;
    validation.leeway = 0;
    let jwt = value(headers, "gitlab-ci-telemetry-api-request");
    jsonwebtoken::decode::<serde_json::Value>(&jwt, &DecodingKey::from_secret(secret), &validation).is_ok()
}

async fn answer(state: Arc<State>, problems: Problems, seen: Seen) -> Reaction {
    let now = state.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    state.most_in_flight.fetch_max(now, Ordering::SeqCst);
    let _open = Open(&state.in_flight);
    check_form(&problems, &seen);
    let script = state
        .next
        .lock()
        .unwrap()
        .pop_front()
        .or_else(|| state.always.lock().unwrap().clone())
        .unwrap_or_else(|| state.judge(&seen));
    let fault = state.fault.lock().unwrap().clone();
    let script = fault.map_or(script.clone(), |fault| fault(&seen, script));
    state.calls.lock().unwrap().push(Call { headers: seen.headers, at: Instant::now() });
    tokio::time::sleep(script.delay).await;
    match script.end {
        End::Hang => std::future::pending().await,
        End::Reset => Reaction::Reset,
        End::Answer => {
            let mut answer = Response::builder().status(script.status);
            if !script.headers.iter().any(|(name, _)| *name == "content-type") {
                answer = answer.header("content-type", "application/json");
            }
            for (name, value) in script.headers {
                answer = answer.header(name, value);
            }
            Reaction::Answer(answer.body(Full::new(script.body).boxed_unsync()).unwrap())
        }
    }
}

fn value(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// The form of the request that the gateway promises.
fn check_form(problems: &Problems, seen: &Seen) {
    let headers = &seen.headers;
    problems.check(seen.method == Method::POST, || format!("method {}", seen.method));
    problems.check(seen.path == AUTH_PATH, || format!("path {}", seen.path));
    problems.check(seen.body == "{}", || format!("body {:?}", seen.body));
    for (name, wanted) in [("content-type", "application/json"), ("accept", "application/json")] {
        problems.check(value(headers, name) == wanted, || format!("{name}: {}", value(headers, name)));
    }
    for name in ["runner-token", "job-token", "x-request-id", "x-forwarded-for", "user-agent"] {
        let count = headers.get_all(name).iter().count();
        problems.check(count == 1, || format!("{count} times {name}"));
    }
    problems.check(!value(headers, "x-request-id").is_empty(), || "an empty X-Request-Id".into());
    problems.check(value(headers, "user-agent").starts_with("spangate/"), || {
        format!("user-agent: {}", value(headers, "user-agent"))
    });
    problems.check(value(headers, "x-forwarded-for").parse::<std::net::IpAddr>().is_ok(), || {
        format!("x-forwarded-for: {}", value(headers, "x-forwarded-for"))
    });
    problems.check(!headers.contains_key("authorization"), || "an Authorization header".into());
}
