//! What is told of one pair, as a structure for machines and as the source of the text: built from a verdict
//! and a configuration by the code that the gateway itself uses. It asks nobody and prints nothing.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::{
    app::Asker,
    config::{AlsoStrip, AttributesMode, Config, Mode},
    proxy::{headers, rejection::Rejection},
    validate::{
        Allowed, Denial, Shown, Undetermined, Verdict,
        credentials::{CredentialError, Kind},
        job_token,
    },
};

use super::{
    kept::Kept,
    limits::{self, LimitLine},
};

/// Everything about one pair.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    pub(super) configuration: String,
    pub(super) tokens: Tokens,
    /// Nothing: the gateway never asks about such tokens.
    pub(super) asked: Option<Asked>,
    pub(super) verdict: Outcome,
    pub(super) why: String,
    /// What to look at; empty for a pair that is let in.
    pub(super) hint: &'static str,
    /// Nothing: the answer of the collector.
    pub(super) sender_gets: Option<SenderGets>,
    pub(super) kept: Kept,
    /// Only for a pair that is let in.
    pub(super) admitted: Option<Admitted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Allow,
    Deny,
    Undetermined,
}

/// What can be said of tokens without showing them.
#[derive(Debug, Serialize)]
pub(super) struct Tokens {
    pub(super) runner_token_bytes: usize,
    pub(super) job_token_bytes: usize,
    /// Whether it has the parts of a JWT; nothing in it was read.
    pub(super) job_token_in_parts: bool,
    pub(super) digest: Option<String>,
}

/// The one question.
#[derive(Debug, Serialize)]
pub(super) struct Asked {
    pub(super) whom: String,
    pub(super) correlation_id: String,
    pub(super) took_ms: u128,
}

/// The refusal that the sender would get.
#[derive(Debug, Serialize)]
pub(super) struct SenderGets {
    pub(super) http_status: u16,
    pub(super) grpc_code: u8,
    pub(super) outcome: &'static str,
    pub(super) message: String,
    pub(super) retries: bool,
}

/// What a sender that is let in may do and what is written of it.
#[derive(Debug, Serialize)]
pub(super) struct Admitted {
    pub(super) trace_id: Option<String>,
    pub(super) trace_gate: Mode,
    pub(super) mode: AttributesMode,
    pub(super) attributes: Vec<Attribute>,
    pub(super) protected_keys: Vec<String>,
    pub(super) protected_prefixes: Vec<String>,
    pub(super) also_strip: Vec<AlsoStrip>,
    pub(super) limits: Vec<LimitLine>,
}

/// One attribute, or one header in `transparent` mode.
#[derive(Debug, Serialize)]
pub(super) struct Attribute {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) from: String,
}

impl Tokens {
    pub(super) fn of(runner: &[u8], job: &[u8]) -> Self {
        Self {
            runner_token_bytes: runner.len(),
            job_token_bytes: job.len(),
            job_token_in_parts: job.split(|byte| *byte == b'.').nth(2).is_some(),
            digest: None,
        }
    }
}

impl Asked {
    pub(super) fn of(config: &Config, correlation_id: &str, took: Duration) -> Self {
        let whom = if is_fixed(config) {
            config.fixed.file.display().to_string()
        } else {
            let path = config.gitlab.auth_path.trim_start_matches('/');
            format!("{}/{path}", config.gitlab.url.trim_end_matches('/'))
        };
        Self { whom, correlation_id: correlation_id.to_owned(), took_ms: took.as_millis() }
    }
}

fn is_fixed(config: &Config) -> bool {
    !config.fixed.file.as_os_str().is_empty()
}

impl From<&Rejection> for SenderGets {
    fn from(rejection: &Rejection) -> Self {
        let status = rejection.status();
        Self {
            http_status: rejection.http_status().as_u16(),
            grpc_code: status.code as u8,
            outcome: rejection.label(),
            message: status.message,
            retries: status.retry_after.is_some(),
        }
    }
}

