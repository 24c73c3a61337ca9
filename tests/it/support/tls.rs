//! A throw-away certificate authority: a certificate for `localhost`, as PEM files for the gateway
//! and as rustls configurations for the fakes and clients; certificates for clients on demand.

use std::{path::PathBuf, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use spangate::config::{ClientTls, ListenerTls};
use tempfile::TempDir;

/// One authority, one certificate.
#[derive(Clone, Debug)]
pub(crate) struct TestTls {
    directory: Arc<TempDir>,
    ca: Arc<CertifiedIssuer<'static, KeyPair>>,
    cert_pem: String,
    key_pem: String,
    shown: Option<Shown>,
}

/// What a client shows: its certificate and key.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    cert_pem: String,
    key_pem: String,
}

impl Shown {
    /// A client's certificate that it signed itself.
    pub(crate) fn self_signed(san: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let cert_pem = client_params(san).self_signed(&key).unwrap().pem();
        Self { cert_pem, key_pem: key.serialize_pem() }
    }
}

/// A client's certificate with this name: a URI if there is a scheme in it.
fn client_params(san: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![if san.contains("://") {
        SanType::URI(san.try_into().unwrap())
    } else {
        SanType::DnsName(san.try_into().unwrap())
    }];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
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
            directory: Arc::new(TempDir::new().unwrap()),
            ca: Arc::new(ca),
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            shown: None,
        };
        for (name, pem) in
            [("ca.pem", &this.ca.pem()), ("cert.pem", &this.cert_pem), ("key.pem", &this.key_pem)]
        {
            std::fs::write(this.path(name), pem).unwrap();
        }
        this.accept_clients_of(&this);
        this
    }

    /// A client's certificate with this name, with changes.
    pub(crate) fn issue(&self, san: &str, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let key = KeyPair::generate().unwrap();
        let mut params = client_params(san);
        change(&mut params);
        let cert_pem = params.signed_by(&key, &self.ca).unwrap().pem();
        Shown { cert_pem, key_pem: key.serialize_pem() }
    }

    /// The same authority for a client that shows this certificate.
    pub(crate) fn showing(&self, shown: Shown) -> Arc<Self> {
        Arc::new(Self { shown: Some(shown), ..self.clone() })
    }

    /// The same for a client with a good certificate of this name.
    pub(crate) fn named(&self, san: &str) -> Arc<Self> {
        self.showing(self.issue(san, |_| {}))
    }

    /// Writes whose clients a listener takes, once it reads its files.
    pub(crate) fn accept_clients_of(&self, authority: &Self) {
        std::fs::write(self.path("clients.pem"), authority.ca.pem()).unwrap();
    }

    /// For a listener of the gateway that asks clients for certificates.
    pub(crate) fn asking_listener(&self) -> ListenerTls {
        ListenerTls { client_ca_file: self.path("clients.pem"), ..self.listener() }
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
        roots.add(self.ca.der().clone()).unwrap();
        let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
        let mut config = match &self.shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(shown.cert_pem.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
