//! Both sides set up from files, talking to each other, and each mistake told by its file.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

struct Files {
    folder: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = Self { folder: tempfile::tempdir().unwrap(), ca };
        files.write("ca", &files.ca.pem());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// A certificate for localhost and its key, in `<name>.crt` and `<name>.key`.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.ca).unwrap();
        (
            self.write(&format!("{name}.crt"), &cert.pem()),
            self.write(&format!("{name}.key"), &key.serialize_pem()),
        )
    }

    fn listener(&self, min_version: TlsVersion) -> ListenerTls {
        let (cert_file, key_file) = self.issue("server");
        ListenerTls { cert_file, key_file, min_version, ..ListenerTls::default() }
    }
}

/// A handshake over loopback: the client's protocol and version, or its error.
async fn handshake(
    server: Arc<ServerConfig>,
    client: ClientConfig,
) -> Result<(Option<Vec<u8>>, rustls::ProtocolVersion, bool), std::io::Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(server).accept(stream).await?;
        Ok::<_, std::io::Error>(stream.get_ref().1.peer_certificates().is_some())
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let stream =
        TlsConnector::from(Arc::new(client)).connect("localhost".try_into().unwrap(), stream).await?;
    let (_, connection) = stream.get_ref();
    let seen = (connection.alpn_protocol().map(<[u8]>::to_vec), connection.protocol_version().unwrap());
    Ok((seen.0, seen.1, accepting.await.unwrap()?))
}

/// Scenario: clients that offer HTTP/2, HTTP/1.1, both or something else, under the listener's own CA.
/// Guarantees: ALPN picks h2 before http/1.1 and refuses what the gateway does not speak; TLS 1.3 is used.
#[tokio::test]
async fn both_sides_agree() {
    let files = Files::new();
    let server = server(&files.listener(TlsVersion::V1_2)).unwrap();
    let trust = ClientTls { ca_file: files.path("ca"), ..ClientTls::default() };
    for (offered, agreed) in [
        (&[b"http/1.1".as_slice(), b"h2"][..], Some(b"h2".to_vec())),
        (&[b"http/1.1"], Some(b"http/1.1".to_vec())),
        (&[], None),
    ] {
        let (protocol, version, client_cert) =
            handshake(Arc::clone(&server), client(&trust, offered).unwrap()).await.unwrap();
        assert_eq!((protocol, version, client_cert), (agreed, rustls::ProtocolVersion::TLSv1_3, false));
    }
    assert!(handshake(server, client(&trust, &[b"spdy/1"]).unwrap()).await.is_err());
}

/// Scenario: a client that speaks TLS 1.2 only, to a listener from 1.2 on and to one from 1.3 on.
/// Guarantees: the configured minimum holds.
#[tokio::test]
async fn min_version_holds() {
    let files = Files::new();
    for (min, good) in [(TlsVersion::V1_2, true), (TlsVersion::V1_3, false)] {
        let old = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_root_certificates(own_roots(&files.path("ca")).unwrap())
            .with_no_client_auth();
        let met = handshake(server(&files.listener(min)).unwrap(), old).await;
        assert_eq!(met.is_ok(), good, "{met:?}");
    }
}

/// Scenario: a client without a `ca_file`, and one with another CA in it.
/// Guarantees: a private CA is trusted only where it is named.
#[tokio::test]
async fn roots_are_exclusive() {
    let files = Files::new();
    let other = Files::new();
    let server = server(&files.listener(TlsVersion::V1_2)).unwrap();
    for ca_file in [PathBuf::new(), other.path("ca")] {
        let trust = ClientTls { ca_file, ..ClientTls::default() };
        let met = handshake(Arc::clone(&server), client(&trust, &[]).unwrap()).await;
        assert!(met.unwrap_err().to_string().contains("certificate"));
    }
}

/// Scenario: a listener that asks for certificates; a client without one, with one of another authority, and with one of its own.
/// Guarantees: only the last one gets a connection, and its certificate is shown, in TLS 1.2 and 1.3.
#[tokio::test]
async fn a_client_certificate_is_asked_for() {
    let (files, other) = (Files::new(), Files::new());
    let listener = ListenerTls { client_ca_file: files.path("ca"), ..files.listener(TlsVersion::V1_2) };
    let server = server(&listener).unwrap();
    for versions in [&[&TLS13][..], &[&TLS12]] {
        let builder = || {
            ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(own_roots(&files.path("ca")).unwrap())
        };
        let with = |(cert, key): (PathBuf, PathBuf)| {
            builder().with_client_auth_cert(certificates(&cert).unwrap(), private_key(&key).unwrap()).unwrap()
        };
        for bad in [builder().with_no_client_auth(), with(other.issue("client"))] {
            assert!(handshake(Arc::clone(&server), bad).await.is_err());
        }
        let (_, _, shown) = handshake(Arc::clone(&server), with(files.issue("client"))).await.unwrap();
        assert!(shown);
    }
}

