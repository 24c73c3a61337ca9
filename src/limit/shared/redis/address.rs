//! The file with addresses: URLs in, a way to connect out. It decides what an address may look like; no error
//! quotes one, because it may hold a password.

use std::{fs, path::Path, time::Duration};

use ::redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult, TlsCertificates,
    TlsMode,
    cluster::ClusterClient,
    io::tcp::TcpSettings,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::config::{Store, Topology};

use super::{super::StoreError, Way};

/// Each is a connection to try at a start.
const MAX_ADDRESSES: usize = 16;

/// A file longer than this is another one than was meant.
const MAX_FILE: usize = 64 << 10;

/// The time for one node of a cluster. A connection to the whole takes twice as long where a node hangs: once for those
/// of the file, once for those that they tell of. Both must fit into the time for a connection.
const NODE: Duration = Duration::from_millis(300);

/// The way that a configuration gives.
pub(super) fn way(config: &Store) -> Result<Way, StoreError> {
    let problem = |problem: String| fault("url_file", &config.url_file, problem);
    let addresses = addresses(&read("url_file", &config.url_file)?).map_err(problem)?;
    let encrypted = addresses.iter().any(|address| is_encrypted(address.addr()));
    let certificates = certificates(config, encrypted)?;
    // Every URL was read: what the client still has against them names none.
    let cannot = |error: RedisError| problem(format!("can't be used: {error}"));
    match (config.topology, &*addresses) {
        (Topology::Single, [address]) => single(address, certificates).map(Box::new).map(Way::Single).map_err(cannot),
        (Topology::Single, _) => Err(problem(
            "holds several addresses where one is needed: set limits.store.topology to cluster or sentinel".into(),
        )),
        (Topology::Cluster, _) => cluster(addresses, certificates).map(Box::new).map(Way::Cluster).map_err(cannot),
        (Topology::Sentinel, [master, sentinels @ ..]) if !sentinels.is_empty() => {
            let client = |address| sentinel(master, address, certificates.clone()).map(Mutex::new);
            sentinels.iter().map(client).collect::<Result<_, _>>().map(Way::Sentinels).map_err(cannot)
        }
        (Topology::Sentinel, _) => Err(problem(
            "needs two lines or more: redis://user:password@NAME/0 with the name of the master, then the sentinels"
                .into(),
        )),
    }
}

fn single(address: &ConnectionInfo, certificates: Option<TlsCertificates>) -> RedisResult<Client> {
    match certificates {
        Some(certificates) => Client::build_with_tls(address.clone(), certificates),
        None => Client::open(address.clone()),
    }
}

fn cluster(nodes: Vec<ConnectionInfo>, certificates: Option<TlsCertificates>) -> RedisResult<ClusterClient> {
    let mut builder = ClusterClient::builder(nodes)
        .retries(1)
        .tcp_settings(prompt())
        .connection_timeout(NODE)
        .response_timeout(NODE);
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    builder.build()
}

fn sentinel(
    master: &ConnectionInfo,
    sentinel: &ConnectionInfo,
    certificates: Option<TlsCertificates>,
) -> RedisResult<SentinelClient> {
    let (ConnectionAddr::Tcp(name, _) | ConnectionAddr::TcpTls { host: name, .. }) = master.addr() else {
        return Err((::redis::ErrorKind::InvalidClientConfig, "a path names no master").into());
    };
    let redis = master.redis_settings();
    let mut builder =
        SentinelClientBuilder::new([sentinel.addr().clone()], name, SentinelServerType::Master)?
            .set_client_to_redis_tcp_settings(prompt())
            .set_client_to_redis_db(redis.db());
    if let Some(username) = redis.username() {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = redis.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    let own = sentinel.redis_settings();
    if let Some(username) = own.username() {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = own.password() {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if let (true, Some(certificates)) = (is_encrypted(sentinel.addr()), &certificates) {
        builder = builder.set_client_to_sentinel_certificates(certificates.clone());
    }
    if is_encrypted(master.addr()) {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        if let Some(certificates) = certificates {
            builder = builder.set_client_to_redis_certificates(certificates);
        }
    }
    builder.build()
}

/// The addresses of a file, one a line; what is wrong says the line and quotes nothing.
fn addresses(file: &[u8]) -> Result<Vec<ConnectionInfo>, String> {
    let text = std::str::from_utf8(file).map_err(|_| "is no text".to_owned())?;
    let lines = text.lines().map(str::trim).enumerate();
    let mut addresses = Vec::new();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let at = index.saturating_add(1);
        let address = line.into_connection_info().map_err(|_| {
            format!(
                "line {at} is no address: write it as redis://user:password@host:6379/0 (rediss:// for TLS), with \
                 %XX for what has a meaning in a URL"
            )
        })?;
        if matches!(address.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(format!(
                "line {at}: \"#insecure\" would believe any certificate: set limits.store.ca_file"
            ));
        }
        addresses.push(address.set_tcp_settings(prompt()));
    }
    match addresses.len() {
        0 => Err("holds no address".into()),
        1..=MAX_ADDRESSES => Ok(addresses),
        _ => {
            Err(format!("holds more than {MAX_ADDRESSES} addresses: a few are enough, they tell the others"))
        }
    }
}

/// Small calls must not wait for the answer to the one before.
fn prompt() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn is_encrypted(address: &ConnectionAddr) -> bool {
    matches!(address, ConnectionAddr::TcpTls { .. })
}

/// The CA certificates that are trusted in place of the system's.
fn certificates(config: &Store, encrypted: bool) -> Result<Option<TlsCertificates>, StoreError> {
    let path = &config.ca_file;
    match (path.as_os_str().is_empty(), encrypted) {
        (true, _) => Ok(None),
        (false, false) => Err(fault(
            "ca_file",
            path,
            "has no use: no address in limits.store.url_file begins with rediss://".into(),
        )),
        (false, true) => {
            let roots = read("ca_file", path)?;
            // The client takes a file without a certificate for one that trusts nobody.
            if !roots.windows(MARK.len()).any(|part| part == MARK) {
                return Err(fault(
                    "ca_file",
                    path,
                    "no certificate in the file: it needs a PEM block".into(),
                ));
            }
            Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(roots.to_vec()) }))
        }
    }
}

const MARK: &[u8] = b"BEGIN CERTIFICATE";

fn read(key: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let read = fs::read(path).map(Zeroizing::new);
    let text = read.map_err(|error| fault(key, path, format!("cannot be read: {error}")))?;
    // A bundle of all public CAs is longer than any list of addresses.
    if key == "url_file" && text.len() > MAX_FILE {
        return Err(fault(key, path, "is too long for a list of addresses".into()));
    }
    Ok(text)
}

fn fault(key: &'static str, path: &Path, problem: String) -> StoreError {
    StoreError::File { key, path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests;
