//! The questions that must be refused, one row each: which tokens, how signed, in which form, and which
//! refusal is due. It asks nothing.

use crate::validate::probe::{Form, Signature};

use super::judge::Due;

/// Which token stands in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// No header at all.
    None,
    /// A header without a value.
    Empty,
    /// The good runner token, also where a job token belongs.
    Runner,
    /// The good job token, also where a runner token belongs.
    Job,
    /// The job token of another runner's job.
    OtherJob,
    /// Random, in the shape of a token.
    Unknown,
    /// Longer than any token.
    Oversize,
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) check: &'static str,
    pub(super) runner: Token,
    pub(super) job: Token,
    pub(super) signature: Signature,
    pub(super) form: Form,
    pub(super) due: Due,
    pub(super) mend: &'static str,
}

const fn tokens(check: &'static str, runner: Token, job: Token, due: Due, mend: &'static str) -> Row {
    Row { check, runner, job, signature: Signature::Good, form: Form::Usual, due, mend }
}

const fn signed(check: &'static str, signature: Signature, mend: &'static str) -> Row {
    Row { signature, ..tokens(check, Token::Runner, Token::Job, Due::Unauthenticated, mend) }
}

const NO_HEADER: &str = "answer 401 in JSON before anything is looked up";
const SWAPPED: &str = "look for a runner by the runner token alone and for a job by the job token alone";
const SIGNATURE: &str =
    "verify the signature and its times before the tokens, with the secret of the gateway";

/// In the order in which they are asked. Those that are signed badly come last: a GitLab that counts
/// them as attacks would spoil the others.
pub(super) const ROWS: &[Row] = &[
    tokens("swapped-pair", Token::Job, Token::Runner, Due::EitherDenial, SWAPPED),
    tokens(
        "other-runners-job",
        Token::Runner,
        Token::OtherJob,
        Due::Forbidden,
        "answer 403 when the job is not assigned to this runner",
    ),
    tokens("unknown-pair", Token::Unknown, Token::Unknown, Due::Unauthenticated, "answer 401 in JSON"),
    tokens(
        "unknown-runner-token",
        Token::Unknown,
        Token::Job,
        Due::EitherDenial,
        "a good job token alone must not be enough",
    ),
    tokens(
        "unknown-job-token",
        Token::Runner,
        Token::Unknown,
        Due::EitherDenial,
        "a good runner token alone must not be enough",
    ),
    tokens("no-runner-token", Token::None, Token::Job, Due::Unasked, NO_HEADER),
    tokens("no-job-token", Token::Runner, Token::None, Due::Unasked, NO_HEADER),
    tokens("no-tokens", Token::None, Token::None, Due::Unasked, NO_HEADER),
    tokens("empty-runner-token", Token::Empty, Token::Job, Due::Unasked, NO_HEADER),
    tokens("empty-job-token", Token::Runner, Token::Empty, Due::Unasked, NO_HEADER),
    tokens(
        "oversize-token",
        Token::Runner,
        Token::Oversize,
        Due::ClientError,
        "a token of 4097 bytes is a bad token: answer 401 or another 4xx",
    ),
    Row {
        form: Form::Get,
        ..tokens("get", Token::Runner, Token::Job, Due::NoSuchMethod, "route POST only: 404 or 405")
    },
    signed("signature-missing", Signature::Missing, SIGNATURE),
    signed("signature-wrong-key", Signature::WrongKey, SIGNATURE),
    signed("signature-expired", Signature::Expired, SIGNATURE),
    signed(
        "signature-alg-none",
        Signature::Unsigned,
        "fix the algorithm to HS256; never take it from the token",
    ),
    signed(
        "signature-issuer",
        Signature::OtherIssuer,
        "check `iss`: other services may share the way secrets are made",
    ),
];
