//! How long a running gateway would believe a verdict, by the cache's own arithmetic. It keeps nothing.

use std::time::Duration;

use serde::Serialize;

use crate::{
    cache::freshness::{self, Caps},
    config::Cache,
    validate::{Allowed, credentials::Kind},
};

/// In seconds, rounded down, and as a sentence.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Kept {
    /// With all of the jitter, and without.
    pub(super) seconds: Option<[u64; 2]>,
    /// A hit after this long asks again in the background.
    pub(super) refresh_after_seconds: Option<u64>,
    /// How long past its end it serves at once while it is asked about anew.
    pub(super) revalidate_seconds: Option<u64>,
    /// How long past its end it serves while the authority gives no word.
    pub(super) stale_seconds: Option<u64>,
    pub(super) sentence: String,
}

impl Kept {
    /// Not at all, and why.
    pub(super) fn not(sentence: &str) -> Self {
        Self {
            seconds: None,
            refresh_after_seconds: None,
            revalidate_seconds: None,
            stale_seconds: None,
            sentence: sentence.to_owned(),
        }
    }

    /// A denial.
    pub(super) fn denial(cache: &Cache) -> Self {
        let seconds = cache.negative_ttl.as_secs();
        Self { seconds: Some([seconds; 2]), ..Self::not(&format!("for {seconds} s (cache.negative_ttl)")) }
    }

    /// A positive verdict, given at `now` (Unix seconds).
    pub(super) fn positive(cache: &Cache, allowed: &Allowed, now: u64, kind: Kind) -> Self {
        // Nobody promised more of a bearer token than its end.
        let (grace, end, silent) = match kind {
            Kind::Bearer => (Duration::ZERO, "the end of the token", "its key can't be looked up"),
            _ => {
                (freshness::GRACE, "the end of the credential and a minute of grace", "GitLab gives no word")
            }
        };
        let caps = Caps::of(cache, grace);
        let keep =
            |jitter| freshness::keep(allowed.max_age, allowed.stale, allowed.expires_at, caps, jitter, now);
        let (Some(longest), Some(shortest)) = (keep(0), keep(u16::MAX)) else {
            return Self::not(if allowed.max_age.is_none() {
                "not at all: the answer has no usable max-age, or an expires_at that can't be read; each export is a question"
            } else {
                "not at all: the credential has ended, or cache.max_ttl is zero"
            });
        };
        let bound = if kind != Kind::Bearer && allowed.max_age.is_some_and(|age| age <= longest.ttl) {
            "max-age of the answer"
        } else if cache.max_ttl <= longest.ttl {
            "cache.max_ttl"
        } else {
            end
        };
        let [least, most] = [shortest.ttl.as_secs(), longest.ttl.as_secs()];
        let fresh = (1.0 - cache.refresh_ahead).clamp(0.0, 1.0);
        let refresh = (fresh < 1.0).then(|| shortest.ttl.mul_f64(fresh).as_secs());
        let refreshed =
            refresh.map(|after| format!("; a hit after {after} s or more asks again in the background"));
        let (anew, stale) = (longest.while_revalidate.as_secs(), longest.if_error.as_secs());
        let revalidated =
            if anew > 0 { format!("; {anew} s more while it is asked about anew") } else { String::new() };
        Self {
            seconds: Some([least, most]),
            refresh_after_seconds: refresh,
            revalidate_seconds: Some(anew),
            stale_seconds: Some(stale),
            sentence: format!(
                "for {least} to {most} s, by {bound}{}{revalidated}; {stale} s more while {silent}",
                refreshed.unwrap_or_default()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        otlp::TraceId,
        validate::{cache_control::Stale, testing::identity},
    };

    const NOW: u64 = 1_800_000_000;

    fn told(cache: &Cache, max_age: Option<u64>, expires_at: Option<u64>) -> Kept {
        told_with(cache, max_age, expires_at, Stale::default())
    }

    fn told_with(cache: &Cache, max_age: Option<u64>, expires_at: Option<u64>, stale: Stale) -> Kept {
        let trace_id = TraceId::from_lower_hex("000000000000000000000000001e240a").unwrap();
        let max_age = max_age.map(Duration::from_secs);
        Kept::positive(
            cache,
            &Allowed { identity: identity(trace_id, 1, 2), max_age, stale, expires_at },
            NOW,
            Kind::Pair,
        )
    }

    /// Scenario: verdicts bounded by the answer, by the configuration and by the end of the credential, and ones that may
    /// not be kept.
    /// Guarantees: the bound that holds is named, the times are those of the cache, and "not at all" says why.
    #[test]
    fn the_bound_that_holds_is_named() {
        let cache = Cache::default();
        let by_answer = told(&cache, Some(100), None);
        assert_eq!(
            (by_answer.seconds, by_answer.refresh_after_seconds, by_answer.stale_seconds),
            (Some([90, 100]), Some(81), Some(60))
        );
        assert_eq!(
            by_answer.sentence,
            "for 90 to 100 s, by max-age of the answer; a hit after 81 s or more asks again in the background; 60 s more while GitLab gives no word"
        );
        let by_cap = told(&cache, Some(900), None);
        assert!(
            by_cap.seconds == Some([270, 300]) && by_cap.sentence.contains("by cache.max_ttl"),
            "{by_cap:?}"
        );
        let by_end = told(&cache, Some(900), Some(NOW + 40));
        assert_eq!((by_end.seconds, by_end.stale_seconds), (Some([90, 100]), Some(0)));
        assert!(by_end.sentence.contains("by the end of the credential"), "{by_end:?}");
        let stale =
            Stale { while_revalidate: Duration::from_secs(20), if_error: Some(Duration::from_secs(7)) };
        let revalidated = told_with(&cache, Some(100), None, stale);
        assert_eq!((revalidated.revalidate_seconds, revalidated.stale_seconds), (Some(20), Some(7)));
        assert!(
            revalidated
                .sentence
                .ends_with("; 20 s more while it is asked about anew; 7 s more while GitLab gives no word"),
            "{revalidated:?}"
        );
        let never = Cache { refresh_ahead: 0.0, ..Cache::default() };
        assert_eq!(told(&never, Some(100), None).refresh_after_seconds, None);
        for (max_age, expires_at, why) in [(None, None, "max-age"), (Some(100), Some(NOW - 61), "has ended")]
        {
            let not = told(&cache, max_age, expires_at);
            assert!(not.seconds.is_none() && not.sentence.contains(why), "{not:?}");
        }
        assert_eq!(Kept::denial(&cache).sentence, "for 5 s (cache.negative_ttl)");
    }
}
