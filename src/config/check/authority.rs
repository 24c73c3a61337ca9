//! What the keys of GitLab and of the file of tokens must mean together. Pure.

use std::time::Duration;

use http::Uri;

use crate::config::{Authentication, Config, units::duration, url::base_url};

use super::{Problems, is_set};

/// A longer ramp would starve runners after each restart.
const MAX_RAMP: Duration = Duration::from_mins(1);

/// Longest time in which nobody may find out whether GitLab answers again.
const MAX_OPEN: Duration = Duration::from_secs(30);

pub(super) fn check(config: &Config, problems: &mut Problems) {
    let gitlab = &config.gitlab;
    match (gitlab.url.is_empty(), is_set(&config.fixed.file)) {
        (true, false) if config.takes(Authentication::Gitlab) => problems.add(
            &["gitlab.url", "fixed.file"],
            "set gitlab.url (the GitLab that knows the tokens) or fixed.file (a file of tokens)",
        ),
        (false, true) => problems.add(
            &["fixed.file", "gitlab.url"],
            "gitlab.url is set too: only one of them can know the tokens",
        ),
        (true, _) => {}
        (false, false) => {
            if let Err(problem) = base_url(&gitlab.url) {
                problems.add(&["gitlab.url"], problem);
            }
        }
    }
    let path_fits = gitlab.auth_path.starts_with('/')
        && !gitlab.auth_path.contains(['?', '#'])
        && gitlab.auth_path.parse::<Uri>().is_ok();
    problems.unless(
        path_fits,
        &["gitlab.auth_path"],
        "must be a path that begins with \"/\", without a query",
    );
    problems.unless(
        !is_set(&gitlab.ca_file) || !gitlab.url.starts_with("http://"),
        &["gitlab.ca_file", "gitlab.url"],
        "has no use with an http:// URL: write https:// or leave it out",
    );
    for (field, text) in
        [("gitlab.secret_issuer", &gitlab.secret_issuer), ("gitlab.secret_audience", &gitlab.secret_audience)]
    {
        problems.unless(!text.is_empty(), &[field], "must not be empty");
    }
    problems.unless(!gitlab.timeout.is_zero(), &["gitlab.timeout"], "must be more than 0");
    problems.unless(
        gitlab.timeout < config.intake.deadline,
        &["gitlab.timeout", "intake.deadline"],
        format!(
            "must be shorter than intake.deadline ({}): the collector needs the rest",
            duration::render(config.intake.deadline)
        ),
    );
    problems.unless(gitlab.max_concurrency > 0, &["gitlab.max_concurrency"], "must be at least 1");
    problems.unless(
        (0.0..=1.0).contains(&gitlab.retry_ratio),
        &["gitlab.retry_ratio"],
        "must be from 0 to 1",
    );
    problems.unless(
        gitlab.ramp <= MAX_RAMP,
        &["gitlab.ramp"],
        "must be at most 1m: until then few are asked",
    );
    let breaker = &gitlab.breaker;
    problems.unless(breaker.faults > 0, &["gitlab.breaker.faults"], "must be at least 1");
    problems.unless((0.0..=1.0).contains(&breaker.ratio), &["gitlab.breaker.ratio"], "must be from 0 to 1");
    problems.unless(
        (Duration::from_secs(1)..=MAX_OPEN).contains(&breaker.max_open),
        &["gitlab.breaker.max_open"],
        "must be from 1s to 30s: for so long a GitLab that answers again goes unnoticed",
    );
}
