//! What limits said, for those who ask them on every request: counters that are found once. It decides no
//! limit and knows none by name.

use prometheus_client::metrics::counter::Counter;

use super::{Metrics, labels::LimitLabels};

/// What one limit said so far, each word with its counter.
#[derive(Clone, Debug)]
pub struct LimitCounts([Counter; 3]);

impl LimitCounts {
    /// It was asked: so many times it allowed, refused, or would have refused.
    pub fn add(&self, said: [u64; 3]) {
        for (counter, times) in self.0.iter().zip(said) {
            if times > 0 {
                counter.inc_by(times);
            }
        }
    }
}

impl Metrics {
    /// The counters of one limit, which begin at zero with this.
    #[must_use]
    pub fn limit_counts(&self, limit: &'static str) -> LimitCounts {
        LimitCounts(
            ["allowed", "refused", "would_refuse"]
                .map(|decision| self.limit_decisions.get_or_create_owned(&LimitLabels { limit, decision })),
        )
    }
}
