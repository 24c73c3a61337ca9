//! Every option: its type, its default beside it, what it means. It decides what a valid
//! configuration is; it never opens a socket and never holds a secret's value, only its file's path.

pub mod check;
pub mod load;
pub mod render;
pub mod settings;
pub mod units;

mod authority;
mod listener;
mod oidc;
mod outlets;
mod read;
mod rules;
mod store;
mod substitute;
mod tree;
mod trusted;
mod url;
mod yaml;

#[cfg(test)]
mod tests;

pub use authority::{Breaker, Cache, Fixed, Gitlab, Outage};
pub use listener::{
    Admin, Authentication, Client, Intake, Listener, ListenerTls, ProxyProtocol, Shutdown, TlsVersion,
};
pub use load::{Mistake, Mistakes};
pub use oidc::{ClaimPath, Fact, KeyOrigin, Oidc, OidcProvider, SignatureAlgorithm};
pub use outlets::{ClientTls, Collector, Log, LogFormat, LogLevel, Protocol};
pub use rules::{
    AlsoStrip, AttributeSet, Attributes, AttributesMode, LevelRates, Limits, Mode, PerClientFailures, PerJob,
    PerRunner, Protected, Traces,
};

pub use store::{Store, StoreType, Topology};
pub use units::{Network, ShareOfMemory};

use settings::settings;

settings! {
    /// The whole configuration file.
    pub struct Config {
        /// Where runners push to; at most 10 addresses, and at most 10 signals over all of them.
        listeners: Vec<Listener> = vec![Listener::default()], holds Listener;
        /// The operator's own listener: metrics, probes, the purge of verdicts.
        admin: Admin = Admin::default(), holds Admin;
        /// The GitLab that knows the tokens, and how it is asked.
        gitlab: Gitlab = Gitlab::default(), holds Gitlab;
        /// Tokens listed in a file by digest, in place of `gitlab`: for demos and closed networks.
        fixed: Fixed = Fixed::default(), holds Fixed;
        /// OpenID providers, for listeners whose `authentication` has `oidc`.
        oidc: Oidc = Oidc::default(), holds Oidc;
        /// How long verdicts are believed.
        cache: Cache = Cache::default(), holds Cache;
        /// Rules for spans.
        traces: Traces = Traces::default(), holds Traces;
        /// Rates, each with a mode of its own: enforce (refuse), shadow (only count) or off.
        limits: Limits = Limits::default(), holds Limits;
        /// The identity that is written into resources.
        attributes: Attributes = Attributes::default(), holds Attributes;
        /// Bounds on what a request may bring.
        intake: Intake = Intake::default(), holds Intake;
        /// Where accepted spans go.
        collector: Collector = Collector::default(), holds Collector;
        /// How the process ends on SIGTERM or SIGINT.
        shutdown: Shutdown = Shutdown::default(), holds Shutdown;
        /// The process's own log.
        log: Log = Log::default(), holds Log;
    }
}
