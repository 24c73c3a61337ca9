//! What goes wrong below requests: counted each time, told in the log at a bounded rate. It decides which ends of a
//! connection are trouble, and never what happens to one. A peer that leaves between requests is none.

use std::{error::Error as _, fmt::Display, io, net::SocketAddr, sync::LazyLock};

use crate::telemetry::RateCap;

use super::Server;

/// One cap for all listeners, as there is one log: a peer that meets trouble on each of them gets no more lines.
static LINES: LazyLock<RateCap> = LazyLock::new(|| RateCap::new(LINES_PER_SECOND));

/// Log lines a second for one kind of trouble.
const LINES_PER_SECOND: u32 = 5;

/// The kinds of trouble: the closed set of the metric's label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The TLS handshake failed, or a record after it was bad.
    Tls,
    /// Bytes that are no HTTP, a head beyond the bounds, or an end in the middle of a request.
    Http,
    /// A handshake, a head or an answer's reader that was too slow.
    Timeout,
    /// The system gave no connection.
    Accept,
    /// A connection had to wait for a place.
    Full,
    /// One client had all the connections that it gets.
    PerClient,
    /// A trusted hop's connection without a usable PROXY header.
    ProxyHeader,
}

impl Trouble {
    fn label(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Timeout => "timeout",
            Self::Accept => "accept",
            Self::Full => "full",
            Self::PerClient => "per_client",
            Self::ProxyHeader => "proxy_header",
        }
    }

    /// What an I/O error on a connection means, when nothing was under way on it.
    ///
    /// `None`: the peer left without a word, which is its right. rustls tells bad records as invalid data.
    pub(super) fn of_quiet_io(error: &io::Error) -> Option<Self> {
        (error.kind() == io::ErrorKind::InvalidData).then_some(Self::Tls)
    }

    /// What the end of an HTTP connection means. `is_busy`: a request or a part of one was under way.
    fn of_end(error: &hyper::Error, is_busy: bool) -> Option<Self> {
        match io_cause(error) {
            Some(io) if io.kind() == io::ErrorKind::InvalidData => Some(Self::Tls),
            Some(_) if !is_busy => None,
            _ => Some(Self::Http),
        }
    }
}

/// Below hyper's own errors only those of the socket are looked at: h2's show what the peer wrote into its farewell.
fn io_cause(error: &hyper::Error) -> Option<&io::Error> {
    error.source()?.downcast_ref()
}

impl<H> Server<H> {
    /// Counts trouble, and tells the operator of it unless there is too much of its kind. `error` must not show bytes
    /// of the peer's.
    pub(super) fn trouble(&self, trouble: Trouble, address: Option<SocketAddr>, error: &dyn Display) {
        let reason = trouble.label();
        self.metrics.connection_error(&self.listener, reason);
        let Some(suppressed) = LINES.allow(reason) else { return };
        let listener = &*self.listener;
        let remote_ip = address.map(|address| tracing::field::display(address.ip()));
        match trouble {
            Trouble::Accept | Trouble::Full => {
                tracing::warn!(listener, remote_ip, reason, error_message = %error, suppressed, "cannot take connections");
            }
            Trouble::PerClient | Trouble::ProxyHeader => {
                tracing::warn!(listener, remote_ip, reason, error_message = %error, suppressed, "connection refused");
            }
            Trouble::Tls | Trouble::Http | Trouble::Timeout => {
                tracing::info!(listener, remote_ip, reason, error_message = %error, suppressed, "connection failed");
            }
        }
    }

    /// Judges the end of an HTTP connection.
    pub(super) fn ended(&self, end: &End, address: SocketAddr) {
        match end {
            End::Good => {}
            End::TooSlow => self.trouble(Trouble::Timeout, Some(address), &"the peer was too slow"),
            End::Broken { error, is_busy } => {
                let Some(trouble) = Trouble::of_end(error, *is_busy) else { return };
                match io_cause(error) {
                    Some(cause) => self.trouble(trouble, Some(address), &format_args!("{error}: {cause}")),
                    None => self.trouble(trouble, Some(address), error),
                }
            }
        }
    }
}

/// How an HTTP connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// As both sides wanted.
    Good,
    /// It was cut, because its peer took too long.
    TooSlow,
    /// By an error.
    Broken {
        /// hyper's word.
        error: hyper::Error,
        /// Whether a request, or a part of one, was under way.
        is_busy: bool,
    },
}
