//! `spangate run`: start, serve, reload on SIGHUP, drain on SIGTERM. It decides exit codes only.

use std::io::{self, Write as _};

use crate::{
    app::{self, Running},
    config::Config,
    signal::{Signals, Wish},
    telemetry,
};

use super::{
    EXIT_FAILED, EXIT_OK,
    args::{ConfigArgs, EXIT_USAGE},
};

/// Serves until told to end. Returns the process's exit code: 0 after a drain in which every request
/// was answered, 64 for a configuration that can't be used, 1 otherwise.
///
/// # Errors
/// When the system refuses signal handlers or the log can't be set up.
pub async fn run(args: &ConfigArgs) -> anyhow::Result<u8> {
    let mut signals = Signals::listen()?;
    let config = match args.load() {
        Ok(config) => config,
        Err(mistakes) => {
            // Before the log's own form is known.
            writeln!(io::stderr().lock(), "{mistakes}")?;
            return Ok(EXIT_USAGE);
        }
    };
    let log = telemetry::init(&config.log)?;
    let running = match app::start(config).await {
        Ok(running) => running,
        Err(error) => {
            tracing::error!(error_message = %error, "the gateway cannot start");
            return Ok(EXIT_FAILED);
        }
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the gateway serves");

    while signals.next().await == Wish::Reload {
        reload(args, &running, &log);
    }

    tracing::info!(
        "draining: readiness is 503, it serves on for shutdown.delay, open requests are finished; a second signal ends at once"
    );
    let ended_twice = async { while signals.next().await != Wish::End {} };
    tokio::select! {
        clean = running.drain() => {
            if clean {
                tracing::info!("drained: every request was answered");
                Ok(EXIT_OK)
            } else {
                tracing::warn!("the shutdown deadline passed: open connections were cut; raise shutdown.deadline if this happens often");
                Ok(EXIT_FAILED)
            }
        }
        () = ended_twice => {
            tracing::warn!("a second signal: ending at once");
            Ok(EXIT_FAILED)
        }
    }
}

/// A bad file never replaces a good configuration.
fn reload(args: &ConfigArgs, running: &Running, log: &telemetry::Handle) {
    let outcome = args.load().map_err(|mistakes| mistakes.to_string()).and_then(|config: Config| {
        running.reload(&config).map_err(|error| error.to_string())?;
        log.apply(&config.log).map_err(|error| error.to_string())
    });
    match outcome {
        Ok(()) => {
            running.metrics().config_reload("applied");
            tracing::info!("configuration, certificates and secrets were read again and are in force");
        }
        Err(problem) => {
            running.metrics().config_reload("refused");
            tracing::error!(
                error_message = %problem,
                "the new configuration is not used, the running one stays; mend it and send SIGHUP again"
            );
        }
    }
}