/// Scenario: a client that wants to resume its session, in TLS 1.2 and 1.3, at a listener that asks for certificates and at one that doesn't.
/// Guarantees: the first never resumes, so that the certificate is verified each time and never missing; the second does.
#[tokio::test]
async fn sessions_with_certificates_are_never_resumed() {
    let files = Files::new();
    let plain = files.listener(TlsVersion::V1_2);
    let asking = ListenerTls { client_ca_file: files.path("ca"), ..plain.clone() };
    let (cert, key) = files.issue("client");
    for (listener, resumes) in [(asking, false), (plain, true)] {
        let server = server(&listener).unwrap();
        for versions in [&[&TLS13][..], &[&TLS12]] {
            let client = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(own_roots(&files.path("ca")).unwrap())
                .with_client_auth_cert(certificates(&cert).unwrap(), private_key(&key).unwrap())
                .unwrap();
            let client = Arc::new(client);
            for round in 0..3 {
                let (kind, shown) = exchange(Arc::clone(&server), Arc::clone(&client)).await;
                let resumed = kind == rustls::HandshakeKind::Resumed;
                assert_eq!(resumed, resumes && round > 0, "{versions:?}, round {round}: {kind:?}");
                assert_eq!(shown, !resumes);
            }
        }
    }
}

/// A handshake and a byte in each direction, so that tickets arrive: how the server took it, and whether it has a certificate.
async fn exchange(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> (rustls::HandshakeKind, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(server).accept(stream).await.unwrap();
        stream.write_u8(1).await.unwrap();
        stream.flush().await.unwrap();
        stream.read_u8().await.unwrap();
        let (_, connection) = stream.get_ref();
        (connection.handshake_kind().unwrap(), connection.peer_certificates().is_some())
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream =
        TlsConnector::from(client).connect("localhost".try_into().unwrap(), stream).await.unwrap();
    stream.read_u8().await.unwrap();
    stream.write_u8(1).await.unwrap();
    stream.flush().await.unwrap();
    accepting.await.unwrap()
}

/// Scenario: each mistake that can be made with the files of either side.
/// Guarantees: the error begins with the file to mend, says what is wrong, and quotes no line of it.
#[test]
fn mistakes_name_their_file() {
    let files = Files::new();
    let (cert, key) = files.issue("server");
    let (_, other_key) = files.issue("other");
    let empty = files.write("empty", "\n");
    let cut = files.write("cut", "-----BEGIN CERTIFICATE-----\ncanary\n");
    let cut_key = files.write("cut_key", "-----BEGIN PRIVATE KEY-----\ncanary\n");
    let odd = files.write("odd", "-----BEGIN CERTIFICATE-----\n!canary!\n-----END CERTIFICATE-----\n");
    let no_der = files.write("no_der", "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n");
    let begin = files.write("begin", "-----BEGIN canary\n");
    let bad_key =
        files.write("bad_key", "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n");
    let absent = files.path("absent");

    let listener = |cert: &PathBuf, key: &PathBuf| {
        let config = ListenerTls { cert_file: cert.clone(), key_file: key.clone(), ..ListenerTls::default() };
        server(&config).unwrap_err()
    };
    let outgoing = |ca: Option<&PathBuf>, cert: Option<&PathBuf>, key: Option<&PathBuf>| {
        let [ca_file, cert_file, key_file] = [ca, cert, key].map(|path| path.cloned().unwrap_or_default());
        client(&ClientTls { ca_file, cert_file, key_file }, &[]).unwrap_err()
    };
    let asking = |ca: &PathBuf| {
        let config = ListenerTls {
            cert_file: cert.clone(),
            key_file: key.clone(),
            client_ca_file: ca.clone(),
            ..ListenerTls::default()
        };
        server(&config).unwrap_err()
    };
    for (error, file, words) in [
        (asking(&absent), &absent, "cannot be read"),
        (asking(&empty), &empty, "no certificate in the file"),
        (asking(&no_der), &no_der, "can't be a root"),
        (listener(&absent, &key), &absent, "cannot be read"),
        (listener(&cert, &absent), &absent, "cannot be read"),
        (listener(&empty, &key), &empty, "no certificate in the file"),
        (listener(&key, &key), &key, "no certificate in the file"),
        (listener(&cert, &cert), &cert, "no private key in the file"),
        (listener(&cut, &key), &cut, "has no end"),
        (listener(&cert, &cut_key), &cut_key, "has no end"),
        (listener(&odd, &key), &odd, "is no good PEM"),
        (listener(&begin, &key), &begin, "is no good PEM"),
        (listener(&no_der, &key), &no_der, "first certificate can't be used"),
        (listener(&cert, &bad_key), &bad_key, "private key can't be used"),
        (listener(&cert, &other_key), &other_key, "does not belong to the first certificate"),
        (outgoing(Some(&absent), None, None), &absent, "cannot be read"),
        (outgoing(Some(&empty), None, None), &empty, "no certificate in the file"),
        (outgoing(Some(&no_der), None, None), &no_der, "can't be a root"),
        (outgoing(None, Some(&cert), None), &cert, "needs its key_file"),
        (outgoing(None, None, Some(&key)), &key, "needs its cert_file"),
        (outgoing(None, Some(&cert), Some(&other_key)), &other_key, "does not belong"),
    ] {
        let told = error.to_string();
        assert!(told.starts_with(&format!("{}: ", file.display())), "{told}");
        assert!(told.contains(words), "{told} / {words}");
        assert!(!format!("{told} {error:?}").contains("canary"), "{error:?}");
    }
}
