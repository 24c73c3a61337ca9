//! Counts of decisions. Nearly all charges pass every limit that is asked; those are counted once for the
//! whole charge, by which limits that were, and become counts of limits when somebody looks. It decides
//! nothing.

use std::sync::Arc;

use crate::metrics::{LimitCounts, Metrics};

use super::{
    Limit, Subject,
    rules::{Inquiry, Limits, Rules, bit, kinds},
};

/// Which units a charge costs, which levels its subject has, and whether its job's budget was asked: three bits, two and
/// one.
const KINDS: usize = 64;

/// The counters of all limits.
#[derive(Debug)]
pub(super) struct Counters(Vec<(Limit, LimitCounts)>);

impl Counters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self(Limit::ALL.iter().map(|limit| (*limit, metrics.limit_counts(limit.label()))).collect())
    }

    /// Counts what each limit said.
    pub(super) fn add(&self, inquiry: &Inquiry) {
        for (limit, counts) in &self.0 {
            let said = |limits: Limits| u64::from(limits & bit(*limit) != 0);
            counts.add([said(inquiry.allowed), said(inquiry.refused), said(inquiry.would_refuse)]);
        }
    }

    fn add_allowed(&self, limits: Limits, times: u64) {
        for (limit, counts) in &self.0 {
            if limits & bit(*limit) != 0 {
                counts.add([times, 0, 0]);
            }
        }
    }
}

/// Charges under one configuration that passed all limits that they met, by kind.
#[derive(Debug)]
pub(super) struct Tally {
    kinds: [(u64, Limits); KINDS],
    counters: Arc<Counters>,
}

impl Tally {
    pub(super) fn new(rules: &Rules, counters: Arc<Counters>) -> Self {
        Self { kinds: std::array::from_fn(|kind| (0, asked(rules, kind))), counters }
    }

    /// Counts what the limits said to one charge.
    pub(super) fn add(&mut self, subject: &Subject<'_>, inquiry: &Inquiry) {
        if inquiry.refused | inquiry.would_refuse != 0 {
            return self.counters.add(inquiry);
        }
        let kind = kind(
            subject,
            kinds(&inquiry.units, |units| *units > 0),
            inquiry.allowed & bit(Limit::JobSpanBudget) != 0,
        );
        match self.kinds.get_mut(kind) {
            Some((count, limits)) if *limits == inquiry.allowed => *count = count.saturating_add(1),
            // A listener that was not there at the start has no state that could be asked.
            _ => self.counters.add(inquiry),
        }
    }

    /// Counts a charge that passed all limits that its kind meets; returns which those are.
    pub(super) fn pass(&mut self, kind: usize) -> Limits {
        let Some((count, limits)) = self.kinds.get_mut(kind) else { return 0 };
        *count = count.saturating_add(1);
        *limits
    }

    /// Hands over all that was counted since the last time.
    pub(super) fn settle(&mut self) {
        for (count, limits) in &mut self.kinds {
            let times = std::mem::take(count);
            if times > 0 {
                self.counters.add_allowed(*limits, times);
            }
        }
    }
}

/// The number of a kind of charge: which units it costs (a bit for each), whether its job's budget is asked.
pub(super) fn kind(subject: &Subject<'_>, units: u8, budget: bool) -> usize {
    let (job, project) = (usize::from(subject.job.is_some()), usize::from(subject.project.is_some()));
    usize::from(units) | (job << 3) | (project << 4) | (usize::from(budget) << 5)
}

/// Whoever charges under a configuration that is no longer in force is counted too.
impl Drop for Tally {
    fn drop(&mut self) {
        self.settle();
    }
}

/// The limits that a kind of charge meets.
fn asked(rules: &Rules, kind: usize) -> Limits {
    let has = |place: u32| (kind >> place) & 1 == 1;
    let units = [has(0), has(1), has(2)];
    let budget = if has(5) { bit(Limit::JobSpanBudget) } else { 0 };
    rules.levels().into_iter().fold(budget, |limits, level| {
        let is_there = match level.level {
            super::Level::Job => has(3),
            super::Level::Project => has(4),
            _ => true,
        };
        level.buckets().zip(units).fold(limits, |limits, ((limit, bucket), costs)| {
            if is_there && costs && bucket.is_some() { limits | bit(limit) } else { limits }
        })
    })
}
