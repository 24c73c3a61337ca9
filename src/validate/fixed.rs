//! Tokens listed in a file by digest: an authority for demonstrations and for networks without a
//! GitLab. It knows no plain token, asks nobody, and says no to whatever is not listed or has ended.
//!
//! Tokens are looked up by their SHA-256 in a hash map. That is not constant in time, and need not be:
//! what a sender could learn from timing is about the SHA-256 of its own guess, which it can't steer
//! byte by byte towards a listed one.
//!
//! ```yaml
//! tokens:
//!   - runner_token_sha256: <64 hex digits>   # printf %s "$TOKEN" | sha256sum
//!     job_token_sha256: <64 hex digits>
//!     trace_id: 000000000000000000000000001e240a
//!     max_age: 60s                           # optional, as are the facts below
//!     expires_at: 1900000000                 # or 2030-03-17T17:46:40Z; no grace past it
//!     job_id: 42
//!     project_path: group/project
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::future::{BoxFuture, ready};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::{config::units, metrics::Metrics, otlp::TraceId};

use super::{
    Allowed, BuildError, Claims, Denial, IdentityPolicy, Question, Undetermined, Validator, Verdict,
    cache_control::Stale,
    credentials::{Credentials, Digester},
    signer::unix_seconds,
    timestamp,
};

const FILE_KEY: &str = "fixed.file";

type Sha256 = [u8; 32];

/// Judges token pairs by a list.
#[derive(Debug)]
pub struct Fixed {
    /// By runner token and job token.
    pairs: HashMap<(Sha256, Sha256), Entry>,
    /// When the last entry with this token ends, in Unix seconds.
    runner_tokens: HashMap<Sha256, u64>,
    job_tokens: HashMap<Sha256, u64>,
    identity: Arc<IdentityPolicy>,
    digester: Arc<Digester>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Entry {
    trace_id: TraceId,
    claims: Claims,
    max_age: Option<Duration>,
    expires_at: Option<u64>,
}

impl Entry {
    /// The first Unix second in which it no longer holds.
    fn end(&self) -> u64 {
        self.expires_at.unwrap_or(u64::MAX)
    }
}

/// Every value is read as text: a digest or a trace id of digits alone must not become a number.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    tokens: Vec<Spanned<BTreeMap<String, String>>>,
}

impl Fixed {
    /// Reads the list.
    ///
    /// # Errors
    /// [`BuildError::File`] for a file that is no such list (the first place is named),
    /// [`BuildError::Entries`] with every mistake in its entries.
    pub fn load(
        path: &Path,
        identity: IdentityPolicy,
        digester: Arc<Digester>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BuildError> {
        let problem = |problem: String| BuildError::file(FILE_KEY, path, problem);
        let text = fs::read_to_string(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
        // No snippet of the file in the error: a plain token may have been written into it.
        let options = serde_saphyr::options! { with_snippet: false };
        let list: List = serde_saphyr::from_str_with_options(&text, options)
            .map_err(|error| problem(format!("is no list of tokens: {error}")))?;
        let mut fixed = Self {
            pairs: HashMap::new(),
            runner_tokens: HashMap::new(),
            job_tokens: HashMap::new(),
            identity: Arc::new(identity),
            digester,
            metrics,
        };
        let mut problems = Vec::new();
        for (index, raw) in list.tokens.into_iter().enumerate() {
            let place = format!("line {}: tokens[{index}]", raw.referenced.line());
            let mut fields = Fields { rest: raw.value, place, problems: &mut problems };
            if let Some((pair, entry)) = fields.entry() {
                if fixed.pairs.contains_key(&pair) {
                    fields.problem("is listed twice");
                }
                for (ends, token) in [(&mut fixed.runner_tokens, pair.0), (&mut fixed.job_tokens, pair.1)] {
                    let end = ends.entry(token).or_default();
                    *end = entry.end().max(*end);
                }
                fixed.pairs.insert(pair, entry);
            }
        }
        if problems.is_empty() {
            Ok(fixed)
        } else {
            Err(BuildError::Entries { path: path.to_owned(), problems })
        }
    }

    /// The verdict at `now` (Unix seconds).
    fn judge(&self, credentials: &Credentials, now: u64) -> Result<Verdict, Undetermined> {
        let pair @ (runner, job) = digests(credentials).ok_or(Undetermined::NoAuthority)?;
        let is_good = |ends: &HashMap<_, u64>, token| ends.get(token).is_some_and(|end| now < *end);
        Ok(match self.listed(&pair, now) {
            Some(entry) => Verdict::Allow(Allowed {
                identity: Arc::new(self.identity.identify(
                    &self.digester,
                    entry.trace_id,
                    &entry.claims,
                    credentials,
                )),
                max_age: entry.max_age,
                stale: Stale::default(),
                expires_at: entry.expires_at,
            }),
            // Both tokens are good, but the job is another runner's.
            None if !self.pairs.contains_key(&pair)
                && is_good(&self.job_tokens, &job)
                && is_good(&self.runner_tokens, &runner) =>
            {
                Verdict::Deny(Denial::Forbidden)
            }
            None => Verdict::Deny(Denial::Unauthenticated),
        })
    }

    /// The entry of a pair, unless it has ended.
    fn listed(&self, pair: &(Sha256, Sha256), now: u64) -> Option<&Entry> {
        self.pairs.get(pair).filter(|entry| now < entry.end())
    }
}

impl Validator for Fixed {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        let verdict = self.judge(&question.credentials, unix_seconds());
        let label = match verdict {
            Ok(Verdict::Allow(_)) => "allow",
            Ok(Verdict::Deny(_)) => "deny",
            Err(_) => "undetermined",
        };
        self.metrics.verdict("hit", label);
        Box::pin(ready(verdict))
    }

    fn known(&self, credentials: &Credentials) -> bool {
        digests(credentials).is_some_and(|pair| self.listed(&pair, unix_seconds()).is_some())
    }
}

/// What a pair is listed by: its runner token's digest and its job token's.
fn digests(credentials: &Credentials) -> Option<(Sha256, Sha256)> {
    let pair = credentials.pair()?;
    Some((sha256(pair.runner_token), sha256(pair.job_token)))
}

fn sha256(token: &[u8]) -> Sha256 {
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(digest(&SHA256, token).as_ref()) {
        *to = *from;
    }
    hash
}

/// The fields of one entry, taken out one by one so that what is left is unknown.
struct Fields<'a> {
    rest: BTreeMap<String, String>,
    place: String,
    problems: &'a mut Vec<String>,
}

