//! Every way in times every way out: the same export, whatever it travels over, is the same export
//! to the collector.

use std::sync::Arc;

use futures_util::future::join_all;
use spangate::{
    config::{Config, Listener, Protocol},
    otlp::compression::Encoding,
};

use crate::support::{
    client::{Export, Form, Wire},
    collector::Collector,
    job::Job,
    server::Speaks,
    spans::{self, assert_stamped},
    tls::TestTls,
    world::{World, loopback, unlimited},
};

const ENCODINGS: [Encoding; 3] = [Encoding::Identity, Encoding::Gzip, Encoding::Zstd];

/// Scenario: HTTP/1.1 and HTTP/2, clear and TLS, protobuf and gRPC, in three encodings, to collectors of both protocols in three encodings.
/// Guarantees: each is answered in its own form and arrives with the same spans and the verified identity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_meets_every_way_out() {
    let tls = Arc::new(TestTls::new());
    for protocol in [Protocol::Http, Protocol::Grpc] {
        for out in ENCODINGS {
            all_ways_in(&tls, protocol, out).await;
        }
    }
}

async fn all_ways_in(tls: &Arc<TestTls>, protocol: Protocol, out: Encoding) {
    let speaks = if protocol == Protocol::Http { Speaks::Http1 } else { Speaks::Http2 };
    let collector = Collector::start(speaks, None).await;
    let world = World::around(collector, |config| {
        unlimited(config);
        config.collector.protocol = protocol;
        config.collector.compression = out;
        add_tls_listener(config, tls);
    })
    .await;
    let (clear, secure) = (world.address(), world.running.listener("secure").unwrap());
    let job = Job::new(1);
    world.authority.allow(&job);
    let sent = spans::export(&job, 4);
    let ways = [
        (Form::Protobuf, Wire::Http1, clear),
        (Form::Protobuf, Wire::H2c, clear),
        (Form::Protobuf, Wire::TlsHttp1(Arc::clone(tls)), secure),
        (Form::Protobuf, Wire::TlsHttp2(Arc::clone(tls)), secure),
        (Form::Grpc, Wire::H2c, clear),
        (Form::Grpc, Wire::TlsHttp2(Arc::clone(tls)), secure),
        (Form::Json, Wire::TlsHttp2(Arc::clone(tls)), secure),
    ];
    for (form, wire, to) in ways {
        for encoding in ENCODINGS {
            let export = Export::of(form, &job, &sent).over(wire.clone()).compressed(encoding);
            export.send(to).await.assert_accepted(form);
            let arrived = world.collector.received().pop().unwrap();
            assert_eq!(arrived.encoding, out.token(), "{form:?} {encoding:?}");
            assert_stamped(&job, &sent, &arrived.request());
        }
    }
    assert_eq!(world.collector.count(), 21);
    assert_eq!(world.authority.count(), 1);
}

fn add_tls_listener(config: &mut Config, tls: &TestTls) {
    config.listeners.push(Listener {
        name: "secure".into(),
        address: loopback(),
        tls: Some(tls.listener()),
        ..Listener::default()
    });
}

/// Scenario: collectors behind TLS, in both protocols, under a private CA; and one whose certificate nobody vouches for.
/// Guarantees: exports arrive where the certificate is good, and nothing is sent where it is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collectors_behind_tls() {
    let (tls, stranger) = (TestTls::new(), TestTls::new());
    let job = Job::new(1);
    let sent = spans::export(&job, 2);
    for (protocol, speaks, alpn) in
        [(Protocol::Http, Speaks::Http1, "http/1.1"), (Protocol::Grpc, Speaks::Http2, "h2")]
    {
        for (its, good) in [(&tls, true), (&stranger, false)] {
            let collector = Collector::start(speaks, Some(its.server_config(&[alpn]))).await;
            let world = World::around(collector, |config| {
                config.collector.protocol = protocol;
                config.collector.tls = tls.client();
            })
            .await;
            world.authority.allow(&job);
            let answer = world.send(&Export::of(Form::Protobuf, &job, &sent)).await;
            if good {
                answer.assert_accepted(Form::Protobuf);
                assert_stamped(&job, &sent, &world.collector.only().request());
            } else {
                assert_eq!(answer.status, 502);
                assert_eq!(world.collector.count(), 0);
            }
        }
    }
}

/// Scenario: two collectors, one of which refuses connections.
/// Guarantees: exports go to the one that is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_collectors_is_down() {
    let nobody = crate::support::server::Refusing::new();
    for position in [0, 1] {
        let world = World::with(|config| {
            unlimited(config);
            config.collector.endpoints.insert(position, nobody.url());
        })
        .await;
        let job = Job::new(1);
        world.authority.allow(&job);
        let export = Export::of(Form::Protobuf, &job, &spans::export(&job, 1));
        for answer in join_all((0..20).map(|_| world.send(&export))).await {
            answer.assert_accepted(Form::Protobuf);
        }
        assert_eq!(world.collector.count(), 20);
    }
}
