//! The composition root: the only place that names concrete parts. Configuration in, a running
//! gateway out. It never handles a request itself.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use crate::{config::Config, metrics::Metrics};

/// Why the gateway could not start; the text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// A running gateway.
#[derive(Debug)]
pub struct Running {
    listeners: BTreeMap<String, SocketAddr>,
    admin: SocketAddr,
    metrics: Arc<Metrics>,
}

impl Running {
    /// The bound address of a listener, by name.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.get(name).copied()
    }

    /// The bound address of the admin listener.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process's metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Reads certificates, secrets and settings again and swaps the gateway in one step; a bad
    /// configuration leaves the running one as it is. Listener addresses do not change.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong with the new configuration.
    pub fn reload(&self, _config: Config) -> Result<(), StartError> {
        unimplemented!()
    }

    /// Drains: readiness goes 503, serves on for `shutdown.delay`, lets open requests end, cuts at
    /// `shutdown.deadline`. Returns whether everything ended by itself.
    pub async fn drain(self) -> bool {
        unimplemented!()
    }
}

/// Builds everything that the configuration names, binds the listeners and serves.
///
/// # Errors
/// [`StartError`] when a file, an address or a URL can't be used.
pub async fn start(_config: Config) -> Result<Running, StartError> {
    unimplemented!()
}
