//! A throw-away certificate authority: a certificate for `localhost`, as PEM files for the gateway
//! and as rustls configurations for the fakes and clients.

use std::{path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use spangate::config::{ClientTls, ListenerTls};
use tempfile::TempDir;

/// One authority, one certificate.
#[derive(Debug)]
pub(crate) struct TestTls {
    directory: TempDir,
    ca_pem: String,
    cert_pem: String,
    key_pem: String,
}

impl TestTls {
    /// Makes both and writes them to a directory that goes with this value.
    pub(crate) fn new() -> Self {
        spangate::tls::install_provider();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "Spangate test CA");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
        let this = Self {
            directory: TempDir::new().unwrap(),
            ca_pem: ca.pem(),
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        };
        for (name, pem) in
            [("ca.pem", &this.ca_pem), ("cert.pem", &this.cert_pem), ("key.pem", &this.key_pem)]
        {
            std::fs::write(this.path(name), pem).unwrap();
        }
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// For a listener of the gateway.
    pub(crate) fn listener(&self) -> ListenerTls {
        ListenerTls {
            cert_file: self.path("cert.pem"),
            key_file: self.path("key.pem"),
            ..ListenerTls::default()
        }
    }

    /// For the gateway's own calls.
    pub(crate) fn client(&self) -> ClientTls {
        ClientTls { ca_file: self.path("ca.pem"), ..ClientTls::default() }
    }

    /// For a fake.
    pub(crate) fn server_config(&self, alpn: &[&str]) -> Arc<rustls::ServerConfig> {
        let cert = CertificateDer::from_pem_slice(self.cert_pem.as_bytes()).unwrap();
        let key = PrivateKeyDer::from(
            PrivatePkcs8KeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap().clone_key(),
        );
        let mut config =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// For a test's client that offers these protocols.
    pub(crate) fn client_config(&self, alpn: &[&str]) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap()).unwrap();
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
