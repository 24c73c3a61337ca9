//! The composition root: the only place that names concrete parts. Configuration in, a running
//! gateway out; a reload builds a second one and swaps one pointer. It never handles a request.

mod bearer;
mod build;
mod descriptors;
mod files;
mod memory;
mod operator;
mod unjudged;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::{net::TcpListener, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin::{self, Health, Token},
    config::{self, Config},
    limit::shared::InStep,
    metrics::Metrics,
    proxy::{
        gateway::{Gateway, ListenerRules},
        server::{self, Connections, ServerSettings},
        service,
    },
    telemetry::RateCap,
    tls,
    validate::{
        IdentityPolicy, Validator,
        credentials::{Digester, HeaderNames, Kind},
        oidc::Oidc,
    },
};

use self::{
    build::{Built, Lasting},
    operator::Operator,
};

/// Why the gateway could not start or take a new configuration; the text says what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct StartError(pub Vec<String>);

impl StartError {
    fn new(problem: String) -> Self {
        Self(vec![problem])
    }
}

/// A running gateway. Dropped, it closes everything at once; [`Running::drain`] is the kind way.
#[derive(Debug)]
pub struct Running {
    listeners: BTreeMap<String, SocketAddr>,
    admin: SocketAddr,
    lasting: Arc<Lasting>,
    health: Arc<Health>,
    gateway: Arc<ArcSwap<Gateway>>,
    admin_token: Arc<ArcSwapOption<Token>>,
    /// What addresses and pools were made from.
    started_with: Config,
    server_tls: BTreeMap<String, Arc<ArcSwap<rustls::ServerConfig>>>,
    /// What is in force; locked for the length of a reload.
    current: Mutex<Built>,
    /// Limits are shared for as long as this lives.
    _in_step: Option<InStep>,
    drain: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
    admin_end: CancellationToken,
}

/// Who answers for credentials under a configuration, for a command that asks once: no cache in front, no
/// listener, nothing bound.
#[derive(Debug)]
pub struct Asker {
    /// Who says yes or no.
    pub authority: Questioned,
    /// Digests credentials.
    pub digester: Arc<Digester>,
    /// Where credentials stand.
    pub names: HeaderNames,
    /// How facts become attributes.
    pub identity: IdentityPolicy,
    /// Keys that no sender may set.
    pub protected_keys: Vec<String>,
    /// The beginnings of further such keys.
    pub protected_prefixes: Vec<String>,
}

/// Who is asked: another authority for each kind of credentials.
#[derive(Debug)]
pub enum Questioned {
    /// Knows token pairs.
    Pairs(Arc<dyn Validator>),
    /// Knows bearer tokens, and says what is wrong with one.
    Bearers(Oidc),
}

/// Builds what answers for credentials of a kind. It opens files and no socket.
///
/// # Errors
/// [`StartError`] with every file or key that can't be used.
pub fn asker(config: &Config, kind: Kind) -> Result<Asker, StartError> {
    tls::install_provider();
    build::asker(config, kind)
}

/// What start does, without binding an address: every file is read, every URL and every key checked.
///
/// # Errors
/// All mistakes that were found, each a sentence that says what to mend.
pub fn check(config: &Config) -> Result<(), Vec<String>> {
    tls::install_provider();
    files::readable(config).map_err(|error| error.0)?;
    let of_listeners = config.listeners.iter().filter_map(|listener| {
        let error = tls::server(listener.tls.as_ref()?).err()?;
        Some(format!("listener {}: {error}", listener.name))
    });
    let mut problems: Vec<_> = of_listeners.collect();
    problems.extend(operator::token(&config.admin.token_file).err().into_iter().flat_map(|error| error.0));
    let built = Lasting::new(config, Arc::new(Metrics::new()))
        .and_then(|lasting| build::gateway(config, &lasting, None).map(drop));
    problems.extend(built.err().into_iter().flat_map(|error| error.0));
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// What can be served with and will not work: own certificates that are out of their time. A file that can't be
/// read is for [`check`] to tell.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let of_listeners = config.listeners.iter().enumerate().filter_map(|(index, listener)| {
        Some((format!("listeners.{index}.tls.cert_file"), &listener.tls.as_ref()?.cert_file))
    });
    let to_collector = ("collector.tls.cert_file".to_owned(), &config.collector.tls.cert_file);
    of_listeners
        .chain([to_collector])
        .filter(|(_, path)| !path.as_os_str().is_empty())
        .filter_map(|(key, path)| {
            let problem = tls::out_of_time(path).ok()??;
            Some(format!("{key}: {problem}: whoever checks it will refuse the connection"))
        })
        .collect()
}

