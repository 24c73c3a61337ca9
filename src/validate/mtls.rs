//! Clients with a certificate: the names that TLS proved to an [`Identity`]. Names are compared as a whole
//! and exactly; it never verifies a certificate, and never makes a name of anything but what was proven.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::{BoxFuture, ready};

use crate::{
    config::{Authentication, Config, Listener},
    tls::ClientNames,
};

use super::{
    Denial, Identity, Question, Undetermined, Validator, Verdict,
    credentials::{Digester, Sender},
    trusted::{Trusted, allow},
};

/// The clients of each listener.
#[derive(Debug)]
pub struct Mtls(HashMap<String, Clients>);

/// Identities by name, each with its place in the configuration.
#[derive(Debug)]
struct Clients(HashMap<String, (usize, Arc<Identity>)>);

impl Mtls {
    /// Those of a configuration.
    #[must_use]
    pub fn from_config(config: &Config, digester: &Digester) -> Self {
        let listeners = config.listeners.iter();
        let asking = listeners.filter(|listener| listener.authentication.contains(&Authentication::Mtls));
        Self(asking.map(|listener| (listener.name.clone(), Clients::of(listener, digester))).collect())
    }
}

impl Clients {
    fn of(listener: &Listener, digester: &Digester) -> Self {
        let clients = listener.clients.iter().enumerate().map(|(place, client)| {
            let own = &client.service_names;
            let service_names = if own.is_empty() { &listener.service_names } else { own };
            let name = client.folded_san();
            let identity = Trusted::identity(digester, "client", &name, service_names);
            (name, (place, identity))
        });
        Self(clients.collect())
    }

    /// Of several clients that have names of one certificate, the first in the configuration.
    fn find(&self, names: &ClientNames) -> Option<&Arc<Identity>> {
        let known = names.iter().filter_map(|name| self.0.get(name));
        known.min_by_key(|(place, _)| place).map(|(_, identity)| identity)
    }
}

impl Validator for Mtls {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        let verdict = match question.credentials.sender() {
            Some(Sender::Client { listener, names }) => self
                .0
                .get(&**listener)
                .map(|clients| clients.find(names).map_or(Verdict::Deny(Denial::UnknownClient), allow)),
            _ => None,
        };
        // A listener that a reload took out of the configuration serves on until a restart.
        Box::pin(ready(verdict.ok_or(Undetermined::NoAuthority)))
    }
}

#[cfg(test)]
mod tests;
