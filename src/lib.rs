//! Spangate, the token-auth gateway for GitLab CI job telemetry: this file is the map.
//!
//! One request takes one straight path ([`proxy::gateway`]); each step can refuse, and only a
//! [`proxy::rejection::Rejection`] can say how:
//!
//! ```text
//! accept, whose it is, TLS, h1/h2 -> mark credentials sensitive, catch panic ->
//!   1 route            signal, protocol                          400 / 404 / 405 / 415
//!   2 credentials      pair | bearer | client certificate        401
//!   3 failure limiter  only this client's failures are charged   429
//!     overload         strangers go first                        503
//!   4 validate         cache -> guard -> GitLab | OIDC | a list  401 / 403 / 429 / 503
//!   5 limits           requests                                  429
//!   6 body             permits, caps, inflate; bytes charged     400 / 413 / 429 / 503
//!   7 inspect          structure, trace gate, names, span limits 400 / partial
//!   8 limits           spans, a short body's bytes, job's budget 429 / partial
//!   9 rewrite          identity in, or passed on as it came      400
//!  10 upstream         deadline, one retry if nothing was sent   400 / 413 / 429 / 502 / 503 / 504
//!  11 answer           in the request's own encoding, partial_success merged
//! ```
//!
//! Modules import only modules that stand before them in this order (a test reads the
//! `use crate::` lines):
//!
//! `otlp  signal  config  metrics  telemetry | tls | validate | cache  limit | proxy | admin | app | cli | main`
//!
//! Invariants, each held by a test:
//! - A 401 or 403 is given for a malformed credential or on the authority's own word about these
//!   very bytes; whatever could not be decided is a 503 ([`validate::Undetermined`]).
//! - An [`validate::Identity`] is made only inside [`validate`]: nothing unproven can be stamped.
//! - No token reaches a log, a metric, an error text or a `Debug` output.
//! - Spans are never decoded and never re-encoded; they are kept or dropped whole, or lose protected
//!   attributes where `also_strip` says so.
//!
//! Not promised: durable delivery (telemetry is best effort; the exporter retries), ordering
//! between requests, exact limits over several replicas ([`limit::shared`] says how near they come).

pub mod admin;
pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod limit;
pub mod metrics;
pub mod otlp;
pub mod proxy;
pub mod signal;
pub mod telemetry;
pub mod tls;
pub mod validate;
