//! How long connections live and how many there are: strangers, age, shares of clients, what goes when places get scarce.

use std::collections::HashSet;

use crate::proxy::{body::InFlight, overload::Overload};

use super::*;

/// How many connections are closed within the time of a head and a bit.
async fn closed(streams: &mut [TcpStream]) -> HashSet<usize> {
    let mut ended = HashSet::new();
    for (index, stream) in streams.iter_mut().enumerate() {
        let read = timeout(Duration::from_millis(20), stream.read(&mut [0; 512])).await;
        if matches!(read, Ok(Ok(0) | Err(_))) {
            ended.insert(index);
        }
    }
    ended
}

async fn ask(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 512];
    let length = timeout(PATIENCE, stream.read(&mut answer)).await.expect("no answer").unwrap();
    String::from_utf8(answer[..length].to_vec()).unwrap()
}

async fn server(settings: ServerSettings) -> Server {
    Server::with(TcpListener::bind("127.0.0.1:0").await.unwrap(), settings)
}

/// Scenario: connections of both protocols, some with a request that was let in, some with one that was not or with none.
/// Guarantees: only those without end early, without being counted as trouble; the others serve on.
#[tokio::test]
async fn idle_strangers_end_early() {
    let server = server(ServerSettings { stranger_idle_timeout: HEAD / 2, ..settings(10, PATIENCE) }).await;
    let mut known = speak_http1(server.connect().await).await;
    let mut known_two = speak_http2(server.connect().await).await;
    let mut stranger = speak_http1(server.connect().await).await;
    let mut stranger_two = speak_http2(server.connect().await).await;
    let _silent = speak_http2(server.connect().await).await;
    for sender in [&mut known, &mut stranger] {
        drop(text(sender.send_request(get("/")).await.unwrap()).await);
    }
    drop(text(stranger_two.send_request(get("/")).await.unwrap()).await);
    drop(text(known.send_request(get("/admit")).await.unwrap()).await);
    drop(text(known_two.send_request(get("/admit")).await.unwrap()).await);
    let ended = async {
        while server.connections.taken() > 2 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HEAD * 4, ended).await.expect("an idle stranger stays");
    assert!(known.send_request(get("/")).await.is_ok());
    assert!(known_two.send_request(get("/")).await.is_ok());
    assert_eq!(server.connections.taken(), 2);
    assert!(!server.metrics.render().contains("reason=\"timeout\"} 1"));
}

/// Scenario: connections of both protocols become old: one is asked again and again, one idles, one has an open request.
/// Guarantees: over HTTP/1 an answer says that it is the last, and no idle connection is closed under a request; over
/// HTTP/2 the open request is answered before the connection ends.
#[tokio::test]
async fn old_connections_end_between_requests() {
    let age = HEAD;
    let server = server(ServerSettings { max_age: age, ..settings(10, PATIENCE) }).await;
    let began = Instant::now();
    let mut idle = server.connect().await;
    ask(&mut idle, "/admit").await;
    let mut two = speak_http2(server.connect().await).await;
    let open = tokio::spawn(two.send_request(get("/hang")));
    let mut asked = server.connect().await;
    while !ask(&mut asked, "/").await.contains("connection: close") {
        assert!(began.elapsed() < PATIENCE, "no answer was the last");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() >= age.mul_f64(0.9), "{:?}", began.elapsed());
    assert_eq!(closed(std::slice::from_mut(&mut asked)).await.len(), 1);
    sleep(age / 2).await;
    assert!(two.send_request(get("/")).await.is_err(), "no GOAWAY");
    server.release.notify_one();
    assert_eq!(text(open.await.unwrap().unwrap()).await, "HTTP/2.0");
    assert!(ask(&mut idle, "/").await.contains("connection: close"));
}

