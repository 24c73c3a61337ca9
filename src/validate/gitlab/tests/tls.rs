//! TLS to GitLab: whom it trusts, and HTTP/2.

use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;
use crate::config::ListenerTls;

/// Scenario: a GitLab whose certificate is from a private CA: another CA in `ca_file`, none, and that CA.
/// Guarantees: it is asked, over HTTP/2, under its own CA only; else it is unreachable, which is no denial.
#[tokio::test]
async fn only_the_own_ca_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let [ca_file, other_ca, cert_file, key_file] =
        ["ca", "other", "cert", "key"].map(|name| folder.path().join(name));
    let new_ca = |path: &PathBuf| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(path, ca.pem()).unwrap();
        ca
    };
    let ca = new_ca(&ca_file);
    new_ca(&other_ca);
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    fs::write(&cert_file, cert.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    let server = ListenerTls { cert_file, key_file, ..ListenerTls::default() };
    let fake = Fake::start_tls([Reply::good()], crate::tls::server(&server).unwrap()).await;

    for (ca_file, good) in [(other_ca, false), (PathBuf::new(), false), (ca_file, true)] {
        let config = config::Gitlab { ca_file, ..config(&fake.url("/gitlab")) };
        let verdict = authority(&config).validate(&question()).await;
        assert_eq!(verdict.is_ok(), good, "{verdict:?}");
        assert_eq!(matches!(verdict, Err(Undetermined::Unreachable(_))), !good, "{verdict:?}");
    }
    let [seen] = &fake.seen()[..] else { panic!("{:?}", fake.seen()) };
    assert!(seen.line.ends_with("/gitlab/api/v4/internal/ci/telemetry/auth HTTP/2.0"), "{}", seen.line);
}
