//! Keys over time, against a provider on loopback: when they are fetched, what a token waits for, what a silence means.

use std::sync::{Mutex, atomic::AtomicUsize};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::AbortHandle,
};

use super::*;
use crate::validate::oidc::tests::tokens::{Key, gitlab_claims, jwks};

/// Fast enough for a test, with a cool-down that no test outlasts unless it wants to.
const FAST: Pace = Pace {
    cool_down: Duration::from_mins(10),
    shortest: Duration::from_mins(10),
    longest: Duration::from_mins(10),
    first_retry: Duration::from_millis(20),
    last_retry: Duration::from_millis(50),
    ..Pace::DEFAULT
};

/// A provider that answers each request with what it was given, or not at all.
struct Fake {
    url: String,
    answer: Arc<Mutex<Option<String>>>,
    count: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Fake {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answer, count) = (Arc::<Mutex<Option<String>>>::default(), Arc::<AtomicUsize>::default());
        let (told, counted) = (Arc::clone(&answer), Arc::clone(&count));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = told.lock().unwrap().clone();
                let mut head = [0; 4096];
                let _read = stream.read(&mut head).await;
                if let Some(answer) = answer {
                    let _written = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        Self { url, answer, count, task: task.abort_handle() }
    }

    fn raw(&self, head: &str, body: &str) {
        let answer =
            format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        *self.answer.lock().unwrap() = Some(answer);
    }

    /// From now on it has these keys.
    fn has(&self, keys: &[&Key]) {
        self.raw("200 OK", &jwks(keys).to_string());
    }

