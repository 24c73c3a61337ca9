//! Exports as a raw client sends them: HTTP protobuf, HTTP JSON or gRPC, each on a connection of its
//! own unless a [`Session`] is used. It hides nothing: whatever is wrong with an export is sent so.

use std::{io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::Full;
use spangate::otlp::{compression::Encoding, signal::Signal};

use super::{
    answer::Answer,
    job::Job,
    json, rpc,
    session::Session,
    signal::{self, Otlp},
    tls::TestTls,
};

/// No answer takes longer than this, however loaded the machine is; more is a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The form of a request and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Protobuf,
    Json,
    Grpc,
}

impl Form {
    /// All three.
    pub(crate) const ALL: [Self; 3] = [Self::Protobuf, Self::Json, Self::Grpc];

    /// Its media type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
            Self::Grpc => "application/grpc",
        }
    }

    fn path(self, signal: Signal) -> String {
        let row = signal::row(signal);
        match self {
            Self::Protobuf | Self::Json => row.http_path.into(),
            Self::Grpc => format!("/{}/Export", row.service),
        }
    }
}

/// What the bytes travel over.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Http1,
    H2c,
    TlsHttp1(Arc<TestTls>),
    TlsHttp2(Arc<TestTls>),
}

/// One export, to be sent as often as one likes.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    form: Form,
    wire: Wire,
    method: &'static str,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Export {
    /// A request of a form, over the wire that goes with it, uncompressed, without credentials.
    pub(crate) fn new<R: Otlp>(form: Form, request: &R) -> Self {
        let message = match form {
            Form::Protobuf | Form::Grpc => request.encode_to_vec(),
            Form::Json => json::to_json(request),
        };
        Self::raw(form, message).to(R::SIGNAL)
    }

    /// The same with any bytes as the message, sent where spans go.
    pub(crate) fn raw(form: Form, message: impl Into<Bytes>) -> Self {
        let mut export = Self::bare(form, message.into());
        if form == Form::Grpc {
            export.body = rpc::frame(false, &export.body);
        }
        export
    }

    /// The same with any bytes as the whole HTTP body, for gRPC too.
    pub(crate) fn bare(form: Form, body: Bytes) -> Self {
        let wire = if form == Form::Grpc { Wire::H2c } else { Wire::Http1 };
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(form.content_type()));
        if form == Form::Grpc {
            headers.insert("te", HeaderValue::from_static("trailers"));
        }
        Self { form, wire, method: "POST", path: form.path(Signal::Traces), headers, body }
    }

    /// A request with the job's two tokens.
    pub(crate) fn of<R: Otlp>(form: Form, job: &Job, request: &R) -> Self {
        Self::new(form, request).tokens(job)
    }

    /// Adds the job's two tokens.
    pub(crate) fn tokens(self, job: &Job) -> Self {
        self.header("runner-token", &job.runner_token).header("job-token", &job.job_token)
    }

    /// Adds a header, beside one of the same name.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    /// Puts a header in place of any of the same name.
    pub(crate) fn replace(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// Takes a header away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// Another method.
    pub(crate) fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// Where this signal goes.
    pub(crate) fn to(self, signal: Signal) -> Self {
        let path = self.form.path(signal);
        self.path(&path)
    }

    /// Another path.
    pub(crate) fn path(self, path: &str) -> Self {
        Self { path: path.into(), ..self }
    }

    /// Another wire.
    pub(crate) fn over(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// Compresses the message and says so.
    pub(crate) fn compressed(self, encoding: Encoding) -> Self {
        if encoding == Encoding::Identity {
            return self;
        }
        let deflate = |message: &[u8]| match encoding {
            Encoding::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(message).unwrap();
                writer.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(message, 1).unwrap(),
            Encoding::Identity => unreachable!("handled above"),
        };
        if self.form == Form::Grpc {
            let (_, message) = rpc::unframe(&self.body).unwrap();
            let body = rpc::frame(true, &deflate(&message));
            Self { body, ..self }.header("grpc-encoding", encoding.token())
        } else {
            let body = deflate(&self.body).into();
            Self { body, ..self }.header("content-encoding", encoding.token())
        }
    }

    /// The bytes that go out as the HTTP body.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Sends it on a connection of its own.
    pub(crate) async fn send(&self, to: SocketAddr) -> Answer {
        self.try_send(to).await.unwrap_or_else(|problem| panic!("no answer to {self:?}: {problem}"))
    }

    /// The same; an error when the connection broke or no answer came.
    pub(crate) async fn try_send(&self, to: SocketAddr) -> Result<Answer, String> {
        tokio::time::timeout(PATIENCE, self.exchange(to)).await.map_err(|_| "no answer in time".to_owned())?
    }

    async fn exchange(&self, to: SocketAddr) -> Result<Answer, String> {
        Session::open(&self.wire, to).await?.exchange(self).await
    }

    /// The request, for a session.
    pub(super) fn request(&self, base: &str) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(self.method).uri(format!("{base}{}", self.path));
        request.headers_mut().unwrap().extend(self.headers.clone());
        request.body(Full::new(self.body.clone())).unwrap()
    }
}
