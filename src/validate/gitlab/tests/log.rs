//! What may be printed, what is told, and how often.

use std::{
    fmt::Write as _,
    fs, io,
    sync::{Mutex, PoisonError},
};

use base64::engine::general_purpose::STANDARD;

use super::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Takes what this thread logs, at all levels, until the guards are dropped.
    fn capture(&self) -> impl Sized + use<> {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        // With one subscriber only, tracing decides once and for all threads by the thread that comes to
        // an event first, which may be another test's; a second one makes it ask them all.
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        (second, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Scenario: a good answer, every kind of trouble, and a long row of 401, with all log levels on.
/// Guarantees: no log line, error or `Debug` holds a token or the secret; trouble is logged with its
/// correlation id; the row of 401 is told once.
#[tokio::test]
async fn no_token_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let secret_file = folder.path().join("secret");
    let secret = STANDARD.encode([7; 32]);
    fs::write(&secret_file, &secret).unwrap();
    let log = Log::default();
    let _guards = log.capture();

    let mut script = vec![
        Reply::good(),
        Reply::json(404, ""),
        Reply::json(200, "no"),
        Reply::json(500, ""),
        Reply::json(429, ""),
    ];
    script.resize(125, Reply::json(401, "{}"));
    let questions = script.len();
    let fake = Fake::start(script).await;
    let authority = authority(&config::Gitlab { secret_file, ..config(&fake.url("")) });
    let mut printed = format!("{authority:?} {:?} ", question());
    for _ in 0..questions {
        match authority.validate(&question()).await {
            Ok(verdict) => write!(printed, "{verdict:?} ").unwrap(),
            Err(trouble) => write!(printed, "{trouble} {trouble:?} ").unwrap(),
        }
    }
    let nobody = super::authority(&config("http://127.0.0.1:1"));
    let trouble = nobody.validate(&question()).await.unwrap_err();
    write!(printed, "{nobody:?} {trouble} {trouble:?} ").unwrap();
    printed.push_str(&log.text());

    assert!(printed.contains("GitLab gave no verdict"), "the log was captured");
    assert!(printed.contains("corr-1") && printed.contains("HTTP status 404"));
    assert_eq!(printed.matches("nothing but 401 for 50 questions").count(), 1);
    for canary in ["canary", &secret] {
        assert!(!printed.contains(canary), "{printed}");
    }
}

/// Scenario: GitLab answers 404 to forty questions and 429 to one, as fast as they come.
/// Guarantees: at most five lines a second for one kind of trouble, none lost without being counted, another kind told
/// at once; each line has the correlation id and the pair's digest in its short form.
#[tokio::test]
async fn trouble_does_not_flood_the_log() {
    let log = Log::default();
    let _guards = log.capture();
    let fake = Fake::start(vec![Reply::json(404, ""); 40].into_iter().chain([Reply::json(429, "")])).await;
    let authority = authority(&config(&fake.url("")));
    let question = question();
    let started = Instant::now();
    for _ in 0..41 {
        authority.validate(&question).await.unwrap_err();
    }
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    let text = log.text();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("GitLab gave no verdict")).collect();
    let unknown = lines.iter().filter(|line| line.contains("status 404")).count();
    assert!((5..=5 * (seconds + 1)).contains(&unknown) && unknown < 40, "{text}");
    assert_eq!(lines.iter().filter(|line| line.contains("(429)")).count(), 1, "{text}");
    let digest = format!("credentials={} ", question.credentials.digest());
    for line in lines {
        assert!(line.contains("correlation_id=corr-1 ") && line.contains(&digest), "{line}");
        assert!(line.contains("suppressed="), "{line}");
    }
}

/// Scenario: a GitLab that wants signed calls answers 401 to every question of a gateway without a secret.
/// Guarantees: the operator is told with the fiftieth, once, and which key to set.
#[tokio::test]
async fn a_row_of_refusals_names_the_remedy() {
    let log = Log::default();
    let _guards = log.capture();
    let fake = Fake::start(vec![Reply::json(401, "{}"); 60]).await;
    let authority = authority(&config(&fake.url("")));
    for asked in 1..=60 {
        assert!(matches!(authority.validate(&question()).await, Ok(Verdict::Deny(_))));
        let told = log.text().matches("set gitlab.secret_file if GitLab asks for signed calls").count();
        assert_eq!(told, usize::from(asked >= 50), "after {asked}");
    }
}
