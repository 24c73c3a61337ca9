//! The files that a configuration names: which can't be read, and which of them say who the authority is. What is in
//! them is judged by whoever uses it.

use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};

use crate::config::Config;

use super::StartError;

/// Whose word a denial is, for other replicas: whoever asks another GitLab, or in another way, may be told otherwise.
pub(super) fn authority_name(config: &Config, files: &[Option<Vec<u8>>]) -> Vec<u8> {
    let gitlab = &config.gitlab;
    let asked = [
        &gitlab.url,
        &gitlab.auth_path,
        &gitlab.runner_token_header,
        &gitlab.job_token_header,
        &gitlab.secret_header,
        &gitlab.secret_issuer,
        &gitlab.secret_audience,
    ];
    format!("{asked:?} {files:?}").into_bytes()
}

/// The files of a configuration, as far as they can be opened.
///
/// # Errors
/// [`StartError`] with each file that can't.
pub(super) fn readable(config: &Config) -> Result<(), StartError> {
    let unreadable = unreadable_files(config);
    if unreadable.is_empty() { Ok(()) } else { Err(StartError(unreadable)) }
}

/// All files that the configuration names and that can't be read, so that an operator mends them in
/// one go; what is in them is judged by whoever uses it.
fn unreadable_files(config: &Config) -> Vec<String> {
    let Config { admin, gitlab, fixed, collector, limits, .. } = config;
    let of_listeners = config.listeners.iter().enumerate().flat_map(|(index, listener)| {
        listener.tls.iter().flat_map(move |tls| {
            [
                ("cert_file", &tls.cert_file),
                ("key_file", &tls.key_file),
                ("client_ca_file", &tls.client_ca_file),
            ]
            .map(|(key, path)| (format!("listeners.{index}.tls.{key}"), path))
        })
    });
    let of_providers = config.oidc.providers.iter().enumerate().flat_map(|(index, provider)| {
        [("keys_file", &provider.keys_file), ("ca_file", &provider.ca_file)]
            .map(|(key, path)| (format!("oidc.providers.{index}.{key}"), path))
    });
    [
        ("admin.token_file", &admin.token_file),
        ("gitlab.secret_file", &gitlab.secret_file),
        ("gitlab.ca_file", &gitlab.ca_file),
        ("fixed.file", &fixed.file),
        ("limits.store.url_file", &limits.store.url_file),
        ("limits.store.secret_file", &limits.store.secret_file),
        ("limits.store.ca_file", &limits.store.ca_file),
        ("collector.tls.ca_file", &collector.tls.ca_file),
        ("collector.tls.cert_file", &collector.tls.cert_file),
        ("collector.tls.key_file", &collector.tls.key_file),
    ]
    .into_iter()
    .map(|(key, path)| (key.to_owned(), path))
    .chain(of_listeners)
    .chain(of_providers)
    .filter(|(_, path)| !path.as_os_str().is_empty())
    .filter_map(|(key, path)| {
        let error = std::fs::File::open(path).err()?;
        Some(format!("{key}: {}: cannot be read: {error}", path.display()))
    })
    .collect()
}

/// Digests of the files that say who the authority is; one that can't be read is reported by
/// whoever needs it.
pub(super) fn authority_files(config: &Config) -> Vec<Option<Vec<u8>>> {
    digests(&[config.gitlab.secret_file.clone(), config.fixed.file.clone()])
}

/// Digests of the files of the store of limits: another password or secret takes effect after a restart.
pub(super) fn store_files(config: &Config) -> Vec<Option<Vec<u8>>> {
    let store = &config.limits.store;
    digests(&[store.url_file.clone(), store.secret_file.clone(), store.ca_file.clone()])
}

/// A digest of each file; `None` for one that can't be read.
pub(super) fn digests(files: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
    let read = |path| Some(digest(&SHA256, &std::fs::read(path).ok()?).as_ref().to_vec());
    files.iter().map(read).collect()
}
