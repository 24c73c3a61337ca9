//! A GitLab on loopback that answers by a script and remembers what it was asked.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, task::AbortHandle, time::sleep};
use tokio_rustls::TlsAcceptor;

pub(super) const TRACE: &str = "000000000000000000000000001e240a";

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// One scripted answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    head_after: Duration,
    /// In pieces of unknown number, each after a wait.
    chunked: Option<Duration>,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

/// The server; it ends with this value.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: AbortHandle,
}

impl Reply {
    pub(super) fn json(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.into(),
            head_after: Duration::ZERO,
            chunked: None,
        }
    }

    pub(super) fn good() -> Self {
        Self::json(200, &format!(r#"{{"trace_id":"{TRACE}"}}"#))
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(seen, _)| seen != name);
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(super) fn chunked(self) -> Self {
        self.body_after(Duration::ZERO)
    }

    pub(super) fn head_after(mut self, wait: Duration) -> Self {
        self.head_after = wait;
        self
    }

    pub(super) fn body_after(mut self, wait: Duration) -> Self {
        self.chunked = Some(wait);
        self
    }

    async fn send(self) -> Answer {
        sleep(self.head_after).await;
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        let body = Bytes::from(self.body);
        let Some(wait) = self.chunked else {
            return response.body(Full::new(body).boxed_unsync()).unwrap();
        };
        let pieces: Vec<_> = body.chunks(8 << 10).map(Bytes::copy_from_slice).collect();
        let stream = stream::unfold(pieces.into_iter(), move |mut pieces| async move {
            let piece = pieces.next()?;
            sleep(wait).await;
            Some((Ok(Frame::data(piece)), pieces))
        });
        response.body(BodyExt::boxed_unsync(StreamBody::new(stream))).unwrap()
    }
}

impl Fake {
    /// Answers with these replies in turn, and with 599 after the last.
    pub(super) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::serve(replies, None).await
    }

    pub(super) async fn start_tls(
        replies: impl IntoIterator<Item = Reply>,
        tls: Arc<rustls::ServerConfig>,
    ) -> Self {
        Self::serve(replies, Some(tls.into())).await
    }

    async fn serve(replies: impl IntoIterator<Item = Reply>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(replies.into_iter().collect::<Vec<_>>().into_iter()));
        let record = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, record, tls) = (Arc::clone(&script), Arc::clone(&record), tls.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let (script, record) = (Arc::clone(&script), Arc::clone(&record));
                        async move {
                            let seen = remember(request).await?;
                            record.lock().unwrap().push(seen);
                            let reply = script.lock().unwrap().next();
                            Ok::<_, hyper::Error>(reply.unwrap_or_else(|| Reply::json(599, "")).send().await)
                        }
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    // How a connection ends is no part of any test: what was answered is.
                    match tls {
                        None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(server.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Self { address, scheme, seen, task: task.abort_handle() }
    }

    pub(super) fn url(&self, root: &str) -> String {
        format!("{}://{}{root}", self.scheme, self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn remember(request: Request<Incoming>) -> Result<Seen, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Seen {
        line: format!("{} {} {:?}", head.method, head.uri, head.version),
        headers: pairs(&head.headers),
        body: String::from_utf8(body.to_vec()).unwrap(),
    })
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}
