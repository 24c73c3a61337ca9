//! Its own log: one line an event, with LabKit's field names or for people, and what keeps it bounded.
//! It never writes the events of libraries below a warning: at debug, HTTP libraries print headers,
//! and headers hold tokens.

mod line;
mod rate_cap;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use http::HeaderValue;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Registry, filter::Targets, fmt::MakeWriter, layer::SubscriberExt as _, reload};

use crate::config::{Log, LogFormat, LogLevel};

pub use rate_cap::RateCap;

/// Why the log could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The process already has a log.
    #[error("the log is set up twice in one process")]
    Twice,
    /// The log is gone, so its level can't be changed.
    #[error("the log can't be changed: {0}")]
    Gone(#[from] reload::Error),
}

/// The handle by which a reload changes level and format while running.
#[derive(Clone)]
pub struct Handle {
    level: reload::Handle<Targets, Registry>,
    text: Arc<AtomicBool>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("text", &self.text).finish_non_exhaustive()
    }
}

impl Handle {
    /// Makes `log` hold from the next event on.
    ///
    /// # Errors
    /// [`TelemetryError::Gone`] when the log that it belongs to was dropped.
    pub fn apply(&self, log: &Log) -> Result<(), TelemetryError> {
        self.text.store(log.format == LogFormat::Text, Ordering::Relaxed);
        Ok(self.level.reload(targets(log.level))?)
    }
}

/// Makes standard error the process's log. Once a process.
///
/// # Errors
/// [`TelemetryError::Twice`] when there is one already.
pub fn init(log: &Log) -> Result<Handle, TelemetryError> {
    let (subscriber, handle) = subscriber(log, std::io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Twice)?;
    Ok(handle)
}

/// A log that writes where `make_writer` says, with its handle. Each line is one `write_all`, so that
/// lines of several threads never mix on a pipe or a terminal.
pub fn subscriber<W>(log: &Log, make_writer: W) -> (impl Subscriber + Send + Sync, Handle)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, level) = reload::Layer::new(targets(log.level));
    let text = Arc::new(AtomicBool::new(log.format == LogFormat::Text));
    let lines = line::LineLayer::new(make_writer, Arc::clone(&text));
    (Registry::default().with(filter).with(lines), Handle { level, text })
}

fn targets(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    Targets::new().with_target("spangate", own).with_default(own.min(LevelFilter::WARN))
}

/// The name by which one request is found in the logs of all services: what the sender gave as
/// `X-Request-Id` if that is 1 to 128 of the characters `A-Z a-z 0-9 . _ -`, else a fresh one (UUID
/// version 7: sorted by time).
#[must_use]
pub fn correlation_id(header: Option<&HeaderValue>) -> Arc<str> {
    let sane = |text: &&str| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match header.and_then(|value| value.to_str().ok()).filter(sane) {
        Some(given) => Arc::from(given),
        None => Arc::from(&*fresh_id().simple().encode_lower(&mut uuid::Uuid::encode_buffer())),
    }
}

/// A UUID of version 7 whose random part is a keyed hash of a counter: it has to be unique, not
/// unguessable, and asking the system for randomness would cost each request a system call.
fn fresh_id() -> uuid::Uuid {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);

    let millis = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let hashed = KEY.hash_one(count).to_le_bytes().into_iter().chain(count.to_le_bytes());
    let mut random = [0_u8; 10];
    random.iter_mut().zip(hashed).for_each(|(to, from)| *to = from);
    let millis = u64::try_from(millis).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}
