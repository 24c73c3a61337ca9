//! What an operator can ask of the running process over the admin listener, done with the parts that are
//! in force at that moment. It judges no request: `admin` does.

use std::{fmt, path::Path, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::{
    admin::{Operations, Token},
    metrics::Metrics,
    proxy::gateway::Gateway,
    telemetry::RateCap,
};

use super::StartError;

/// The running gateway from an operator's side.
pub(super) struct Operator {
    pub(super) gateway: Arc<ArcSwap<Gateway>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) token: Arc<ArcSwapOption<Token>>,
    pub(super) log_cap: RateCap,
}

impl Operations for Operator {
    fn render(&self) -> String {
        let gateway = self.gateway.load();
        gateway.validator.record_entries();
        gateway.limits.record();
        self.metrics.render()
    }

    fn token(&self) -> Option<Arc<Token>> {
        self.token.load_full()
    }

    fn purge(&self) -> usize {
        let forgotten = self.gateway.load().validator.purge();
        self.metrics.cache_purge();
        tracing::info!(forgotten, "the verdict cache was purged: every pair is asked about again");
        forgotten
    }

    fn refused(&self) {
        if let Some(suppressed) = self.log_cap.allow("admin") {
            tracing::warn!(
                suppressed,
                "a change on the admin listener was refused: not the token of admin.token_file"
            );
        }
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").finish_non_exhaustive()
    }
}

/// The token of a file; `None` where none is configured.
pub(super) fn token(path: &Path) -> Result<Option<Arc<Token>>, StartError> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let token = Token::load(path);
    token
        .map(|token| Some(Arc::new(token)))
        .map_err(|error| StartError::new(format!("admin.token_file: {}: {error}", path.display())))
}