fn tell_warnings(config: &Config) {
    for warning in warnings(config) {
        tracing::warn!("{warning}; write a new one there and send SIGHUP");
    }
}

/// Builds everything that the configuration names, binds the listeners and serves.
///
/// # Errors
/// [`StartError`] when a file, an address or a URL can't be used.
pub async fn start(config: Config) -> Result<Running, StartError> {
    tls::install_provider();
    descriptors::raise();
    descriptors::tell(&config, None);
    let lasting = Arc::new(Lasting::new(&config, Arc::new(Metrics::new()))?);
    memory::tell(&config.intake, lasting.in_flight_bytes());
    let admin_token = operator::token(&config.admin.token_file)?;
    let built = build::gateway(&config, &lasting, None)?.take_over(&lasting);
    let mut running = Running {
        listeners: BTreeMap::new(),
        admin: config.admin.address,
        health: Arc::new(Health::default()),
        gateway: Arc::new(ArcSwap::from(Arc::clone(&built.gateway))),
        admin_token: Arc::new(ArcSwapOption::from(admin_token)),
        started_with: config.clone(),
        server_tls: BTreeMap::new(),
        current: Mutex::new(built),
        _in_step: lasting.share(),
        lasting,
        drain: CancellationToken::new(),
        cut: CancellationToken::new(),
        tasks: TaskTracker::new(),
        admin_end: CancellationToken::new(),
    };
    // The admin listener first: a probe should be told "not yet" rather than be refused a connection.
    running.serve_admin(&config).await?;
    for listener in &config.listeners {
        running.serve_runners(listener, &config).await?;
    }
    running.watch_overload();
    running.await_keys();
    tell_warnings(&config);
    running.health.set_started();
    Ok(running)
}

