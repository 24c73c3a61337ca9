//! A recording collector: OTLP/HTTP over HTTP/1.1 or OTLP/gRPC over HTTP/2, clear or TLS. It keeps
//! raw bodies and headers, answers as it is told, and fails the test when a request breaks the form
//! of OTLP or brings a credential.

use std::{
    collections::VecDeque,
    io::Read as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body_util::{BodyExt as _, Full};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use spangate::otlp::signal::Signal;

use super::{
    rpc,
    server::{AnswerBody, FakeServer, Problems, Reaction, Seen, Speaks},
    signal::{self, Otlp},
};

/// Headers that must never reach a collector, whatever the sender sent.
const NEVER: [&str; 5] = ["runner-token", "job-token", "authorization", "cookie", "proxy-authorization"];

/// One request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// As its path says.
    pub(crate) signal: Signal,
    pub(crate) headers: HeaderMap,
    /// The HTTP body, or the gRPC message without its frame: as it came, compression included.
    pub(crate) raw: Bytes,
    /// `identity`, `gzip` or `zstd`.
    pub(crate) encoding: String,
}

impl Received {
    /// The protobuf bytes.
    pub(crate) fn inflated(&self) -> Vec<u8> {
        match self.encoding.as_str() {
            "identity" => self.raw.to_vec(),
            "gzip" => {
                let mut inflated = Vec::new();
                flate2::read::MultiGzDecoder::new(&*self.raw).read_to_end(&mut inflated).unwrap();
                inflated
            }
            "zstd" => zstd::decode_all(&*self.raw).unwrap(),
            other => panic!("no OTLP encoding: {other}"),
        }
    }

    /// The request, which must be of this signal.
    pub(crate) fn decode<R: Otlp>(&self) -> R {
        assert_eq!(self.signal, R::SIGNAL);
        R::decode(self.inflated().as_slice()).unwrap()
    }

    /// The request, of spans.
    pub(crate) fn request(&self) -> ExportTraceServiceRequest {
        self.decode()
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Everything is taken.
    Accept,
    /// Some items are refused.
    Partial { rejected: i64, message: &'static str },
    /// A refusal, in the collector's own protocol.
    Refuse { http: u16, grpc: i32, retry_after: Option<Duration> },
    /// An HTTP status with an HTML page.
    Html(u16),
    /// No answer, ever.
    Hang,
    /// The connection is reset once the request was read.
    Reset,
    /// The same, later.
    After(Duration, Box<Reply>),
}

#[derive(Debug, Default)]
struct State {
    next: Mutex<VecDeque<Reply>>,
    always: Mutex<Option<Reply>>,
    received: Mutex<Vec<Received>>,
}

/// The fake.
#[derive(Debug)]
pub(crate) struct Collector {
    server: FakeServer,
    state: Arc<State>,
    tls: bool,
}

impl Collector {
    /// OTLP/HTTP, HTTP/1.1 only, as the Collector's receiver.
    pub(crate) async fn http() -> Self {
        Self::start(Speaks::Http1, None).await
    }

    /// OTLP/gRPC.
    pub(crate) async fn grpc() -> Self {
        Self::start(Speaks::Http2, None).await
    }

    /// Either, under TLS if a configuration is given.
    pub(crate) async fn start(speaks: Speaks, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let state = Arc::new(State::default());
        let problems = Problems::default();
        let secure = tls.is_some();
        let server = FakeServer::start(speaks, tls, problems.clone(), {
            let state = Arc::clone(&state);
            move |seen| answer(speaks, Arc::clone(&state), problems.clone(), seen)
        })
        .await;
        Self { server, state, tls: secure }
    }

    /// `http(s)://localhost-or-address:PORT`
    pub(crate) fn url(&self) -> String {
        let port = self.server.address().port();
        // The test certificate is for `localhost`.
        if self.tls { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") }
    }

    /// The next request gets this answer; several queue up.
    pub(crate) fn next(&self, reply: Reply) {
        self.state.next.lock().unwrap().push_back(reply);
    }

    /// Every request gets this answer from now on.
    pub(crate) fn always(&self, reply: Reply) {
        *self.state.always.lock().unwrap() = Some(reply);
    }

    /// Closes every connection; new ones are served.
    pub(crate) fn hang_up(&self) {
        self.server.hang_up();
    }

    /// The most connections that were open at once.
    pub(crate) fn peak(&self) -> usize {
        self.server.peak()
    }

    /// Everything that arrived.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// How many requests arrived.
    pub(crate) fn count(&self) -> usize {
        self.state.received.lock().unwrap().len()
    }

    /// The only request that arrived.
    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "requests at the collector");
        received.into_iter().next().unwrap()
    }

    /// How many spans arrived in all.
    pub(crate) fn spans(&self) -> usize {
        self.received().iter().map(|received| super::spans::spans(&received.request()).len()).sum()
    }
}

async fn answer(speaks: Speaks, state: Arc<State>, problems: Problems, seen: Seen) -> Reaction {
    let received = read(speaks, &problems, seen);
    let signal = received.signal;
    state.received.lock().unwrap().push(received);
    let mut reply = state
        .next
        .lock()
        .unwrap()
        .pop_front()
        .or_else(|| state.always.lock().unwrap().clone())
        .unwrap_or(Reply::Accept);
    while let Reply::After(delay, later) = reply {
        tokio::time::sleep(delay).await;
        reply = *later;
    }
    match (reply, speaks) {
        (Reply::Hang, _) => std::future::pending().await,
        (Reply::Reset, _) => Reaction::Reset,
        (Reply::Accept, _) => Reaction::Answer(export_response(speaks, Vec::new())),
        (Reply::Partial { rejected, message }, _) => {
            Reaction::Answer(export_response(speaks, (signal::row(signal).response)(rejected, message)))
        }
        (Reply::Html(status), _) => Reaction::Answer(
            Response::builder()
                .status(status)
                .header("content-type", "text/html")
                .body(Full::new(Bytes::from_static(b"<html>not a collector</html>")).boxed_unsync())
                .unwrap(),
        ),
        (Reply::Refuse { http, grpc, retry_after }, Speaks::Http1) => {
            let status = rpc::Status::new(grpc, "the collector says no", None);
            let mut answer =
                Response::builder().status(http).header("content-type", "application/x-protobuf");
            if let Some(delay) = retry_after {
                answer = answer.header("retry-after", delay.as_secs());
            }
            let body = Full::new(Bytes::from(status.encode_to_vec()));
            Reaction::Answer(answer.body(body.boxed_unsync()).unwrap())
        }
        (Reply::Refuse { grpc, retry_after, .. }, Speaks::Http2) => {
            let status = rpc::Status::new(grpc, "the collector says no", retry_after);
            let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(status.encode_to_vec());
            Reaction::Answer(
                Response::builder()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", grpc)
                    .header("grpc-message", status.message)
                    .header("grpc-status-details-bin", details)
                    .body(Full::new(Bytes::new()).boxed_unsync())
                    .unwrap(),
            )
        }
        (Reply::After(..), _) => unreachable!("unwrapped above"),
    }
}

/// An export response is empty when everything was taken.
fn export_response(speaks: Speaks, message: Vec<u8>) -> Response<AnswerBody> {
    match speaks {
        Speaks::Http1 => Response::builder()
            .header("content-type", "application/x-protobuf")
            .body(Full::new(Bytes::from(message)).boxed_unsync())
            .unwrap(),
        Speaks::Http2 => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            Response::builder()
                .header("content-type", "application/grpc")
                .body(
                    Full::new(rpc::frame(false, &message))
                        .with_trailers(std::future::ready(Some(Ok(trailers))))
                        .boxed_unsync(),
                )
                .unwrap()
        }
    }
}

