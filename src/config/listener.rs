//! Keys of what faces runners and operators: listeners, the admin address, bounds on requests, the
//! end of the process. It decides defaults and spelling only.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::otlp::{inspect::Depth, signal::Signal};

use super::{
    settings::settings,
    units::{ByteSize, Network, ShareOfMemory},
};

settings! {
    /// One address that runners push to: HTTP/1.1, HTTP/2 and gRPC, told apart by content type.
    pub struct Listener {
        /// The value of the metric label `listener`; unique.
        name: String = "runners".into();
        /// IP address and port.
        address: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 4318)), as "super::units::address";
        /// Which signals it takes: traces, metrics, logs, profiles (v1development, not as JSON).
        signals: Vec<Signal> = vec![Signal::Traces];
        /// Which kinds of credentials it takes: gitlab (a runner token and a job token), oidc (a bearer token of one of
        /// `oidc.providers`) or both; or, alone, mtls (a client certificate) or none, both for GitLab's own services.
        authentication: Vec<Authentication> = vec![Authentication::Gitlab];
        /// With mtls or none: which `service.name` resources may have, at least one; each must have one of them.
        service_names: Vec<String> = Vec::new();
        /// With mtls: who may send, at least one.
        clients: Vec<Client> = Vec::new(), holds Client;
        /// With none: allows an address that is not loopback, because nobody else reaches it.
        i_know_the_network_is_closed: bool = false;
        /// Addresses and networks (CIDR) of the load balancers and proxies in front. Only they are believed about a sender's
        /// address: in a PROXY header, and in `X-Forwarded-For`, of which the last address that is not one of them counts.
        trusted_hops: Vec<Network> = Vec::new();
        /// Which PROXY header each connection of a trusted hop begins with: off, v1, v2 or any. Nobody else may send one.
        proxy_protocol: ProxyProtocol = ProxyProtocol::Off;
        /// TLS; absent: clear text.
        tls: Option<ListenerTls> = None, holds ListenerTls;
    }

    /// A sender that shows a certificate.
    pub struct Client {
        /// What its certificate must hold as subject alternative name: a URI (`spiffe://...`), compared byte by byte, or
        /// a DNS name. No wildcards. Of several clients that fit one certificate the first counts.
        san: String = String::new();
        /// Which of the listener's `service_names` it may use; empty: all of them.
        service_names: Vec<String> = Vec::new();
    }

    /// The server side of TLS.
    pub struct ListenerTls {
        /// PEM file with the certificate chain.
        cert_file: PathBuf = PathBuf::new();
        /// PEM file with the private key.
        key_file: PathBuf = PathBuf::new();
        /// With mtls: PEM file with the CA certificates that client certificates are checked against.
        client_ca_file: PathBuf = PathBuf::new();
        /// The oldest protocol version that is accepted: 1.2 or 1.3.
        min_version: TlsVersion = TlsVersion::V1_2;
    }

    /// The operator's own listener: metrics, probes, the purge of verdicts.
    pub struct Admin {
        /// IP address and port; loopback unless the network is closed.
        address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8151)), as "super::units::address";
        /// File with the token that lets an operator purge the verdict cache (`POST /-/cache/purge` with
        /// `Authorization: Bearer`); empty: nobody can.
        token_file: PathBuf = PathBuf::new();
    }

    /// Bounds on what a request may bring.
    pub struct Intake {
        /// From arrival to answer.
        deadline: Duration = Duration::from_secs(4), as "super::units::duration";
        /// Longest body as it comes over the wire.
        max_request_size: ByteSize = ByteSize(4 << 20);
        /// Longest body once inflated.
        max_inflated_size: ByteSize = ByteSize(16 << 20);
        /// Most inflated bytes for one byte on the wire, past the first 64 KiB.
        max_ratio: u32 = 200;
        /// How much of each span, metric, log record and profile is read: full, or structure, which reads what stands in them but of
        /// attributes, events and links only trace ids, and leaves the rest (text that is not UTF-8, values nested without end) to the collector.
        depth: Depth = Depth::Full;
        /// Longest time for the request head, and for a TLS handshake.
        header_timeout: Duration = Duration::from_secs(5), as "super::units::duration";
        /// Longest time for the body.
        body_timeout: Duration = Duration::from_secs(10), as "super::units::duration";
        /// Longest time without a request on a connection. Longer than that of exporters' pools (Go: 90 s), so that they
        /// close first and no request meets a closing connection.
        idle_timeout: Duration = Duration::from_mins(2), as "super::units::duration";
        /// The same for a connection on which no request was let in yet.
        stranger_idle_timeout: Duration = Duration::from_secs(15), as "super::units::duration";
        /// After this time, give or take a tenth, a connection is ended between two requests, so that load
        /// balancers spread them anew; 0s: never.
        max_connection_age: Duration = Duration::from_mins(10), as "super::units::duration";
        /// Most connections at once, over all listeners.
        max_connections: usize = 10_000;
        /// Most connections at once from one client address (/32, /64); 0: as many as there are. Trusted hops are not counted,
        /// but the clients behind them whom a PROXY header names.
        max_connections_per_client: usize = 1_000;
        /// Most requests at once on one HTTP/2 connection.
        max_streams: u32 = 100;
        /// Most body bytes held at once, over all requests: a size, or auto for a quarter of the memory that the process
        /// may use (its cgroup's limit, or the machine's memory), from 64MiB to 1GiB.
        max_in_flight_bytes: ShareOfMemory = ShareOfMemory::Auto;
    }

    /// How the process ends on SIGTERM or SIGINT.
    pub struct Shutdown {
        /// How long it serves on after readiness went 503, so that load balancers notice.
        delay: Duration = Duration::from_secs(5), as "super::units::duration";
        /// When whatever is still open is cut; counted from the signal, so longer than `delay`.
        deadline: Duration = Duration::from_secs(25), as "super::units::duration";
    }
}

/// A kind of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Authentication {
    /// A runner token and a job token, judged by GitLab (or by the `fixed` file).
    Gitlab,
    /// A JWT as bearer token, judged by the keys of the `OpenID` provider that issued it.
    Oidc,
    /// A client certificate under TLS.
    Mtls,
    /// Nothing: whoever reaches the listener is trusted.
    None,
}

/// Which PROXY header connections begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// None.
    #[default]
    Off,
    /// The text of version 1.
    V1,
    /// The bytes of version 2.
    V2,
    /// Either.
    Any,
}

/// A TLS protocol version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    V1_3,
}
