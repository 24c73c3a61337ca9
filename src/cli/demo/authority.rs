//! The demo's stand-in for GitLab: two runners, four jobs, tokens made fresh for each run, and the
//! endpoint that the gateway asks. It can be taken down; it never leaves loopback.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use http::{HeaderMap, Method, Request, header};
use hyper::body::Incoming;
use serde_json::json;

use crate::{config::Gitlab, otlp::TraceId};

use super::{
    loopback::{self, Answer, Server},
    spans,
};

/// How long a verdict may be kept, in seconds: longer than the demo takes to send its exports.
const MAX_AGE: u32 = 300;

/// A runner that the authority knows.
#[derive(Clone)]
pub(super) struct Runner {
    /// Its id.
    pub(super) id: u64,
    /// Its token.
    pub(super) token: String,
    /// The system id of its manager.
    pub(super) system_xid: String,
}

/// A job that the authority knows.
#[derive(Clone)]
pub(super) struct Job {
    /// Its name, for the reader.
    pub(super) name: &'static str,
    /// Its id.
    pub(super) id: u64,
    /// Its token.
    pub(super) token: String,
    /// The runner that it is assigned to.
    pub(super) runner: Runner,
    /// Its project.
    pub(super) project_id: u64,
    /// Its pipeline, which names its trace.
    pub(super) pipeline_id: u64,
    /// The trace that its spans belong to: the root pipeline's id in hex.
    pub(super) trace_id: TraceId,
}

/// Everything that the authority knows.
#[derive(Clone)]
pub(super) struct Jobs {
    /// Sends the exports that anyone would send.
    pub(super) build: Job,
    /// Sends more spans than a job may.
    pub(super) chatty: Job,
    /// Sends requests faster than a job may.
    pub(super) hasty: Job,
    /// Starts while the authority is down.
    pub(super) late: Job,
}

impl Jobs {
    /// Two runners and four jobs with random tokens and ids.
    pub(super) fn random() -> io::Result<Self> {
        let [one, two] = [runner()?, runner()?];
        Ok(Self {
            build: job("build", &one)?,
            chatty: job("chatty", &two)?,
            hasty: job("hasty", &two)?,
            late: job("late", &one)?,
        })
    }

    /// The four jobs.
    pub(super) fn all(&self) -> [&Job; 4] {
        [&self.build, &self.chatty, &self.hasty, &self.late]
    }
}

/// The authority while it listens.
pub(super) struct Authority {
    /// The jobs that it knows.
    pub(super) jobs: Jobs,
    server: Server,
    state: Arc<State>,
}

struct State {
    jobs: Jobs,
    settings: Gitlab,
    down: AtomicBool,
    asked: AtomicUsize,
}

impl Authority {
    /// Starts it; `settings` gives the path and the names of the headers.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) async fn start(settings: &Gitlab) -> io::Result<Self> {
        let jobs = Jobs::random()?;
        let state = Arc::new(State {
            jobs: jobs.clone(),
            settings: settings.clone(),
            down: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
        });
        let server = loopback::serve({
            let state = Arc::clone(&state);
            move |request| {
                let state = Arc::clone(&state);
                async move { state.answer(&request) }
            }
        })
        .await?;
        Ok(Self { jobs, server, state })
    }

    /// Its base URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// Takes it down or up again. Down, it answers as a load balancer with nothing behind it.
    pub(super) fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::Relaxed);
    }

    /// How many questions came in so far.
    pub(super) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Relaxed)
    }
}

impl State {
    fn answer(&self, request: &Request<Incoming>) -> Answer {
        if *request.method() != Method::POST {
            return refuse(405, "POST only");
        }
        match request.uri().path() {
            path if path == self.settings.auth_path => self.judge(request.headers()),
            "/demo/down" => self.switch(true),
            "/demo/up" => self.switch(false),
            _ => refuse(404, "404 Not Found"),
        }
    }

    fn switch(&self, down: bool) -> Answer {
        self.down.store(down, Ordering::Relaxed);
        let text = if down { "the authority is down\n" } else { "the authority is up\n" };
        loopback::answer(200, "text/plain", text)
    }

    fn judge(&self, headers: &HeaderMap) -> Answer {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.down.load(Ordering::Relaxed) {
            return loopback::answer(502, "text/html", "<html><h1>502 Bad Gateway</h1></html>");
        }
        let token = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let runner = token(&self.settings.runner_token_header);
        let job = token(&self.settings.job_token_header);
        let known_runner =
            self.jobs.all().into_iter().any(|known| Some(known.runner.token.as_str()) == runner);
        let known_job = self.jobs.all().into_iter().find(|known| Some(known.token.as_str()) == job);
        match known_job {
            Some(job) if known_runner && Some(job.runner.token.as_str()) == runner => allow(job),
            Some(_) if known_runner => refuse(403, "403 Forbidden"),
            _ => refuse(401, "401 Unauthorized"),
        }
    }
}

fn allow(job: &Job) -> Answer {
    let body = json!({
        "trace_id": job.trace_id.to_string(),
        "job_id": job.id,
        "pipeline_id": job.pipeline_id,
        "root_pipeline_id": job.pipeline_id,
        "pipeline_source": PIPELINE_SOURCE,
        "project_id": job.project_id,
        "runner_id": job.runner.id,
        "runner_type": RUNNER_TYPE,
        "runner_manager_system_xid": job.runner.system_xid,
        "job_status": "running",
    });
    let mut answer = loopback::answer(200, "application/json", body.to_string());
    if let Ok(value) = format!("private, max-age={MAX_AGE}").parse() {
        answer.headers_mut().insert(header::CACHE_CONTROL, value);
    }
    answer
}

/// The `pipeline_source` of every job.
pub(super) const PIPELINE_SOURCE: &str = "push";
/// The `runner_type` of every runner.
pub(super) const RUNNER_TYPE: &str = "project_type";

fn refuse(status: u16, message: &str) -> Answer {
    loopback::answer(status, "application/json", json!({ "message": message }).to_string())
}

fn runner() -> io::Result<Runner> {
    Ok(Runner {
        id: random_id()?,
        token: format!("glrt-{}", random_text::<10>()?),
        system_xid: format!("s_{}", random_text::<6>()?),
    })
}

fn job(name: &'static str, runner: &Runner) -> io::Result<Job> {
    let pipeline_id = random_id()?;
    let trace_id = TraceId::from_lower_hex(&format!("{pipeline_id:032x}"))
        .ok_or_else(|| io::Error::other("a pipeline id of zero"))?;
    Ok(Job {
        name,
        id: random_id()?,
        token: format!("glcbt-64_{}", random_text::<10>()?),
        runner: runner.clone(),
        project_id: random_id()?,
        pipeline_id,
        trace_id,
    })
}

/// Random bytes of the operating system's quality.
pub(super) fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no random bytes could be had"))?;
    Ok(bytes)
}

fn random_text<const N: usize>() -> io::Result<String> {
    Ok(spans::hex(&random_bytes::<N>()?))
}

/// An id of nine digits, as a busy instance hands them out; never zero.
fn random_id() -> io::Result<u64> {
    let number = u64::from(u32::from_ne_bytes(random_bytes()?));
    Ok((number % 900_000_000).saturating_add(100_000_000))
}
