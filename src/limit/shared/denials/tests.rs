//! When another replica's "no" is believed, and when it must not be.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::*;
use crate::{
    config,
    limit::shared::line::{Dial, Line, Row, Seen, Trouble},
    validate::credentials::{Accepts, HeaderNames},
};

const TTL: Duration = Duration::from_secs(5);

/// A store in memory; it may stop answering.
#[derive(Debug, Default)]
struct Memory {
    words: Mutex<HashMap<[u8; 16], Vec<u8>>>,
    hangs: AtomicBool,
}

type Asked<'a, T> = BoxFuture<'a, Result<T, Trouble>>;

impl Memory {
    fn answer<'a, T: Send + 'a>(&'a self, answer: impl FnOnce() -> T + Send + 'a) -> Asked<'a, T> {
        Box::pin(async move {
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            Ok(answer())
        })
    }
}

impl Line for Memory {
    fn charge(&self, _rows: Vec<Row>) -> Asked<'_, Vec<Seen>> {
        self.answer(Vec::new)
    }

    fn register<'a>(&'a self, _replica: &'a str, _life: Duration) -> Asked<'a, u32> {
        self.answer(|| 1)
    }

    fn remember(&self, mark: Mark, word: Vec<u8>, _life: Duration) -> Asked<'_, ()> {
        self.answer(move || drop(self.words.lock().unwrap().insert(mark.0, word)))
    }

    fn recall(&self, mark: Mark) -> Asked<'_, Option<Vec<u8>>> {
        self.answer(move || self.words.lock().unwrap().get(&mark.0).cloned())
    }
}

/// Nobody dials in these tests.
#[derive(Debug)]
struct NoDial;

impl Dial for NoDial {
    fn dial(&self) -> Asked<'_, Arc<dyn Line>> {
        Box::pin(std::future::pending())
    }
}

/// An authority that says one thing and counts.
#[derive(Debug)]
struct Authority {
    says: Result<Denial, Undetermined>,
    asked: AtomicUsize,
}

impl Validator for Arc<Authority> {
    fn validate<'a>(&'a self, _question: &'a Question) -> BoxFuture<'a, Result<Verdict, Undetermined>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.says.clone().map(Verdict::Deny);
        Box::pin(std::future::ready(answer))
    }
}

/// A replica with its own authority's word and digester, on a store that answers.
struct Replica {
    denials: Denials<Arc<Authority>>,
    authority: Arc<Authority>,
    presence: Arc<Presence>,
    digester: Arc<Digester>,
}

impl Replica {
    fn new(memory: &Arc<Memory>, secret: &str, gitlab: &[u8], says: Result<Denial, Undetermined>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, secret).unwrap();
        let digester = Arc::new(Digester::sharing(&file).unwrap());
        let store = Store::with(Arc::new(NoDial), &Arc::new(Metrics::new()));
        store.presence.connected(Arc::clone(memory) as Arc<dyn Line>);
        store.presence.answered();
        let authority = Arc::new(Authority { says, asked: AtomicUsize::new(0) });
        let denials = Denials::new(Arc::clone(&authority), Some(&store), &digester, gitlab, TTL);
        Self { denials, authority, presence: store.presence, digester }
    }

    fn question(&self, job: &str) -> Question {
        let names = HeaderNames::from_config(&config::Gitlab::default()).unwrap();
        let headers = [("runner-token", "runner"), ("job-token", job)];
        let headers = headers.into_iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())
        });
        let credentials =
            Credentials::from_headers(&headers.collect(), &names, Accepts::PAIR, &self.digester).unwrap();
        Question {
            credentials: Arc::new(credentials),
            client: std::net::Ipv4Addr::LOCALHOST.into(),
            correlation_id: "1".into(),
            deadline: Instant::now() + Duration::from_secs(4),
        }
    }

    async fn ask(&self, job: &str) -> Result<Denial, Undetermined> {
        match self.denials.validate(&self.question(job)).await? {
            Verdict::Deny(denial) => Ok(denial),
            Verdict::Allow(_) => panic!("nobody allows here"),
        }
    }

    fn asked(&self) -> usize {
        self.authority.asked.load(Ordering::SeqCst)
    }
}

const SECRET: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const OTHER_SECRET: &str = "AgEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn down() -> Result<Denial, Undetermined> {
    Err(Undetermined::Timeout)
}

