//! Metrics of the store that replicas share limits through. Those that only make sense with one are not there
//! without one. It decides names only, never when something happens.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{Metrics, add, labels::OutcomeLabels, table};

/// Seconds: a call in a data centre takes less than a millisecond, and is given up after 20.
const SECONDS: [f64; 7] = [0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02];

/// A gauge that is not there before it is first set.
type Late = Family<[(&'static str, &'static str); 0], Gauge>;

pub(super) struct LimitStore {
    up: Late,
    replicas: Late,
    requests: Family<OutcomeLabels, Counter>,
    duration: Histogram,
    untold: Counter,
    denials: Counter,
}

impl LimitStore {
    pub(super) fn register(to: &mut Registry) -> Self {
        Self {
            up: add(to, &table::LIMIT_STORE_UP, Family::default()),
            replicas: add(to, &table::LIMIT_STORE_REPLICAS, Family::default()),
            requests: add(to, &table::LIMIT_STORE_REQUESTS, Family::default()),
            duration: add(to, &table::LIMIT_STORE_DURATION, Histogram::new(SECONDS)),
            untold: add(to, &table::LIMIT_STORE_UNTOLD, Counter::default()),
            denials: add(to, &table::SHARED_DENIALS, Counter::default()),
        }
    }
}

impl Metrics {
    /// Whether the store of limits answers, and how many replicas share it.
    pub fn limit_store(&self, up: bool, replicas: u32) {
        self.limit_store.up.get_or_create(&[]).set(i64::from(up));
        self.limit_store.replicas.get_or_create(&[]).set(i64::from(replicas));
    }

    /// The store of limits was called. `outcome`: ok, timeout, error.
    pub fn limit_store_request(&self, outcome: &'static str, duration: Duration) {
        self.limit_store.requests.get_or_create(&OutcomeLabels { outcome }).inc();
        self.limit_store.duration.observe(duration.as_secs_f64());
    }

    /// Other replicas were not told of the latest charges of so many keys.
    pub fn limit_store_untold(&self, keys: u64) {
        self.limit_store.untold.inc_by(keys);
    }

    /// A pair was refused by what another replica was told.
    pub fn limit_store_denial(&self) {
        self.limit_store.denials.inc();
    }
}
