//! One gateway out of one configuration, and what outlives it: metrics, limits, keys, memory
//! budgets. It opens files but no socket.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    cache::verdict::Cached,
    config::{AlsoStrip, Config},
    limit::{failures::Failures, local::Local},
    metrics::Metrics,
    otlp::rewrite::{Policy, ProtectedKeys},
    proxy::{
        body::InFlight,
        gateway::{Gateway, Settings},
        upstream,
    },
    telemetry::RateCap,
    tls,
    validate::{
        IdentityPolicy, Validator,
        attributes::{protected_keys, protected_prefixes},
        by_kind::ByKind,
        credentials::{Digester, HeaderNames},
        fixed::Fixed,
        gitlab::Gitlab,
    },
};

use super::StartError;

/// What lasts from one configuration to the next.
#[derive(Debug)]
pub(super) struct Lasting {
    pub(super) metrics: Arc<Metrics>,
    digester: Arc<Digester>,
    limits: Arc<Local>,
    failures: Arc<Failures>,
    in_flight: InFlight,
    log_cap: Arc<RateCap>,
}

/// A gateway and what it was built from.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) gateway: Arc<Gateway>,
    pub(super) config: Config,
    authority: Authority,
    /// Digests of the authority's own files: a changed secret or list is another authority.
    files: Vec<Option<Vec<u8>>>,
}

/// Who says yes or no.
#[derive(Clone, Debug)]
enum Authority {
    Gitlab(Arc<Cached<Gitlab>>),
    Fixed(Arc<Fixed>),
}

impl Authority {
    fn validator(&self) -> Arc<dyn Validator> {
        match self {
            Self::Gitlab(cached) => Arc::clone(cached) as _,
            Self::Fixed(fixed) => Arc::clone(fixed) as _,
        }
    }
}

/// A gateway that is ready to take over; nothing can fail any more.
#[derive(Debug)]
pub(super) struct Prepared {
    built: Built,
    /// Another way to ask the same authority: what its cache holds stays.
    ask_anew: Option<Gitlab>,
}

impl Prepared {
    /// Puts in force what the gateways share, and hands over the new one.
    pub(super) fn take_over(self, lasting: &Lasting) -> Built {
        let config = &self.built.config;
        lasting.limits.reconfigure(&config.limits, config.traces.max_spans_per_job);
        lasting.failures.reconfigure(&config.limits.per_client_failures);
        if let (Authority::Gitlab(cached), Some(gitlab)) = (&self.built.authority, self.ask_anew) {
            cached.reconfigure(gitlab, &config.cache);
        }
        self.built
    }
}

impl Lasting {
    pub(super) fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        /// Log lines a second for one kind of refusal.
        const LINES_PER_SECOND: u32 = 5;

        let max_spans = config.traces.max_spans_per_job;
        Self {
            digester: Arc::new(Digester::random()),
            limits: Arc::new(Local::new(&config.limits, max_spans, Arc::clone(&metrics))),
            failures: Arc::new(Failures::new(&config.limits.per_client_failures, Arc::clone(&metrics))),
            in_flight: InFlight::metered(config.intake.max_in_flight_bytes.0, Arc::clone(&metrics)),
            log_cap: Arc::new(RateCap::new(LINES_PER_SECOND)),
            metrics,
        }
    }
}

/// Builds a gateway. The verdict cache of the gateway before it is kept while the same authority is
/// asked in the same name: a reload must not send every pair to GitLab again, least of all while
/// GitLab is in trouble.
pub(super) fn gateway(
    config: &Config,
    lasting: &Lasting,
    before: Option<&Built>,
) -> Result<Prepared, StartError> {
    let unreadable = unreadable_files(config);
    if !unreadable.is_empty() {
        return Err(StartError(unreadable));
    }
    let files = authority_files(config);
    let kept = before.filter(|before| before.files == files && same_authority(&before.config, config));
    let asked = authority(config, lasting);
    let tls = collector_tls(config);
    let upstream = tls.as_ref().map_err(Clone::clone).and_then(|tls| {
        upstream::pool(&config.collector, tls.clone(), Arc::clone(&lasting.metrics))
            .map_err(|error| StartError::new(error.to_string()))
    });
    let names = HeaderNames::from_config(&config.gitlab).map_err(|error| StartError::new(error.to_string()));
    let (asked, upstream, names) = match (asked, upstream, names) {
        (Ok(asked), Ok(upstream), Ok(names)) => (asked, upstream, names),
        (asked, upstream, names) => {
            let problems = [asked.err(), upstream.err(), names.err()];
            return Err(StartError(problems.into_iter().flatten().flat_map(|error| error.0).collect()));
        }
    };
    let (authority, ask_anew) = match (kept.map(|before| before.authority.clone()), asked) {
        (Some(cached @ Authority::Gitlab(_)), Asked::Gitlab(gitlab)) => (cached, Some(*gitlab)),
        (Some(fixed @ Authority::Fixed(_)), Asked::Fixed(_)) => (fixed, None),
        (_, Asked::Gitlab(gitlab)) => {
            let cached = Cached::new(*gitlab, &config.cache, Arc::clone(&lasting.metrics));
            (Authority::Gitlab(Arc::new(cached)), None)
        }
        (_, Asked::Fixed(fixed)) => (Authority::Fixed(Arc::new(fixed)), None),
    };
    if before.is_some() && kept.is_none() {
        tracing::warn!(
            "the authority or what is written of its word changed: the verdict cache starts empty"
        );
    }
    let gateway = Gateway {
        validator: Arc::new(ByKind { pair: Some(authority.validator()), bearer: None }),
        limits: Arc::clone(&lasting.limits) as _,
        failures: Arc::clone(&lasting.failures),
        upstream,
        in_flight: lasting.in_flight.clone(),
        digester: Arc::clone(&lasting.digester),
        names,
        policy: policy(config),
        settings: Settings::from(config),
        metrics: Arc::clone(&lasting.metrics),
        log_cap: Arc::clone(&lasting.log_cap),
    };
    let built = Built { gateway: Arc::new(gateway), config: config.clone(), authority, files };
    Ok(Prepared { built, ask_anew })
}

