//! Keys of where replicas keep what they share: limits and denials. It decides defaults and spelling only;
//! addresses with their passwords, and the secret, stand in files of their own.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::settings::settings;

settings! {
    /// Where the state of limits is kept: by each replica for itself, or shared by all.
    pub struct Store {
        /// local (each replica by itself) or redis (Redis 7 or later, or Valkey; limits, budgets and denials are shared).
        r#type: StoreType = StoreType::Local;
        /// How `redis` is laid out: single (one address), cluster or sentinel.
        topology: Topology = Topology::Single;
        /// File with the addresses, one a line: `redis://user:password@host:6379/0`, or `rediss://` for TLS. With `cluster` some of
        /// its nodes; with `sentinel` first one whose host is the name of the master, then the sentinels.
        url_file: PathBuf = PathBuf::new();
        /// File with 32 bytes in base64, the same for all replicas: keys in the store are hashes under it.
        secret_file: PathBuf = PathBuf::new();
        /// What every key in the store begins with. Gateways with another GitLab need another one.
        key_prefix: String = "spangate".into();
        /// PEM file with the CA certificates that the store's certificate is checked against; empty: the system's.
        ca_file: PathBuf = PathBuf::new();
    }
}

/// Where the state of limits is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreType {
    /// By each replica for itself.
    #[default]
    Local,
    /// In Redis or Valkey, for all replicas.
    Redis,
}

/// How a store is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// One server, or what looks like one.
    #[default]
    Single,
    /// A cluster; any of its nodes tells the others.
    Cluster,
    /// Sentinels tell which server is the master.
    Sentinel,
}
