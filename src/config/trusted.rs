//! What the keys of a listener for GitLab's own services must mean together: how they are known, where
//! they may come in, which names they may give themselves. Every unclear combination is a mistake,
//! because the clear one would let in whoever reaches the listener.

use std::{collections::BTreeSet, net::IpAddr};

use rustls_pki_types::DnsName;

use super::{
    Authentication::{Mtls, None as Nothing},
    Client, Listener,
    check::{Problems, is_set},
};

/// Each listener's resources are compared with all of its names.
const MAX_SERVICE_NAMES: usize = 64;
/// Longest `service.name`, in bytes.
const MAX_SERVICE_NAME: usize = 255;
/// Each listener's senders are looked up by name: no more than one keeps in view.
const MAX_CLIENTS: usize = 1024;
/// Longest name of a sender, in bytes (SPIFFE-ID, section 2.3).
const MAX_SAN: usize = 2048;

/// Problems of one listener; `field` gives the dotted name of one of its keys.
pub(super) fn check(listener: &Listener, field: &dyn Fn(&str) -> String, problems: &mut Problems) {
    let takes = |kind| listener.authentication.contains(&kind);
    let (mtls, nothing) = (takes(Mtls), takes(Nothing));
    let trusted = mtls || nothing;
    problems.unless(
        !trusted || listener.authentication.len() == 1,
        &[&field("authentication")],
        "mtls and none stand alone: give senders with tokens a listener of their own",
    );
    certificates(listener, mtls, field, problems);
    problems.unless(
        listener.clients.is_empty() != mtls,
        &[&field("clients")],
        if mtls { "mtls needs at least one client" } else { "has no use without authentication: [mtls]" },
    );
    problems.unless(
        listener.service_names.is_empty() != trusted,
        &[&field("service_names")],
        if trusted {
            "mtls and none need the service names that resources may have"
        } else {
            "has no use without authentication: [mtls] or [none]"
        },
    );
    let (address, closed) = (field("address"), field("i_know_the_network_is_closed"));
    problems.unless(
        !nothing || listener.i_know_the_network_is_closed || listener.address.ip().to_canonical().is_loopback(),
        &[&field("authentication"), &address, &closed],
        "none trusts whoever reaches the listener: use a loopback address, or set i_know_the_network_is_closed",
    );
    problems.unless(
        nothing || !listener.i_know_the_network_is_closed,
        &[&closed],
        "has no use without authentication: [none]",
    );
    names(&listener.service_names, &field("service_names"), problems);
    clients(listener, &field("clients"), problems);
}

fn certificates(listener: &Listener, mtls: bool, field: &dyn Fn(&str) -> String, problems: &mut Problems) {
    let ca_file = field("tls.client_ca_file");
    match &listener.tls {
        None => problems.unless(!mtls, &[&field("tls"), &field("authentication")], "mtls needs tls"),
        Some(tls) if mtls => problems.unless(
            is_set(&tls.client_ca_file),
            &[&ca_file],
            "mtls needs the CA that client certificates are checked against",
        ),
        Some(tls) => problems.unless(
            !is_set(&tls.client_ca_file),
            &[&ca_file, &field("authentication")],
            "has no use without authentication: [mtls]",
        ),
    }
}

fn names(names: &[String], field: &str, problems: &mut Problems) {
    problems.unless(
        names.len() <= MAX_SERVICE_NAMES,
        &[field],
        format!("at most {MAX_SERVICE_NAMES} service names"),
    );
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let field = format!("{field}.{index}");
        problems.unless(
            (1..=MAX_SERVICE_NAME).contains(&name.len()),
            &[&field],
            format!("must be 1 to {MAX_SERVICE_NAME} bytes long"),
        );
        problems.unless(seen.insert(name), &[&field], "the same service name stands here twice");
    }
}

fn clients(listener: &Listener, field: &str, problems: &mut Problems) {
    problems.unless(
        listener.clients.len() <= MAX_CLIENTS,
        &[field],
        format!("at most {MAX_CLIENTS} clients"),
    );
    let mut seen = BTreeSet::new();
    for (index, client) in listener.clients.iter().enumerate() {
        let field = |key: &str| format!("{field}.{index}.{key}");
        let san = field("san");
        if let Err(problem) = san_form(&client.san) {
            problems.add(&[&san], problem);
        }
        problems.unless(seen.insert(client.folded_san()), &[&san], "another client has this name");
        names(&client.service_names, &field("service_names"), problems);
        for (index, name) in client.service_names.iter().enumerate() {
            problems.unless(
                listener.service_names.contains(name),
                &[&field(&format!("service_names.{index}"))],
                format!("\"{name}\" is none of the listener's own service_names"),
            );
        }
    }
}

impl Client {
    /// Whether `san` is a URI; otherwise it is a DNS name, in which there is no colon.
    #[must_use]
    pub fn is_uri(&self) -> bool {
        self.san.contains(':')
    }

    /// `san` as names are compared: DNS names without regard to case (RFC 4343), URIs byte by byte.
    #[must_use]
    pub fn folded_san(&self) -> String {
        if self.is_uri() { self.san.clone() } else { self.san.to_ascii_lowercase() }
    }
}

fn san_form(san: &str) -> Result<(), &'static str> {
    if san.parse::<IpAddr>().is_ok() {
        return Err("is an IP address: a client is known by a URI or a DNS name");
    }
    if san.contains('*') {
        return Err("wildcards are not known: write each client's own name");
    }
    let is_good = if san.contains(':') {
        san.len() <= MAX_SAN && san.bytes().all(|byte| byte.is_ascii_graphic())
    } else {
        DnsName::try_from(san).is_ok() && !san.ends_with('.')
    };
    if is_good { Ok(()) } else { Err("is neither a URI, such as spiffe://example.org/rails, nor a DNS name") }
}
