//! The program: arguments, exit code, runtime; nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use spangate::cli::{self, args::Cli};

fn main() -> anyhow::Result<ExitCode> {
    let args = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(cli::dispatch(&args))?;
    // What is still running has been cut or told to end; nothing is waited for.
    runtime.shutdown_background();
    Ok(ExitCode::from(code))
}
