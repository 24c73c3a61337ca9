//! TLS to GitLab: whom it trusts, and HTTP/2.

use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use super::*;
use crate::config::ListenerTls;

/// Files of one test, in a folder that goes with it.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A CA, its certificate in the file of this name.
    fn ca(&self, name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(self.path(name), ca.pem()).unwrap();
        ca
    }

    /// GitLab's side of TLS, with a certificate that is good until the end of this year.
    fn server(&self, ca: &CertifiedIssuer<'static, KeyPair>, until: i32) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 12, 31);
        let (cert_file, key_file) = (self.path("cert"), self.path("key"));
        fs::write(&cert_file, params.signed_by(&key, ca).unwrap().pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        let server = ListenerTls { cert_file, key_file, ..ListenerTls::default() };
        crate::tls::server(&server).unwrap()
    }
}

/// Scenario: a GitLab whose certificate is from a private CA: another CA in `ca_file`, none, and that CA.
/// Guarantees: it is asked, over HTTP/2, under its own CA only; else it is unreachable, which is no denial.
#[tokio::test]
async fn only_the_own_ca_is_trusted() {
    let files = Files { folder: tempfile::tempdir().unwrap() };
    let ca = files.ca("ca");
    files.ca("other");
    let fake = Fake::start_tls([Reply::good()], files.server(&ca, 4000)).await;

    for (ca_file, good) in [(files.path("other"), false), (PathBuf::new(), false), (files.path("ca"), true)] {
        let config = config::Gitlab { ca_file, ..config(&fake.url("/gitlab")) };
        let verdict = authority(&config).validate(&question()).await;
        assert_eq!(verdict.is_ok(), good, "{verdict:?}");
        assert_eq!(matches!(verdict, Err(Undetermined::Unreachable(_))), !good, "{verdict:?}");
    }
    let [seen] = &fake.seen()[..] else { panic!("{:?}", fake.seen()) };
    assert!(seen.line.ends_with("/gitlab/api/v4/internal/ci/telemetry/auth HTTP/2.0"), "{}", seen.line);
}

/// Scenario: GitLab's certificate has expired; then it has a new one.
/// Guarantees: until then it is unreachable, told as an expired certificate and never as a denial, and hears of no token;
/// the new one is taken at once.
#[tokio::test]
async fn an_expired_certificate_is_no_denial() {
    let files = Files { folder: tempfile::tempdir().unwrap() };
    let ca = files.ca("ca");
    let config = |fake: &Fake| config::Gitlab { ca_file: files.path("ca"), ..config(&fake.url("")) };
    let expired = Fake::start_tls([Reply::good()], files.server(&ca, 2020)).await;
    let trouble = authority(&config(&expired)).validate(&question()).await.unwrap_err();
    assert!(
        matches!(trouble, Undetermined::Unreachable(_)) && trouble.to_string().contains("expired"),
        "{trouble}"
    );
    assert_eq!(expired.seen().len(), 0);
    let renewed = Fake::start_tls([Reply::good()], files.server(&ca, 4000)).await;
    allowed(authority(&config(&renewed)).validate(&question()).await);
}
