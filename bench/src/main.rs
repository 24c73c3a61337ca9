//! The parts around the gateway when its figures are taken: a bare forwarding proxy as the floor, a
//! collector that throws everything away, an authority that says yes, and a load generator. Each
//! listens on a free port of loopback and prints it as its first line; none of them is for use.

mod answerers;
mod forward;
mod load;

use std::{convert::Infallible, future::Future, io::Write as _, net::Ipv4Addr};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

const USAGE: &str = "usage:
  spangate-bench forward UPSTREAM            bare HTTP/1.1 forward proxy to UPSTREAM (host:port)
  spangate-bench sink                        collector that answers 200 to everything
  spangate-bench authority                   authority that answers 200, max-age=300
  spangate-bench load TARGET SPANS CONNECTIONS REQUESTS
                                             closed loop: as fast as answers come
  spangate-bench pace TARGET SPANS RATE REQUESTS
                                             open loop: RATE requests a second, latency from the due time
";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["forward", upstream] => forward::run(upstream).await,
        ["sink"] => answerers::sink().await,
        ["authority"] => answerers::authority().await,
        ["load", target, spans, connections, requests] => {
            load::closed(target, spans.parse()?, connections.parse()?, requests.parse()?).await
        }
        ["pace", target, spans, rate, requests] => {
            load::open(target, spans.parse()?, rate.parse()?, requests.parse()?).await
        }
        _ => bail!("{USAGE}"),
    }
}

/// Serves `handler` on a free port of loopback, for ever, and prints the address.
async fn serve<H, F, B>(handler: H) -> anyhow::Result<()>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    writeln!(std::io::stdout(), "{address}").context("the address can't be told")?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handler = handler.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            // The load generator hangs up when it is done.
            drop(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}
