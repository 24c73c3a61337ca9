//! File descriptors: the limit of the process raised as far as the system lets it, and no more places for connections than it
//! bears beside what collectors and the authority take. It never opens or closes one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    config::{Collector, Config, Protocol},
    proxy::upstream::{bearable_exports, most_connections},
};

/// Left for what has a bound of its own: three standard streams, about ten of the runtime and its signals, 11 listeners, 64
/// connections of operators, one to each of 16 providers, the nodes of the store of limits, the files of a reload.
const RESERVE: usize = 128;

/// Pools of collectors over gRPC: a reload makes a second one, and both are small.
const GRPC_POOLS: usize = 2;

/// What the limit bears of what a configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    /// Of `intake.max_connections`.
    places: usize,
    /// Of `collector.max_connections`.
    exports: usize,
}

/// Raises the soft limit to the hard one.
pub(super) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(error_message = %error, "the limit of file descriptors cannot be raised");
    }
}

/// Tells the operator if the limit is too low for what is configured, beside the places that senders have had since the
/// start, if it was before.
pub(super) fn tell(config: &Config, held: Option<usize>) {
    let share = share(limit(), config, held);
    let wanted = (config.intake.max_connections, config.collector.max_connections);
    let short_of_places = held.is_none() && share.places != wanted.0;
    if short_of_places || share.exports != wanted.1 {
        tracing::warn!(
            max_connections = wanted.0,
            places = share.places,
            collector_max_connections = wanted.1,
            collector_connections = share.exports,
            file_descriptors = limit(),
            "too few file descriptors for intake.max_connections and collector.max_connections: there are only so many \
             places, and connections to collectors; raise the hard limit (LimitNOFILE) or lower the keys, and restart"
        );
    }
}

/// How many of `intake.max_connections` the limit bears. With more of them, none would be left for the collector.
pub(super) fn places(config: &Config) -> usize {
    share(limit(), config, None).places
}

/// The collectors of a configuration, with no more connections than the limit bears beside the places that senders have.
pub(super) fn collector(config: &Config, held: usize) -> Collector {
    Collector { max_connections: share(limit(), config, Some(held)).exports, ..config.collector.clone() }
}

fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// `held`: places that there are since the start, whatever is configured by now.
fn share(limit: Option<u64>, config: &Config, held: Option<usize>) -> Share {
    let (places, exports) = (held.unwrap_or(config.intake.max_connections), config.collector.max_connections);
    let Some(limit) = limit else { return Share { places, exports } };
    let free = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(RESERVE);
    let free = free.saturating_sub(to_gitlab(config).min(free / 4));
    // Under a low limit each side has half of it, and what the other does not ask for.
    let bearable = free.saturating_sub(held.unwrap_or(places.min(free / 2)));
    let (taken, exports) = match config.collector.protocol {
        Protocol::Grpc => (most_connections(&config.collector).saturating_mul(GRPC_POOLS), exports),
        Protocol::Http => {
            let exports = bearable_exports(&config.collector, bearable);
            (most_connections(&Collector { max_connections: exports, ..config.collector.clone() }), exports)
        }
    };
    let places = held.unwrap_or(free.saturating_sub(taken).min(places).max(1));
    Share { places, exports }
}

/// Most connections to GitLab: in use and unused.
fn to_gitlab(config: &Config) -> usize {
    if config.gitlab.url.is_empty() { 0 } else { config.gitlab.max_concurrency.saturating_mul(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        config.gitlab.url = "https://gitlab.example.com".into();
        change(&mut config);
        config
    }

    /// Scenario: the defaults, under limits from nothing to none.
    /// Guarantees: never no place at all; half for collectors under a low limit, and no more than they take under a higher
    /// one, so that 20,000 bear all places.
    #[test]
    fn collectors_take_half_at_most() {
        let config = config(|_| {});
        for (limit, places, exports) in [
            (0, 1, 1),
            (128, 1, 1),
            (136, 4, 1),
            (1024, 384, 192),
            (4096, 1920, 960),
            (20_000, 10_000, 1024),
            (65_536, 10_000, 1024),
            (u64::MAX, 10_000, 1024),
        ] {
            assert_eq!(share(Some(limit), &config, None), Share { places, exports }, "{limit}");
        }
        assert_eq!(share(None, &config, None), Share { places: 10_000, exports: 1024 });
    }

    /// Scenario: more places and exports than the limit bears; few of one kind; several endpoints.
    /// Guarantees: what one side does not ask for is the other's, and together they never take more than the limit.
    #[test]
    fn what_one_side_leaves_is_the_others() {
        for (limit, wanted, endpoints, expected) in [
            (20_000, (15_000, 1024), 1, (15_000, 1024)),
            (20_000, (30_000, 1024), 2, (17_696, 1024)),
            (20_000, (30_000, 9000), 1, (9872, 8848)),
            (20_000, (30_000, 9000), 2, (9872, 7824)),
            (1024, (100, 1024), 1, (100, 334)),
            (1024, (10_000, 50), 2, (668, 50)),
        ] {
            let config = config(|config| {
                config.intake.max_connections = wanted.0;
                config.collector.max_connections = wanted.1;
                config.collector.endpoints.resize(endpoints, "http://b:1".into());
            });
            let share = share(Some(limit), &config, None);
            assert_eq!((share.places, share.exports), expected, "{limit}, {wanted:?}");
            assert!(all(share, config) <= usize::try_from(limit).unwrap(), "{limit}, {wanted:?}");
        }
    }

    /// All that may be open.
    fn all(share: Share, config: Config) -> usize {
        let collector = Collector { max_connections: share.exports, ..config.collector };
        [share.places, most_connections(&collector), RESERVE, 128].iter().sum()
    }

    /// Scenario: a reload asks for more exports beside the places that there are since the start, and for other places.
    /// Guarantees: exports get what is left beside those places; the limit is never passed.
    #[test]
    fn a_reload_takes_no_place_away() {
        for (held, wanted, exports) in [
            (17_000, (10_000, 8000), 1720),
            (17_000, (17_000, 1024), 1024),
            (9000, (17_000, 8000), 8000),
            (19_744, (10_000, 1024), 1),
        ] {
            let config = config(|config| {
                config.intake.max_connections = wanted.0;
                config.collector.max_connections = wanted.1;
                config.collector.endpoints.resize(1, "http://b:1".into());
            });
            let share = share(Some(20_000), &config, Some(held));
            assert_eq!((share.places, share.exports), (held, exports), "{wanted:?} beside {held}");
            assert!(all(share, config) <= 20_002, "{wanted:?} beside {held}");
        }
    }

    /// Scenario: collectors over gRPC; another number of questions to GitLab at once, none, and far too many.
    /// Guarantees: gRPC takes a few and its `max_connections` stays; GitLab's are left out of the places, a quarter at most.
    #[test]
    fn grpc_takes_few_and_gitlab_what_it_may() {
        let of = |concurrency: Option<usize>| {
            let config = config(|config| {
                config.collector.protocol = Protocol::Grpc;
                config.collector.endpoints.resize(3, "http://b:1".into());
                match concurrency {
                    Some(most) => config.gitlab.max_concurrency = most,
                    None => config.gitlab.url.clear(),
                }
            });
            share(Some(1024), &config, None)
        };
        assert_eq!(of(Some(64)), Share { places: 756, exports: 1024 });
        assert_eq!(of(Some(4)), Share { places: 876, exports: 1024 });
        assert_eq!(of(None), Share { places: 884, exports: 1024 });
        assert_eq!(of(Some(usize::MAX)), Share { places: 660, exports: 1024 });
    }
}
