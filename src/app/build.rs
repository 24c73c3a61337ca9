//! One gateway out of one configuration, and what outlives it: metrics, limits, keys, memory
//! budgets. It opens files but no socket.

use std::sync::Arc;

use crate::{
    cache::verdict::Cached,
    config::{AlsoStrip, Authentication, Config, StoreType},
    limit::{
        failures::Failures,
        local::Local,
        shared::{InStep, Store, denials::Denials},
    },
    metrics::Metrics,
    otlp::rewrite::{Policy, ProtectedKeys},
    proxy::{
        aside::Aside,
        body::InFlight,
        gateway::{Gateway, Settings},
        overload::Overload,
        server::Connections,
        upstream,
    },
    telemetry::RateCap,
    tls,
    validate::{
        IdentityPolicy, Validator,
        attributes::{protected_keys, protected_prefixes},
        by_kind::ByKind,
        credentials::{Digester, HeaderNames, Kind},
        fixed::Fixed,
        gitlab::Gitlab,
        guard::{self, Guard},
        mtls::Mtls,
        trusted::Network,
    },
};

use super::{
    Asker, Questioned, StartError,
    bearer::{self, Bearer},
    descriptors,
    files::{authority_files, authority_name, readable, store_files},
    memory,
};

/// What lasts from one configuration to the next.
#[derive(Debug)]
pub(super) struct Lasting {
    pub(super) metrics: Arc<Metrics>,
    pub(super) digester: Arc<Digester>,
    limits: Arc<Local>,
    /// `None`: this replica keeps limits by itself.
    store: Option<Arc<Store>>,
    /// Digests of its files.
    store_files: Vec<Option<Vec<u8>>>,
    failures: Arc<Failures>,
    in_flight: InFlight,
    aside: Arc<Aside>,
    /// For connections of senders, as they were at the start.
    pub(super) places: usize,
    pub(super) overload: Arc<Overload>,
    log_cap: Arc<RateCap>,
}

/// A gateway and what it was built from.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) gateway: Arc<Gateway>,
    pub(super) config: Config,
    /// `None`: no listener takes token pairs.
    authority: Option<Authority>,
    pub(super) bearer: Option<Bearer>,
    /// Digests of the authority's own files: a changed secret or list is another authority.
    files: Vec<Option<Vec<u8>>>,
}

/// What stands behind the cache.
type Authoritative = Denials<Guard<Gitlab>>;

/// Who says yes or no.
#[derive(Clone, Debug)]
enum Authority {
    Gitlab { cached: Arc<Cached<Authoritative>>, health: Arc<guard::State> },
    Fixed(Arc<Fixed>),
}

impl Authority {
    fn validator(&self) -> Arc<dyn Validator> {
        match self {
            Self::Gitlab { cached, .. } => Arc::clone(cached) as _,
            Self::Fixed(fixed) => Arc::clone(fixed) as _,
        }
    }
}

/// A gateway that is ready to take over; nothing can fail any more.
#[derive(Debug)]
pub(super) struct Prepared {
    built: Built,
    bearer: Option<bearer::Prepared>,
    /// Another way to ask the same authority: what its cache holds stays.
    ask_anew: Option<Authoritative>,
}

impl Prepared {
    /// Puts in force what the gateways share, and hands over the new one.
    pub(super) fn take_over(self, lasting: &Lasting) -> Built {
        let config = &self.built.config;
        lasting.limits.reconfigure(config);
        lasting.failures.reconfigure(&config.limits.per_client_failures);
        if let (Some(Authority::Gitlab { cached, .. }), Some(guarded)) =
            (&self.built.authority, self.ask_anew)
        {
            cached.reconfigure(guarded, &config.cache);
        }
        Built { bearer: self.bearer.map(bearer::Prepared::take_over), ..self.built }
    }
}

