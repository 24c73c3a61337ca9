//! Any lines as the `Cache-Control` headers of an answer, and how long a verdict is kept by them.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::CACHE_CONTROL};
use spangate::{
    cache::freshness::{Caps, GRACE, keep},
    validate::cache_control::{Stale, max_age, stale},
};

use super::within;

const NOW: u64 = 1_800_000_000;

fn headers(lines: &[Vec<u8>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(CACHE_CONTROL, HeaderValue::from_bytes(line).ok()?);
    }
    Some(headers)
}

fn bound(lines: &[Vec<u8>]) -> Option<Duration> {
    let headers = headers(lines)?;
    within(0, || max_age(&headers))
}

fn past(lines: &[Vec<u8>]) -> Stale {
    let headers = headers(lines).expect("lines that were read before");
    within(0, || stale(&headers))
}

pub(crate) fn hold(data: &[u8]) {
    let lines: Vec<Vec<u8>> = data.split(|byte| *byte == b'\n').take(32).map(<[u8]>::to_vec).collect();
    let Some(age) = bound(&lines) else { return };
    // What is kept was asked for in so many digits, and by nothing that refuses.
    let seconds = age.as_secs();
    assert!((1..=9_999_999_999).contains(&seconds) && age.subsec_nanos() == 0, "{age:?}");
    let all = lines.join(&b", "[..]);
    let lower = String::from_utf8(all.to_ascii_lowercase()).expect("what is kept was readable");
    assert!(lower.contains(&seconds.to_string()) && lower.contains("max-age="), "{lower}");

    assert_eq!(
        bound(std::slice::from_ref(&all)),
        Some(age),
        "one line and several say the same (RFC 9110, 5.3)"
    );
    assert_eq!(bound(&[lower.into_bytes()]), Some(age), "names in any case");
    assert_eq!(bound(&[b" ,".to_vec(), all.clone(), b"private".to_vec()]), Some(age));
    for refusal in ["no-store", "No-Cache=\"x\"", "max-age=1", "max-age", "\"", "a=\""] {
        let refused = [all.clone(), refusal.as_bytes().to_vec()];
        assert_eq!(bound(&refused), None, "{refusal}");
        assert_eq!(bound(&[refused[1].clone(), refused[0].clone()]), None, "{refusal}");
    }

    stale_is_stricter(&all);

    let minute = Duration::from_mins(1);
    let caps = Caps {
        max_ttl: Duration::from_mins(5),
        stale_while_revalidate: minute,
        stale_if_error: minute,
        grace: GRACE,
    };
    let stale = past(&[all]);
    for end in [None, Some(NOW + seconds / 2), Some(NOW - 10), Some(0)] {
        let kept = keep(Some(age), stale, end, caps, 0, NOW);
        let left = end.map_or(Duration::MAX, |end| GRACE.saturating_add(Duration::from_secs(end)));
        let left = left.saturating_sub(Duration::from_secs(if end.is_some() { NOW } else { 0 }));
        assert_eq!(
            kept.map(|kept| kept.ttl),
            Some(age.min(caps.max_ttl).min(left)).filter(|ttl| !ttl.is_zero())
        );
        let Some(kept) = kept else { continue };
        assert!(kept.while_revalidate <= stale.while_revalidate.min(minute));
        assert!(kept.if_error <= stale.if_error.unwrap_or(minute).min(minute));
        assert!(kept.ttl + kept.while_revalidate.max(kept.if_error) <= left);
    }
}

/// What a header that lets an answer be kept says of the time past its end.
fn stale_is_stricter(all: &[u8]) {
    let read = past(&[all.to_vec()]);
    assert_eq!(read, past(&[b" ,".to_vec(), all.to_ascii_uppercase(), b"private".to_vec()]));
    for refusal in ["must-revalidate", "Proxy-Revalidate=1", "no-store", "\"", "a="] {
        assert_eq!(past(&[all.to_vec(), refusal.as_bytes().to_vec()]), Stale::NEVER, "{refusal}");
    }
    // Said once more it is the bound, if it was not said before, and else it is in doubt.
    let more = past(&[all.to_vec(), b"stale-if-error=7, stale-while-revalidate=7".to_vec()]);
    let seven = Duration::from_secs(7);
    assert!(more == Stale::NEVER || [seven, Duration::ZERO].contains(&more.while_revalidate));
    assert!(more.if_error.is_some_and(|bound| bound <= seven));
    let lower = all.to_ascii_lowercase();
    let says = |name: &[u8]| lower.windows(name.len()).any(|part| part == name);
    assert!(read.if_error.is_none() || says(b"stale-if-error") || says(b"revalidate"), "{read:?}");
    assert!(read.while_revalidate.is_zero() || says(b"stale-while-revalidate="), "{read:?}");
}
