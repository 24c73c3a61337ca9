//! Credentials without a token: the names that a client's certificate proved, or nothing but the listener
//! that only a closed network reaches. What such a sender writes into its headers is no credential.

use std::sync::Arc;

use super::{Credentials, Digest, Digester, Proof, Purpose};
use crate::tls::ClientNames;

/// Who sends without a token.
#[derive(Clone, Debug)]
pub(in crate::validate) enum Sender {
    /// Whoever has one of these names.
    Client {
        /// Where it came in: names are known by listener.
        listener: Arc<str>,
        /// What its certificate proved.
        names: Arc<ClientNames>,
    },
    /// Whoever reaches this listener.
    Network {
        /// The listener's name.
        listener: Arc<str>,
    },
}

impl Credentials {
    /// What a client's verified certificate says. Without a certificate it says nothing, and no client is known by that.
    #[must_use]
    pub fn of_client(listener: &Arc<str>, names: Option<&Arc<ClientNames>>, digester: &Digester) -> Self {
        let names = names.map(Arc::clone).unwrap_or_default();
        let parts: Vec<_> =
            [b"client", listener.as_bytes()].into_iter().chain(names.iter().map(str::as_bytes)).collect();
        let digest = digester.hash(Purpose::Trusted, &parts);
        Self::trusted(digest, Sender::Client { listener: Arc::clone(listener), names })
    }

    /// What a request says by coming in at a listener that only a closed network reaches.
    #[must_use]
    pub fn of_network(listener: &Arc<str>, digester: &Digester) -> Self {
        let digest = digester.hash(Purpose::Trusted, &[b"network", listener.as_bytes()]);
        Self::trusted(digest, Sender::Network { listener: Arc::clone(listener) })
    }

    fn trusted(digest: [u8; 32], sender: Sender) -> Self {
        Self {
            digest: Digest(digest),
            runner_key: digest.first_chunk().copied().map_or(0, u64::from_be_bytes),
            proof: Proof::Trusted(sender),
        }
    }

    /// The sender, if it is one without a token.
    pub(in crate::validate) fn sender(&self) -> Option<&Sender> {
        match &self.proof {
            Proof::Trusted(sender) => Some(sender),
            Proof::Pair { .. } | Proof::Bearer(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: two listeners, with a client of no name and with a closed network.
    /// Guarantees: no two of them have one digest, and each has the same one again.
    #[test]
    fn digests_tell_senders_apart() {
        let digester = Digester::random();
        let all = || {
            let listeners = [Arc::from("a"), Arc::from("b")];
            listeners.map(|listener| {
                let client = Credentials::of_client(&listener, None, &digester);
                [client, Credentials::of_network(&listener, &digester)].map(|one| one.digest().to_string())
            })
        };
        let mut digests = all().concat();
        assert_eq!(digests, all().concat());
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 4);
    }
}
