//! The command line's shape: commands, flags, what they mean. It runs nothing.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Gitlab, Mistakes, load::environment_overrides};

/// The exit code for a configuration that can't be used (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// The token-auth gateway for GitLab CI job telemetry.
#[derive(Clone, Debug, Parser)]
#[command(name = "spangate", version, about, long_about = None)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT; SIGHUP reads the configuration again
    Run(ConfigArgs),
    /// Do what start does, without binding: exit 0, or 64 with every mistake on stderr
    Check(ConfigArgs),
    /// Print the defaults, the reference or the effective values
    Config {
        /// What to print.
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Ask the authority about one pair of tokens or one bearer token, and say what the gateway would do and why
    ///
    /// It asks once (for a bearer token: its provider for the keys), with the configuration of the gateway, and prints verdict and reason, what the sender would
    /// get, how long the verdict would be kept, the trace that spans must belong to, the attributes that would be
    /// written, the keys that would be taken away and the limits. Tokens are never printed.
    ///
    /// Exit codes: 0 the sender is let in; 1 it is refused; 2 that could not be found out (the sender would
    /// get 503 or 429), or the command line can't be read; 64 the configuration or a file can't be used.
    Explain(ExplainArgs),
    /// Hold an endpoint of GitLab against the contract, check by check
    ///
    /// About twenty questions are asked, as the gateway asks and as senders of bad tokens would. They change nothing
    /// in GitLab; the tokens go to this endpoint and nowhere else, and are never printed. deploy/gitlab/openapi.yaml
    /// describes the contract, docs/operating.md the checks.
    ///
    /// Exit codes: 0 no check failed; 1 at least one did; 2 the command line can't be read; 64 a flag or a file
    /// can't be used.
    Conform(Box<ConformArgs>),
    /// Try it on loopback: an authority, the gateway and a collector in one process
    Demo(DemoArgs),
}

/// What `spangate config` prints.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Every key with its default and its meaning, as YAML
    Default,
    /// Every key with its default and its meaning, as Markdown
    Reference,
    /// The values that hold after file, environment and flags, as YAML
    Show(ConfigArgs),
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArgs {
    /// The configuration file; without one all keys have their defaults
    #[arg(long, short, env = "SPANGATE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override a single key, such as log.level=debug; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
}

impl ConfigArgs {
    /// Reads file, environment and flags, in this order of precedence: flags win.
    ///
    /// # Errors
    /// Every mistake with its place.
    pub fn load(&self) -> Result<Config, Mistakes> {
        // Variables that are not text can't be meant for us, and `vars()` would panic over them.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let overrides: Vec<_> =
            environment_overrides(variables).into_iter().chain(self.set.iter().cloned()).collect();
        let variable = |name: &str| std::env::var(name).ok();
        match &self.config {
            Some(path) => Config::load(path, &variable, &overrides),
            None => Config::from_text("", "(no file)", &variable, &overrides),
        }
    }

    /// What messages call the configuration.
    #[must_use]
    pub fn name(&self) -> String {
        self.config.as_ref().map_or_else(|| "(no file)".to_owned(), |path| path.display().to_string())
    }
}

/// How the demo ends.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct DemoArgs {
    /// End after the table in place of staying up; exit 0 only if every outcome was as designed
    #[arg(long)]
    pub once: bool,
}

/// Which tokens are explained, under which configuration.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// File with the runner token; a line break at its end is no part of it
    #[arg(long, value_name = "FILE", required_unless_present = "bearer_token_file")]
    pub runner_token_file: Option<PathBuf>,
    /// File with the job token; a line break at its end is no part of it
    #[arg(long, value_name = "FILE", required_unless_present = "bearer_token_file")]
    pub job_token_file: Option<PathBuf>,
    /// File with a bearer token of one of oidc.providers, in place of the pair
    #[arg(long, value_name = "FILE", conflicts_with_all = ["runner_token_file", "job_token_file"])]
    pub bearer_token_file: Option<PathBuf>,
    /// Print one JSON object in place of lines
    #[arg(long)]
    pub json: bool,
}

