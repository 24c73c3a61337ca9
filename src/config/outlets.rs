//! Keys of what leaves the process: spans to collectors, lines to the log. It decides defaults and
//! spelling only.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::otlp::compression::Encoding;

use super::settings::settings;

settings! {
    /// Where accepted spans go.
    pub struct Collector {
        /// `http(s)://host:port`, each a collector that takes OTLP.
        endpoints: Vec<String> = vec!["http://127.0.0.1:4318".into()];
        /// The protocol spoken to them: http (OTLP/HTTP protobuf over HTTP/1.1) or grpc.
        protocol: Protocol = Protocol::Http;
        /// How bodies are compressed on the way out: none, gzip or zstd. In `transparent` mode the sender's stays.
        compression: Encoding = Encoding::Identity;
        /// Longest wait for an answer, from when it is an export's turn, and never past `intake.deadline`.
        timeout: Duration = Duration::from_secs(3), as "super::units::duration";
        /// Most exports on their way to collectors at once, over all endpoints, with `protocol: http`, where each needs a
        /// connection for itself. One more waits for its turn, for half of its time until `intake.deadline`, then it gets
        /// 503. As many connections again may be kept unused. grpc has two to each endpoint and needs no bound.
        max_connections: usize = 1024;
        /// The client side of TLS, for `https` endpoints.
        tls: ClientTls = ClientTls::default(), holds ClientTls;
    }

    /// The client side of TLS.
    pub struct ClientTls {
        /// PEM file with the CA certificates that the peer is checked against; empty: the system's.
        ca_file: PathBuf = PathBuf::new();
        /// PEM file with our own certificate chain; empty: none is shown.
        cert_file: PathBuf = PathBuf::new();
        /// PEM file with our own private key.
        key_file: PathBuf = PathBuf::new();
    }

    /// The process's own log.
    pub struct Log {
        /// The form of a line: json (LabKit's field names) or text (for people).
        format: LogFormat = LogFormat::Json;
        /// The least severe level that is written: error, warn, info or debug.
        level: LogLevel = LogLevel::Info;
    }
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
