//! One fetch of a provider's keys: straight from their URL, or by way of its discovery document. Bounded in
//! bytes; bounded in time by its caller. It follows no redirect and decides nothing about tokens.

use std::{net::IpAddr, path::Path, time::Duration};

use http::header::{ACCEPT, HeaderValue};
use reqwest::{Client, Response, Url, redirect};

use crate::{
    config::{ClientTls, KeyOrigin},
    tls,
    validate::{Undetermined, cache_control, gitlab::describe, oidc::token::object},
};

/// Longest document, in bytes. Sets of keys are 1 to 10 KB.
const MAX_DOCUMENT: usize = 256 << 10;

/// Where keys are fetched from.
pub(super) struct Fetcher {
    client: Client,
    url: Url,
    /// The issuer that the document at `url` must name, if that is a discovery document.
    discovered_by: Option<Box<str>>,
}

/// A document and how long it may be kept, if it says so.
pub(super) struct Fetched {
    pub(super) body: Vec<u8>,
    pub(super) max_age: Option<Duration>,
}

impl Fetcher {
    /// A fetcher for a URL; `None` for a file.
    ///
    /// # Errors
    /// The key of the provider to mend, and what is wrong with it.
    pub(super) fn new(
        origin: &KeyOrigin,
        issuer: &str,
        ca_file: &Path,
        timeout: Duration,
    ) -> Result<Option<Self>, (&'static str, String)> {
        let (key, url, discovered_by) = match origin {
            KeyOrigin::File(_) => return Ok(None),
            KeyOrigin::Jwks(url) => ("jwks_url", url, None),
            KeyOrigin::Discovery(url) => ("discovery", url, Some(issuer.into())),
        };
        let url: Url = url.parse().map_err(|_| (key, "is no URL".to_owned()))?;
        if !["https", "http"].contains(&url.scheme()) {
            return Err((key, "must begin with https:// or http://".to_owned()));
        }
        let trust = ClientTls { ca_file: ca_file.to_owned(), ..ClientTls::default() };
        let tls =
            tls::client(&trust, &[b"h2", b"http/1.1"]).map_err(|error| ("ca_file", error.to_string()))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("spangate/", env!("CARGO_PKG_VERSION")))
            // Who answers elsewhere would choose whom we believe.
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .timeout(timeout)
            // Minutes lie between two fetches: no balancer keeps a connection that long.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| (key, format!("cannot be fetched: {}", describe(error))))?;
        Ok(Some(Self { client, url, discovered_by }))
    }

    /// Whether the way leaves this machine without TLS.
    pub(super) fn is_in_clear_text(&self) -> bool {
        self.url.scheme() == "http" && !is_here(&self.url)
    }

    /// Fetches the JWKS.
    pub(super) async fn fetch(&self) -> Result<Fetched, Undetermined> {
        let Some(issuer) = &self.discovered_by else { return self.get(self.url.clone()).await };
        let document = self.get(self.url.clone()).await?;
        let url = jwks_uri(&document.body, issuer, &self.url).map_err(Undetermined::BadAnswer)?;
        self.get(url).await
    }

    async fn get(&self, url: Url) -> Result<Fetched, Undetermined> {
        let request = self.client.get(url).header(ACCEPT, HeaderValue::from_static("application/json"));
        let response = request.send().await.map_err(transport)?;
        if response.status() != http::StatusCode::OK {
            return Err(Undetermined::Status(response.status().as_u16()));
        }
        let max_age = cache_control::max_age(response.headers());
        Ok(Fetched { body: read(response).await?, max_age })
    }
}

/// Whether a URL leads to this machine.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The place of the keys by a discovery document (OpenID Connect Discovery 1.0, section 4.3).
fn jwks_uri(document: &[u8], issuer: &str, from: &Url) -> Result<Url, &'static str> {
    let document = object(document).ok_or("the discovery document is no JSON object with each key once")?;
    // Else one provider could stand in for another.
    if document.get("issuer").and_then(|name| name.as_str()) != Some(issuer) {
        return Err("the discovery document is of another issuer than the configured one");
    }
    let url = document.get("jwks_uri").and_then(|url| url.as_str()).and_then(|url| url.parse::<Url>().ok());
    let url = url.ok_or("the discovery document has no jwks_uri")?;
    // In clear text only where the operator chose that for the document itself, and only as far as the document came.
    let is_chosen = from.scheme() == "http" && (is_here(&url) || !is_here(from));
    if url.scheme() == "https" || (url.scheme() == "http" && is_chosen) {
        Ok(url)
    } else {
        Err("the discovery document has a jwks_uri that is no https:// URL")
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, Undetermined> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        if body.len().saturating_add(chunk.len()) > MAX_DOCUMENT {
            return Err(Undetermined::BadAnswer("the document is longer than 256 KiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn transport(error: reqwest::Error) -> Undetermined {
    if error.is_timeout() && !error.is_connect() {
        Undetermined::Timeout
    } else {
        Undetermined::Unreachable(describe(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: documents fetched over TLS and in clear text, whose keys are to be fetched in the one way or the other.
    /// Guarantees: keys in clear text only where the operator chose clear text for the document.
    #[test]
    fn keys_come_over_tls_as_their_document_did() {
        let uri = |from: &str, to: &str| {
            let document = format!(r#"{{"issuer":"i","jwks_uri":"{to}"}}"#);
            jwks_uri(document.as_bytes(), "i", &from.parse().unwrap()).map(|url| url.to_string())
        };
        for (from, to) in [
            ("https://a.example.com/", "https://b.example.com/keys"),
            ("http://a.example.com/", "https://b.example.com/keys"),
            ("http://127.0.0.1:1/", "http://127.0.0.1:2/keys"),
            ("http://a.example.com/", "http://b.example.com/keys"),
        ] {
            assert_eq!(uri(from, to), Ok(to.to_owned()));
        }
        assert!(uri("https://a.example.com/", "http://a.example.com/keys").is_err());
        assert!(uri("https://a.example.com/", "http://127.0.0.1/keys").is_err());
        assert!(uri("http://a.example.com/", "file:///keys").is_err());
        assert!(uri("http://127.0.0.1:1/", "http://a.example.com/keys").is_err());
    }

    /// Scenario: URLs with and without TLS, elsewhere and on this machine.
    /// Guarantees: a warning is due exactly where somebody could be on the way.
    #[test]
    fn clear_text_is_told_where_it_matters() {
        tls::install_provider();
        let is_told = |url: &str| {
            let origin = KeyOrigin::Jwks(url.to_owned());
            let fetcher = Fetcher::new(&origin, "i", Path::new(""), Duration::from_secs(1));
            fetcher.unwrap().unwrap().is_in_clear_text()
        };
        assert!(is_told("http://a.example.com/keys") && is_told("http://10.0.0.1/keys"));
        for url in
            ["https://a.example.com/keys", "http://localhost:1/", "http://127.0.0.1:1/", "http://[::1]:1/"]
        {
            assert!(!is_told(url), "{url}");
        }
    }
}