async fn bind(name: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let explain = |error| StartError::new(format!("listener {name}: cannot listen on {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(explain)?;
    let bound = listener.local_addr().map_err(explain)?;
    tracing::info!(listener = name, address = %bound, "listening");
    Ok((listener, bound))
}

impl Running {
    /// The bound address of a listener, by name.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.get(name).copied()
    }

    /// The bound address of the admin listener.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process's metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.lasting.metrics
    }

    async fn serve_runners(
        &mut self,
        listener: &config::Listener,
        config: &Config,
    ) -> Result<(), StartError> {
        let tls = listener
            .tls
            .as_ref()
            .map(tls::server)
            .transpose()
            .map_err(|error| StartError::new(format!("listener {}: {error}", listener.name)))?
            .map(|settings| Arc::new(ArcSwap::from(settings)));
        if let Some(swap) = &tls {
            self.server_tls.insert(listener.name.clone(), Arc::clone(swap));
        }
        let (socket, bound) = bind(&listener.name, listener.address).await?;
        self.listeners.insert(listener.name.clone(), bound);

        let overload = &self.lasting.overload;
        let settings = ServerSettings { tls, ..ServerSettings::outer(listener, &config.intake, overload) };
        let gateway = Arc::clone(&self.gateway);
        let rules = Arc::new(ListenerRules::from(listener));
        let handler =
            move |request, peer| service::serve(gateway.load_full(), Arc::clone(&rules), request, peer);
        self.tasks.spawn(server::serve(
            socket,
            listener.name.as_str().into(),
            settings,
            Arc::clone(&self.lasting.metrics),
            handler,
            self.drain.clone(),
            self.cut.clone(),
        ));
        Ok(())
    }

    /// Until the process is cut: a drain can be overloaded too.
    fn watch_overload(&self) {
        let (overload, cut) = (Arc::clone(&self.lasting.overload), self.cut.clone());
        drop(tokio::spawn(async move { cut.run_until_cancelled(overload.watch()).await }));
    }

    /// Ready only with the providers' keys, or when they could not be had: a replica whose tokens all get 503 helps
    /// nobody while others have them, and one provider that is down must not keep all replicas out.
    fn await_keys(&self) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bearer) = &current.bearer {
            let (settled, health) = (bearer.settled(), Arc::clone(&self.health));
            health.set_waiting(true);
            drop(tokio::spawn(async move {
                settled.await;
                health.set_waiting(false);
            }));
        }
    }

    async fn serve_admin(&mut self, config: &Config) -> Result<(), StartError> {
        /// Probes and one or two scrapers.
        const CONNECTIONS: usize = 64;

        let (socket, bound) = bind("admin", config.admin.address).await?;
        self.admin = bound;
        let settings = ServerSettings::inner(&config.intake, Connections::new(CONNECTIONS, 0));
        let health = Arc::clone(&self.health);
        let operator = Arc::new(Operator {
            gateway: Arc::clone(&self.gateway),
            metrics: Arc::clone(&self.lasting.metrics),
            token: Arc::clone(&self.admin_token),
            log_cap: RateCap::new(1),
        });
        let handler = move |request: http::Request<hyper::body::Incoming>, _| {
            let answer = admin::respond(&health, &*operator, &request);
            std::future::ready(answer.map(http_body_util::BodyExt::boxed_unsync))
        };
        // It outlives the drain of the others: probes and a last scrape are wanted until the end.
        drop(tokio::spawn(server::serve(
            socket,
            "admin".into(),
            settings,
            Arc::clone(&self.lasting.metrics),
            handler,
            self.admin_end.clone(),
            self.admin_end.clone(),
        )));
        Ok(())
    }

    /// Reads certificates, secrets and settings again and swaps the gateway in one step; a bad
    /// configuration leaves the running one as it is. Addresses and sizes of shared pools do not change.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong with the new configuration.
    pub fn reload(&self, config: &Config) -> Result<(), StartError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut certificates = Vec::new();
        for listener in &config.listeners {
            // What a listener takes changes with a restart only, and asking for certificates is a part of that.
            let takes_the_same = self.started_with.listeners.iter().any(|started| {
                started.name == listener.name && started.authentication == listener.authentication
            });
            if let (true, Some(settings), Some(swap)) =
                (takes_the_same, &listener.tls, self.server_tls.get(&listener.name))
            {
                let settings = tls::server(settings)
                    .map_err(|error| StartError::new(format!("listener {}: {error}", listener.name)))?;
                certificates.push((swap, settings));
            }
        }
        let admin_token = operator::token(&config.admin.token_file)?;
        let prepared = build::gateway(config, &self.lasting, Some(&current))?;
        for (swap, settings) in certificates {
            swap.store(settings);
        }
        self.admin_token.store(admin_token);
        let built = prepared.take_over(&self.lasting);
        self.gateway.store(Arc::clone(&built.gateway));
        self.lasting.metrics.forget_kept();
        descriptors::tell(config, Some(self.lasting.places));
        tell_warnings(config);
        for key in build::need_restart(&self.started_with, &self.lasting, config) {
            tracing::warn!(
                key,
                "this key is not what the process was started with; it takes effect after a restart"
            );
        }
        for (listener, kind) in unjudged::unjudged(&self.started_with, config) {
            tracing::warn!(
                listener,
                kind,
                "no authority knows these credentials any more, and the listener takes them until a restart: \
                 their senders get 503"
            );
        }
        *current = built;
        self.health.configuration_applied();
        Ok(())
    }

    /// Drains: readiness goes 503, serves on for `shutdown.delay`, lets open requests end, cuts at
    /// `shutdown.deadline`. Returns whether everything ended by itself.
    pub async fn drain(self) -> bool {
        let shutdown = self.current.lock().unwrap_or_else(PoisonError::into_inner).config.shutdown.clone();
        let end = time::Instant::now().checked_add(shutdown.deadline);
        self.health.set_draining();
        time::sleep(shutdown.delay).await;
        self.drain.cancel();
        self.tasks.close();
        let clean = match end {
            Some(end) => time::timeout_at(end, self.tasks.wait()).await.is_ok(),
            None => true,
        };
        if !clean {
            self.cut.cancel();
            // Cutting takes no waiting on a peer.
            let _ = time::timeout(Duration::from_secs(1), self.tasks.wait()).await;
        }
        clean
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drain.cancel();
        self.cut.cancel();
        self.admin_end.cancel();
    }
}
