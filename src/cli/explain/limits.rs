//! The limits that hold for a sender, from the configuration alone: how much is used up only a running
//! gateway knows.

use std::time::Duration;

use serde::Serialize;

use crate::{
    config::{
        self, Config, Mode,
        units::{ByteSize, duration},
    },
    limit::{Level, Limit},
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

/// All limits of a sender whose job is known by its id, or only by its tokens: from the widest to the narrowest,
/// without those that are not set.
pub(super) fn of(config: &Config, job_id: Option<u64>) -> Vec<LimitLine> {
    let config::Limits { global, per_listener, per_project, per_runner: runner, per_job: job, .. } =
        &config.limits;
    let job_of =
        job_id.map_or_else(|| "all requests with this pair".into(), |id| format!("all requests of job {id}"));
    let mut lines = Vec::new();
    for (level, rates, of) in [
        (Level::Global, global, "all requests of all senders"),
        (Level::Listener, per_listener, "all requests on one listener"),
        (Level::Project, per_project, "all requests of this project's jobs"),
    ] {
        let config::LevelRates { requests_per_second, spans_per_second, bytes_per_second, burst, mode } =
            *rates;
        let rates = (requests_per_second, spans_per_second, bytes_per_second);
        lines.extend(rates_of(level, rates, burst, mode, of));
    }
    let rates = (runner.requests_per_second, runner.spans_per_second, runner.bytes_per_second);
    lines.extend(rates_of(
        Level::Runner,
        rates,
        runner.burst,
        runner.mode,
        "all requests with this runner token",
    ));
    let rates = (job.requests_per_second, job.spans_per_second, job.bytes_per_second);
    lines.extend(rates_of(Level::Job, rates, job.burst, job.mode, &job_of));
    lines.push(LimitLine {
        limit: Limit::JobSpanBudget.label(),
        amount: format!(
            "{} spans in all, each up to {}",
            config.traces.max_spans_per_job, config.traces.max_span_size
        ),
        mode: Mode::Enforce,
        of: job_of,
    });
    lines
}

fn rates_of(
    level: Level,
    (requests, spans, bytes): (u32, u32, ByteSize),
    burst: Duration,
    mode: Mode,
    of: &str,
) -> impl Iterator<Item = LimitLine> {
    let amount = |is_set: bool, amount: &dyn std::fmt::Display| {
        is_set.then(|| format!("{amount} a second, {} at once", duration::render(burst)))
    };
    let amounts = [amount(requests > 0, &requests), amount(spans > 0, &spans), amount(bytes.0 > 0, &bytes)];
    Limit::rates_of(level).into_iter().zip(amounts).filter_map(move |(limit, amount)| {
        Some(LimitLine { limit: limit.label(), amount: amount?, mode, of: of.to_owned() })
    })
}
