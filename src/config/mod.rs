//! Every option: its type, its default beside it, what it means. It decides what a valid
//! configuration is; it never opens a socket and never holds a secret's value, only its file's path.

pub mod units;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::otlp::{compression::Encoding, signal::Signal};

use self::units::ByteSize;

/// The whole configuration file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where runners push to.
    pub listeners: Vec<Listener>,
    /// The operator's own listener.
    pub admin: Admin,
    /// The GitLab that knows the tokens.
    pub gitlab: Gitlab,
    /// Tokens listed in a file, in place of `gitlab`.
    pub fixed: Fixed,
    /// How long verdicts are believed.
    pub cache: Cache,
    /// Rules for spans.
    pub traces: Traces,
    /// Rates.
    pub limits: Limits,
    /// The identity that is written into resources.
    pub attributes: Attributes,
    /// Bounds on what a request may bring.
    pub intake: Intake,
    /// Where accepted spans go.
    pub collector: Collector,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// Its own log.
    pub log: Log,
}

/// One address that runners push to: HTTP/1.1, HTTP/2 and gRPC, told apart by content type.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// The value of the metric label `listener`; unique.
    pub name: String,
    /// Address and port.
    pub address: SocketAddr,
    /// Which signals it takes.
    pub signals: Vec<Signal>,
    /// Which kinds of credentials it takes.
    pub authentication: Vec<Authentication>,
    /// TLS; absent: clear text.
    pub tls: Option<ListenerTls>,
}

/// A kind of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Authentication {
    /// A runner token and a job token, judged by GitLab (or by the `fixed` file).
    Gitlab,
}

/// The server side of TLS.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTls {
    /// PEM file with the certificate chain.
    pub cert_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
    /// The oldest protocol version that is accepted.
    pub min_version: TlsVersion,
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

/// The operator's own listener: metrics and probes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address and port; loopback unless the network is closed.
    pub address: SocketAddr,
}

/// The GitLab that knows the tokens, and how it is asked.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gitlab {
    /// Base URL, with its relative URL root if it has one.
    pub url: String,
    /// Path of the endpoint below `url`.
    pub auth_path: String,
    /// Header that carries the runner token, from the runner and to GitLab.
    pub runner_token_header: String,
    /// Header that carries the job token, from the runner and to GitLab.
    pub job_token_header: String,
    /// File with 32 bytes in base64 that sign the gateway's own calls; empty: unsigned.
    pub secret_file: PathBuf,
    /// Header that carries the signed JWT.
    pub secret_header: String,
    /// `iss` of the signed JWT.
    pub secret_issuer: String,
    /// `aud` of the signed JWT.
    pub secret_audience: String,
    /// PEM file with the CA certificates that GitLab's certificate is checked against; empty: the system's.
    pub ca_file: PathBuf,
    /// The whole time for one question, its retry included.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// Most questions in flight at once.
    pub max_concurrency: usize,
    /// Most questions that wait for a free place.
    pub max_queue: usize,
}

/// Tokens listed in a file by digest, in place of `gitlab`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fixed {
    /// The file; empty: not used.
    pub file: PathBuf,
}

/// How long verdicts are believed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Most positive verdicts kept.
    pub max_entries: u64,
    /// Longest time that a positive verdict is kept, whatever the authority says.
    #[serde(with = "units::duration")]
    pub max_ttl: Duration,
    /// How long a denial is kept.
    #[serde(with = "units::duration")]
    pub negative_ttl: Duration,
    /// How long past its end a positive verdict still serves while the authority gives no word.
    #[serde(with = "units::duration")]
    pub stale_if_error: Duration,
    /// The last part of a verdict's time in which a hit asks again in the background; 0: never.
    pub refresh_ahead: f64,
}

/// Rules for spans.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// Whether every span must belong to the job's own trace.
    pub trace_id: Mode,
    /// Longest encoded span.
    pub max_span_size: ByteSize,
    /// Most spans that one job may send in all.
    pub max_spans_per_job: u64,
}

/// How strictly a rule holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It refuses.
    #[default]
    Enforce,
    /// It only counts what it would refuse.
    Shadow,
    /// It is not looked at.
    Off,
}

/// Rates, each with a mode of its own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// All requests with one runner token (which many runner managers may share).
    pub per_runner: PerRunner,
    /// All requests of one job.
    pub per_job: PerJob,
    /// Failed attempts from one client address (/32, /64).
    pub per_client_failures: PerClientFailures,
}

/// All requests with one runner token.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PerRunner {
    /// Requests a second.
    pub requests_per_second: u32,
    /// How many seconds' worth may come at once.
    #[serde(with = "units::duration")]
    pub burst: Duration,
    /// How strictly it holds.
    pub mode: Mode,
}

/// All requests of one job.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PerJob {
    /// Requests a second.
    pub requests_per_second: u32,
    /// Spans a second.
    pub spans_per_second: u32,
    /// Inflated bytes a second.
    pub bytes_per_second: ByteSize,
    /// How many seconds' worth may come at once.
    #[serde(with = "units::duration")]
    pub burst: Duration,
    /// How strictly it holds.
    pub mode: Mode,
}

/// Failed attempts from one client address.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PerClientFailures {
    /// Failures a minute; as many may come at once.
    pub per_minute: u32,
    /// How strictly it holds.
    pub mode: Mode,
}

/// The identity that is written into resources.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attributes {
    /// Into the resource attributes, or beside a byte-identical body.
    pub mode: AttributesMode,
    /// The `service.name` that runners' spans get.
    pub service_name: String,
    /// Keys that no sender may set, beside the ones that the gateway asserts.
    pub protected: Protected,
    /// Where else protected keys are removed.
    pub also_strip: Vec<AlsoStrip>,
}