/// Scenario: one client has its whole share of connections and opens more, in clear text and before TLS.
/// Guarantees: those are closed without a byte and counted; one that ends makes room for another.
#[tokio::test]
async fn a_client_has_no_more_than_its_share() {
    let (tls, _) = tls();
    for tls in [None, Some(Arc::new(arc_swap::ArcSwap::from_pointee(tls)))] {
        let server = server(ServerSettings {
            connections: Connections::new(100, 2),
            header_timeout: PATIENCE,
            tls: tls.clone(),
            ..settings(100, PATIENCE)
        })
        .await;
        let mut held = [server.connect().await, server.connect().await];
        while server.connections.taken() < 2 {
            sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(until_closed(server.connect().await, b"").await, b"");
        assert!(server.metrics.render().contains("reason=\"per_client\"} 1"));
        assert!(closed(&mut held).await.is_empty());
        drop(held);
        while server.connections.taken() > 0 {
            sleep(Duration::from_millis(2)).await;
        }
        if tls.is_none() {
            assert!(ask(&mut server.connect().await, "/").await.starts_with("HTTP/1.1 200"));
        }
    }
}

fn overload(places: usize) -> Arc<Overload> {
    let metrics = Arc::new(Metrics::new());
    Arc::new(Overload::new(Connections::new(places, 0), InFlight::new(100), metrics))
}

async fn overloaded(overload: &Arc<Overload>) -> Server {
    let watched = Arc::clone(overload);
    drop(tokio::spawn(async move { watched.watch().await }));
    server(ServerSettings {
        connections: Arc::clone(overload.connections()),
        overload: Some(Arc::clone(overload)),
        ..settings(1, PATIENCE)
    })
    .await
}

/// Scenario: of 20 places 7 are taken by idle strangers and 9 by known senders; then 3 more connections come.
/// Guarantees: the strangers that have idled longest go, no more than needed; no known sender and no busy one does.
#[tokio::test]
async fn idle_strangers_make_room() {
    let overload = overload(20);
    let server = overloaded(&overload).await;
    let mut streams = Vec::new();
    for index in 0..15 {
        let mut stream = server.connect().await;
        ask(&mut stream, if index % 2 == 0 { "/admit" } else { "/" }).await;
        streams.push(stream);
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(120)).await;
    assert!(closed(&mut streams).await.is_empty(), "under 80 %, nobody is asked to leave");
    let mut more = server.connect().await;
    ask(&mut more, "/").await;
    let mut gone = HashSet::new();
    for _ in 0..20 {
        gone.extend(closed(&mut streams).await);
        if !gone.is_empty() {
            break;
        }
    }
    assert_eq!(gone, HashSet::from([1]), "of 16 places 15 are to be left");
    assert!(ask(&mut streams[0], "/").await.starts_with("HTTP/1.1 200"));
}

/// Scenario: 17 of 20 places are taken by known senders; another one comes and is busy, and one more.
/// Guarantees: the known sender that has idled longest is asked to leave, no more than needed; whoever came after 90 % is
/// served, and ends with its first answer.
#[tokio::test]
async fn known_senders_make_room_last() {
    let overload = overload(20);
    let server = overloaded(&overload).await;
    let mut idle = Vec::new();
    for _ in 0..17 {
        let mut stream = server.connect().await;
        ask(&mut stream, "/admit").await;
        idle.push(stream);
        sleep(Duration::from_millis(2)).await;
    }
    sleep(Duration::from_millis(120)).await;
    assert!(closed(&mut idle).await.is_empty(), "under 90 %, no known sender is asked to leave");
    let mut busy = server.connect().await;
    busy.write_all(b"GET /admit-and-hang HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    server.until_hanging(1).await;
    let ended = async {
        while server.connections.taken() > 17 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("nobody makes room");
    assert_eq!(closed(&mut idle).await, HashSet::from([0]));
    let answer = ask(&mut server.connect().await, "/admit").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    server.release.notify_one();
    let answer = until_closed(busy, b"").await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}

/// Scenario: a stranger and a known sender are busy, another known one idles; all are asked to leave, first strangers, then
/// known ones.
/// Guarantees: the busy stranger is asked, once, because it may be busy for good; the busy known sender never is.
#[tokio::test]
async fn a_busy_stranger_is_asked_too() {
    let server = server(settings(10, PATIENCE)).await;
    let (mut idle, mut known, mut stranger) =
        (server.connect().await, server.connect().await, server.connect().await);
    for stream in [&mut idle, &mut known] {
        ask(stream, "/admit").await;
    }
    for stream in [&mut known, &mut stranger] {
        stream.write_all(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    }
    server.until_hanging(2).await;
    assert_eq!(server.connections.ask_to_leave(0, false), 1);
    assert_eq!(server.connections.ask_to_leave(0, false), 0);
    assert_eq!(server.connections.ask_to_leave(0, true), 1);
    assert_eq!(closed(std::slice::from_mut(&mut idle)).await.len(), 1);
}