impl Lasting {
    pub(super) fn new(config: &Config, metrics: Arc<Metrics>) -> Result<Self, StartError> {
        /// Log lines a second for one kind of refusal.
        const LINES_PER_SECOND: u32 = 5;

        let intake = &config.intake;
        let in_flight = InFlight::metered(memory::in_flight_bytes(intake), Arc::clone(&metrics));
        let places = descriptors::places(config);
        let connections = Connections::new(places, intake.max_connections_per_client);
        let overload = Overload::new(connections, in_flight.clone(), Arc::clone(&metrics));
        readable(config)?;
        let shared = &config.limits.store;
        let store = Store::open(shared, &metrics).map_err(|error| error.to_string());
        let digester = match shared.r#type {
            StoreType::Local => Ok(Digester::random()),
            StoreType::Redis => Digester::sharing(&shared.secret_file).map_err(|error| error.to_string()),
        };
        let (store, digester) = match (store, digester) {
            (Ok(store), Ok(digester)) => (store.map(Arc::new), digester),
            (store, digester) => {
                return Err(StartError([store.err(), digester.err()].into_iter().flatten().collect()));
            }
        };
        let limits = Local::new(config, &metrics);
        let limits = match &store {
            None => limits,
            Some(store) => limits.with_ledger(Arc::clone(store) as _),
        };
        Ok(Self {
            digester: Arc::new(digester),
            limits: Arc::new(limits),
            store,
            store_files: store_files(config),
            failures: Arc::new(Failures::new(&config.limits.per_client_failures, &metrics)),
            in_flight,
            aside: Arc::default(),
            places,
            overload: Arc::new(overload),
            log_cap: Arc::new(RateCap::new(LINES_PER_SECOND)),
            metrics,
        })
    }

    /// Begins to share limits, where they are shared.
    pub(super) fn share(&self) -> Option<InStep> {
        self.store.as_ref().map(|store| store.start(&self.limits))
    }

    /// The budget for body bytes.
    pub(super) fn in_flight_bytes(&self) -> u64 {
        self.in_flight.all()
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
    readable(config)?;
    let files = authority_files(config);
    let kept = before.filter(|before| before.files == files && same_authority(&before.config, config));
    let asked = authority(config, IdentityPolicy::from_config(config), lasting);
    let tls = collector_tls(config);
    let upstream = tls.as_ref().map_err(Clone::clone).and_then(|tls| {
        upstream::pool(
            &descriptors::collector(config, lasting.places),
            tls.clone(),
            Arc::clone(&lasting.metrics),
        )
        .map_err(|error| StartError::new(error.to_string()))
    });
    let names = HeaderNames::from_config(&config.gitlab).map_err(|error| StartError::new(error.to_string()));
    let bearer = Bearer::prepare(config, lasting, before.and_then(|before| before.bearer.as_ref()));
    let (asked, upstream, names, bearer) = match (asked, upstream, names, bearer) {
        (Ok(asked), Ok(upstream), Ok(names), Ok(bearer)) => (asked, upstream, names, bearer),
        (asked, upstream, names, bearer) => {
            let problems = [asked.err(), upstream.err(), names.err(), bearer.err()];
            return Err(StartError(problems.into_iter().flatten().flat_map(|error| error.0).collect()));
        }
    };
    let guard = |gitlab, health: &Arc<guard::State>| {
        let guard = Guard::new(gitlab, &config.gitlab, Arc::clone(health), Arc::clone(&lasting.metrics));
        let (store, name) = (lasting.store.as_deref(), authority_name(config, &files));
        Denials::new(guard, store, &lasting.digester, &name, config.cache.negative_ttl)
    };
    let (authority, ask_anew) = match (kept.and_then(|before| before.authority.clone()), asked) {
        (_, None) => (None, None),
        (Some(Authority::Gitlab { cached, health }), Some(Asked::Gitlab(gitlab))) => {
            let guarded = guard(*gitlab, &health);
            (Some(Authority::Gitlab { cached, health }), Some(guarded))
        }
        (Some(fixed @ Authority::Fixed(_)), Some(Asked::Fixed(_))) => (Some(fixed), None),
        (_, Some(Asked::Gitlab(gitlab))) => {
            let health = Arc::new(guard::State::new());
            let cached = Cached::new(guard(*gitlab, &health), &config.cache, Arc::clone(&lasting.metrics));
            (Some(Authority::Gitlab { cached: Arc::new(cached), health }), None)
        }
        (_, Some(Asked::Fixed(fixed))) => (Some(Authority::Fixed(fixed)), None),
    };
    if before.is_some() && kept.is_none() {
        tracing::warn!(
            "the authority or what is written of its word changed: the verdict cache starts empty"
        );
    }
    let gateway = Gateway {
        validator: Arc::new(ByKind {
            pair: authority.as_ref().map(Authority::validator),
            bearer: bearer.as_ref().map(bearer::Prepared::validator),
            client: Some(Arc::new(Mtls::from_config(config, &lasting.digester))),
            network: Some(Arc::new(Network::from_config(config, &lasting.digester))),
        }),
        limits: Arc::clone(&lasting.limits) as _,
        failures: Arc::clone(&lasting.failures),
        upstream,
        in_flight: lasting.in_flight.clone(),
        aside: Arc::clone(&lasting.aside),
        overload: Arc::clone(&lasting.overload),
        digester: Arc::clone(&lasting.digester),
        names,
        policy: policy(config),
        settings: Settings::from(config),
        metrics: Arc::clone(&lasting.metrics),
        log_cap: Arc::clone(&lasting.log_cap),
    };
    let built = Built { gateway: Arc::new(gateway), config: config.clone(), authority, bearer: None, files };
    Ok(Prepared { built, bearer, ask_anew })
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
    Fixed(Arc<Fixed>),
}