/// How the identity travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttributesMode {
    /// Written into every resource.
    #[default]
    Inject,
    /// As request headers beside a body that is passed on byte for byte.
    Transparent,
}

/// Keys that no sender may set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protected {
    /// Whole keys.
    pub keys: Vec<String>,
    /// Beginnings of keys.
    pub prefixes: Vec<String>,
}

/// Where protected keys are removed besides the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlsoStrip {
    /// In scope attributes.
    Scope,
    /// In span attributes.
    Span,
}

/// Bounds on what a request may bring.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Intake {
    /// From arrival to answer.
    #[serde(with = "units::duration")]
    pub deadline: Duration,
    /// Longest body as it comes over the wire.
    pub max_request_size: ByteSize,
    /// Longest body once inflated.
    pub max_inflated_size: ByteSize,
    /// Most inflated bytes for one byte on the wire, past the first 64 KiB.
    pub max_ratio: u32,
    /// Longest time for the request head.
    #[serde(with = "units::duration")]
    pub header_timeout: Duration,
    /// Longest time for the body.
    #[serde(with = "units::duration")]
    pub body_timeout: Duration,
    /// Most connections at once, over all listeners.
    pub max_connections: usize,
    /// Most requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Most body bytes held at once, over all requests.
    pub max_in_flight_bytes: ByteSize,
}

/// Where accepted spans go.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Collector {
    /// `http(s)://host:port`, each a collector that takes OTLP.
    pub endpoints: Vec<String>,
    /// The protocol spoken to them.
    pub protocol: Protocol,
    /// How bodies are compressed on the way out (in `inject` mode; `transparent` keeps the sender's).
    pub compression: Encoding,
    /// Longest wait for an answer, and never past `intake.deadline`.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// The client side of TLS, for `https` endpoints.
    pub tls: ClientTls,
}

/// The protocol spoken to collectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// OTLP/HTTP protobuf over HTTP/1.1.
    #[default]
    Http,
    /// OTLP/gRPC.
    Grpc,
}

/// The client side of TLS.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientTls {
    /// PEM file with the CA certificates that the peer is checked against; empty: the system's.
    pub ca_file: PathBuf,
    /// PEM file with our own certificate chain; empty: none is shown.
    pub cert_file: PathBuf,
    /// PEM file with our own private key.
    pub key_file: PathBuf,
}

/// How the process ends on SIGTERM or SIGINT.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long it serves on after readiness went 503, so that load balancers notice.
    #[serde(with = "units::duration")]
    pub delay: Duration,
    /// When whatever is still open is cut.
    #[serde(with = "units::duration")]
    pub deadline: Duration,
}

/// The process's own log.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object with LabKit's field names.
    #[default]
    Json,
    /// For people.
    Text,
}

/// A log level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what needs an operator now.
    Error,
    /// Trouble with the authority or the collector.
    Warn,
    /// Refusals, at a capped rate, and the process's own life.
    #[default]
    Info,
    /// One access line a request.
    Debug,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            name: "runners".into(),
            address: SocketAddr::from(([0, 0, 0, 0], 4318)),
            signals: vec![Signal::Traces],
            authentication: vec![Authentication::Gitlab],
            tls: None,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 8151)) }
    }
}

impl Default for Gitlab {
    fn default() -> Self {
        Self {
            url: String::new(),
            auth_path: "/api/v4/internal/ci/telemetry/auth".into(),
            runner_token_header: "Runner-Token".into(),
            job_token_header: "Job-Token".into(),
            secret_file: PathBuf::new(),
            secret_header: "Gitlab-Ci-Telemetry-Api-Request".into(),
            secret_issuer: "gitlab-ci-telemetry-gateway".into(),
            secret_audience: "gitlab".into(),
            ca_file: PathBuf::new(),
            timeout: Duration::from_secs(2),
            max_concurrency: 64,
            max_queue: 1024,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            max_entries: 100_000,
            max_ttl: Duration::from_secs(300),
            negative_ttl: Duration::from_secs(5),
            stale_if_error: Duration::from_secs(60),
            refresh_ahead: 0.1,
        }
    }
}

impl Default for Traces {
    fn default() -> Self {
        Self { trace_id: Mode::Enforce, max_span_size: ByteSize(4 << 10), max_spans_per_job: 1000 }
    }
}

impl Default for PerRunner {
    fn default() -> Self {
        Self { requests_per_second: 2000, burst: Duration::from_secs(1), mode: Mode::Enforce }
    }
}

impl Default for PerJob {
    fn default() -> Self {
        Self {
            requests_per_second: 20,
            spans_per_second: 500,
            bytes_per_second: ByteSize(2 << 20),
            burst: Duration::from_secs(2),
            mode: Mode::Enforce,
        }
    }
}

impl Default for PerClientFailures {
    fn default() -> Self {
        Self { per_minute: 60, mode: Mode::Enforce }
    }
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            mode: AttributesMode::Inject,
            service_name: "gitlab-ci-runner".into(),
            protected: Protected::default(),
            also_strip: Vec::new(),
        }
    }
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(4),
            max_request_size: ByteSize(4 << 20),
            max_inflated_size: ByteSize(16 << 20),
            max_ratio: 200,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            max_connections: 10_000,
            max_streams: 100,
            max_in_flight_bytes: ByteSize(256 << 20),
        }
    }
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:4318".into()],
            protocol: Protocol::Http,
            compression: Encoding::Identity,
            timeout: Duration::from_secs(3),
            tls: ClientTls::default(),
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { delay: Duration::from_secs(5), deadline: Duration::from_secs(25) }
    }
}
