//! The requests that every kernel figure is taken on. A signal or a shape is one row of
//! the table; nothing else knows which there are.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use spangate_otlp::otlp::signal::Signal;

use crate::{payload, peers, signals};

/// One export request and the easy ways to work on it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its name in every table, baseline and bench: an identifier.
    pub name: &'static str,
    /// What it is an export of.
    pub signal: Signal,
    /// Items (spans, metrics, log records, profiles) in it: what a figure per item is divided by.
    pub items: u32,
    /// The request as protobuf.
    pub body: Bytes,
    /// Whether the slower work (compression, JSON) is measured on it too.
    pub every_way: bool,
    /// The typed way: see [`peers::edit`].
    pub edit: fn(&peers::Editor, &[u8]) -> Vec<u8>,
    /// The typed way from JSON: see [`peers::from_json`].
    pub from_json: fn(&[u8]) -> Vec<u8>,
    /// The same request as OTLP/JSON: see [`peers::to_json`].
    pub to_json: fn(&[u8]) -> Vec<u8>,
}

/// Makes the sample of this name.
type Make = fn(&'static str) -> Sample;

/// Every sample by its name, in the order of the tables.
const ROWS: &[(&str, Make)] = &[
    ("spans_1", |name| Sample::traces(name, 1, 1, false)),
    ("spans_32", |name| Sample::traces(name, 1, 32, true)),
    ("spans_512", |name| Sample::traces(name, 1, 512, true)),
    ("spans_8192", |name| Sample::traces(name, 1, 8192, false)),
    ("spans_64x8", |name| Sample::traces(name, 64, 8, false)),
    ("metrics_64", |name| {
        Sample::of::<ExportMetricsServiceRequest>(name, Signal::Metrics, 64, signals::metrics(64))
    }),
    ("logs_512", |name| Sample::of::<ExportLogsServiceRequest>(name, Signal::Logs, 512, signals::logs(512))),
    ("profiles_8", |name| {
        Sample::of::<ExportProfilesServiceRequest>(name, Signal::Profiles, 8, signals::profiles(8))
    }),
];

impl Sample {
    /// Every sample, in the order of the tables.
    #[must_use]
    pub fn all() -> Vec<Self> {
        ROWS.iter().map(|(name, make)| make(name)).collect()
    }

    /// The sample of this name; no other is made.
    ///
    /// # Panics
    /// When there is none: a bench names a row that was taken out.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let (name, make) = ROWS.iter().find(|(known, _)| *known == name).expect("a sample of this name");
        make(name)
    }

    fn traces(name: &'static str, resources: u32, spans_each: u32, every_way: bool) -> Self {
        let body = payload::export_resources(resources, spans_each);
        let items = resources * spans_each;
        Self { every_way, ..Self::of::<ExportTraceServiceRequest>(name, Signal::Traces, items, body) }
    }

    fn of<R: peers::Request>(name: &'static str, signal: Signal, items: u32, body: Bytes) -> Self {
        Self {
            name,
            signal,
            items,
            body,
            every_way: false,
            edit: peers::edit::<R>,
            from_json: peers::from_json::<R>,
            to_json: peers::to_json::<R>,
        }
    }
}