    /// From now on it closes every connection without a word.
    fn is_down(&self) {
        *self.answer.lock().unwrap() = None;
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn source(&self, pace: Pace, change: impl FnOnce(&mut OidcProvider)) -> Arc<KeySource> {
        let mut config =
            OidcProvider { jwks_url: self.url.clone(), issuer: "i".into(), ..OidcProvider::default() };
        change(&mut config);
        crate::tls::install_provider();
        let source = Arc::new(KeySource::with_pace(&config, Arc::new(Metrics::new()), pace).unwrap());
        source.start();
        source
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn soon(millis: u64) -> Instant {
    Instant::now().checked_add(Duration::from_millis(millis)).unwrap()
}

async fn check(source: &KeySource, key: &Key) -> Result<Fit, Undetermined> {
    let token = key.token(&gitlab_claims("i", "a"));
    let token = Token::read(token.as_bytes()).unwrap();
    source.check(&token, soon(10_000)).await
}

/// Waits for the keys to be asked for this often.
async fn asked(fake: &Fake, count: usize) {
    while fake.count() < count {
        sleep(Duration::from_millis(2)).await;
    }
}

/// Scenario: tokens right at the start, before the first fetch has ended, and once it has.
/// Guarantees: all of them wait for the one fetch and are judged by it.
#[tokio::test]
async fn the_first_fetch_is_waited_for() {
    let (fake, key) = (Fake::start().await, Key::p256("k1"));
    fake.has(&[&key]);
    let source = fake.source(FAST, |_| {});
    let (one, other) = tokio::join!(check(&source, &key), check(&source, &key));
    assert_eq!((one, other, check(&source, &key).await), (Ok(Fit::Good), Ok(Fit::Good), Ok(Fit::Good)));
    assert_eq!(fake.count(), 1);
    assert!(source.age().unwrap() < Duration::from_secs(10));
}

/// Scenario: a provider that is down at the start, and comes up later.
/// Guarantees: no denial meanwhile; it is asked again in the background, and then its tokens are good.
#[tokio::test]
async fn down_at_the_start_then_up() {
    let (fake, key) = (Fake::start().await, Key::p256("k1"));
    let source = fake.source(FAST, |_| {});
    source.settled().await;
    for _ in 0..3 {
        let verdict = check(&source, &key).await;
        assert!(matches!(verdict, Err(Undetermined::Unreachable(_))), "{verdict:?}");
    }
    assert_eq!(source.age(), None);
    fake.has(&[&key]);
    while source.age().is_none() {
        sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(check(&source, &key).await, Ok(Fit::Good));
}

/// Scenario: a provider that stays down; nobody's token asks for its keys.
/// Guarantees: the pauses between tries double, so that a provider in trouble is not made to suffer.
#[tokio::test]
async fn tries_become_rarer() {
    let fake = Fake::start().await;
    let _source = fake.source(Pace { last_retry: Duration::from_mins(1), ..FAST }, |_| {});
    asked(&fake, 3).await;
    sleep(Duration::from_millis(600)).await;
    // After 20, 40, 80, 160 and 320 ms; without doubling there would be thirty.
    assert!(fake.count() <= 10, "{} tries", fake.count());
}

/// Scenario: the provider takes one key away and publishes another; tokens of both come.
/// Guarantees: the new key is fetched as soon as a token names it; the old one is then unknown for good.
#[tokio::test]
async fn rotation() {
    let (fake, old, new) = (Fake::start().await, Key::p256("old"), Key::rsa("new"));
    fake.has(&[&old]);
    let source = fake.source(Pace { cool_down: Duration::ZERO, ..FAST }, |_| {});
    assert_eq!(check(&source, &old).await, Ok(Fit::Good));
    fake.has(&[&new]);
    assert_eq!(check(&source, &old).await, Ok(Fit::Good), "nothing was said of another key yet");
    assert_eq!(check(&source, &new).await, Ok(Fit::Good));
    assert_eq!(fake.count(), 2);
    assert_eq!(check(&source, &old).await, Ok(Fit::Unknown));
    assert_eq!(fake.count(), 3);
}

/// Scenario: a provider that falls silent, or answers with an error, a page, an empty set.
/// Guarantees: its known keys serve on; a key that is not known is undetermined, never denied.
#[tokio::test]
async fn known_keys_outlast_a_silence() {
    let (fake, key, other) = (Fake::start().await, Key::p256("k1"), Key::p256("k2"));
    fake.has(&[&key]);
    let source = fake.source(Pace { cool_down: Duration::ZERO, ..FAST }, |_| {});
    assert_eq!(check(&source, &key).await, Ok(Fit::Good));
    let troubles: [(&str, &dyn Fn()); 5] = [
        ("unreachable", &|| fake.is_down()),
        ("status", &|| fake.raw("503 Service Unavailable", "")),
        ("status", &|| fake.raw("404 Not Found", "{}")),
        ("bad_answer", &|| fake.raw("200 OK", "<html>sign in</html>")),
        ("bad_answer", &|| fake.raw("200 OK", r#"{"keys":[]}"#)),
    ];
    for (label, begin) in troubles {
        begin();
        // An answer from before may be under way: only what begins now tells.
        let verdict = loop {
            match check(&source, &other).await {
                Err(trouble) if trouble.label() == label => break trouble,
                Err(_) => sleep(Duration::from_millis(2)).await,
                Ok(fit) => panic!("{label}: {fit:?}"),
            }
        };
        assert_eq!(check(&source, &key).await, Ok(Fit::Good), "{verdict}");
    }
}

/// Scenario: a thousand tokens of keys that do not exist, while good ones come.
/// Guarantees: two fetches in all: the first one and one that they asked for. None is denied by keys from before it.
#[tokio::test]
async fn a_flood_of_unknown_keys() {
    let (fake, key) = (Fake::start().await, Key::ed25519("k1"));
    fake.has(&[&key]);
    let source = fake.source(FAST, |_| {});
    source.settled().await;
    let (mut denied, mut undetermined) = (0, 0);
    for index in 0..1000 {
        let stranger = Key::ed25519(&format!("stranger-{index}"));
        match check(&source, &stranger).await {
            Ok(Fit::Unknown) => denied += 1,
            Err(Undetermined::UnknownKey) => undetermined += 1,
            other => panic!("{other:?}"),
        }
        if index % 100 == 0 {
            assert_eq!(check(&source, &key).await, Ok(Fit::Good));
        }
    }
    assert_eq!((denied, undetermined, fake.count()), (1, 999, 2));
}

/// Scenario: a key is published in the cool-down after a fetch that a stranger's token asked for.
/// Guarantees: its tokens are undetermined until the cool-down is over, never denied; then they are good.
#[tokio::test]
async fn a_new_key_within_the_cool_down() {
    let (fake, key, new) = (Fake::start().await, Key::p256("k1"), Key::p256("k2"));
    fake.has(&[&key]);
    let source = fake.source(Pace { cool_down: Duration::from_millis(300), ..FAST }, |_| {});
    source.settled().await;
    assert_eq!(check(&source, &Key::p256("stranger")).await, Ok(Fit::Unknown));
    fake.has(&[&key, &new]);
    let mut verdicts = Vec::new();
    while verdicts.last() != Some(&Ok(Fit::Good)) {
        verdicts.push(check(&source, &new).await);
        sleep(Duration::from_millis(20)).await;
    }
    assert!(verdicts.iter().all(|verdict| *verdict != Ok(Fit::Unknown)), "{verdicts:?}");
    assert_eq!((verdicts[0].clone(), fake.count()), (Err(Undetermined::UnknownKey), 3));
}

/// Scenario: a hundred tokens of the new key at the same moment.
/// Guarantees: one fetch, for which all wait.
#[tokio::test]
async fn one_fetch_for_all_who_wait() {
    let (fake, old, new) = (Fake::start().await, Key::p256("k1"), Key::p256("k2"));
    fake.has(&[&old]);
    let source = fake.source(FAST, |_| {});
    source.settled().await;
    fake.has(&[&old, &new]);
    let all = futures_util::future::join_all((0..100).map(|_| check(&source, &new))).await;
    assert!(all.iter().all(|verdict| *verdict == Ok(Fit::Good)), "{all:?}");
    assert_eq!(fake.count(), 2);
}

/// Scenario: sets whose `Cache-Control` says a second, a day, nothing.
/// Guarantees: the set is fetched again when it is too old, within the bounds; a key that is gone serves no longer.
#[tokio::test]
async fn a_set_is_fetched_again_in_time() {
    let (fake, key) = (Fake::start().await, Key::p256("k1"));
    let body = jwks(&[&key]).to_string();
    fake.raw("200 OK\r\ncache-control: max-age=86400", &body);
    let bounds = |shortest, longest| Pace {
        shortest: Duration::from_millis(shortest),
        longest: Duration::from_millis(longest),
        ..FAST
    };
    let long = fake.source(bounds(10, 50), |_| {});
    asked(&fake, 3).await;
    assert_eq!(check(&long, &key).await, Ok(Fit::Good));
    fake.has(&[&Key::p256("k2")]);
    while check(&long, &key).await == Ok(Fit::Good) {
        sleep(Duration::from_millis(2)).await;
    }
    drop(long);
    let other = Fake::start().await;
    other.raw("200 OK\r\ncache-control: max-age=1", &body);
    let short = other.source(bounds(600_000, 600_000), |_| {});
    short.settled().await;
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(other.count(), 1, "never sooner than the shortest time");
}

/// Scenario: an operator asks for new keys when one was taken away, and again while the provider is down.
/// Guarantees: the key that is gone is good for no token from then on; while nothing can be had the known ones serve.
#[tokio::test]
async fn keys_are_renewed_on_demand() {
    let (fake, old, new) = (Fake::start().await, Key::p256("old"), Key::p256("new"));
    fake.has(&[&old]);
    let source = fake.source(FAST, |_| {});
    assert_eq!(check(&source, &old).await, Ok(Fit::Good));
    fake.has(&[&new]);
    source.renew();
    assert_eq!(check(&source, &old).await, Ok(Fit::Unknown));
    assert_eq!(check(&source, &new).await, Ok(Fit::Good));
    fake.is_down();
    source.renew();
    assert_eq!(check(&source, &new).await, Ok(Fit::Good));
    assert!(source.state.borrow().failed.is_some());
}

/// Scenario: new keys are asked for while a fetch is under way, which then brings the old ones.
/// Guarantees: those are held against no token: the next fetch is waited for.
#[tokio::test]
async fn a_fetch_under_way_renews_nothing() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut fake = Fake::start().await;
    fake.url = format!("http://{}", listener.local_addr().unwrap());
    let (old, new) = (Key::p256("old"), Key::p256("new"));
    let source = fake.source(FAST, |_| {});
    let (mut under_way, _) = listener.accept().await.unwrap();
    source.renew();
    let bring = async |stream: &mut tokio::net::TcpStream, key: &Key| {
        let body = jwks(&[key]).to_string();
        let _read = stream.read(&mut [0; 4096]).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    };
    bring(&mut under_way, &old).await;
    let later = async {
        loop {
            bring(&mut listener.accept().await.unwrap().0, &new).await;
        }
    };
    let verdict = tokio::select! {
        verdict = check(&source, &old) => verdict,
        () = later => unreachable!(),
    };
    assert_eq!(verdict, Ok(Fit::Unknown));
}

/// Scenario: a source is dropped, as by a reload without its provider.
/// Guarantees: the provider is not asked any more.
#[tokio::test]
async fn a_dropped_source_asks_no_more() {
    let (fake, key) = (Fake::start().await, Key::p256("k1"));
    fake.has(&[&key]);
    let source = fake.source(
        Pace { shortest: Duration::from_millis(10), longest: Duration::from_millis(10), ..FAST },
        |_| {},
    );
    asked(&fake, 2).await;
    drop(source);
    sleep(Duration::from_millis(200)).await;
    let after = fake.count();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(fake.count(), after);
}

/// Scenario: redirects of each kind, to a place that has the keys.
/// Guarantees: none is followed.
#[tokio::test]
async fn redirects_are_not_followed() {
    let (fake, elsewhere, key) = (Fake::start().await, Fake::start().await, Key::p256("k1"));
    elsewhere.has(&[&key]);
    for status in [301, 302, 303, 307, 308] {
        fake.raw(&format!("{status} Moved\r\nlocation: {}", elsewhere.url), "");
        let source = fake.source(FAST, |_| {});
        assert_eq!(check(&source, &key).await, Err(Undetermined::Status(status)));
    }
    assert_eq!(elsewhere.count(), 0);
}

/// Scenario: documents past 256 KiB, with their length and without it.
/// Guarantees: refused before they are read to their end.
#[tokio::test]
async fn giant_documents_are_refused() {
    let (fake, key) = (Fake::start().await, Key::p256("k1"));
    let mut set = jwks(&[&key]);
    set["padding"] = "x".repeat(300 << 10).into();
    fake.raw("200 OK", &set.to_string());
    let refused = Err(Undetermined::BadAnswer("the document is longer than 256 KiB"));
    assert_eq!(check(&fake.source(FAST, |_| {}), &key).await, refused);
    *fake.answer.lock().unwrap() = Some(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{set}"));
    assert_eq!(check(&fake.source(FAST, |_| {}), &key).await, refused);
}

/// Scenario: a provider that takes the connection and says nothing.
/// Guarantees: the fetch ends in time, the token's wait ends at its own deadline, and neither is a denial.
#[tokio::test]
async fn a_hanging_provider_is_bounded() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut fake = Fake::start().await;
    fake.url = format!("http://{}", listener.local_addr().unwrap());
    let source = fake.source(Pace { fetch: Duration::from_millis(200), ..FAST }, |_| {});
    let key = Key::p256("k1");
    let token = key.token(&gitlab_claims("i", "a"));
    let token = Token::read(token.as_bytes()).unwrap();
    assert_eq!(source.check(&token, soon(50)).await, Err(Undetermined::Timeout));
    source.settled().await;
    assert_eq!(check(&source, &key).await, Err(Undetermined::Timeout));
    drop(listener);
}

/// Scenario: more tokens than may wait come while a provider takes the connection and says nothing.
/// Guarantees: the others are refused at once, and places come back.
#[tokio::test]
async fn those_who_wait_are_bounded() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut fake = Fake::start().await;
    fake.url = format!("http://{}", listener.local_addr().unwrap());
    let source = fake.source(FAST, |_| {});
    let token = Key::p256("k1").token(&gitlab_claims("i", "a"));
    let token = Token::read(token.as_bytes()).unwrap();
    let all = (0..MAX_WAITING + 10).map(|_| source.check(&token, soon(200)));
    let verdicts = futures_util::future::join_all(all).await;
    let count =
        |trouble: Undetermined| verdicts.iter().filter(|verdict| **verdict == Err(trouble.clone())).count();
    assert_eq!((count(Undetermined::Timeout), count(Undetermined::Busy)), (MAX_WAITING, 10));
    assert_eq!(source.check(&token, soon(10)).await, Err(Undetermined::Timeout));
    drop(listener);
}

/// Scenario: discovery documents: a good one, one of another issuer, one with its issuer twice, one without a place for keys.
/// Guarantees: only the configured issuer's own document leads to keys.
#[tokio::test]
async fn discovery() {
    let (document, keys, key) = (Fake::start().await, Fake::start().await, Key::p256("k1"));
    keys.has(&[&key]);
    let of = |issuer: &str| json!({ "issuer": issuer, "jwks_uri": keys.url }).to_string();
    let source = |document: &Fake| {
        document.source(FAST, |config| {
            config.discovery = std::mem::take(&mut config.jwks_url);
            config.issuer = "https://gitlab.example.com".into();
        })
    };
    document.raw("200 OK", &of("https://gitlab.example.com"));
    assert_eq!(check(&source(&document), &key).await, Ok(Fit::Good));
    assert_eq!(keys.count(), 1);
    let no_place =
        |place: Value| json!({ "issuer": "https://gitlab.example.com", "jwks_uri": place }).to_string();
    for bad in [
        of("https://evil.example.com"),
        of("https://gitlab.example.com/"),
        r#"{"issuer":"https://gitlab.example.com","issuer":"https://gitlab.example.com","jwks_uri":"http://127.0.0.1:1"}"#.into(),
        no_place(Value::Null),
        no_place(json!("file:///etc/passwd")),
        no_place(json!("/relative")),
        "[]".into(),
    ] {
        document.raw("200 OK", &bad);
        let verdict = check(&source(&document), &key).await;
        assert!(matches!(verdict, Err(Undetermined::BadAnswer(_))), "{bad}: {verdict:?}");
    }
    assert_eq!(keys.count(), 1);
}
