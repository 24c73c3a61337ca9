//! Time and the one retry.

use tokio::{net::TcpListener, time::timeout};

use super::*;

const HANG: Duration = Duration::from_secs(20);

fn impatient(url: &str, millis: u64) -> Gitlab {
    authority(&config::Gitlab { timeout: Duration::from_millis(millis), ..config(url) })
}

async fn timed(authority: &Gitlab, question: &Question) -> (Result<Verdict, Undetermined>, Duration) {
    let started = Instant::now();
    let verdict = authority.validate(question).await;
    (verdict, started.elapsed())
}

/// Scenario: a GitLab that never answers, and one that stops after the head of its answer.
/// Guarantees: the question ends as a timeout, within the budget and with no retry.
#[tokio::test]
async fn silence_is_a_timeout() {
    for reply in [Reply::good().head_after(HANG), Reply::good().body_after(HANG)] {
        let fake = Fake::start([reply]).await;
        let (verdict, took) = timed(&impatient(&fake.url(""), 250), &question()).await;
        assert_eq!(verdict.unwrap_err(), Undetermined::Timeout);
        assert!((200..2000).contains(&took.as_millis()), "{took:?}");
        assert_eq!(fake.seen().len(), 1);
    }
}

/// Scenario: a request whose own deadline is nearer than GitLab's budget.
/// Guarantees: the question ends by the deadline.
#[tokio::test]
async fn the_deadline_bounds_the_budget() {
    let fake = Fake::start([Reply::good().head_after(HANG)]).await;
    let mut question = question();
    question.deadline = Instant::now() + Duration::from_millis(250);
    let (verdict, took) = timed(&authority(&config(&fake.url(""))), &question).await;
    assert_eq!(verdict.unwrap_err(), Undetermined::Timeout);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// Scenario: a 502 or 503 once and then an answer; the same for ever; and no time for a retry.
/// Guarantees: there is one more call, exactly one, and only while the budget allows it.
#[tokio::test]
async fn one_retry() {
    let bad = |status| Reply::json(status, "");
    for status in [502, 503] {
        let fake = Fake::start([bad(status), Reply::good()]).await;
        allowed(authority(&config(&fake.url(""))).validate(&question()).await);
        assert_eq!(fake.seen().len(), 2, "{status}");

        let fake = Fake::start([bad(status), bad(status), Reply::good()]).await;
        let verdict = authority(&config(&fake.url(""))).validate(&question()).await;
        assert_eq!(verdict.unwrap_err(), Undetermined::Status(status));
        assert_eq!(fake.seen().len(), 2, "{status}");
    }
    let fake = Fake::start([bad(503), Reply::json(401, "{}")]).await;
    let verdict = authority(&config(&fake.url(""))).validate(&question()).await;
    assert!(matches!(verdict, Ok(Verdict::Deny(Denial::Unauthenticated))), "{verdict:?}");

    let late = bad(503).head_after(Duration::from_millis(300));
    let fake = Fake::start([late, Reply::good()]).await;
    let mut hurried = question();
    hurried.deadline = Instant::now() + Duration::from_millis(430);
    let verdict = authority(&config(&fake.url(""))).validate(&hurried).await;
    assert!(matches!(verdict, Err(Undetermined::Status(503) | Undetermined::Timeout)), "{verdict:?}");
    assert_eq!(fake.seen().len(), 1, "no time was left");
}

/// Scenario: a listener that hangs up in the TLS handshake; then nobody listens.
/// Guarantees: it is told as unreachable, at once, after exactly one more attempt.
#[tokio::test]
async fn a_connect_error_is_tried_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = tokio::spawn(async move {
        let mut accepted = 0;
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(700), listener.accept()).await {
            accepted += 1;
            drop(stream);
        }
        accepted
    });
    let (verdict, took) = timed(&authority(&config(&format!("https://{address}"))), &question()).await;
    assert!(matches!(verdict, Err(Undetermined::Unreachable(_))), "{verdict:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(count.await.unwrap(), 2);

    let (verdict, took) = timed(&authority(&config(&format!("http://{address}"))), &question()).await;
    let told = verdict.unwrap_err().to_string();
    assert!(told.starts_with("the authority could not be reached: ") && told.contains("refused"), "{told}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// Scenario: a server that hangs up after it has read the question.
/// Guarantees: it is told as unreachable and not asked again: it may have begun to work on the question.
#[tokio::test]
async fn a_broken_answer_is_not_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = tokio::spawn(async move {
        let mut accepted = 0;
        while let Ok(Ok((stream, _))) = timeout(Duration::from_millis(700), listener.accept()).await {
            stream.readable().await.unwrap();
            let mut question = [0; 64];
            assert!(stream.try_read(&mut question).unwrap() > 0);
            accepted += 1;
        }
        accepted
    });
    let verdict = authority(&config(&format!("http://{address}"))).validate(&question()).await;
    assert!(matches!(verdict, Err(Undetermined::Unreachable(_))), "{verdict:?}");
    assert_eq!(count.await.unwrap(), 1);
}

/// Scenario: a GitLab that answers nothing but 503 is asked thirty questions in a row; the same without a budget for retries.
/// Guarantees: second tries stay within their budget of a tenth and some; with none there is none.
#[tokio::test]
async fn second_tries_have_a_budget() {
    for (ratio, most) in [(0.1, 30 + 3 + 20), (0.0, 30)] {
        let fake = Fake::start(vec![Reply::json(503, ""); 60]).await;
        let authority = authority(&config::Gitlab { retry_ratio: ratio, ..config(&fake.url("")) });
        for _ in 0..30 {
            assert_eq!(authority.validate(&question()).await.unwrap_err(), Undetermined::Status(503));
        }
        let asked = fake.seen().len();
        assert!(asked <= most && (ratio == 0.0 || asked > 30), "{asked} calls at {ratio}");
    }
}