fn collector_tls(config: &Config) -> Result<Option<rustls::ClientConfig>, StartError> {
    let is_wanted = config.collector.endpoints.iter().any(|endpoint| endpoint.starts_with("https:"));
    is_wanted
        .then(|| tls::client(&config.collector.tls, &[]))
        .transpose()
        .map_err(|error| StartError::new(format!("collector.tls: {error}")))
}

/// An authority that nobody has asked yet.
enum Asked {
    Gitlab(Box<Gitlab>),
    Fixed(Fixed),
}

fn authority(config: &Config, lasting: &Lasting) -> Result<Asked, StartError> {
    let identity = IdentityPolicy::from_config(config);
    let digester = Arc::clone(&lasting.digester);
    if config.fixed.file.as_os_str().is_empty() {
        Gitlab::new(&config.gitlab, identity, digester, Arc::clone(&lasting.metrics))
            .map(|gitlab| Asked::Gitlab(Box::new(gitlab)))
    } else {
        Fixed::load(&config.fixed.file, identity, digester, Arc::clone(&lasting.metrics)).map(Asked::Fixed)
    }
    .map_err(|error| StartError::new(error.to_string()))
}

/// Whether what one configuration's authority said holds for the other's: the same GitLab, asked
/// in the same name, and identities that are written alike.
fn same_authority(before: &Config, now: &Config) -> bool {
    let asked = |config: &Config| {
        let gitlab = &config.gitlab;
        let signed =
            (gitlab.secret_header.clone(), gitlab.secret_issuer.clone(), gitlab.secret_audience.clone());
        let tokens = (gitlab.runner_token_header.clone(), gitlab.job_token_header.clone());
        (gitlab.url.clone(), gitlab.auth_path.clone(), tokens, signed)
    };
    asked(before) == asked(now)
        && before.fixed == now.fixed
        && IdentityPolicy::from_config(before) == IdentityPolicy::from_config(now)
}

/// All files that the configuration names and that can't be read, so that an operator mends them in
/// one go; what is in them is judged by whoever uses it.
pub(super) fn unreadable_files(config: &Config) -> Vec<String> {
    let Config { admin, gitlab, fixed, collector, .. } = config;
    let of_listeners = config.listeners.iter().enumerate().flat_map(|(index, listener)| {
        listener.tls.iter().flat_map(move |tls| {
            [("cert_file", &tls.cert_file), ("key_file", &tls.key_file)]
                .map(|(key, path)| (format!("listeners.{index}.tls.{key}"), path))
        })
    });
    [
        ("admin.token_file", &admin.token_file),
        ("gitlab.secret_file", &gitlab.secret_file),
        ("gitlab.ca_file", &gitlab.ca_file),
        ("fixed.file", &fixed.file),
        ("collector.tls.ca_file", &collector.tls.ca_file),
        ("collector.tls.cert_file", &collector.tls.cert_file),
        ("collector.tls.key_file", &collector.tls.key_file),
    ]
    .into_iter()
    .map(|(key, path)| (key.to_owned(), path))
    .chain(of_listeners)
    .filter(|(_, path)| !path.as_os_str().is_empty())
    .filter_map(|(key, path)| {
        let error = std::fs::File::open(path).err()?;
        Some(format!("{key}: {}: cannot be read: {error}", path.display()))
    })
    .collect()
}

/// Digests of the files that say who the authority is; one that can't be read is reported by
/// whoever needs it.
fn authority_files(config: &Config) -> Vec<Option<Vec<u8>>> {
    [&config.gitlab.secret_file, &config.fixed.file]
        .map(|path| Some(digest(&SHA256, &std::fs::read(path).ok()?).as_ref().to_vec()))
        .into()
}

fn policy(config: &Config) -> Policy {
    let attributes = &config.attributes;
    let (sets, protected) = (&attributes.sets, &attributes.protected);
    let keys = protected_keys(sets).chain(protected.keys.iter().map(String::as_str));
    let prefixes = protected_prefixes(sets).chain(protected.prefixes.iter().map(String::as_str));
    Policy {
        protected: Arc::new(ProtectedKeys::new(keys, prefixes)),
        strip_scope: attributes.also_strip.contains(&AlsoStrip::Scope),
        strip_items: attributes.also_strip.contains(&AlsoStrip::Span),
        max_item_size: config.traces.max_span_size.as_usize(),
    }
}

/// The keys whose change a reload can't put in force.
pub(super) fn need_restart(before: &Config, now: &Config) -> Vec<&'static str> {
    let listeners = |config: &Config| -> Vec<_> {
        let of = |listener: &crate::config::Listener| {
            let takes = (listener.signals.clone(), listener.authentication.clone());
            (listener.name.clone(), listener.address, takes, listener.tls.is_some())
        };
        config.listeners.iter().map(of).collect()
    };
    let connections = |config: &Config| {
        let intake = &config.intake;
        (intake.max_connections, intake.max_streams, intake.header_timeout, intake.max_in_flight_bytes)
    };
    [
        ("listeners", listeners(before) != listeners(now)),
        ("admin.address", before.admin.address != now.admin.address),
        (
            "intake.max_connections, max_streams, header_timeout, max_in_flight_bytes",
            connections(before) != connections(now),
        ),
        (
            "cache.max_entries, max_size",
            (before.cache.max_entries, before.cache.max_size) != (now.cache.max_entries, now.cache.max_size),
        ),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}