impl Explanation {
    /// Tokens of a shape that is refused without a question.
    pub(super) fn malformed(configuration: String, tokens: Tokens, error: CredentialError) -> Self {
        Self {
            configuration,
            tokens,
            asked: None,
            verdict: Outcome::Deny,
            why: format!("{error}; nobody is asked about it"),
            hint: "tokens are 1 to 512 (runner) or 4096 (job) bytes out of A-Z a-z 0-9 _ . = -: is it one token, and its file?",
            sender_gets: Some((&Rejection::Credentials(error)).into()),
            kept: Kept::not("nothing is kept of it"),
            admitted: None,
        }
    }
}

/// What explanations are made from.
pub(super) struct Subject<'a> {
    pub(super) config: &'a Config,
    pub(super) asker: &'a Asker,
    pub(super) job_token: &'a [u8],
}

impl Subject<'_> {
    /// What was answered at `now`, in Unix seconds.
    pub(super) fn judged(
        &self,
        configuration: String,
        tokens: Tokens,
        asked: Asked,
        answer: Result<Verdict, Undetermined>,
        now: u64,
    ) -> Explanation {
        let asked = Some(asked);
        let cache = (!is_fixed(self.config)).then_some(&self.config.cache);
        let not_cached = || Kept::not("not at all: the file is looked at for each request");
        match answer {
            Ok(Verdict::Allow(allowed)) => Explanation {
                configuration,
                tokens,
                asked,
                verdict: Outcome::Allow,
                why: if is_fixed(self.config) {
                    "the pair is listed"
                } else {
                    "GitLab vouches for this pair"
                }
                .into(),
                hint: "",
                sender_gets: None,
                kept: cache.map_or_else(not_cached, |cache| Kept::positive(cache, &allowed, now)),
                admitted: Some(self.admitted(&allowed)),
            },
            Ok(Verdict::Deny(denial)) => Explanation {
                configuration,
                tokens,
                asked,
                verdict: Outcome::Deny,
                why: self.why_denied(denial).into(),
                hint: self.hint_denied(denial),
                sender_gets: Some((&Rejection::Denied(denial, Kind::Pair)).into()),
                kept: cache.map_or_else(not_cached, Kept::denial),
                admitted: None,
            },
            Err(trouble) => Explanation {
                configuration,
                tokens,
                asked,
                verdict: Outcome::Undetermined,
                why: trouble.to_string(),
                hint: hint_undetermined(&trouble),
                sender_gets: Some((&Rejection::Undetermined(trouble)).into()),
                kept: Kept::not(
                    "never kept; a gateway that knows the pair may serve it from its cache meanwhile",
                ),
                admitted: None,
            },
        }
    }

    fn why_denied(&self, denial: Denial) -> &'static str {
        match (is_fixed(self.config), denial) {
            (false, Denial::Unauthenticated) => "GitLab refuses these tokens (401)",
            (false, Denial::Forbidden) => "GitLab: this runner is not assigned to this job (403)",
            (true, Denial::Unauthenticated) => "the pair is not listed, or its time is over",
            (true, Denial::Forbidden) => "both tokens are listed, but not as one pair",
            (_, Denial::UnknownClient) => "the certificate names no client of the listener",
        }
    }

    fn hint_denied(&self, denial: Denial) -> &'static str {
        let is_signed = !self.config.gitlab.secret_file.as_os_str().is_empty();
        match (is_fixed(self.config), denial, is_signed) {
            (true, ..) => "the entries of fixed.file hold SHA-256 digests: printf %s \"$TOKEN\" | sha256sum",
            (false, Denial::UnknownClient, _) => "list one of its names under listeners[].clients",
            (false, Denial::Forbidden, _) => "is it the token of the runner that took the job?",
            (false, Denial::Unauthenticated, true) => {
                "a job token ends with its job, a runner's with its removal; with wrong tokens ruled out: is gitlab.secret_file GitLab's own secret?"
            }
            (false, Denial::Unauthenticated, false) => {
                "a job token ends with its job, a runner's with its removal; with wrong tokens ruled out: does GitLab ask for signed calls (gitlab.secret_file)?"
            }
        }
    }

    fn admitted(&self, allowed: &Allowed) -> Admitted {
        let (config, identity) = (self.config, &allowed.identity);
        let mode = config.attributes.mode;
        // In transparent mode the body passes byte for byte.
        let strips = mode == AttributesMode::Inject;
        let taken = |keys: &[String]| if strips { keys.to_vec() } else { Vec::new() };
        let attributes = match mode {
            AttributesMode::Inject => {
                let shown = self.asker.identity.show(identity.claims());
                shown.into_iter().map(|shown| self.attribute(shown)).collect()
            }
            AttributesMode::Transparent => headers::outgoing("", Some(identity))
                .iter()
                .filter(|(name, _)| name.as_str() != "x-request-id")
                .map(|(name, value)| Attribute {
                    key: name.to_string(),
                    value: value.to_str().unwrap_or_default().into(),
                    from: "header".into(),
                })
                .collect(),
        };
        Admitted {
            trace_id: identity.trace_id().map(|id| id.to_string()),
            trace_gate: config.traces.trace_id,
            mode,
            attributes,
            protected_keys: taken(&self.asker.protected_keys),
            protected_prefixes: taken(&self.asker.protected_prefixes),
            also_strip: config.attributes.also_strip.clone(),
            limits: limits::of(config, identity.claims().job_id),
        }
    }

    /// GitLab wins over the job token, which fills what GitLab left out: where both may have told a value, both are named.
    fn attribute(&self, shown: Shown) -> Attribute {
        let from = shown.from.replace('`', "");
        let token = if is_fixed(self.config) { None } else { Some(job_token::read(self.job_token)) };
        let read = token.and_then(|token| match from.as_str() {
            "job_id" => token.job_id,
            "project_id" => token.project_id,
            "namespace_id" => token.namespace_id,
            "organization_id" => token.organization_id,
            "cell_id" => token.cell_id,
            _ => None,
        });
        let is_same = read.is_some_and(|id| shown.value == id || shown.value == *id.to_string());
        let from = if is_same { format!("{from}, of the answer or of the job token") } else { from };
        Attribute { key: shown.key.to_owned(), value: shown.value, from }
    }
}

