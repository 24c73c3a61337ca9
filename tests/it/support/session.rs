//! One connection to the gateway, for one export or many: HTTP/1.1 or HTTP/2, clear or TLS. It
//! carries what it is given and hands back status, headers, body and trailers as they came.

use std::{net::SocketAddr, time::Instant};

use bytes::Bytes;
use http::{HeaderValue, header::HOST};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{
    answer::Answer,
    client::{Export, Wire},
    tls::TestTls,
};

/// An open connection.
pub(crate) struct Session {
    sender: Sender,
    to: SocketAddr,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2 { sender: http2::SendRequest<Full<Bytes>>, scheme: &'static str },
}

impl Session {
    /// Connects; under TLS the one protocol that the wire names is offered, and must be chosen.
    pub(crate) async fn open(wire: &Wire, to: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(to).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        let sender = match wire {
            Wire::Http1 => http1(stream).await?,
            Wire::H2c => http2(stream, "http").await?,
            Wire::TlsHttp1(tls) => http1(secure(tls, "http/1.1", stream).await?).await?,
            Wire::TlsHttp2(tls) => http2(secure(tls, "h2", stream).await?, "https").await?,
        };
        Ok(Self { sender, to })
    }

    /// Sends an export and reads its whole answer.
    pub(crate) async fn exchange(&mut self, export: &Export) -> Result<Answer, String> {
        let started = Instant::now();
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(text)?;
                let mut request = export.request("");
                let host = HeaderValue::from_str(&self.to.to_string()).unwrap();
                request.headers_mut().insert(HOST, host);
                sender.send_request(request).await
            }
            Sender::Http2 { sender, scheme } => {
                let request = export.request(&format!("{scheme}://{}", self.to));
                sender.send_request(request).await
            }
        };
        let (parts, body) = answer.map_err(text)?.into_parts();
        let collected = body.collect().await.map_err(text)?;
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            trailers: collected.trailers().cloned(),
            body: collected.to_bytes(),
            took: started.elapsed(),
        })
    }

    /// A second handle on the same connection; HTTP/2 only.
    pub(crate) fn share(&self) -> Self {
        match &self.sender {
            Sender::Http1(_) => panic!("HTTP/1.1 carries one request at a time"),
            Sender::Http2 { sender, scheme } => {
                Self { sender: Sender::Http2 { sender: sender.clone(), scheme }, to: self.to }
            }
        }
    }
}

async fn secure(
    tls: &TestTls,
    alpn: &str,
    stream: TcpStream,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, String> {
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(tls.client_config(&[alpn]));
    let stream = connector.connect(name, stream).await.map_err(text)?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()), "ALPN");
    Ok(stream)
}

async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender, String> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    drop(tokio::spawn(connection));
    Ok(Sender::Http1(sender))
}

async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    scheme: &'static str,
) -> Result<Sender, String> {
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(text)?;
    drop(tokio::spawn(connection));
    Ok(Sender::Http2 { sender, scheme })
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