/// Which endpoint is held against the contract, and the tokens of a job that runs.
#[derive(Clone, Debug, Args)]
pub struct ConformArgs {
    /// Base URL of GitLab, with its relative URL root if it has one
    #[arg(long)]
    pub url: String,
    /// Path of the endpoint below the URL
    #[arg(long, default_value_t = Gitlab::default().auth_path)]
    pub path: String,
    /// File with the token of a runner
    #[arg(long, value_name = "FILE")]
    pub runner_token_file: PathBuf,
    /// File with the token of a job that this runner runs, or has finished less than a minute ago
    #[arg(long, value_name = "FILE")]
    pub job_token_file: PathBuf,
    /// File with the token of a job that another runner runs; without it nothing shows that its spans are refused
    #[arg(long, value_name = "FILE")]
    pub other_job_token_file: Option<PathBuf>,
    /// File with the 32 bytes in base64 that sign the questions; without it they are not signed
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// PEM file with the CA certificates that the endpoint's certificate is checked against; without it the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Header of the runner token
    #[arg(long, value_name = "NAME", default_value_t = Gitlab::default().runner_token_header)]
    pub runner_token_header: String,
    /// Header of the job token
    #[arg(long, value_name = "NAME", default_value_t = Gitlab::default().job_token_header)]
    pub job_token_header: String,
    /// Header of the signature
    #[arg(long, value_name = "NAME", default_value_t = Gitlab::default().secret_header)]
    pub secret_header: String,
    /// `iss` of the signature
    #[arg(long, value_name = "TEXT", default_value_t = Gitlab::default().secret_issuer)]
    pub secret_issuer: String,
    /// `aud` of the signature
    #[arg(long, value_name = "TEXT", default_value_t = Gitlab::default().secret_audience)]
    pub secret_audience: String,
    /// Print one JSON object at the end in place of lines
    #[arg(long)]
    pub json: bool,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Scenario: clap examines the definitions.
    /// Guarantees: no flag clashes with another.
    #[test]
    fn the_definitions_hold() {
        Cli::command().debug_assert();
    }

    /// Scenario: the command lines that the docs promise, and one that is wrong.
    /// Guarantees: they parse to what they say; a `--set` without a key is refused.
    #[test]
    fn promised_command_lines_parse() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.command);
        match parse("spangate run --config /f.yaml --set a.b=c=d --set e=").unwrap() {
            Command::Run(args) => {
                assert_eq!(args.config, Some(PathBuf::from("/f.yaml")));
                let expected = [("a.b", "c=d"), ("e", "")].map(|(a, b)| (a.to_owned(), b.to_owned()));
                assert_eq!(args.set, expected);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(parse("spangate check -c f"), Ok(Command::Check(_))));
        assert!(matches!(
            parse("spangate config default"),
            Ok(Command::Config { what: ConfigCommand::Default })
        ));
        assert!(matches!(
            parse("spangate config show"),
            Ok(Command::Config { what: ConfigCommand::Show(_) })
        ));
        assert!(matches!(parse("spangate demo --once"), Ok(Command::Demo(DemoArgs { once: true }))));
        match parse("spangate explain -c f --runner-token-file a --job-token-file b").unwrap() {
            Command::Explain(args) => {
                assert_eq!((args.config.config, args.json), (Some(PathBuf::from("f")), false));
                assert_eq!(
                    (args.runner_token_file, args.job_token_file),
                    (Some("a".into()), Some("b".into()))
                );
            }
            other => panic!("{other:?}"),
        }
        match parse("spangate explain --bearer-token-file a").unwrap() {
            Command::Explain(args) => assert_eq!(args.bearer_token_file, Some("a".into())),
            other => panic!("{other:?}"),
        }
        assert!(parse("spangate explain --bearer-token-file a --job-token-file b").is_err());
        assert!(parse("spangate explain --job-token-file b").is_err());
        match parse("spangate conform --url https://g --runner-token-file a --job-token-file b --json")
            .unwrap()
        {
            Command::Conform(args) => {
                assert_eq!((args.path, args.json), ("/api/v4/internal/ci/telemetry/auth".to_owned(), true));
                assert_eq!(args.other_job_token_file, None);
            }
            other => panic!("{other:?}"),
        }
        assert!(parse("spangate conform --url https://g --runner-token-file a").is_err());
        assert!(parse("spangate run --set =x").is_err());
        assert!(parse("spangate").is_err());
    }
}