impl Fields<'_> {
    /// The entry, or problems. Values are never quoted: one may be a plain token.
    fn entry(&mut self) -> Option<((Sha256, Sha256), Entry)> {
        let hash = "must be 64 hex digits, as sha256sum prints them";
        let runner = self.required("runner_token_sha256", hash, hex);
        let job = self.required("job_token_sha256", hash, hex);
        let trace_id = self.required(
            "trace_id",
            "must be 32 lower-case hex digits other than all zero",
            TraceId::from_lower_hex,
        );
        let max_age = self.optional("max_age", "must be a duration, as 60s", |text| {
            units::duration::parse(text).ok().filter(|age| !age.is_zero())
        });
        let expires_at = self.optional("expires_at", "must be Unix seconds or a time in RFC 3339", |text| {
            timestamp::digits(text).or_else(|| timestamp::rfc3339(text))
        });
        let claims = Claims {
            job_id: self.id("job_id"),
            pipeline_id: self.id("pipeline_id"),
            pipeline_source: self.text("pipeline_source"),
            root_pipeline_id: self.id("root_pipeline_id"),
            project_id: self.id("project_id"),
            project_path: self.text("project_path"),
            namespace_id: self.id("namespace_id"),
            root_namespace_id: self.id("root_namespace_id"),
            organization_id: self.id("organization_id"),
            cell_id: self.id("cell_id"),
            runner_id: self.id("runner_id"),
            runner_type: self.text("runner_type"),
            runner_manager_system_xid: self.text("runner_manager_system_xid"),
        };
        for name in std::mem::take(&mut self.rest).into_keys() {
            // A key of an odd form may be a token that was put in the wrong place.
            let is_name =
                name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            self.problem(&if is_name { format!("unknown field {name}") } else { "an unknown field".into() });
        }
        Some(((runner?, job?), Entry { trace_id: trace_id?, claims, max_age, expires_at }))
    }

    fn required<T>(&mut self, name: &str, rule: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        if !self.rest.contains_key(name) {
            self.problem(&format!("{name} is missing"));
        }
        self.optional(name, rule, read)
    }

    fn optional<T>(&mut self, name: &str, rule: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = read(&self.rest.remove(name)?);
        if value.is_none() {
            self.problem(&format!("{name} {rule}"));
        }
        value
    }

    fn id(&mut self, name: &str) -> Option<u64> {
        self.optional(name, "must be a positive number of at most 63 bits", |text| {
            timestamp::digits(text).filter(|id| *id > 0 && i64::try_from(*id).is_ok())
        })
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.optional(name, "must be 1 to 1024 bytes without control characters", |text| {
            let fits = (1..=1024).contains(&text.len()) && !text.contains(char::is_control);
            fits.then(|| text.to_owned())
        })
    }

    fn problem(&mut self, problem: &str) {
        self.problems.push(format!("{}: {problem}", self.place));
    }
}

/// 64 hex digits of either case.
fn hex(text: &str) -> Option<Sha256> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut hash = [0; 32];
    let (pairs, _) = digits.as_chunks::<2>();
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        let [high, low] =
            pair.map(|digit| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()));
        *byte = (high? << 4) | low?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests;
