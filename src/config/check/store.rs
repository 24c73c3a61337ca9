//! What the keys of the store of limits must mean together. Pure.

use crate::config::{Config, StoreType, Topology};

use super::{Problems, is_set};

/// A prefix stands in each key in the store, and in each command.
const MAX_PREFIX: usize = 64;

pub(super) fn check(config: &Config, problems: &mut Problems) {
    let store = &config.limits.store;
    // Braces would change which part of a key a cluster goes by.
    let fits = (1..=MAX_PREFIX).contains(&store.key_prefix.len())
        && store.key_prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte));
    problems.unless(
        fits,
        &["limits.store.key_prefix"],
        "must be 1 to 64 of the characters A-Z a-z 0-9 _ . : -",
    );
    let files =
        [("limits.store.url_file", &store.url_file), ("limits.store.secret_file", &store.secret_file)];
    match store.r#type {
        StoreType::Redis => {
            problems.unless(
                cfg!(feature = "redis"),
                &["limits.store.type"],
                "this build has no client for Redis: build it with the feature `redis`",
            );
            problems.unless(is_set(files[0].1), &[files[0].0], "is needed: a file with the address of Redis");
            problems.unless(
                is_set(files[1].1),
                &[files[1].0],
                "is needed, the same for all replicas: write it with `openssl rand -base64 32`",
            );
        }
        // Whoever sets these believes that limits are shared.
        StoreType::Local => {
            let more = ("limits.store.ca_file", &store.ca_file);
            for (field, path) in files.into_iter().chain([more]) {
                problems.unless(!is_set(path), &[field, "limits.store.type"], "has no use with type: local");
            }
            problems.unless(
                store.topology == Topology::Single,
                &["limits.store.topology", "limits.store.type"],
                "has no use with type: local",
            );
        }
    }
}
