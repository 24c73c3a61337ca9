//! The order of the checks, and what each asks: the good pair first, then all that must be refused, then the
//! good pair again. Bounded in time and number; an endpoint that gives no verdict at all is not asked on.

use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::rand;
use http::Version;
use tokio::time::{Instant, timeout_at};

use crate::{
    otlp::TraceId,
    validate::{
        Undetermined,
        probe::{Ask, Form, Probe, Signature},
    },
};

use super::{
    Tokens,
    judge::{self, Answer},
    refusals::{ROWS, Row, Token},
    report::{Finding, Report},
};

/// The whole run.
const TIME: Duration = Duration::from_mins(1);
/// One more than the longest job token that the gateway takes.
const OVERSIZE: usize = 4097;

/// Tokens that nobody was ever given.
pub(super) struct Made {
    runner: String,
    job: String,
    oversize: String,
}

impl Made {
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            runner: format!("glrt-{}", random()?),
            job: format!("glcbt-64_{}", random()?),
            oversize: "a".repeat(OVERSIZE),
        })
    }
}

/// 32 random hex digits.
fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("no random bytes could be had"))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// One run.
pub(super) struct Checks<'a, 'r> {
    probe: &'a Probe,
    tokens: &'a Tokens,
    report: &'a mut Report<'r>,
    made: &'a Made,
    /// The beginning of every correlation id.
    mark: String,
    end: Instant,
    /// Of all answers so far; `None` once one did not come.
    slowest: Option<Duration>,
}

impl<'a, 'r> Checks<'a, 'r> {
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn new(
        probe: &'a Probe,
        tokens: &'a Tokens,
        made: &'a Made,
        report: &'a mut Report<'r>,
    ) -> anyhow::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            probe,
            tokens,
            report,
            made,
            mark: format!("conform-{:.8}", random()?),
            end: now.checked_add(TIME).context("the clock has no room for a minute")?,
            slowest: Some(Duration::ZERO),
        })
    }

    /// Every check, each told as soon as it is judged.
    pub(super) async fn run(&mut self) {
        self.report.note(&format!("POST {}", self.probe.url()));
        self.report.note(&format!("X-Request-Id of each question: {}-CHECK\n", self.mark));
        let Some((first, version)) = self.good_pair().await else { return };
        if let Some(first) = first {
            self.same(first).await;
        }
        for row in ROWS {
            self.refused(row).await;
        }
        if !self.probe.signs() {
            let why = "no secret: whoever reaches the endpoint can try tokens";
            let mend = "sign with --secret-file, or keep the endpoint inside the network";
            self.report.tell(Finding::warn("signature", why, mend));
        }
        self.versions(first, version).await;
        if let Some(first) = first {
            let mend = "refused questions must not lock out the gateway, through which all runners ask";
            self.good_again("good-after-bad", Form::Usual, first, mend).await;
        }
        self.report.tell(judge::in_time(self.slowest));
    }

    /// The first question. Nothing: no sense in asking on. The trace is there if the answer was a sound yes.
    async fn good_pair(&mut self) -> Option<(Option<TraceId>, Version)> {
        let answer = self.ask("good-pair", self.good(Form::Usual)).await;
        let heard = match &answer {
            Ok(heard) => heard,
            Err(trouble) => {
                let mend = "is --url right, does it listen, is its certificate trusted (--ca-file)?";
                self.report.tell(Finding::fail("good-pair", format!("no answer: {trouble}"), mend));
                return self.give_up();
            }
        };
        for finding in judge::good(heard, &self.tokens.job) {
            self.report.tell(finding);
        }
        match heard.status.as_u16() {
            200 | 401 | 403 => Some((judge::trace(&answer), heard.version)),
            _ => self.give_up(),
        }
    }

    fn give_up<T>(&mut self) -> Option<T> {
        self.report.tell(Finding::skip("all-others", "without a verdict on the good pair they show nothing"));
        None
    }

    /// What must make no difference.
    async fn same(&mut self, first: TraceId) {
        let mend = "the same question must get the same answer, also when asked twice";
        self.good_again("same-answer", Form::Usual, first, mend).await;
        let mend = "ignore fields of the body that you do not know: a newer gateway may send some";
        self.good_again("unknown-fields", Form::UnknownFields, first, mend).await;
    }

    async fn good_again(&mut self, check: &'static str, form: Form, first: TraceId, mend: &'static str) {
        let answer = self.ask(check, self.good(form)).await;
        self.report.tell(judge::again(check, mend, first, &answer));
    }

    async fn refused(&mut self, row: &Row) {
        if row.job == Token::OtherJob && self.tokens.other_job.is_none() {
            return self.report.tell(Finding::skip(row.check, "no --other-job-token-file"));
        }
        if row.signature != Signature::Good && !self.probe.signs() {
            return self.report.tell(Finding::skip(row.check, "no --secret-file"));
        }
        let ask = Ask {
            runner_token: self.token(row.runner, &self.made.runner),
            job_token: self.token(row.job, &self.made.job),
            signature: row.signature,
            form: row.form,
            ..Ask::default()
        };
        let answer = self.ask(row.check, ask).await;
        self.report.tell(judge::refusal(row.check, row.due, row.mend, &answer));
    }

    async fn versions(&mut self, first: Option<TraceId>, version: Version) {
        self.report.tell(judge::http2(version, self.probe.url().scheme() == "https"));
        let Some(first) = first else { return };
        let mend = "answer alike over HTTP/1.1 and HTTP/2: which one is spoken, a balancer may decide";
        self.good_again("http1", Form::Http1, first, mend).await;
    }

    /// `unknown` is what nobody was ever given for this place.
    fn token(&self, token: Token, unknown: &'a str) -> Option<&'a [u8]> {
        let Tokens { runner, job, other_job } = self.tokens;
        match token {
            Token::None => None,
            Token::Empty => Some(b""),
            Token::Runner => Some(runner),
            Token::Job => Some(job),
            Token::OtherJob => other_job.as_deref().map(Vec::as_slice),
            Token::Unknown => Some(unknown.as_bytes()),
            Token::Oversize => Some(self.made.oversize.as_bytes()),
        }
    }

    /// Asks, within what is left of the run.
    async fn ask(&mut self, check: &str, ask: Ask<'_>) -> Answer {
        let ask = Ask { correlation_id: format!("{}-{check}", self.mark), ..ask };
        let answer = timeout_at(self.end, self.probe.ask(&ask)).await.unwrap_or(Err(Undetermined::Timeout));
        self.slowest = match (&answer, self.slowest) {
            (Ok(heard), Some(slowest)) => Some(slowest.max(heard.took)),
            _ => None,
        };
        answer
    }

    fn good(&self, form: Form) -> Ask<'a> {
        let Tokens { runner, job, .. } = self.tokens;
        Ask { runner_token: Some(runner), job_token: Some(job), form, ..Ask::default() }
    }
}