/// Lets what was told behind a request's back arrive.
async fn told() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Scenario: one replica is told 401, or 403, about a pair; another one, whose authority is silent, is asked about it
/// and about another job of the runner.
/// Guarantees: the word is passed on as it was, about that pair only, without another question.
#[tokio::test]
async fn a_word_is_passed_on() {
    for denial in [Denial::Unauthenticated, Denial::Forbidden] {
        let memory = Arc::new(Memory::default());
        let first = Replica::new(&memory, SECRET, b"gitlab", Ok(denial));
        let second = Replica::new(&memory, SECRET, b"gitlab", down());
        assert_eq!(first.ask("bad").await, Ok(denial));
        told().await;
        assert_eq!((second.ask("bad").await, second.asked()), (Ok(denial), 0));
        assert_eq!((second.ask("new").await, second.asked()), (down(), 1));
    }
}

/// Scenario: a pair that is good on the second replica is asked about anew after the first was told "no"; and a "no"
/// that the second is told about such a pair.
/// Guarantees: the second asks its own authority, and tells nobody.
#[tokio::test]
async fn what_is_good_here_is_nobodys_elses_business() {
    let memory = Arc::new(Memory::default());
    let first = Replica::new(&memory, SECRET, b"gitlab", Ok(Denial::Unauthenticated));
    let second = Replica::new(&memory, SECRET, b"gitlab", down());
    first.ask("pair").await.unwrap();
    told().await;
    let question = second.question("pair");
    assert_eq!(second.denials.validate_anew(&question).await.map(drop), Err(Undetermined::Timeout));
    assert_eq!(second.asked(), 1);
    let words = memory.words.lock().unwrap().len();
    let question = first.question("other");
    assert!(matches!(first.denials.validate_anew(&question).await, Ok(Verdict::Deny(_))));
    told().await;
    assert_eq!(memory.words.lock().unwrap().len(), words);
}

/// Scenario: replicas with another secret or another authority; words that are changed, brought under another mark, or
/// whose time is over or too long; a store that was purged.
/// Guarantees: each asks its own authority.
#[tokio::test]
async fn other_words_are_not_believed() {
    let memory = Arc::new(Memory::default());
    let first = Replica::new(&memory, SECRET, b"gitlab", Ok(Denial::Unauthenticated));
    first.ask("bad").await.unwrap();
    told().await;
    for (secret, gitlab) in [(OTHER_SECRET, &b"gitlab"[..]), (SECRET, b"another")] {
        let other = Replica::new(&memory, secret, gitlab, down());
        assert_eq!((other.ask("bad").await, other.asked()), (down(), 1));
    }
    let second = Replica::new(&memory, SECRET, b"gitlab", down());
    let mark = |job: &str| second.digester.mark(b"gitlab", &second.question(job).credentials).unwrap();
    let put = |job: &str, word: Vec<u8>| drop(memory.words.lock().unwrap().insert(mark(job).0, word));
    let sealed = memory.words.lock().unwrap().values().next().unwrap().clone();
    put("moved", sealed.clone());
    put("bare", word(Denial::Unauthenticated, unix_millis(), TTL).unwrap().to_vec());
    put("empty", Vec::new());
    let late = word(Denial::Unauthenticated, unix_millis() - 6_000, TTL).unwrap();
    put("late", second.digester.seal(mark("late"), &late));
    let long = word(Denial::Unauthenticated, unix_millis() + 2_000, TTL).unwrap();
    put("long", second.digester.seal(mark("long"), &long));
    for job in ["moved", "bare", "empty", "late", "long"] {
        assert_eq!(second.ask(job).await, down(), "{job}");
    }
    assert_eq!(second.ask("bad").await, Ok(Denial::Unauthenticated));
    second.denials.purge();
    assert_eq!(second.ask("bad").await, down());
}

/// Scenario: the store stops answering; many pairs are asked about, then it is given up.
/// Guarantees: the first question waits no longer than the deadline, the others not at all, and all go to the authority.
#[tokio::test(start_paused = true)]
async fn a_silent_store_costs_one_deadline() {
    let memory = Arc::new(Memory::default());
    let replica = Replica::new(&memory, SECRET, b"gitlab", down());
    memory.hangs.store(true, Ordering::SeqCst);
    let started = Instant::now();
    for job in 0..50 {
        assert_eq!(replica.ask(&format!("job-{job}")).await, down());
    }
    assert_eq!((started.elapsed(), replica.asked()), (super::super::DEADLINE, 50));
    assert!(replica.presence.line().is_none());
}

/// Scenario: no store, and a time of zero for denials.
/// Guarantees: nothing is looked up or told.
#[tokio::test]
async fn without_a_store_questions_are_passed_on() {
    let memory = Arc::new(Memory::default());
    let mut replica = Replica::new(&memory, SECRET, b"gitlab", Ok(Denial::Unauthenticated));
    let authority = Arc::clone(&replica.authority);
    replica.denials = Denials::new(authority, None, &replica.digester, b"gitlab", TTL);
    replica.ask("bad").await.unwrap();
    told().await;
    assert!(memory.words.lock().unwrap().is_empty());
}
