//! The names that a client's certificate gives it: its subject alternative names, read by the library
//! that verified it, so that no two parsers can differ. It never looks at the common name and never judges.

use std::fmt;

use rustls::ServerConnection;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Most names that are looked at. A certificate has one or two; what stands behind these gives nobody anything.
const MAX_NAMES: usize = 32;
/// Longest name that is looked at, in bytes (SPIFFE-ID, section 2.3).
const MAX_NAME: usize = 2048;
/// Longest text in which they are shown, in characters.
const MAX_SHOWN: usize = 1024;

/// The URIs and DNS names of one verified certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientNames(Vec<Box<str>>);

impl ClientNames {
    /// The names that the other end of a connection has proven; `None` where it was not asked for a certificate.
    #[must_use]
    pub fn of_peer(connection: &ServerConnection) -> Option<Self> {
        connection.peer_certificates()?.first().map(Self::of)
    }

    /// The names in a certificate. One that can't be read has none.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Self::default() };
        // A URI has a scheme (RFC 5280, section 4.2.1.6). Without its colon it could pose as a DNS name.
        let uris = certificate.valid_uri_names().filter(|name| name.contains(':')).map(Box::from);
        let dns = certificate.valid_dns_names().map(|name| name.to_ascii_lowercase().into());
        let names: Vec<Box<str>> = uris.chain(dns).take(MAX_NAMES).collect();
        Self(names.into_iter().filter(|name| name.len() <= MAX_NAME).collect())
    }

    /// Each name as it is compared: a URI byte by byte, a DNS name in lower case. No DNS name has a colon.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// For an operator's eyes: escaped, and cut where it becomes too long.
impl fmt::Display for ClientNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(no URI and no DNS name)");
        }
        let separated = self.iter().enumerate().flat_map(|(index, name)| {
            let separator = if index == 0 { "" } else { ", " };
            separator.chars().chain(name.escape_debug())
        });
        for (index, shown) in separated.enumerate() {
            if index >= MAX_SHOWN {
                return f.write_str("...");
            }
            fmt::Write::write_char(f, shown)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn names(sans: Vec<SanType>) -> ClientNames {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "common.example.org");
        params.subject_alt_names = sans;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientNames::of(certificate.der())
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    /// Scenario: certificates with names of every kind, and with none but a common name.
    /// Guarantees: URIs come as they are, DNS names in lower case; addresses, mail boxes and the common name are no names.
    #[test]
    fn names_are_uris_and_dns_names() {
        let all = names(vec![
            dns("Rails.Example.org"),
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::Rfc822Name("rails@example.org".try_into().unwrap()),
            uri("spiffe://Example.org/Rails"),
        ]);
        assert_eq!(all.iter().collect::<Vec<_>>(), ["spiffe://Example.org/Rails", "rails.example.org"]);
        assert_eq!(names(Vec::new()), ClientNames::default());
        assert_eq!(ClientNames::of(&CertificateDer::from(vec![0x30, 0x00])), ClientNames::default());
    }

    /// Scenario: a URI without a scheme that reads as somebody's DNS name.
    /// Guarantees: it is no name at all.
    #[test]
    fn a_uri_cannot_pose_as_a_dns_name() {
        assert_eq!(names(vec![uri("rails.example.org")]), ClientNames::default());
    }

    /// Scenario: a certificate with a hundred names, one of them too long, and one with control characters.
    /// Guarantees: only so many are kept; what is shown is short and on one line.
    #[test]
    fn names_are_bounded_and_escaped() {
        let many: Vec<_> = (0..100).map(|n| uri(&format!("spiffe://example.org/{n}"))).collect();
        assert_eq!(names(many).iter().count(), MAX_NAMES);
        assert_eq!(names(vec![uri(&format!("a:{}", "x".repeat(MAX_NAME)))]).iter().count(), 0);
        let odd = names(vec![uri("spiffe://a\n{\"b\":\u{7f}"), dns("b.c")]).to_string();
        assert_eq!(odd, "spiffe://a\\n{\\\"b\\\":\\u{7f}, b.c");
        let long = names(vec![uri(&format!("a:{}", "\n".repeat(1_500)))]).to_string();
        assert!(long.len() == MAX_SHOWN + 3 && long.ends_with("..."), "{}", long.len());
    }
}