fn hint_undetermined(trouble: &Undetermined) -> &'static str {
    match trouble {
        Undetermined::Timeout => "GitLab is slow, or nothing answers at gitlab.url; see gitlab.timeout",
        Undetermined::Unreachable(_) => "name, address, network, certificate (gitlab.url, gitlab.ca_file)",
        Undetermined::Throttled => "take the gateway's addresses out of GitLab's rate limits",
        Undetermined::Status(404) => {
            "a GitLab without this endpoint, or another gitlab.url (relative URL root?)"
        }
        Undetermined::Status(300..=399) => {
            "a redirect, which is not followed: gitlab.url must be GitLab's own address"
        }
        Undetermined::Status(_) => "GitLab's own trouble: its log has the correlation id",
        Undetermined::BadAnswer(_) | Undetermined::ForeignRefusal => {
            "something else answers in GitLab's place, or its endpoint breaks the contract: spangate conform"
        }
        Undetermined::ClocksApart => "set the clocks of GitLab and of this machine right",
        Undetermined::Busy => "gitlab.max_concurrency and gitlab.max_queue",
        Undetermined::BreakerOpen(_) | Undetermined::Paused(_) => "wait a few seconds and ask again",
        Undetermined::UnknownKey => "wait half a minute and ask again",
        Undetermined::NoAuthority => "set gitlab.url or fixed.file",
    }
}
