//! One gateway out of one configuration, and what outlives it: metrics, limits, keys, memory
//! budgets. It opens files but no socket.

use std::{path::Path, sync::Arc};

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
        ASSERTED_KEYS, IdentityPolicy, Validator,
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
    /// What the authority's own files held: a changed secret or list starts a new authority.
    files: Vec<Vec<u8>>,
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

    pub(super) fn reconfigure(&self, config: &Config) {
        self.limits.reconfigure(&config.limits, config.traces.max_spans_per_job);
        self.failures.reconfigure(&config.limits.per_client_failures);
    }
}

/// Builds a gateway. The authority of the gateway before it, with its cache, is kept while nothing
/// that it depends on has changed: a reload must not send every pair to GitLab again.
pub(super) fn gateway(
    config: &Config,
    lasting: &Lasting,
    before: Option<&Built>,
) -> Result<Built, StartError> {
    let files = authority_files(config)?;
    let validator = match before {
        Some(before) if before.files == files && same_authority(&before.config, config) => {
            Arc::clone(&before.gateway.validator)
        }
        _ => authority(config, lasting)?,
    };
    let upstream = upstream::pool(&config.collector, collector_tls(config)?, Arc::clone(&lasting.metrics))
        .map_err(|error| StartError(error.to_string()))?;
    let gateway = Gateway {
        validator,
        limits: Arc::clone(&lasting.limits) as _,
        failures: Arc::clone(&lasting.failures),
        upstream,
        in_flight: lasting.in_flight.clone(),
        digester: Arc::clone(&lasting.digester),
        names: HeaderNames::from_config(&config.gitlab)
            .map_err(|error| StartError(format!("gitlab: {error}")))?,
        policy: policy(config),
        settings: Settings::from(config),
        metrics: Arc::clone(&lasting.metrics),
        log_cap: Arc::clone(&lasting.log_cap),
    };
    Ok(Built { gateway: Arc::new(gateway), config: config.clone(), files })
}

fn collector_tls(config: &Config) -> Result<Option<rustls::ClientConfig>, StartError> {
    let is_wanted = config.collector.endpoints.iter().any(|endpoint| endpoint.starts_with("https:"));
    is_wanted
        .then(|| tls::client(&config.collector.tls, &[]))
        .transpose()
        .map_err(|error| StartError(format!("collector.tls: {error}")))
}

fn authority(config: &Config, lasting: &Lasting) -> Result<Arc<dyn Validator>, StartError> {
    let identity = IdentityPolicy::new(&config.attributes.service_name);
    let digester = Arc::clone(&lasting.digester);
    if !config.fixed.file.as_os_str().is_empty() {
        let fixed = Fixed::load(&config.fixed.file, identity, digester)
            .map_err(|error| StartError(format!("fixed: {error}")))?;
        return Ok(Arc::new(fixed));
    }
    let gitlab = Gitlab::new(&config.gitlab, identity, digester, Arc::clone(&lasting.metrics))
        .map_err(|error| StartError(format!("gitlab: {error}")))?;
    Ok(Arc::new(Cached::new(gitlab, &config.cache, Arc::clone(&lasting.metrics))))
}

fn same_authority(before: &Config, now: &Config) -> bool {
    before.gitlab == now.gitlab
        && before.fixed == now.fixed
        && before.cache == now.cache
        && before.attributes == now.attributes
}

fn authority_files(config: &Config) -> Result<Vec<Vec<u8>>, StartError> {
    [&config.gitlab.secret_file, &config.gitlab.ca_file, &config.fixed.file]
        .into_iter()
        .filter(|path| !path.as_os_str().is_empty())
        .map(|path: &std::path::PathBuf| read(path))
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|error| StartError(format!("{}: cannot be read: {error}", path.display())))
}

fn policy(config: &Config) -> Policy {
    let attributes = &config.attributes;
    let keys = ASSERTED_KEYS.iter().copied().chain(attributes.protected.keys.iter().map(String::as_str));
    let prefixes = attributes.protected.prefixes.iter().map(String::as_str);
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
            (listener.name.clone(), listener.address, listener.signals.clone(), listener.tls.is_some())
        };
        config.listeners.iter().map(of).collect()
    };
    let connections = |config: &Config| {
        let intake = &config.intake;
        (intake.max_connections, intake.max_streams, intake.header_timeout, intake.max_in_flight_bytes)
    };
    [
        ("listeners", listeners(before) != listeners(now)),
        ("admin", before.admin != now.admin),
        (
            "intake.max_connections, max_streams, header_timeout, max_in_flight_bytes",
            connections(before) != connections(now),
        ),
        ("log.format", before.log.format != now.log.format),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}
