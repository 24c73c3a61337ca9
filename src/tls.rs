//! TLS, both sides: certificates and keys from PEM files, roots for what we call. It decides
//! protocol versions and roots, never who a peer is.

use std::{path::PathBuf, sync::Arc};

use crate::config::{ClientTls, ListenerTls};

/// Why TLS could not be set up; the text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds no usable PEM of the kind that is needed.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
}

/// The server side of a listener: ALPN `h2` and `http/1.1`, no client certificate.
///
/// # Errors
/// [`TlsError`] names the file to mend.
pub fn server(_config: &ListenerTls) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    unimplemented!()
}

/// The client side: `ca_file` if there is one, else the system's roots, else webpki's; ALPN as given.
///
/// # Errors
/// [`TlsError`] names the file to mend.
pub fn client(_config: &ClientTls, _alpn: &[&[u8]]) -> Result<rustls::ClientConfig, TlsError> {
    unimplemented!()
}

/// Makes aws-lc-rs the process's crypto provider; harmless when called again.
pub fn install_provider() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}
