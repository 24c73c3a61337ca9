//! What the keys must mean together: ranges, names, addresses, URLs, settings that exclude each other.
//! Pure: it opens no file and resolves no name; `app` tries the files.

mod authority;
mod limits;
mod oidc;
mod store;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use http::HeaderName;

use super::{
    AttributesMode, Authentication, Config, Listener, ProxyProtocol, trusted,
    units::{ByteSize, ShareOfMemory, duration},
    url::{base_url, is_endpoint, own_listener},
};

pub use oidc::MAX_PROVIDERS;

/// More listeners than this could take the metrics past 2,000 series.
pub const MAX_LISTENERS: usize = 10;

/// So could more signals than this, each counted for each listener that takes it.
const MAX_SIGNALS: usize = MAX_LISTENERS;

/// More collectors than this could take the metrics past 2,000 series.
pub const MAX_ENDPOINTS: usize = 16;

/// More networks of trusted hops than this are a list of clients.
const MAX_HOPS: usize = 64;

/// Past its end a revoked pair still passes for this long at most (SECURITY.md).
const MAX_STALE: Duration = Duration::from_mins(1);

/// Headers that HTTP, gRPC or the gateway itself give a meaning: none of them can carry a token.
pub const TAKEN_HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "grpc-encoding",
    "grpc-timeout",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-forwarded-for",
    "x-request-id",
];

/// A mistake that shows only in values that each could be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted names of the keys that it is about; the first one is where to mend it.
    pub fields: Vec<String>,
    /// What is wrong and what to do.
    pub text: String,
}

/// Problems as they are found.
#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, fields: &[&str], text: impl Into<String>) {
        let fields = fields.iter().map(|&field| field.to_owned()).collect();
        self.0.push(Problem { fields, text: text.into() });
    }

    pub(super) fn unless(&mut self, good: bool, fields: &[&str], text: impl Into<String>) {
        if !good {
            self.add(fields, text);
        }
    }
}

impl Config {
    /// Whether any listener takes this kind of credentials.
    #[must_use]
    pub fn takes(&self, kind: Authentication) -> bool {
        self.listeners.iter().any(|listener| listener.authentication.contains(&kind))
    }

    /// Every problem between keys; empty when the configuration can be used.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        listeners(self, &mut problems);
        authority::check(self, &mut problems);
        headers(self, &mut problems);
        oidc::oidc(self, &mut problems);
        cache(self, &mut problems);
        limits::check(self, &mut problems);
        store::check(self, &mut problems);
        attributes(self, &mut problems);
        intake(self, &mut problems);
        collector(self, &mut problems);
        problems.unless(
            self.shutdown.deadline > self.shutdown.delay,
            &["shutdown.deadline", "shutdown.delay"],
            format!("must be longer than shutdown.delay ({})", duration::render(self.shutdown.delay)),
        );
        problems.0
    }
}

fn listeners(config: &Config, problems: &mut Problems) {
    let all = &config.listeners;
    problems.unless(!all.is_empty(), &["listeners"], "at least one listener is needed");
    problems.unless(
        all.len() <= MAX_LISTENERS,
        &["listeners"],
        format!("at most {MAX_LISTENERS} listeners, so that the metrics stay small"),
    );
    let signals = all.iter().fold(0_usize, |sum, listener| sum.saturating_add(listener.signals.len()));
    problems.unless(
        signals <= MAX_SIGNALS,
        &["listeners"],
        format!("at most {MAX_SIGNALS} signals over all listeners[].signals, so that the metrics stay small"),
    );
    let mut names = BTreeSet::new();
    let mut addresses = vec![("admin.address".to_owned(), config.admin.address)];
    for (index, listener) in all.iter().enumerate() {
        let field = |key: &str| format!("listeners.{index}.{key}");
        let name = field("name");
        problems.unless(
            is_label(&listener.name),
            &[&name],
            "must be 1 to 64 of the characters A-Z a-z 0-9 _ . -",
        );
        problems.unless(names.insert(&listener.name), &[&name], "another listener has this name");
        let address = field("address");
        for (other, taken) in &addresses {
            problems.unless(
                !collide(*taken, listener.address),
                &[&address, other],
                format!("the same address as {other}"),
            );
        }
        addresses.push((address, listener.address));
        problems.unless(!listener.signals.is_empty(), &[&field("signals")], "at least one signal is needed");
        problems.unless(
            !listener.authentication.is_empty(),
            &[&field("authentication")],
            "at least one kind of credentials is needed",
        );
        once_each(&listener.signals, &field("signals"), problems);
        once_each(&listener.authentication, &field("authentication"), problems);
        trusted::check(listener, &field, problems);
        hops(listener, &field, problems);
        if let Some(tls) = &listener.tls {
            for (key, file) in [("tls.cert_file", &tls.cert_file), ("tls.key_file", &tls.key_file)] {
                problems.unless(
                    is_set(file),
                    &[&field(key)],
                    "must be set: TLS needs a certificate and its key (leave `tls` out for clear text)",
                );
            }
        }
    }
}

