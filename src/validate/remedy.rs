//! What an operator can do where no verdict could be had: one sentence for each kind of trouble, the same in
//! the log and in `spangate explain`. It names keys of the configuration and never anything of a token.

use super::{Undetermined, credentials::Kind};

impl Undetermined {
    /// Where to look, for credentials of this kind.
    #[must_use]
    pub fn remedy(&self, kind: Kind) -> &'static str {
        match (kind, self) {
            (_, Self::NoAuthority) => {
                "set gitlab.url or fixed.file for token pairs, oidc.providers for bearer tokens, the listener itself for others"
            }
            (Kind::Bearer, trouble) => trouble.of_provider(),
            (_, trouble) => trouble.of_gitlab(),
        }
    }

    fn of_gitlab(&self) -> &'static str {
        match self {
            Self::Timeout => "GitLab is slow, or nothing answers at gitlab.url; see gitlab.timeout",
            Self::Unreachable(_) => "name, address, network, certificate (gitlab.url, gitlab.ca_file)",
            Self::Throttled => "take the gateway's addresses out of GitLab's rate limits",
            Self::Status(404) => "a GitLab without this endpoint, or another gitlab.url (relative URL root?)",
            Self::Status(300..=399) => {
                "a redirect, which is not followed: gitlab.url must be GitLab's own address"
            }
            Self::Status(_) => "GitLab's own trouble: its log has the correlation id",
            Self::ClocksApart => {
                "set the clock of this machine, or GitLab's: a signature is good for half a minute"
            }
            Self::BadAnswer(_) | Self::ForeignRefusal => {
                "something else answers in GitLab's place, or its endpoint breaks the contract: spangate conform"
            }
            Self::Busy => "GitLab is slow, or gitlab.max_concurrency and gitlab.max_queue are too low",
            Self::BreakerOpen(_) | Self::Paused(_) => "wait a few seconds and ask again",
            Self::UnknownKey | Self::NoAuthority => "",
        }
    }

    fn of_provider(&self) -> &'static str {
        match self {
            Self::Timeout => "the provider is slow, or nothing answers at its jwks_url or discovery",
            Self::Unreachable(_) => "name, address, network, certificate (the provider's URL, its ca_file)",
            Self::Status(_) => "jwks_url or discovery of the provider; a redirect is not followed",
            Self::UnknownKey => "wait half a minute and ask again",
            _ => "the provider's JWKS and discovery document, its issuer, its algorithms",
        }
    }
}
