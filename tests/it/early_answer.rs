//! Answers that come before the upload ends: authentication on the headers alone, and a refusal
//! that a client reads although it is still writing. Speaks HTTP/1.1 by hand on a socket.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    authority::Script,
    client::PATIENCE,
    job::Job,
    world::{World, unlimited},
};

/// An HTTP/1.1 request whose body is written piece by piece.
pub(crate) struct Upload {
    stream: TcpStream,
}

impl Upload {
    /// Sends the head of an export of `length` bytes with the job's tokens.
    pub(crate) async fn begin(to: SocketAddr, job: &Job, length: usize) -> Self {
        Self::with(to, job, &format!("Content-Length: {length}\r\n")).await
    }

    async fn with(to: SocketAddr, job: &Job, headers: &str) -> Self {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/x-protobuf\r\n\
             Runner-Token: {}\r\nJob-Token: {}\r\n{headers}\r\n",
            job.runner_token, job.job_token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream }
    }

    /// Sends a part of the body.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The first bytes of the answer, up to the end of its head.
    pub(crate) async fn answer_head(&mut self) -> String {
        self.try_answer_head().await.unwrap()
    }

    async fn try_answer_head(&mut self) -> Result<String, String> {
        let mut head = Vec::new();
        let read = async {
            while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                match self.stream.read_buf(&mut head).await {
                    Ok(0) => return Err("the connection ended before the answer's head did".to_owned()),
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
            Ok(())
        };
        timeout(PATIENCE, read).await.map_err(|_| "no answer in time".to_owned())??;
        Ok(String::from_utf8_lossy(&head).into_owned())
    }
}

/// Scenario: fifty times, a client with a bad token writes 8 MB to the end before it reads.
/// Guarantees: it reads its 401 every time: the answer is not lost to a reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_survives_the_upload() {
    let world = World::with(unlimited).await;
    let job = Job::new(1);
    let megabyte = vec![0; 1 << 20];
    let mut lost = Vec::new();
    for round in 0..50 {
        let mut upload = Upload::begin(world.address(), &job, 8 << 20).await;
        // A plain client writes to the end first; a write that fails is all that it ever learns.
        let mut outcome = Ok(String::new());
        for _ in 0..8 {
            if let Err(error) = upload.stream.write_all(&megabyte).await {
                outcome = Err(format!("cut while writing: {error}"));
                break;
            }
        }
        if outcome.is_ok() {
            outcome = upload.try_answer_head().await;
        }
        match outcome {
            Ok(head) if head.starts_with("HTTP/1.1 401 ") => {}
            other => lost.push((round, other)),
        }
    }
    assert!(lost.is_empty(), "{} of 50 lost: {lost:?}", lost.len());
    assert_eq!(world.collector.count(), 0);
}

/// Scenario: a client with a bad token never stops to write.
/// Guarantees: it is cut off after a bounded number of bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_refused_upload_is_cut() {
    let world = World::with(unlimited).await;
    let megabyte = vec![0; 1 << 20];
    let mut upload = Upload::begin(world.address(), &Job::new(1), 1 << 40).await;
    let mut written = 0;
    let endless = async {
        while upload.stream.write_all(&megabyte).await.is_ok() {
            written += 1;
            assert!(written < 64, "64 MiB were read after a refusal");
        }
    };
    timeout(PATIENCE, endless).await.expect("an end");
}

/// Scenario: heads whose body never comes: a plain upload that stalls, a chunked one, one that waits for 100 Continue.
/// Guarantees: 401 on the headers alone, before one body byte is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authentication_needs_no_body() {
    let world = World::with(unlimited).await;
    let job = Job::new(1);
    for headers in [
        "Content-Length: 1000\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 1000\r\nExpect: 100-continue\r\n",
    ] {
        let mut upload = Upload::with(world.address(), &job, headers).await;
        let head = timeout(Duration::from_secs(5), upload.answer_head()).await.expect("an early answer");
        assert!(head.starts_with("HTTP/1.1 401 "), "{headers}: {head}");
    }
    assert!(world.authority.count() >= 1);
}

/// Scenario: a client with good tokens waits for 100 Continue before it sends the body.
/// Guarantees: it gets it, and then its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_sender_is_told_to_continue() {
    let world = World::start().await;
    let job = Job::new(1);
    world.authority.know(&job, Script::allow(&job, 300).delay(Duration::from_millis(100)));
    let headers = "Content-Length: 0\r\n";
    let mut empty = Upload::with(world.address(), &job, headers).await;
    assert!(empty.answer_head().await.starts_with("HTTP/1.1 200 "));
    let headers = "Content-Length: 2\r\nExpect: 100-continue\r\n";
    let mut upload = Upload::with(world.address(), &job, headers).await;
    assert!(upload.answer_head().await.starts_with("HTTP/1.1 100 "));
    // An empty ResourceSpans.
    upload.write(b"\x0a\x00").await;
    assert!(upload.answer_head().await.starts_with("HTTP/1.1 200 "));
}

/// Scenario: a body that is announced and never comes, from a sender with good tokens.
/// Guarantees: the connection is not held for ever: an answer or an end within the bound for bodies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_never_comes() {
    let world = World::with(|config| {
        config.intake.body_timeout = Duration::from_secs(1);
        config.intake.header_timeout = Duration::from_secs(1);
    })
    .await;
    let job = Job::new(1);
    world.authority.allow(&job);
    let mut upload = Upload::begin(world.address(), &job, 1000).await;
    let end = timeout(Duration::from_secs(10), upload.try_answer_head()).await.expect("an end");
    // 408 would be as true as 400; what is not allowed is a word about the credentials, or success.
    if let Ok(head) = end {
        assert!(
            ["HTTP/1.1 400 ", "HTTP/1.1 408 ", "HTTP/1.1 503 "].iter().any(|s| head.starts_with(s)),
            "{head}"
        );
    }
    let mut silent = TcpStream::connect(world.address()).await.unwrap();
    silent.write_all(b"POST /v1/traces HTTP/1.1\r\nHost: g").await.unwrap();
    let mut rest = Vec::new();
    let end = timeout(Duration::from_secs(10), silent.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "a request head that never ends holds its connection");
}
