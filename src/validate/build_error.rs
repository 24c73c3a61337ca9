//! Why a validator could not be built: each text names the key or the file to mend. It never holds
//! a secret's value.

use std::path::{Path, PathBuf};

use crate::tls::TlsError;

/// Why a validator could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A setting that can't be used.
    #[error("{key}: {problem}")]
    Setting {
        /// The key in the configuration.
        key: &'static str,
        /// What is wrong and what to write.
        problem: String,
    },
    /// A file that can't be used.
    #[error("{key}: {}: {problem}", path.display())]
    File {
        /// The key in the configuration that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A list of entries with mistakes, every one of them.
    #[error("{}: {} mistake(s): {}", path.display(), problems.len(), problems.join("; "))]
    Entries {
        /// The file.
        path: PathBuf,
        /// Each with its line, its entry and its key.
        problems: Vec<String>,
    },
    /// A mistake in an OpenID provider.
    #[error("oidc.providers.{index}.{key}: {problem}")]
    Provider {
        /// Its place in the list.
        index: usize,
        /// The key below it.
        key: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The trust in the authority's certificate could not be set up.
    #[error("gitlab.ca_file: {0}")]
    Tls(#[from] TlsError),
    /// The HTTP client could not be set up.
    #[error("the HTTP client for gitlab.url cannot be set up: {0}")]
    Client(String),
}

impl BuildError {
    pub(in crate::validate) fn setting(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Setting { key, problem: problem.into() }
    }

    pub(in crate::validate) fn file(key: &'static str, path: &Path, problem: impl Into<String>) -> Self {
        Self::File { key, path: path.to_owned(), problem: problem.into() }
    }
}
