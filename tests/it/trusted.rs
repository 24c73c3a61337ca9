//! GitLab's own services, which send without a token: over mutual TLS, or from a closed network. Who may
//! come in, what they may say of themselves, and that nothing else is asked of them.

mod clients;
mod names;
mod network;

use std::net::SocketAddr;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::KeyValue, trace::v1::ResourceSpans,
};
use spangate::config::{Authentication, Client, Config, Listener};

use crate::support::{
    job::Job,
    spans::{self, text},
    tls::TestTls,
    world::{World, loopback},
};

const RAILS: &str = "gitlab-ci-rails";
const ROUTER: &str = "gitlab-ci-job-router";
const RAILS_SAN: &str = "spiffe://example.org/ns/gitlab/sa/rails";
const ROUTER_SAN: &str = "router.gitlab.svc";

fn client(san: &str, service_names: &[&str]) -> Client {
    Client { san: san.into(), service_names: service_names.iter().map(|&name| name.into()).collect() }
}

fn listener(kind: Authentication) -> Listener {
    Listener {
        name: "services".into(),
        address: loopback(),
        authentication: vec![kind],
        service_names: vec![RAILS.into(), ROUTER.into()],
        ..Listener::default()
    }
}

/// A world with a listener for the clients of an authority: one may only be Rails, the other one both services.
async fn with_clients(tls: &TestTls, change: impl FnOnce(&mut Config)) -> World {
    World::with(|config| {
        config.listeners.push(Listener {
            tls: Some(tls.asking_listener()),
            clients: vec![client(RAILS_SAN, &[RAILS]), client(ROUTER_SAN, &[])],
            ..listener(Authentication::Mtls)
        });
        change(config);
    })
    .await
}

/// Where GitLab's own services push to.
fn services(world: &World) -> SocketAddr {
    world.running.listener("services").expect("a listener")
}

/// Spans under a resource with these attributes, a claim to be a job, and nothing else.
fn under(attributes: &[KeyValue]) -> ResourceSpans {
    let job = Job::new(1);
    let mut entry = spans::resource_spans(&job, 0, 2);
    let resource = entry.resource.as_mut().expect("a resource");
    resource.attributes.retain(|attribute| attribute.key != "service.name");
    resource.attributes.extend_from_slice(attributes);
    entry
}

/// An export of a service of this name, with spans of two traces.
fn export(name: &str) -> ExportTraceServiceRequest {
    let mut other = under(&[text("service.name", name)]);
    for span in &mut other.scope_spans[0].spans {
        span.trace_id = vec![0x77; 16];
    }
    ExportTraceServiceRequest { resource_spans: vec![under(&[text("service.name", name)]), other] }
}
