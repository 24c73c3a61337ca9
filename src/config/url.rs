//! What URLs of the configuration may look like, and where they must not lead. Pure: no name is resolved.

use std::net::{IpAddr, Ipv4Addr};

use http::{Uri, uri::Authority};

use super::Config;

/// What `gitlab.url` may look like. No message repeats the URL: it could hold a password.
pub(super) fn base_url(text: &str) -> Result<(), String> {
    let authority = authority_of(text)?;
    if authority.as_str().contains('@') {
        return Err("must not hold a user name or password".into());
    }
    if text.contains(['?', '#']) {
        return Err("must not hold a query or fragment".into());
    }
    Ok(())
}

/// What the URL of a document may look like; a query is allowed. No message repeats the URL.
pub(super) fn http_url(text: &str) -> Result<(), String> {
    let authority = authority_of(text)?;
    if authority.as_str().contains('@') {
        return Err("must not hold a user name or password".into());
    }
    if text.contains('#') {
        return Err("must not hold a fragment".into());
    }
    Ok(())
}

/// The host and port of an absolute http or https URL.
fn authority_of(text: &str) -> Result<Authority, String> {
    let uri = text.parse::<Uri>().ok();
    uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
        .and_then(|uri| uri.into_parts().authority)
        .filter(|authority| !authority.host().is_empty() && port_is_sound(authority))
        .ok_or_else(|| "is no URL: write it as \"https://gitlab.example.com\"".to_owned())
}

/// `Authority` lets an empty port and one past 65535 pass, and then has none.
fn port_is_sound(authority: &Authority) -> bool {
    let text = authority.as_str();
    let behind_host = text.rsplit(['@', ']']).next().unwrap_or(text);
    !behind_host.contains(':') || authority.port_u16().is_some()
}

/// The listener that an endpoint leads back to, by its index: spans would go round in circles.
pub(super) fn own_listener(config: &Config, endpoint: &str) -> Option<usize> {
    let authority = authority_of(endpoint).ok()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let ip: IpAddr = if host.eq_ignore_ascii_case("localhost") {
        Ipv4Addr::LOCALHOST.into()
    } else {
        host.parse().ok()?
    };
    config.listeners.iter().position(|listener| {
        let bound = listener.address.ip();
        let here = ip.is_loopback() || ip.is_unspecified();
        // Port 0 is never in an endpoint, so a listener on a free port is never met.
        authority.port_u16() == Some(listener.address.port())
            && (ip == bound || here && bound.is_unspecified())
    })
}

pub(super) fn is_endpoint(text: &str) -> bool {
    let plain = text.strip_suffix('/').unwrap_or(text);
    authority_of(plain).is_ok_and(|authority| {
        authority.port_u16().is_some_and(|port| port > 0)
            && !authority.as_str().contains('@')
            && plain.ends_with(authority.as_str())
    })
}