fn hops(listener: &Listener, field: &dyn Fn(&str) -> String, problems: &mut Problems) {
    let (hops, proxy_protocol) = (field("trusted_hops"), field("proxy_protocol"));
    problems.unless(
        listener.trusted_hops.len() <= MAX_HOPS,
        &[&hops],
        format!("at most {MAX_HOPS} networks: each address is compared with all of them"),
    );
    problems.unless(
        listener.proxy_protocol == ProxyProtocol::Off || !listener.trusted_hops.is_empty(),
        &[&proxy_protocol, &hops],
        "needs trusted_hops: anybody could write any address into a PROXY header",
    );
    once_each(&listener.trusted_hops, &hops, problems);
}

/// An entry that stands twice says nothing more; another one was meant.
fn once_each<T: PartialEq>(list: &[T], field: &str, problems: &mut Problems) {
    for (index, entry) in list.iter().enumerate() {
        let first = list.iter().position(|other| other == entry);
        problems.unless(first == Some(index), &[&format!("{field}.{index}")], "stands here twice");
    }
}

/// Whether the second address could not be bound once the first is.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let all = |ip: IpAddr| ip.is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || all(one.ip()) || all(other.ip()))
}

fn is_label(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

pub(super) fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn headers(config: &Config, problems: &mut Problems) {
    let gitlab = &config.gitlab;
    let names = [
        ("gitlab.runner_token_header", &gitlab.runner_token_header),
        ("gitlab.job_token_header", &gitlab.job_token_header),
        ("gitlab.secret_header", &gitlab.secret_header),
    ];
    let mut seen: Vec<(&str, HeaderName)> = Vec::new();
    for (field, name) in names {
        let Ok(header) = HeaderName::try_from(name.as_str()) else {
            problems.add(&[field], "is no header name: use letters, digits and \"-\"");
            continue;
        };
        problems.unless(
            !TAKEN_HEADERS.contains(&header.as_str()) && !header.as_str().ends_with("-bin"),
            &[field],
            format!("\"{name}\" has a meaning of its own in HTTP or gRPC: choose another name"),
        );
        if let Some((other, _)) = seen.iter().find(|(_, taken)| *taken == header) {
            problems.add(&[field, other], format!("the same header as {other}"));
        }
        seen.push((field, header));
    }
}

fn cache(config: &Config, problems: &mut Problems) {
    let cache = &config.cache;
    problems.unless(cache.max_entries > 0, &["cache.max_entries"], "must be at least 1");
    problems.unless(cache.max_size >= ByteSize(1 << 20), &["cache.max_size"], "must be at least 1MiB");
    problems.unless(
        (0.0..=0.9).contains(&cache.refresh_ahead),
        &["cache.refresh_ahead"],
        "must be from 0 to 0.9",
    );
    for (field, time) in [
        ("cache.stale_if_error", cache.stale_if_error),
        ("cache.stale_while_revalidate", cache.stale_while_revalidate),
    ] {
        problems.unless(
            time <= MAX_STALE,
            &[field],
            "must be at most 60s: a revoked token passes for this long",
        );
    }
}

fn attributes(config: &Config, problems: &mut Problems) {
    let attributes = &config.attributes;
    problems.unless(!attributes.service_name.is_empty(), &["attributes.service_name"], "must not be empty");
    for (key, list) in [("keys", &attributes.protected.keys), ("prefixes", &attributes.protected.prefixes)] {
        for (index, text) in list.iter().enumerate() {
            let field = format!("attributes.protected.{key}.{index}");
            problems.unless(!text.is_empty(), &[&field], "must not be empty");
        }
    }
    problems.unless(
        attributes.also_strip.is_empty() || attributes.mode == AttributesMode::Inject,
        &["attributes.also_strip", "attributes.mode"],
        "needs attributes.mode: inject; a transparent body is not changed",
    );
    problems.unless(
        attributes.sets.is_empty() || attributes.mode == AttributesMode::Inject,
        &["attributes.sets", "attributes.mode"],
        "needs attributes.mode: inject; a transparent body is not changed",
    );
    if !attributes.gitlab_url.is_empty()
        && let Err(problem) = base_url(&attributes.gitlab_url)
    {
        problems.add(&["attributes.gitlab_url"], problem);
    }
}

fn intake(config: &Config, problems: &mut Problems) {
    let intake = &config.intake;
    for (field, time) in [
        ("intake.deadline", intake.deadline),
        ("intake.header_timeout", intake.header_timeout),
        ("intake.body_timeout", intake.body_timeout),
        ("intake.idle_timeout", intake.idle_timeout),
        ("intake.stranger_idle_timeout", intake.stranger_idle_timeout),
    ] {
        problems.unless(!time.is_zero(), &[field], "must be more than 0");
    }
    problems.unless(intake.max_request_size.0 > 0, &["intake.max_request_size"], "must be more than 0");
    problems.unless(intake.max_ratio > 0, &["intake.max_ratio"], "must be at least 1");
    problems.unless(intake.max_connections > 0, &["intake.max_connections"], "must be at least 1");
    problems.unless(intake.max_streams > 0, &["intake.max_streams"], "must be at least 1");
    let mut at_least = |field: &str, size: ByteSize, other: &str, least: ByteSize| {
        problems.unless(size >= least, &[field, other], format!("must not be less than {other} ({least})"));
    };
    at_least(
        "intake.max_inflated_size",
        intake.max_inflated_size,
        "intake.max_request_size",
        intake.max_request_size,
    );
    if let ShareOfMemory::Fixed(size) = intake.max_in_flight_bytes {
        at_least("intake.max_in_flight_bytes", size, "intake.max_inflated_size", intake.max_inflated_size);
    }
}

fn collector(config: &Config, problems: &mut Problems) {
    let collector = &config.collector;
    problems.unless(
        !collector.endpoints.is_empty(),
        &["collector.endpoints"],
        "at least one endpoint is needed",
    );
    problems.unless(
        collector.endpoints.len() <= MAX_ENDPOINTS,
        &["collector.endpoints"],
        format!("at most {MAX_ENDPOINTS} endpoints: one DNS name can stand for many"),
    );
    once_each(&collector.endpoints, "collector.endpoints", problems);
    for (index, text) in collector.endpoints.iter().enumerate() {
        let field = format!("collector.endpoints.{index}");
        if !is_endpoint(text) {
            problems.add(
                &[&field],
                "must be http://host:port or https://host:port, with the port and without a path",
            );
        }
        if let Some(own) = own_listener(config, text) {
            problems.add(
                &[&field, &format!("listeners.{own}.address")],
                format!("is this gateway's own listeners.{own}: write the address of the collector"),
            );
        }
    }
    problems.unless(!collector.timeout.is_zero(), &["collector.timeout"], "must be more than 0");
    problems.unless(collector.max_connections > 0, &["collector.max_connections"], "must be at least 1");
    let tls = &collector.tls;
    let (cert, key) = (is_set(&tls.cert_file), is_set(&tls.key_file));
    let pair = "a client certificate and its key go together: set both or none";
    problems.unless(cert || !key, &["collector.tls.cert_file", "collector.tls.key_file"], pair);
    problems.unless(key || !cert, &["collector.tls.key_file", "collector.tls.cert_file"], pair);
    // Whoever sets these believes that the way to the collector is encrypted.
    let encrypted = collector.endpoints.iter().any(|text| text.starts_with("https://"));
    problems.unless(
        encrypted || !(cert || key || is_set(&tls.ca_file)),
        &["collector.tls", "collector.endpoints"],
        "has no use without an https:// endpoint",
    );
}
