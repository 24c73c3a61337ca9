//! An authority and a collector that come and go: for some seconds each they answer well, with errors, late, not at
//! all, or by hanging up. They know every job there could be, and keep nothing of what they are asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, Full};

use crate::support::{
    job::Job,
    server::{FakeServer, Problems, Reaction, Seen, Speaks},
};

/// What a fake does for one period.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Fair,
    /// It answers this status.
    Refuses(u16),
    /// It answers well, this much later.
    Late(Duration),
    Hangs,
    Resets,
}

/// More than half of the time is fair, so that what was bad can be got over.
const AUTHORITY: [Weather; 9] = [
    Weather::Fair,
    Weather::Refuses(500),
    Weather::Fair,
    Weather::Hangs,
    Weather::Fair,
    Weather::Resets,
    Weather::Fair,
    Weather::Refuses(429),
    Weather::Fair,
];

/// Another length than the authority's, so that every pair of them is met.
const COLLECTOR: [Weather; 11] = [
    Weather::Fair,
    Weather::Fair,
    Weather::Refuses(503),
    Weather::Fair,
    Weather::Hangs,
    Weather::Fair,
    Weather::Fair,
    Weather::Resets,
    Weather::Fair,
    Weather::Late(Duration::from_millis(300)),
    Weather::Fair,
];

/// Both fakes.
pub(super) struct Flapping {
    pub(super) authority: FakeServer,
    pub(super) collector: FakeServer,
    /// Whether the weather changes; fair until it is told so.
    pub(super) flaps: Arc<AtomicBool>,
    pub(super) questions: Arc<AtomicU64>,
    pub(super) exports: Arc<AtomicU64>,
}

impl Flapping {
    /// Starts both; `period`: how long one kind of weather lasts.
    pub(super) async fn start(period: Duration) -> Self {
        let flaps = Arc::new(AtomicBool::new(false));
        let [questions, exports] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let sky = Sky { began: Instant::now(), period, flaps: Arc::clone(&flaps) };
        let authority =
            fake(sky.clone(), &AUTHORITY, Arc::clone(&questions), |seen| verdict(&seen.headers)).await;
        let collector = fake(sky, &COLLECTOR, Arc::clone(&exports), |_| {
            let answer = Response::builder().header("content-type", "application/x-protobuf");
            (200, answer, Bytes::new())
        })
        .await;
        Self { authority, collector, flaps, questions, exports }
    }

    /// Closes every connection to both.
    pub(super) fn hang_up(&self) {
        self.authority.hang_up();
        self.collector.hang_up();
    }
}

#[derive(Clone)]
struct Sky {
    began: Instant,
    period: Duration,
    flaps: Arc<AtomicBool>,
}

impl Sky {
    fn now(&self, weathers: &[Weather]) -> Weather {
        let periods = self.began.elapsed().as_millis() / self.period.as_millis();
        let turn = usize::try_from(periods).unwrap() % weathers.len();
        if self.flaps.load(Ordering::Relaxed) { weathers[turn] } else { Weather::Fair }
    }
}

type Good = (u16, http::response::Builder, Bytes);

async fn fake(
    sky: Sky,
    weathers: &'static [Weather],
    count: Arc<AtomicU64>,
    good: impl Fn(&Seen) -> Good + Clone + Send + Sync + 'static,
) -> FakeServer {
    FakeServer::start(Speaks::Http1, None, Problems::default(), move |seen| {
        count.fetch_add(1, Ordering::Relaxed);
        let weather = sky.now(weathers);
        let (status, answer, body) = good(&seen);
        async move {
            match weather {
                Weather::Fair => {}
                Weather::Late(delay) => tokio::time::sleep(delay).await,
                Weather::Hangs => std::future::pending().await,
                Weather::Resets => return Reaction::Reset,
                Weather::Refuses(status) => {
                    let answer = Response::builder().status(status);
                    return Reaction::Answer(answer.body(Full::default().boxed_unsync()).unwrap());
                }
            }
            Reaction::Answer(answer.status(status).body(Full::new(body).boxed_unsync()).unwrap())
        }
    })
    .await
}

/// A 200 for every pair whose two tokens are one job's, to be kept for a short time so that it is asked about again.
fn verdict(headers: &HeaderMap) -> Good {
    let token =
        |name: &str| headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default().to_owned();
    let (runner, job) = (token("runner-token"), token("job-token"));
    let seed = job.chars().skip_while(|letter| *letter != 't').skip(JOB_PREFIX).take(8).collect::<String>();
    let known = seed
        .parse()
        .ok()
        .map(Job::new)
        .filter(|known| known.runner_token == runner && known.job_token == job);
    let answer = Response::builder().header("content-type", "application/json");
    match known {
        Some(known) => {
            let answer = answer.header("cache-control", "private, max-age=10");
            (200, answer, known.answer().to_string().into())
        }
        None => (401, answer, Bytes::from_static(b"{}")),
    }
}

/// From the first `t` of `glcbt-64_JobSecret` to the number of the job.
const JOB_PREFIX: usize = "t-64_JobSecret".len();

/// Scenario: the pair of a job, and a pair of two jobs.
/// Guarantees: the first is known with its own trace, the second is nobody's.
#[test]
fn every_job_is_known() {
    let (one, other) = (Job::new(41), Job::new(42));
    let ask = |runner: &Job, job: &Job| {
        let mut headers = HeaderMap::new();
        headers.insert("runner-token", runner.runner_token.parse().unwrap());
        headers.insert("job-token", job.job_token.parse().unwrap());
        verdict(&headers)
    };
    let (status, _, body) = ask(&one, &one);
    assert_eq!(status, 200);
    assert!(String::from_utf8_lossy(&body).contains(&one.trace_hex()));
    assert_eq!(ask(&one, &other).0, 401);
}
