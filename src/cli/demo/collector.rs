//! The demo's collector: takes OTLP/HTTP protobuf, decodes it with prost and hands over what
//! arrived. It checks nothing that the gateway is there to check.

use std::io;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::sync::mpsc;

use super::loopback::{self, Answer, Server};

/// Longest body that it reads, in bytes: what a real collector takes by default over HTTP.
const MAX_BODY: usize = 20 << 20;

/// Exports that may wait to be looked at before the collector makes its sender wait.
const MAX_WAITING: usize = 1024;

/// The collector while it listens.
#[derive(Debug)]
pub(super) struct Collector {
    server: Server,
    arrivals: mpsc::Receiver<ExportTraceServiceRequest>,
}

impl Collector {
    /// Starts it.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) async fn start() -> io::Result<Self> {
        let (sender, arrivals) = mpsc::channel(MAX_WAITING);
        let server = loopback::serve(move |request| {
            let sender = sender.clone();
            async move { take(request, sender).await }
        })
        .await?;
        Ok(Self { server, arrivals })
    }

    /// Its base URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// What arrived since the last look. An export is here before its sender has the answer.
    pub(super) fn arrived(&mut self) -> Vec<ExportTraceServiceRequest> {
        std::iter::from_fn(|| self.arrivals.try_recv().ok()).collect()
    }

    /// Waits for the next export; `None` never comes while the collector lives.
    pub(super) async fn next(&mut self) -> Option<ExportTraceServiceRequest> {
        self.arrivals.recv().await
    }
}

async fn take(request: Request<Incoming>, sender: mpsc::Sender<ExportTraceServiceRequest>) -> Answer {
    if request.uri().path() != "/v1/traces" {
        return loopback::answer(404, "text/plain", "not found\n");
    }
    if *request.method() != Method::POST {
        return loopback::answer(405, "text/plain", "POST only\n");
    }
    let protobuf = request.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == "application/x-protobuf");
    if !protobuf || request.headers().contains_key(header::CONTENT_ENCODING) {
        return loopback::answer(415, "text/plain", "uncompressed protobuf only\n");
    }
    let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
        return loopback::answer(400, "text/plain", "the body broke off or is too long\n");
    };
    let Ok(export) = ExportTraceServiceRequest::decode(body.to_bytes()) else {
        return loopback::answer(400, "text/plain", "no export request\n");
    };
    if sender.send(export).await.is_err() {
        return loopback::answer(503, "text/plain", "nobody looks any more\n");
    }
    // An empty message says that everything was taken.
    loopback::answer(200, "application/x-protobuf", Bytes::new())
}
