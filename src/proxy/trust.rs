//! What is particular to a listener for GitLab's own services: how its senders are known, and what holds for
//! them in place of a token's identity. It never decides who a sender is.

use std::sync::Arc;

use crate::{
    config::{Authentication, Listener},
    otlp::{service, signal::Signal},
    validate::{
        Identity,
        credentials::{Credentials, Digester},
    },
};

use super::{rejection::Rejection, server::Peer};

/// How senders without a token are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By their certificates.
    Client,
    /// By coming in here.
    Network,
}

impl Trust {
    /// That of a listener; `None` where senders show tokens. A listener that takes tokens too asks for them.
    #[must_use]
    pub fn of(listener: &Listener) -> Option<Self> {
        match listener.authentication.as_slice() {
            [Authentication::Mtls] => Some(Self::Client),
            [Authentication::None] => Some(Self::Network),
            _ => None,
        }
    }

    /// Nothing that a sender writes has a part in it: a token in a header is none here.
    pub(super) fn credentials(self, peer: &Peer, digester: &Digester) -> Credentials {
        match self {
            Self::Client => Credentials::of_client(&peer.listener, peer.client.as_ref(), digester),
            Self::Network => Credentials::of_network(&peer.listener, digester),
        }
    }
}

/// Holds the resources of an inspected request to the service names of its sender, if it has any.
pub(super) fn check(identity: &Identity, signal: Signal, message: &[u8]) -> Result<(), Rejection> {
    let Some(trusted) = identity.trusted() else { return Ok(()) };
    match service::all_allowed(signal, message, trusted.service_names()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Rejection::ServiceName),
        Err(malformed) => Err(Rejection::Malformed(malformed.to_string())),
    }
}

/// The sender's own name, for the access line.
pub(super) fn name(identity: &Identity) -> Option<Arc<str>> {
    identity.trusted().map(|trusted| Arc::clone(trusted.name()))
}
