//! What stands before the authority and answers from what others were told: when the cache lets it.

use std::sync::atomic::AtomicBool;

use super::{
    Answer, Arc, AtomicUsize, BoxFuture, Cached, DENY, DOWN, Metrics, Ordering, Question, Script, Validator,
    advance, config, good, question, seconds, settle,
};

/// Says no to everybody from some moment on, unless it is told that a pair is good.
#[derive(Debug)]
struct Hearsay {
    authority: Arc<Script>,
    denies: AtomicBool,
    purges: AtomicUsize,
}

impl Validator for Arc<Hearsay> {
    fn validate<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Answer> {
        if self.denies.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(DENY));
        }
        self.authority.validate(question)
    }

    fn validate_anew<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Answer> {
        self.authority.validate(question)
    }

    fn purge(&self) -> usize {
        self.purges.fetch_add(1, Ordering::SeqCst);
        0
    }
}

/// Scenario: a pair is good here; others are told "no" about it. It is asked about anew before its end, past its end while the
/// authority is silent, and twice when the authority itself denies it; a new pair comes; everything is purged.
/// Guarantees: a good pair's verdict ends by the authority's own two words only; a new pair is answered by what others were told;
/// what answers so hears of the purge.
#[tokio::test(start_paused = true)]
async fn a_good_verdict_is_not_ended_by_hearsay() {
    let authority = Script::say([good(Some(100)), good(Some(100)), DOWN, DOWN, DENY, DENY]);
    let hearsay = Arc::new(Hearsay {
        authority: Arc::clone(&authority),
        denies: AtomicBool::new(false),
        purges: AtomicUsize::new(0),
    });
    let cached = Cached::new(Arc::clone(&hearsay), &config(), Arc::new(Metrics::new()));
    let ask = async |pair| super::super::label(&cached.validate(&question(pair)).await);
    assert_eq!(ask(1).await, "allow");
    hearsay.denies.store(true, Ordering::SeqCst);
    assert_eq!(ask(2).await, "deny");

    advance(seconds(60)).await;
    assert_eq!(ask(1).await, "allow");
    settle().await;
    assert_eq!((ask(1).await, authority.calls()), ("allow", 2));
    // Past its end, within the stale bound.
    advance(seconds(105)).await;
    assert_eq!((ask(1).await, authority.calls()), ("allow", 3));
    advance(seconds(10)).await;
    assert_eq!((ask(1).await, authority.calls()), ("allow", 4));
    advance(seconds(10)).await;
    assert_eq!((ask(1).await, authority.calls()), ("deny", 6));

    cached.purge();
    assert_eq!(hearsay.purges.load(Ordering::SeqCst), 1);
}
