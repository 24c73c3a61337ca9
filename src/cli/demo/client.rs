//! The demo's exporter: one OTLP export over a real socket in each of the three forms, and what the
//! gateway said to it. It never retries, so that every answer is seen.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, anyhow};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use crate::{config::Gitlab, otlp::signal::Signal};

use super::spans;

/// Longer than the gateway's own deadline: its answer always comes first.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The forms in which OTLP comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// OTLP/HTTP, protobuf.
    Protobuf,
    /// OTLP/HTTP, JSON.
    Json,
    /// OTLP/gRPC.
    Grpc,
}

impl Form {
    /// A word for the table.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Protobuf => "protobuf",
            Self::Json => "JSON",
            Self::Grpc => "gRPC",
        }
    }
}

/// How an answer says yes or no: an HTTP status, or a gRPC status over HTTP 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// An HTTP status code.
    Http(u16),
    /// A gRPC status code.
    Grpc(u32),
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(code) => write!(f, "{code}"),
            Self::Grpc(code) => write!(f, "gRPC {code}"),
        }
    }
}

/// What the gateway said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// Yes or no.
    pub(super) status: Status,
    /// `Retry-After`, in seconds.
    pub(super) retry_after: Option<u64>,
    /// Spans refused out of an export that was taken.
    pub(super) rejected: i64,
    /// The sentence for the sender's log.
    pub(super) message: String,
}

/// A token pair. It has no `Debug`: even this run's tokens are shown on purpose or not at all.
pub(super) struct Tokens {
    /// Of the runner.
    pub(super) runner: String,
    /// Of the job.
    pub(super) job: String,
}

/// Sends exports to one gateway.
#[derive(Debug)]
pub(super) struct Exporter {
    gateway: SocketAddr,
    settings: Gitlab,
    http: Client<HttpConnector, Full<Bytes>>,
    grpc: Client<HttpConnector, Full<Bytes>>,
}

impl Exporter {
    /// An exporter to `gateway`; `settings` gives the names of the headers.
    pub(super) fn new(gateway: SocketAddr, settings: &Gitlab) -> Self {
        Self {
            gateway,
            settings: settings.clone(),
            http: Client::builder(TokioExecutor::new()).build_http(),
            grpc: Client::builder(TokioExecutor::new()).http2_only(true).build_http(),
        }
    }

    /// Sends one export and reads the answer.
    ///
    /// # Errors
    /// When no answer comes, or one that is no OTLP.
    pub(super) async fn send(
        &self,
        form: Form,
        tokens: &Tokens,
        export: &ExportTraceServiceRequest,
    ) -> anyhow::Result<Reply> {
        let (path, content_type, body) = match form {
            Form::Protobuf => {
                (Signal::Traces.http_path(), "application/x-protobuf", export.encode_to_vec().into())
            }
            Form::Json => {
                let json = spans::to_json(export)?.to_string();
                (Signal::Traces.http_path(), "application/json", json.into())
            }
            Form::Grpc => (Signal::Traces.grpc_path(), "application/grpc", frame(export)?),
        };
        let mut request = Request::post(format!("http://{}{path}", self.gateway))
            .header(header::CONTENT_TYPE, content_type)
            .header(&self.settings.runner_token_header, &tokens.runner)
            .header(&self.settings.job_token_header, &tokens.job);
        if form == Form::Grpc {
            request = request.header(header::TE, "trailers");
        }
        let request = request.body(Full::new(body))?;
        let client = if form == Form::Grpc { &self.grpc } else { &self.http };
        let exchange = async {
            let (head, body) = client.request(request).await?.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned();
            anyhow::Ok((head, body.to_bytes(), trailers))
        };
        let (head, body, trailers) =
            tokio::time::timeout(TIMEOUT, exchange).await.context("the gateway did not answer")??;
        match form {
            Form::Protobuf | Form::Json => http_reply(form, head.status.as_u16(), &head.headers, body),
            // A call that is refused at once has its status in the head and no body ("trailers-only").
            Form::Grpc => grpc_reply(&trailers.unwrap_or(head.headers), &body),
        }
    }
}

fn http_reply(form: Form, status: u16, headers: &HeaderMap, body: Bytes) -> anyhow::Result<Reply> {
    let retry_after =
        headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let (rejected, message) = match (form, status) {
        (Form::Json, _) => {
            let body: serde_json::Value = serde_json::from_slice(&body).context("the answer is no JSON")?;
            let field = |path: &str| body.pointer(path);
            // A 64-bit number is a string in proto3 JSON; plain numbers are read too.
            let rejected = field("/partialSuccess/rejectedSpans")
                .and_then(|number| number.as_i64().or_else(|| number.as_str()?.parse().ok()));
            let message = field("/partialSuccess/errorMessage").or_else(|| field("/message"));
            let message = message.and_then(serde_json::Value::as_str);
            (rejected.unwrap_or_default(), message.unwrap_or_default().to_owned())
        }
        (_, 200) => partial_success(&body)?,
        _ => (0, RpcStatus::decode(body).context("the refusal is no google.rpc.Status")?.message),
    };
    Ok(Reply { status: Status::Http(status), retry_after, rejected, message })
}

fn grpc_reply(trailers: &HeaderMap, body: &[u8]) -> anyhow::Result<Reply> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| anyhow!("the answer has no grpc-status"))?;
    let (rejected, message) = if code == 0 {
        partial_success(body.get(5..).context("the answer has no gRPC message")?)?
    } else {
        (0, text("grpc-message").unwrap_or_default().to_owned())
    };
    Ok(Reply { status: Status::Grpc(code), retry_after: None, rejected, message })
}

fn partial_success(body: &[u8]) -> anyhow::Result<(i64, String)> {
    let response =
        ExportTraceServiceResponse::decode(body).context("the answer is no ExportTraceServiceResponse")?;
    let partial = response.partial_success.unwrap_or_default();
    Ok((partial.rejected_spans, partial.error_message))
}

/// One uncompressed gRPC message: a flag, the length in four bytes, the message.
fn frame(export: &ExportTraceServiceRequest) -> anyhow::Result<Bytes> {
    let message = export.encode_to_vec();
    let mut frame = BytesMut::with_capacity(message.len().saturating_add(5));
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len())?);
    frame.extend_from_slice(&message);
    Ok(frame.freeze())
}

/// The part of `google.rpc.Status` that a person reads.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(string, tag = "2")]
    message: String,
}