/// `None` where nobody is configured and no listener needs anybody.
fn authority(
    config: &Config,
    identity: IdentityPolicy,
    lasting: &Lasting,
) -> Result<Option<Asked>, StartError> {
    let is_named = !config.gitlab.url.is_empty() || !config.fixed.file.as_os_str().is_empty();
    if !is_named && !config.takes(Authentication::Gitlab) {
        return Ok(None);
    }
    let digester = Arc::clone(&lasting.digester);
    if config.fixed.file.as_os_str().is_empty() {
        Gitlab::new(&config.gitlab, identity, digester, Arc::clone(&lasting.metrics))
            .map(|gitlab| Asked::Gitlab(Box::new(gitlab)))
    } else {
        Fixed::load(&config.fixed.file, identity, digester, Arc::clone(&lasting.metrics))
            .map(|fixed| Asked::Fixed(Arc::new(fixed)))
    }
    .map(Some)
    .map_err(|error| StartError::new(error.to_string()))
}

/// The authority with nothing in front of it: every question is asked.
pub(super) fn asker(config: &Config, kind: Kind) -> Result<Asker, StartError> {
    let lasting = Lasting::new(config, Arc::new(Metrics::new()))?;
    let names =
        HeaderNames::from_config(&config.gitlab).map_err(|error| StartError::new(error.to_string()))?;
    // For an operator's eyes.
    let identity = IdentityPolicy::from_config(config).keeping_claims();
    let nobody = |problem: &str| Err(StartError::new(problem.to_owned()));
    let authority = if kind == Kind::Bearer {
        if config.oidc.providers.is_empty() {
            return nobody("no authority knows bearer tokens: set oidc.providers");
        }
        Questioned::Bearers(bearer::providers(config, identity.clone(), &lasting, None)?)
    } else {
        match authority(config, identity.clone(), &lasting)? {
            None => return nobody("no authority knows token pairs: set gitlab.url or fixed.file"),
            Some(Asked::Gitlab(gitlab)) => Questioned::Pairs(Arc::new(*gitlab)),
            Some(Asked::Fixed(fixed)) => Questioned::Pairs(fixed),
        }
    };
    Ok(Asker {
        authority,
        digester: lasting.digester,
        names,
        identity,
        protected_keys: protected(config).0.map(str::to_owned).collect(),
        protected_prefixes: protected(config).1.map(str::to_owned).collect(),
    })
}

/// The keys that no sender may set, and the beginnings of such keys.
fn protected(config: &Config) -> (impl Iterator<Item = &str>, impl Iterator<Item = &str>) {
    let (sets, protected) = (&config.attributes.sets, &config.attributes.protected);
    (
        protected_keys(sets)
            .chain(protected.keys.iter().map(String::as_str))
            .chain(config.oidc.attribute_keys()),
        protected_prefixes(sets).chain(protected.prefixes.iter().map(String::as_str)),
    )
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

fn policy(config: &Config) -> Policy {
    let attributes = &config.attributes;
    let (keys, prefixes) = protected(config);
    Policy {
        protected: Arc::new(ProtectedKeys::new(keys, prefixes)),
        strip_scope: attributes.also_strip.contains(&AlsoStrip::Scope),
        strip_items: attributes.also_strip.contains(&AlsoStrip::Span),
        max_item_size: config.traces.max_span_size.as_usize(),
    }
}

/// The keys whose change a reload can't put in force.
pub(super) fn need_restart(before: &Config, lasting: &Lasting, now: &Config) -> Vec<&'static str> {
    let listeners = |config: &Config| -> Vec<_> {
        let of = |listener: &crate::config::Listener| {
            let takes = (listener.signals.clone(), listener.authentication.clone());
            let hops = (listener.trusted_hops.clone(), listener.proxy_protocol);
            (listener.name.clone(), listener.address, takes, hops, listener.tls.is_some())
        };
        config.listeners.iter().map(of).collect()
    };
    let connections = |config: &Config| {
        let intake = &config.intake;
        let times = (intake.header_timeout, intake.idle_timeout, intake.stranger_idle_timeout);
        let most = (intake.max_connections, intake.max_connections_per_client, intake.max_streams);
        (times, intake.max_connection_age, most, intake.max_in_flight_bytes)
    };
    [
        ("listeners", listeners(before) != listeners(now)),
        ("admin.address", before.admin.address != now.admin.address),
        (
            "intake.max_connections, max_connections_per_client, max_connection_age, max_streams, header_timeout, \
             idle_timeout, stranger_idle_timeout, max_in_flight_bytes",
            connections(before) != connections(now),
        ),
        (
            "limits.store, and what is in its files",
            before.limits.store != now.limits.store || lasting.store_files != store_files(now),
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
