//! TLS, both sides: certificates and keys from PEM files, roots for what we call and for who calls us.
//! It decides protocol versions and roots, and reads the names that a peer proved; never who may send.

mod names;
mod validity;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, ConfigBuilder, InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion,
    WantsVerifier, WantsVersions,
    client::{WantsClientCert, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use zeroize::Zeroizing;

use crate::config::{ClientTls, ListenerTls, TlsVersion};

pub use self::{names::ClientNames, validity::out_of_time};

/// Why TLS could not be set up; the text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds no usable PEM of the kind that is needed.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
}

impl TlsError {
    fn content(path: &Path, problem: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), problem: problem.into() }
    }
}

/// The server side of a listener: ALPN `h2` and `http/1.1`. With a `client_ca_file` every client must show a
/// certificate of one of its authorities, for client authentication and in its time, or has no connection.
///
/// # Errors
/// [`TlsError`] names the file to mend.
pub fn server(config: &ListenerTls) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&config.cert_file)?;
    let key = private_key(&config.key_file)?;
    let versions: &[&SupportedProtocolVersion] = match config.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder =
        with_versions(ServerConfig::builder_with_provider(provider()), versions, &config.cert_file)?;
    let clients =
        is_set(&config.client_ca_file).then(|| client_verifier(&config.client_ca_file)).transpose()?;
    let asks = clients.is_some();
    let mut server = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    }
    .with_single_cert(chain, key)
    .map_err(|error| pair_problem(&error, &config.cert_file, &config.key_file))?;
    server.alpn_protocols = alpn(&[b"h2", b"http/1.1"]);
    if asks {
        // A resumed session's certificate is not verified again: one that has ended, or whose authority was taken
        // out of the file, would go on for a day. A client that wants to resume is asked for its certificate instead.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
    }
    Ok(Arc::new(server))
}

/// The client side: `ca_file` if there is one, else the system's roots, else webpki's; ALPN as given.
///
/// With a `ca_file` nothing else is trusted. Without one, an image that ships no CA bundle still
/// gets roots to go on with.
///
/// # Errors
/// [`TlsError`] names the file to mend.
pub fn client(config: &ClientTls, alpn_protocols: &[&[u8]]) -> Result<ClientConfig, TlsError> {
    let builder =
        with_versions(ClientConfig::builder_with_provider(provider()), &[&TLS13, &TLS12], &config.ca_file)?;
    let builder = if config.ca_file.as_os_str().is_empty() {
        with_public_roots(builder)
    } else {
        builder.with_root_certificates(own_roots(&config.ca_file)?)
    };
    let mut client = match (is_set(&config.cert_file), is_set(&config.key_file)) {
        (false, false) => builder.with_no_client_auth(),
        (true, true) => builder
            .with_client_auth_cert(certificates(&config.cert_file)?, private_key(&config.key_file)?)
            .map_err(|error| pair_problem(&error, &config.cert_file, &config.key_file))?,
        (true, false) => {
            return Err(TlsError::content(&config.cert_file, "a cert_file needs its key_file beside it"));
        }
        (false, true) => {
            return Err(TlsError::content(&config.key_file, "a key_file needs its cert_file beside it"));
        }
    };
    client.alpn_protocols = alpn(alpn_protocols);
    Ok(client)
}

/// Makes aws-lc-rs the process's crypto provider; harmless when called again.
pub fn install_provider() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// Named wherever it is needed, so that no part depends on who installed a default first.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn with_versions<S: rustls::ConfigSide>(
    builder: ConfigBuilder<S, WantsVersions>,
    versions: &[&'static SupportedProtocolVersion],
    path: &Path,
) -> Result<ConfigBuilder<S, WantsVerifier>, TlsError> {
    builder.with_protocol_versions(versions).map_err(|error| TlsError::content(path, error.to_string()))
}

/// The platform's verifier in the form that returns an error where no CA bundle is installed, and
/// Mozilla's roots as shipped in the binary after it.
fn with_public_roots(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    match rustls_platform_verifier::Verifier::new(provider()) {
        Ok(verifier) => {
            let verifier: Arc<dyn ServerCertVerifier> = Arc::new(verifier);
            // Not dangerous: rustls calls any verifier so that it did not build itself.
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
        Err(error) => {
            tracing::info!(error_message = %error, "no CA certificates on this system: using the built-in ones");
            builder.with_root_certificates(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
        }
    }
}

fn client_verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(own_roots(path)?), provider())
        .build()
        .map_err(|error| TlsError::content(path, format!("can't be used for clients: {error}")))
}

fn own_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            TlsError::content(path, format!("holds a certificate that can't be a root: {error}"))
        })?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| bad_pem(path, &error, "certificate"))?;
    if chain.is_empty() {
        return Err(bad_pem(path, &pem::Error::NoItemsFound, "certificate"));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| bad_pem(path, &error, "private key"))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    fs::read(path).map(Zeroizing::new).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// The parser's own texts can quote lines of the file, which may be of a key: they are not passed on.
fn bad_pem(path: &Path, error: &pem::Error, kind: &str) -> TlsError {
    let problem = match (error, kind) {
        (pem::Error::NoItemsFound, "certificate") => {
            "no certificate in the file: it needs a PEM block \"BEGIN CERTIFICATE\""
        }
        (pem::Error::NoItemsFound, _) => {
            "no private key in the file: it needs an unencrypted PEM block \"BEGIN PRIVATE KEY\""
        }
        (pem::Error::MissingSectionEnd { .. }, _) => "a PEM block has no end: is the file complete?",
        _ => "is no good PEM: is the file complete and in text form?",
    };
    TlsError::content(path, problem)
}

fn pair_problem(error: &rustls::Error, cert: &Path, key: &Path) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::content(
            key,
            format!("the private key does not belong to the first certificate in {}", cert.display()),
        ),
        rustls::Error::InvalidCertificate(_) => {
            TlsError::content(cert, format!("the first certificate can't be used: {error}"))
        }
        _ => TlsError::content(key, format!("the private key can't be used: {error}")),
    }
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn alpn(protocols: &[&[u8]]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.to_vec()).collect()
}

#[cfg(test)]
mod tests;
