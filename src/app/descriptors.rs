//! File descriptors: the limit of the process raised as far as the system lets it, and no more places for connections than it
//! bears. It never opens or closes one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Left for files, the log, listeners, and connections to GitLab, `OpenID` providers and operators.
const RESERVE: u64 = 128;

/// A connection takes one, and a request on it may take another to a collector.
const EACH: u64 = 2;

/// Raises the soft limit to the hard one, and tells the operator if that is too low for `wanted` connections.
pub(super) fn raise(wanted: usize) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(error_message = %error, "the limit of file descriptors cannot be raised");
    }
    let bearable = places(wanted);
    if bearable < wanted {
        tracing::warn!(
            max_connections = wanted,
            places = bearable,
            file_descriptors = getrlimit(Resource::Nofile).current,
            "too few file descriptors for intake.max_connections: there are fewer places; raise the hard limit \
             (LimitNOFILE) or lower the key"
        );
    }
}

/// How many of the `wanted` connections the limit bears. With more of them, none would be left for the collector.
pub(super) fn places(wanted: usize) -> usize {
    getrlimit(Resource::Nofile).current.map_or(wanted, |limit| bearable(limit).min(wanted))
}

fn bearable(limit: u64) -> usize {
    let places = limit.saturating_sub(RESERVE) / EACH;
    usize::try_from(places).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: limits from nothing to none.
    /// Guarantees: half of what is not reserved, and never no place at all.
    #[test]
    fn half_of_what_is_not_reserved() {
        for (limit, expected) in [(0, 1), (128, 1), (130, 1), (132, 2), (1024, 448), (20_128, 10_000)] {
            assert_eq!(bearable(limit), expected, "{limit}");
        }
        assert!(bearable(u64::MAX) > 1 << 40);
    }
}
