//! The floor: an HTTP/1.1 proxy that streams every body as it comes to one upstream through
//! hyper-util's pooling client and looks at nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

type Answer = Response<Either<Incoming, Empty<Bytes>>>;

/// Forwards to `upstream` (host:port).
pub async fn run(upstream: &str) -> anyhow::Result<()> {
    let upstream: Arc<Authority> = Arc::new(upstream.parse()?);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build::<_, Incoming>(connector);
    crate::serve(move |request| forward(client.clone(), Arc::clone(&upstream), request)).await
}

async fn forward(
    client: Client<HttpConnector, Incoming>,
    upstream: Arc<Authority>,
    mut request: Request<Incoming>,
) -> Answer {
    let target = Uri::builder()
        .scheme("http")
        .authority(upstream.as_str())
        .path_and_query(request.uri().path_and_query().map_or("/", |path| path.as_str()))
        .build();
    let Ok(target) = target else { return refuse(StatusCode::BAD_REQUEST) };
    *request.uri_mut() = target;
    request.headers_mut().remove(header::HOST);
    match client.request(request).await {
        Ok(answer) => answer.map(Either::Left),
        Err(_) => refuse(StatusCode::BAD_GATEWAY),
    }
}

fn refuse(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Right(Empty::new()));
    *answer.status_mut() = status;
    answer
}
