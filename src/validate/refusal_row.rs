//! A row of refusals without one other word of the authority between, and when the operator is told of it.
//! It never changes a verdict: a refusal stays one.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A row of so many is worth a warning.
const SUSPICIOUS: u64 = 50;
/// Least time from one warning to the next, be it about the same row or another.
const PAUSE: Duration = Duration::from_mins(1);

/// Counts refusals in a row.
#[derive(Debug, Default)]
pub(super) struct RefusalRow(Mutex<Row>);

#[derive(Debug, Default)]
struct Row {
    length: u64,
    told: Option<Instant>,
}

impl RefusalRow {
    /// One more refusal, at `now`. `Some`: a warning is due, and the row has become so long.
    pub(super) fn refused(&self, now: Instant) -> Option<u64> {
        let mut row = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        row.length = row.length.saturating_add(1);
        let is_quiet = row.told.is_none_or(|told| now.saturating_duration_since(told) >= PAUSE);
        (row.length >= SUSPICIOUS && is_quiet).then(|| {
            row.told = Some(now);
            row.length
        })
    }

    /// Another word of the authority: the row is over.
    pub(super) fn ended(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).length = 0;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, Instant};

    use super::RefusalRow;

    /// Scenario: a refusal a second for five minutes, then one other word, then refusals again.
    /// Guarantees: the first warning comes with the fiftieth, the next ones a minute apart while the row lasts; a new
    /// row needs fifty of its own.
    #[test]
    fn a_row_is_told_once_a_minute() {
        let start = Instant::now();
        let row = RefusalRow::default();
        let told = |seconds: std::ops::Range<u64>| -> Vec<_> {
            let at = |second| start.checked_add(Duration::from_secs(second)).unwrap();
            seconds.filter_map(|second| row.refused(at(second)).map(|length| (second, length))).collect()
        };
        assert_eq!(told(1..301), [(50, 50), (110, 110), (170, 170), (230, 230), (290, 290)]);
        row.ended();
        assert_eq!(told(301..420), [(350, 50), (410, 110)]);
    }

    /// Scenario: rows of fifty with one other word between, within a second.
    /// Guarantees: short rows in turn don't flood the log either.
    #[test]
    fn many_rows_are_told_once_a_minute() {
        let (row, now) = (RefusalRow::default(), Instant::now());
        let mut told = 0;
        for _ in 0..100 {
            told += (0..50).filter_map(|_| row.refused(now)).count();
            row.ended();
        }
        assert_eq!(told, 1);
    }
}
