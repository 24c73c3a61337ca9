//! The settings of the line and of each listener, out of the configuration. They decide nothing themselves.

use std::time::Duration;

use http::StatusCode;

use crate::{
    config::{AttributesMode, Authentication, Config, Listener, Mode},
    limit::listener_key,
    otlp::{
        compression::{Encoding, InflateCaps},
        inspect::Depth,
        signal::Signal,
    },
    validate::credentials::Accepts,
};

use super::{client::Hops, trust::Trust};

/// The settings of the line.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub(super) deadline: Duration,
    pub(super) body_timeout: Duration,
    pub(super) max_request_size: usize,
    pub(super) inflate: InflateCaps,
    pub(super) trace_id: Mode,
    pub(super) depth: Depth,
    pub(super) attributes: AttributesMode,
    pub(super) compression: Encoding,
    pub(super) throttle_status: StatusCode,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            deadline: config.intake.deadline,
            body_timeout: config.intake.body_timeout,
            max_request_size: config.intake.max_request_size.as_usize(),
            inflate: InflateCaps {
                max_size: config.intake.max_inflated_size.as_usize(),
                max_ratio: config.intake.max_ratio,
            },
            trace_id: config.traces.trace_id,
            depth: config.intake.depth,
            attributes: config.attributes.mode,
            compression: config.collector.compression,
            throttle_status: match config.limits.throttle_status {
                503 => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::TOO_MANY_REQUESTS,
            },
        }
    }
}

/// What one listener takes; fixed when it was opened.
#[derive(Clone, Debug)]
pub struct ListenerRules {
    /// The signals that it has routes for.
    pub signals: Vec<Signal>,
    /// The credentials that it takes.
    pub accepts: Accepts,
    /// How its senders are known instead, where they show no token.
    pub trust: Option<Trust>,
    /// Who is believed about a sender's address.
    pub hops: Hops,
    /// Its key for limits.
    pub key: u64,
}

impl From<&Listener> for ListenerRules {
    fn from(listener: &Listener) -> Self {
        let takes = |kind| listener.authentication.contains(&kind);
        Self {
            signals: listener.signals.clone(),
            accepts: Accepts { pair: takes(Authentication::Gitlab), bearer: takes(Authentication::Oidc) },
            trust: Trust::of(listener),
            hops: Hops::from(&listener.trusted_hops[..]),
            key: listener_key(&listener.name),
        }
    }
}
