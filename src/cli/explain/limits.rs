//! The limits that hold for a sender, from the configuration alone: how much is used up only a running
//! gateway knows.

use serde::Serialize;

use crate::{
    config::{Config, Mode, units::duration},
    limit::Limit,
    validate::credentials::Kind,
};

/// One limit.
#[derive(Debug, Serialize)]
pub(super) struct LimitLine {
    /// As in the metric label `limit` and in refusals.
    pub(super) limit: &'static str,
    pub(super) amount: String,
    pub(super) mode: Mode,
    /// Whose use counts.
    pub(super) of: String,
}

/// All limits of a sender whose job is known by its id, or only by its tokens. The sender of a bearer token without
/// the id of a job is no job.
pub(super) fn of(config: &Config, kind: Kind, job_id: Option<u64>) -> Vec<LimitLine> {
    let (runner, job) = (&config.limits.per_runner, &config.limits.per_job);
    let is_bearer = kind == Kind::Bearer;
    let runner_of =
        if is_bearer { "all requests of this sub" } else { "all requests with this runner token" };
    let job_of =
        job_id.map_or_else(|| "all requests with this pair".into(), |id| format!("all requests of job {id}"));
    let rate = |amount: &dyn std::fmt::Display, burst| {
        format!("{amount} a second, {} at once", duration::render(burst))
    };
    let line = |limit: Limit, amount, mode, of: &str| LimitLine {
        limit: limit.label(),
        amount,
        mode,
        of: of.to_owned(),
    };
    let mut limits = vec![
        line(Limit::RunnerRequests, rate(&runner.requests_per_second, runner.burst), runner.mode, runner_of),
        line(Limit::JobRequests, rate(&job.requests_per_second, job.burst), job.mode, &job_of),
        line(Limit::JobSpans, rate(&job.spans_per_second, job.burst), job.mode, &job_of),
        line(Limit::JobBytes, rate(&job.bytes_per_second, job.burst), job.mode, &job_of),
        line(
            Limit::JobSpanBudget,
            format!(
                "{} spans in all, each up to {}",
                config.traces.max_spans_per_job, config.traces.max_span_size
            ),
            Mode::Enforce,
            &job_of,
        ),
    ];
    if is_bearer && job_id.is_none() {
        limits.truncate(1);
    }
    limits
}
