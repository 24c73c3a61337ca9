//! The command line: one file a command, and the choice among them.

pub mod args;
pub mod check;
pub mod config;
pub mod conform;
pub mod demo;
pub mod explain;
pub mod run;
mod tokens;

use self::args::{Cli, Command};

const EXIT_OK: u8 = 0;
const EXIT_FAILED: u8 = 1;

/// Runs a command to its end; the result is the process's exit code.
///
/// # Errors
/// What the command can't put into an exit code of its own.
pub async fn dispatch(cli: &Cli) -> anyhow::Result<u8> {
    match &cli.command {
        Command::Run(args) => run::run(args).await,
        Command::Check(args) => Ok(check::run(args)),
        Command::Config { what } => Ok(config::run(what)),
        Command::Conform(args) => conform::run(args).await,
        Command::Explain(args) => Ok(explain::run(args).await),
        Command::Demo(args) => demo::run(args.once).await,
    }
}
