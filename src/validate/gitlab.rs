//! The authority proper: one call to GitLab Rails, with its budget of time and its one retry. It never
//! caches, never takes trouble for a denial, and leaves to [`super::guard`] whether to ask at all.
//!
//! What no single answer shows: with a wrong `gitlab.secret_file`, or without one that it needs,
//! GitLab may answer 401 to every question, in the same form as for a bad token. By the contract that
//! is a denial; a long row of nothing but 401 is told to the operator.

use std::{error::Error as _, fmt, iter, net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::{
    HeaderName, HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use reqwest::{Client, Request, Response, Url, redirect};
use tokio::time::{Instant, sleep, timeout_at};
use tower::retry::budget::{Budget as _, TpsBudget};

use crate::{
    config::{self, ClientTls},
    metrics::Metrics,
    telemetry::RateCap,
    tls,
};

use super::{
    Allowed, BuildError, Denial, IdentityPolicy, Question, Undetermined, Validator, Verdict,
    answer::{self, Head},
    credentials::{Digester, HeaderNames, Pair},
    job_token,
    refusal_row::RefusalRow,
    signer::{Signer, unix_seconds},
};

/// Longest body of an answer, in bytes.
pub(super) const MAX_ANSWER: usize = 64 << 10;
/// The versions of HTTP that GitLab is asked in over TLS.
pub(super) const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];
/// What the one retry waits: enough for a balancer to take a dead backend out, little of the budget.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// What must be left of the budget for the pause and a call that has a chance.
const RETRY_NEEDS: Duration = Duration::from_millis(150);
/// How long an idle connection is kept: shorter than what servers and balancers commonly allow, so
/// that they are not the ones to close it under a question.
const IDLE: Duration = Duration::from_secs(30);
/// Log lines a second for one kind of trouble.
const LINES_PER_SECOND: u32 = 5;

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Asks GitLab about token pairs.
pub struct Gitlab {
    client: Client,
    url: Url,
    names: HeaderNames,
    signer: Option<Signer>,
    timeout: Duration,
    /// Pays for second tries, so that they never multiply the load of a GitLab in trouble.
    retries: TpsBudget,
    identity: IdentityPolicy,
    digester: Arc<Digester>,
    metrics: Arc<Metrics>,
    refusals: RefusalRow,
    log_cap: RateCap,
}

/// An attempt that brought no verdict.
pub(super) struct Failure {
    pub(super) trouble: Undetermined,
    /// Whether nothing was decided anywhere, so that asking once more can help.
    retry: bool,
}

impl Gitlab {
    /// An authority as configured.
    ///
    /// # Errors
    /// [`BuildError`] names the key or the file to mend.
    pub fn new(
        config: &config::Gitlab,
        identity: IdentityPolicy,
        digester: Arc<Digester>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BuildError> {
        let url = endpoint(config)?;
        let names = HeaderNames::from_config(config)?;
        let signer = Signer::from_config(config)?;
        if signer
            .as_ref()
            .is_some_and(|signer| [&names.runner_token, &names.job_token].contains(&signer.header()))
        {
            return Err(BuildError::setting("gitlab.secret_header", "is the header of a token: use another"));
        }
        if config.timeout.is_zero() {
            return Err(BuildError::setting("gitlab.timeout", "is zero: no question could be answered"));
        }
        if config.max_concurrency == 0 {
            return Err(BuildError::setting("gitlab.max_concurrency", "is zero: no question could be asked"));
        }
        Ok(Self {
            client: client(config, ALPN)?,
            url,
            names,
            signer,
            timeout: config.timeout,
            retries: retries(config.retry_ratio),
            identity,
            digester,
            metrics,
            refusals: RefusalRow::default(),
            log_cap: RateCap::new(LINES_PER_SECOND),
        })
    }

    async fn ask(&self, question: &Question) -> Result<Verdict, Undetermined> {
        let verdict = self.ask_within_budget(question).await;
        match &verdict {
            Ok(Verdict::Deny(Denial::Unauthenticated)) => self.count_refusal(),
            Ok(_) => self.refusals.ended(),
            Err(trouble) => question.tell(trouble, None, &self.log_cap, "GitLab gave no verdict"),
        }
        verdict
    }

    async fn ask_within_budget(&self, question: &Question) -> Result<Verdict, Undetermined> {
        let end = Instant::now()
            .checked_add(self.timeout)
            .map_or(question.deadline, |end| end.min(question.deadline));
        self.retries.deposit();
        let failure = match self.attempt(question, end).await {
            Ok(verdict) => return Ok(verdict),
            Err(failure) => failure,
        };
        let is_in_time = end.saturating_duration_since(Instant::now()) >= RETRY_NEEDS;
        if !failure.retry || !is_in_time || !self.retries.withdraw() {
            return Err(failure.trouble);
        }
        sleep(RETRY_PAUSE).await;
        self.attempt(question, end).await.map_err(|failure| failure.trouble)
    }

    /// One call, counted: two for a question that was asked again.
    async fn attempt(&self, question: &Question, end: Instant) -> Result<Verdict, Failure> {
        let started = Instant::now();
        let outcome = timeout_at(end, self.exchange(question))
            .await
            .unwrap_or(Err(Failure { trouble: Undetermined::Timeout, retry: false }));
        let label = match &outcome {
            Ok(Verdict::Allow(_)) => "allow",
            Ok(Verdict::Deny(_)) => "deny",
            Err(failure) => failure.trouble.label(),
        };
        self.metrics.authority_request(label, started.elapsed());
        outcome
    }

    async fn exchange(&self, question: &Question) -> Result<Verdict, Failure> {
        let now = unix_seconds();
        let pair = question.credentials.pair().ok_or(Undetermined::NoAuthority)?;
        let request = self.request(question, pair, now).ok_or_else(|| {
            Failure::from(Undetermined::Unreachable("the question could not be written".into()))
        })?;
        let response = self.client.execute(request).await.map_err(Failure::transport)?;
        let signed_at = self.signer.as_ref().map(|_| now);
        match answer::head(response.status(), response.headers(), signed_at)? {
            Head::Denied(denial) => Ok(Verdict::Deny(denial)),
            Head::Positive => self.allow(question, pair, response).await.map(Verdict::Allow),
        }
    }

    /// The question as GitLab gets it; `None` if a value can't stand in a header, which the checks on
    /// arrival rule out.
    fn request(&self, question: &Question, pair: Pair<'_>, now: u64) -> Option<Request> {
        let mut request = blank(self.url.clone());
        let headers = request.headers_mut();
        headers.insert(self.names.runner_token.clone(), secret(pair.runner_token)?);
        headers.insert(self.names.job_token.clone(), secret(pair.job_token)?);
        if let Ok(id) = HeaderValue::from_str(&question.correlation_id) {
            headers.insert(X_REQUEST_ID, id);
        }
        headers.insert(X_FORWARDED_FOR, address(question.client)?);
        if let Some(signer) = &self.signer {
            headers.insert(signer.header().clone(), signer.sign(now)?);
        }
        Some(request)
    }

    async fn allow(
        &self,
        question: &Question,
        pair: Pair<'_>,
        response: Response,
    ) -> Result<Allowed, Failure> {
        let headers = response.headers().clone();
        let body = read(response).await?;
        let positive = answer::positive(&headers, &body)?;
        // Only now: GitLab vouched for exactly these bytes.
        let token = job_token::read(pair.job_token);
        let mut claims = positive.claims;
        job_token::complete(&mut claims, &token);
        let identity =
            self.identity.identify(&self.digester, positive.trace_id, claims, &question.credentials);
        Ok(Allowed {
            identity: Arc::new(identity),
            max_age: positive.max_age,
            stale: positive.stale,
            expires_at: positive.expires_at.into_iter().chain(token.expires_at).min(),
        })
    }

    fn count_refusal(&self) {
        let Some(row) = self.refusals.refused(Instant::now()) else { return };
        let remedy = if self.signer.is_some() {
            "check that gitlab.secret_file, gitlab.secret_issuer and gitlab.secret_audience are what GitLab expects"
        } else {
            "set gitlab.secret_file if GitLab asks for signed calls"
        };
        tracing::warn!(
            "GitLab answered nothing but 401 for {row} questions: if the tokens are good, {remedy}"
        );
    }
}

impl Validator for Gitlab {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        Box::pin(self.ask(question))
    }
}

impl fmt::Debug for Gitlab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gitlab")
            .field("url", &self.url.as_str())
            .field("signed", &self.signer.is_some())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Failure {
    pub(super) fn transport(error: reqwest::Error) -> Self {
        let retry = error.is_connect();
        let trouble = if error.is_timeout() && !retry {
            Undetermined::Timeout
        } else {
            Undetermined::Unreachable(describe(error))
        };
        Self { trouble, retry }
    }
}

impl From<Undetermined> for Failure {
    fn from(trouble: Undetermined) -> Self {
        let retry = matches!(trouble, Undetermined::Status(502 | 503));
        Self { trouble, retry }
    }
}

/// A ratio of 0 allows none; else two a second are free, so that a quiet gateway has its second try, too.
fn retries(ratio: f64) -> TpsBudget {
    let ratio = if ratio > 0.0 { ratio.min(1.0) } else { 0.0 };
    TpsBudget::new(Duration::from_secs(10), if ratio > 0.0 { 2 } else { 0 }, {
        #[expect(clippy::cast_possible_truncation, reason = "a ratio needs no more digits")]
        {
            ratio as f32
        }
    })
}

/// The causes of an error, outermost first, without its URL.
pub(super) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes: Vec<_> =
        iter::successors(error.source(), |cause| (*cause).source()).map(ToString::to_string).collect();
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

/// The body of an answer, up to [`MAX_ANSWER`].
pub(super) async fn read(mut response: Response) -> Result<Vec<u8>, Failure> {
    let too_long = || Failure::from(Undetermined::BadAnswer("the body is longer than 64 KiB"));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Failure::transport)? {
        if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A question that does not say yet about whom.
pub(super) fn blank(url: Url) -> Request {
    let mut request = Request::new(Method::POST, url);
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    *request.body_mut() = Some("{}".into());
    request
}

/// A token as a header value that is kept out of `Debug` and of HTTP/2's compression tables.
///
/// This copy is the HTTP client's and is not wiped; it ends when the request has been written.
pub(super) fn secret(token: &[u8]) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(token).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn address(client: IpAddr) -> Option<HeaderValue> {
    HeaderValue::from_str(&client.to_canonical().to_string()).ok()
}

/// `url` and `auth_path` as one URL; a relative URL root stays in front.
pub(super) fn endpoint(config: &config::Gitlab) -> Result<Url, BuildError> {
    let problem = |problem: &str| BuildError::setting("gitlab.url", problem);
    let mut url: Url =
        config.url.parse().map_err(|_| problem("is no URL: write it as https://gitlab.example.com"))?;
    if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
        return Err(problem("must begin with https:// or http:// and name a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(problem("must not hold a user name or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(problem("must not have a query or a fragment"));
    }
    let path = config.auth_path.trim_start_matches('/');
    if path.is_empty() || path.contains(['?', '#']) {
        return Err(BuildError::setting(
            "gitlab.auth_path",
            "must be a path without a query, as /api/v4/internal/ci/telemetry/auth",
        ));
    }
    let joined = format!("{}/{path}", url.path().trim_end_matches('/'));
    url.set_path(&joined);
    Ok(url)
}

/// The HTTP client; `alpn`: the versions of HTTP that are offered over TLS, the preferred one first.
pub(super) fn client(config: &config::Gitlab, alpn: &[&[u8]]) -> Result<Client, BuildError> {
    let trust = ClientTls { ca_file: config.ca_file.clone(), ..ClientTls::default() };
    let tls = tls::client(&trust, alpn)?;
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("spangate/", env!("CARGO_PKG_VERSION")))
        // A redirected POST turns into a GET, and tokens must not follow anyone's advice.
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .timeout(config.timeout)
        // Half of the budget, so that a lost SYN leaves time for the retry.
        .connect_timeout(config.timeout.checked_div(2).unwrap_or(config.timeout))
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(config.max_concurrency)
        // A dead HTTP/2 connection would swallow all questions until TCP gives it up, many minutes later.
        .http2_keep_alive_interval(config.timeout)
        .http2_keep_alive_timeout(config.timeout)
        .build()
        .map_err(|error| BuildError::Client(describe(error)))
}

#[cfg(test)]
mod tests;