/// Takes a request apart and checks that it is OTLP as a strict receiver wants it.
fn read(speaks: Speaks, problems: &Problems, seen: Seen) -> Received {
    let header = |name: &str| {
        let values: Vec<&str> = seen.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
        problems.check(values.len() < 2, || format!("{name} came {} times", values.len()));
        values.first().copied()
    };
    problems.check(seen.method == Method::POST, || format!("method {}", seen.method));
    for name in NEVER {
        problems.check(!seen.headers.contains_key(name), || format!("the collector was sent {name}"));
    }
    let is_its_path = |row: &signal::Row| match speaks {
        Speaks::Http1 => seen.path == row.http_path,
        Speaks::Http2 => seen.path == format!("/{}/Export", row.service),
    };
    let signal = signal::rows().into_iter().find(is_its_path).map_or_else(
        || {
            problems.report(format!("path {}", seen.path));
            Signal::Traces
        },
        |row| row.signal,
    );
    match speaks {
        Speaks::Http1 => {
            problems.check(header("content-type") == Some("application/x-protobuf"), || {
                format!("content-type {:?}", header("content-type"))
            });
            let encoding = header("content-encoding").unwrap_or("identity").to_owned();
            Received { signal, headers: seen.headers, raw: seen.body, encoding }
        }
        Speaks::Http2 => {
            let content_type = header("content-type");
            problems
                .check(matches!(content_type, Some("application/grpc" | "application/grpc+proto")), || {
                    format!("content-type {content_type:?}")
                });
            problems.check(header("te") == Some("trailers"), || format!("te {:?}", header("te")));
            let named = header("grpc-encoding").unwrap_or("identity").to_owned();
            let (compressed, raw) = rpc::unframe(&seen.body).unwrap_or_else(|problem| {
                problems.report(format!("no gRPC frame: {problem}"));
                (false, Bytes::new())
            });
            problems.check(!compressed || named != "identity", || "compressed by nothing".into());
            let encoding = if compressed { named } else { "identity".into() };
            Received { signal, headers: seen.headers, raw, encoding }
        }
    }
}
