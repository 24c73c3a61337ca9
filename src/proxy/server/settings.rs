//! How connections are served: times, places, whom to believe, TLS. It decides the jitter of a connection's age; every
//! other value comes from the configuration.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::rand;

use crate::config::{Intake, Listener, ProxyProtocol};

use super::{
    super::{client::Hops, overload::Overload},
    connections::Connections,
    watch::Bounds,
};

/// How connections are served.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Longest time for a PROXY header and a TLS handshake together, and for a request head.
    pub header_timeout: Duration,
    /// Longest time in which no request begins or ends on a connection; then it is asked to close.
    pub idle_timeout: Duration,
    /// The same for a connection on which no request was let in.
    pub stranger_idle_timeout: Duration,
    /// About how long a connection lives; zero: for ever.
    pub max_age: Duration,
    /// Most requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Places for connections, shared by listeners.
    pub connections: Arc<Connections>,
    /// What is done when there are too many; `None`: they wait for a place.
    pub overload: Option<Arc<Overload>>,
    /// Who is believed about the address of a client.
    pub hops: Hops,
    /// The PROXY header that their connections begin with.
    pub proxy_protocol: ProxyProtocol,
    /// The TLS side that new connections get, looked at once a connection so that a reload takes effect; `None`: clear text.
    pub tls: Option<Arc<arc_swap::ArcSwap<rustls::ServerConfig>>>,
}

impl ServerSettings {
    /// A listener whose peers are all at home: clear text, nobody a stranger, nothing shed.
    #[must_use]
    pub fn inner(intake: &Intake, connections: Arc<Connections>) -> Self {
        Self {
            header_timeout: intake.header_timeout,
            idle_timeout: intake.idle_timeout,
            stranger_idle_timeout: intake.idle_timeout,
            max_age: Duration::ZERO,
            max_streams: intake.max_streams,
            connections,
            overload: None,
            hops: Hops::default(),
            proxy_protocol: ProxyProtocol::Off,
            tls: None,
        }
    }

    /// A listener that the world reaches, in clear text.
    #[must_use]
    pub fn outer(listener: &Listener, intake: &Intake, overload: &Arc<Overload>) -> Self {
        Self {
            stranger_idle_timeout: intake.stranger_idle_timeout.min(intake.idle_timeout),
            max_age: intake.max_connection_age,
            hops: Hops::from(&listener.trusted_hops[..]),
            proxy_protocol: listener.proxy_protocol,
            overload: Some(Arc::clone(overload)),
            ..Self::inner(intake, Arc::clone(overload.connections()))
        }
    }

    /// What holds for one connection. Its age is up to a tenth longer or shorter than configured, so that connections
    /// that began together do not end together.
    pub(super) fn bounds(&self) -> Bounds {
        let mut random = [0_u8; 1];
        // Without randomness they end together, which is still right.
        let share = rand::fill(&mut random).map_or(0.5, |()| f64::from(random[0]) / 255.0);
        let age = self.max_age.mul_f64(0.9).saturating_add(self.max_age.mul_f64(0.2 * share));
        Bounds {
            head: self.header_timeout,
            idle: self.idle_timeout,
            stranger: self.stranger_idle_timeout,
            age: (!self.max_age.is_zero()).then_some(age),
        }
    }
}
