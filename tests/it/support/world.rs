//! A whole pipeline in one process: authority, gateway, collector. It decides only what a test
//! leaves open: loopback, port 0, defaults for all else.

use std::{net::SocketAddr, time::Duration};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use spangate::{
    app::{self, Running},
    config::{Config, Listener, Mode, Protocol},
};
use tokio::net::TcpStream;

use super::{
    answer::Answer,
    authority::Authority,
    client::{Export, PATIENCE},
    collector::Collector,
    job::Job,
};

/// Authority, gateway and collector; the gateway goes first.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) running: Running,
    pub(crate) authority: Authority,
    pub(crate) collector: Collector,
    /// What the gateway was started with.
    pub(crate) config: Config,
}

impl World {
    /// A world with an OTLP/HTTP collector and the default configuration.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with changes to the configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::around(Collector::http().await, change).await
    }

    /// A world without rates, whose authority allows `job`, with changes to the configuration.
    pub(crate) async fn of_job(job: &Job, change: impl FnOnce(&mut Config)) -> Self {
        let world = Self::with(|config| {
            unlimited(config);
            change(config);
        })
        .await;
        world.authority.allow(job);
        world
    }

    /// The same with a collector of its own; `change` sets its protocol if it is not HTTP.
    pub(crate) async fn around(collector: Collector, change: impl FnOnce(&mut Config)) -> Self {
        let authority = Authority::start().await;
        let mut config = config(&authority.url(), &collector.url());
        change(&mut config);
        let running = app::start(config.clone()).await.expect("the gateway starts");
        Self { running, authority, collector, config }
    }

    /// A world whose collector speaks OTLP/gRPC.
    pub(crate) async fn grpc(change: impl FnOnce(&mut Config)) -> Self {
        let collector = Collector::grpc().await;
        Self::around(collector, |config| {
            config.collector.protocol = Protocol::Grpc;
            change(config);
        })
        .await
    }

    /// Where runners push to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.running.listener("runners").expect("a listener")
    }

    /// Sends an export.
    pub(crate) async fn send(&self, export: &Export) -> Answer {
        export.send(self.address()).await
    }

    /// The metrics, as Prometheus would scrape them.
    pub(crate) async fn metrics(&self) -> Samples {
        Samples(text(&get(self.running.admin(), "/metrics").await))
    }
}

/// A configuration for one authority and one collector on loopback.
pub(crate) fn config(authority: &str, collector: &str) -> Config {
    let mut config = Config {
        listeners: vec![Listener { address: loopback(), ..Listener::default() }],
        ..Config::default()
    };
    config.admin.address = loopback();
    config.gitlab.url = authority.into();
    config.collector.endpoints = vec![collector.into()];
    config.shutdown.delay = Duration::ZERO;
    config.shutdown.deadline = Duration::from_secs(10);
    config
}

/// Any free port on loopback.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Takes the rates away, for tests that are about something else and send more than one job would.
pub(crate) fn unlimited(config: &mut Config) {
    config.limits.per_job.mode = Mode::Off;
    config.limits.per_runner.mode = Mode::Off;
    config.limits.per_client_failures.mode = Mode::Off;
}

/// A plain GET over HTTP/1.1.
pub(crate) async fn get(from: SocketAddr, path: &str) -> Answer {
    try_get(from, path).await.unwrap_or_else(|problem| panic!("GET {path}: {problem}"))
}

/// The same; an error when no answer came.
pub(crate) async fn try_get(from: SocketAddr, path: &str) -> Result<Answer, String> {
    try_ask(from, http::Method::GET, path, &[]).await
}

/// A request without a body over HTTP/1.1.
pub(crate) async fn ask(
    from: SocketAddr,
    method: http::Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let answer = try_ask(from, method, path, headers).await;
    answer.unwrap_or_else(|problem| panic!("{path}: {problem}"))
}

async fn try_ask(
    from: SocketAddr,
    method: http::Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Answer, String> {
    let started = std::time::Instant::now();
    let exchange = async {
        let stream = TcpStream::connect(from).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let mut request = http::Request::builder().method(method).uri(path).header("host", from.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let status = parts.status.as_u16();
        Ok(Answer { status, headers: parts.headers, body, trailers: None, took: started.elapsed() })
    };
    tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| "no answer in time".to_owned())?
}

/// An answer's body as text.
pub(crate) fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// Waits until `holds`; fails the test after [`PATIENCE`].
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Prometheus text.
#[derive(Clone, Debug)]
pub(crate) struct Samples(pub(crate) String);

impl Samples {
    /// The sum of all samples of a metric that carry these labels; a metric that is not there at all
    /// is a mistake in the test.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let family = name.strip_suffix("_total").or(name.strip_suffix("_info")).unwrap_or(name);
        let there = |line: &str| line.split(' ').nth(2).is_some_and(|given| given == family || given == name);
        assert!(self.0.lines().any(|line| line.starts_with("# TYPE ") && there(line)), "no metric {name}");
        let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        self.0
            .lines()
            .filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let (labels, value) = match rest.strip_prefix('{') {
                    Some(rest) => rest.split_once("} ")?,
                    None => ("", rest.strip_prefix(' ')?),
                };
                // OpenMetrics allows a time and an exemplar after the value.
                let value = value.split_whitespace().next()?;
                let has = |label: &String| labels.split(',').any(|given| given == label);
                wanted.iter().all(has).then(|| value.parse::<f64>().unwrap())
            })
            .sum()
    }
}

/// Scenario: two samples of one metric, one of a metric with a longer name.
/// Guarantees: a sum counts the samples that it names and no other.
#[test]
fn samples_are_summed_by_name_and_label() {
    let text = "# TYPE a counter\n# TYPE b gauge\na_total{l=\"1\",m=\"x\"} 2\na_total{l=\"2\",m=\"x\"} 3 # {t=\"1\"} 9\na_total_more 7\nb 4\n";
    let samples = Samples(text.into());
    assert_eq!(format!("{}", samples.sum("a_total", &[])), "5");
    assert_eq!(format!("{}", samples.sum("a_total", &[("l", "2"), ("m", "x")])), "3");
    assert_eq!(format!("{}", samples.sum("b", &[])), "4");
    assert!(std::panic::catch_unwind(|| samples.sum("c", &[])).is_err());
}
