//! `spangate conform`: asks a real endpoint as the gateway asks and as senders of bad tokens would, and says
//! check by check whether it keeps the contract. It decides what is asked and which exit code it comes to;
//! it never prints a token, nor a byte of an answer but for the trace id.

mod checks;
mod judge;
mod refusals;
mod report;

use std::{io::Write, path::Path};

use anyhow::Context as _;
use zeroize::Zeroizing;

use crate::{
    config::Gitlab,
    tls,
    validate::{
        credentials::{Accepts, Credentials, Digester},
        probe::Probe,
    },
};

use super::{
    EXIT_FAILED, EXIT_OK,
    args::{ConformArgs, EXIT_USAGE},
    tokens,
};

use self::{
    checks::{Checks, Made},
    judge::PATIENCE,
    report::Report,
};

/// The tokens that are asked about; each wiped when dropped.
struct Tokens {
    runner: Zeroizing<Vec<u8>>,
    job: Zeroizing<Vec<u8>>,
    /// A job's that is another runner's.
    other_job: Option<Zeroizing<Vec<u8>>>,
}

/// Runs every check. The result is the exit code: 0 if none failed, 1 if one did, 64 if nothing could be
/// asked because of a flag or a file.
///
/// # Errors
/// When the system gives no random bytes.
pub async fn run(args: &ConformArgs) -> anyhow::Result<u8> {
    run_to(args, &mut std::io::stdout(), &mut std::io::stderr()).await
}

/// As [`run`], to other places.
///
/// # Errors
/// When the system gives no random bytes.
pub async fn run_to(args: &ConformArgs, out: &mut impl Write, errors: &mut impl Write) -> anyhow::Result<u8> {
    let (probe, tokens) = match prepare(args) {
        Ok(prepared) => prepared,
        Err(problem) => {
            let _ignored = writeln!(errors, "{problem:#}");
            return Ok(EXIT_USAGE);
        }
    };
    let mut report = Report::new(out, args.json, probe.url().as_str());
    let made = Made::new()?;
    let mut checks = Checks::new(&probe, &tokens, &made, &mut report)?;
    checks.run().await;
    Ok(if report.finish() == 0 { EXIT_OK } else { EXIT_FAILED })
}

fn prepare(args: &ConformArgs) -> anyhow::Result<(Probe, Tokens)> {
    tls::install_provider();
    let none = || Path::new("").to_owned();
    let config = Gitlab {
        url: args.url.clone(),
        auth_path: args.path.clone(),
        runner_token_header: args.runner_token_header.clone(),
        job_token_header: args.job_token_header.clone(),
        secret_file: args.secret_file.clone().unwrap_or_else(none),
        secret_header: args.secret_header.clone(),
        secret_issuer: args.secret_issuer.clone(),
        secret_audience: args.secret_audience.clone(),
        ca_file: args.ca_file.clone().unwrap_or_else(none),
        // Longer than the gateway waits, so that it can be said by how much an answer is late.
        timeout: PATIENCE,
        ..Gitlab::default()
    };
    let probe = Probe::new(&config)?;
    let tokens = Tokens {
        runner: tokens::read(&args.runner_token_file)?,
        job: tokens::read(&args.job_token_file)?,
        other_job: args.other_job_token_file.as_deref().map(tokens::read).transpose()?,
    };
    for (file, job) in [
        (Some(&args.job_token_file), Some(&tokens.job)),
        (args.other_job_token_file.as_ref(), tokens.other_job.as_ref()),
    ] {
        let (Some(file), Some(job)) = (file, job) else { continue };
        shaped(&probe, &tokens.runner, job)
            .with_context(|| format!("{} or {}", args.runner_token_file.display(), file.display()))?;
    }
    Ok((probe, tokens))
}

/// What the gateway would refuse itself it never asks about.
fn shaped(probe: &Probe, runner: &[u8], job: &[u8]) -> anyhow::Result<()> {
    let headers = tokens::headers(probe.names(), runner, job)
        .context("a token has a character that no header can carry")?;
    Credentials::from_headers(&headers, probe.names(), Accepts::PAIR, &Digester::random())?;
    Ok(())
}
