//! What rates, bursts and the rules for spans must mean. Pure, as all of these checks.

use std::time::Duration;

use crate::config::{
    Config, Mode,
    units::{ByteSize, duration},
};

use super::Problems;

pub(super) fn check(config: &Config, problems: &mut Problems) {
    let traces = &config.traces;
    problems.unless(traces.max_span_size.0 > 0, &["traces.max_span_size"], "must be more than 0");
    problems.unless(traces.max_spans_per_job > 0, &["traces.max_spans_per_job"], "must be at least 1");
    let limits = &config.limits;
    let (runner, job, failures) = (&limits.per_runner, &limits.per_job, &limits.per_client_failures);
    let mut level = |section: &str, burst, mode, rates: [(&str, u64); 3], may_be_0: [bool; 3]| {
        for ((key, rate), may_be_0) in rates.into_iter().zip(may_be_0) {
            rate_and_burst(problems, [section, key], rate, may_be_0, burst, mode);
        }
    };
    let rates = |requests: u32, spans: u32, bytes: ByteSize| {
        [
            ("requests_per_second", u64::from(requests)),
            ("spans_per_second", u64::from(spans)),
            ("bytes_per_second", bytes.0),
        ]
    };
    for (section, all) in [
        ("global", &limits.global),
        ("per_listener", &limits.per_listener),
        ("per_project", &limits.per_project),
    ] {
        let rates = rates(all.requests_per_second, all.spans_per_second, all.bytes_per_second);
        level(section, all.burst, all.mode, rates, [true; 3]);
    }
    let of_runner = rates(runner.requests_per_second, runner.spans_per_second, runner.bytes_per_second);
    level("per_runner", runner.burst, runner.mode, of_runner, [false, true, true]);
    let of_job = rates(job.requests_per_second, job.spans_per_second, job.bytes_per_second);
    level("per_job", job.burst, job.mode, of_job, [false; 3]);
    for (key, count) in [("per_minute", failures.per_minute), ("max_in_flight", failures.max_in_flight)] {
        problems.unless(
            count > 0 || failures.mode == Mode::Off,
            &[&format!("limits.per_client_failures.{key}")],
            "must be more than 0; `mode: off` takes the limit away",
        );
    }
    problems.unless(
        matches!(limits.throttle_status, 429 | 503),
        &["limits.throttle_status"],
        "must be 429 or 503",
    );
}

/// Runners and projects that are silent for ten minutes are forgotten, and the store of limits holds five.
const MAX_BURST: Duration = Duration::from_mins(5);

fn rate_and_burst(
    problems: &mut Problems,
    [section, key]: [&str; 2],
    rate: u64,
    may_be_0: bool,
    burst: Duration,
    mode: Mode,
) {
    if mode == Mode::Off || (rate == 0 && may_be_0) {
        return;
    }
    let field = format!("limits.{section}.{key}");
    if burst > MAX_BURST {
        problems.add(
            &[&format!("limits.{section}.burst")],
            format!("must be at most {}: states are not kept for longer", duration::render(MAX_BURST)),
        );
    } else if rate == 0 {
        problems.add(&[&field], "must be more than 0; `mode: off` takes the limit away");
    } else if u128::from(rate).saturating_mul(burst.as_millis()) < 1000 {
        problems.add(
            &[&format!("limits.{section}.burst"), &field],
            format!("not even 1 fits into {} of {key}: make it longer", duration::render(burst)),
        );
    }
}
