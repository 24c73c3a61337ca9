//! The little that prost's own types do not tell, by messages of the same shape with other types:
//! the bytes of each item, and every occurrence of a field of which prost keeps the last.

use prost::Message;
use spangate::otlp::signal::Signal;

use super::TRACE;

/// `ExportXServiceRequest` of any signal.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    pub(super) entries: Vec<Entry>,
}

/// `ResourceX`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(message, repeated, tag = "2")]
    pub(super) scopes: Vec<Scopes>,
    #[prost(bytes = "vec", repeated, tag = "1000")]
    pub(super) legacy: Vec<Vec<u8>>,
}

/// `ScopeX`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Scopes {
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) items: Vec<Vec<u8>>,
}

impl Request {
    /// All items, in order.
    pub(super) fn items(&self) -> impl Iterator<Item = &[u8]> {
        self.entries
            .iter()
            .flat_map(|entry| &entry.scopes)
            .flat_map(|scopes| &scopes.items)
            .map(Vec::as_slice)
    }
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", repeated, tag = "1")]
    trace_ids: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct LogRecord {
    #[prost(bytes = "vec", repeated, tag = "9")]
    trace_ids: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "5")]
    gauge: Vec<Numbers>,
    #[prost(message, repeated, tag = "7")]
    sum: Vec<Numbers>,
    #[prost(message, repeated, tag = "9")]
    histogram: Vec<Histogram>,
    #[prost(message, repeated, tag = "10")]
    exponential: Vec<Exponential>,
    #[prost(bytes = "vec", repeated, tag = "11")]
    summary: Vec<Vec<u8>>,
}

/// `Gauge`, `Sum`
#[derive(Clone, PartialEq, Message)]
struct Numbers {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<NumberDataPoint>,
}

#[derive(Clone, PartialEq, Message)]
struct NumberDataPoint {
    #[prost(message, repeated, tag = "5")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<HistogramDataPoint>,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramDataPoint {
    #[prost(message, repeated, tag = "8")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Exponential {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<ExponentialDataPoint>,
}

#[derive(Clone, PartialEq, Message)]
struct ExponentialDataPoint {
    #[prost(message, repeated, tag = "11")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(bytes = "vec", repeated, tag = "5")]
    trace_ids: Vec<Vec<u8>>,
}

/// `ExportProfilesServiceRequest`, for its dictionary.
#[derive(Clone, PartialEq, Message)]
struct Profiles {
    #[prost(message, repeated, tag = "2")]
    dictionaries: Vec<Dictionary>,
}

#[derive(Clone, PartialEq, Message)]
struct Dictionary {
    #[prost(message, repeated, tag = "4")]
    links: Vec<Link>,
}

#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(bytes = "vec", repeated, tag = "1")]
    trace_ids: Vec<Vec<u8>>,
}

/// Whether one of the ids is set, to another trace.
fn another(ids: &[Vec<u8>]) -> bool {
    ids.iter().any(|id| id.iter().any(|byte| *byte != 0) && *id != TRACE)
}

/// Whether an item is of another trace, or, where it must name one, of none.
pub(super) fn is_foreign(signal: Signal, item: &[u8]) -> bool {
    match signal {
        Signal::Traces => {
            let span = Span::decode(item).expect("a span");
            span.trace_ids.is_empty() || span.trace_ids.iter().any(|id| *id != TRACE)
        }
        Signal::Logs => another(&LogRecord::decode(item).expect("a log record").trace_ids),
        Signal::Metrics => exemplars(item).iter().any(|exemplar| another(&exemplar.trace_ids)),
        Signal::Profiles => false,
    }
}

/// Whether a metric holds data more than once: prost merges two of one kind, the Collector takes
/// the second for all there is.
pub(super) fn is_contested(signal: Signal, item: &[u8]) -> bool {
    if signal != Signal::Metrics {
        return false;
    }
    let Metric { gauge, sum, histogram, exponential, summary } = Metric::decode(item).expect("a metric");
    gauge.len() + sum.len() + histogram.len() + exponential.len() + summary.len() > 1
}

/// All exemplars of a metric.
fn exemplars(metric: &[u8]) -> Vec<Exemplar> {
    let metric = Metric::decode(metric).expect("a metric");
    let numbers = metric.gauge.into_iter().chain(metric.sum).flat_map(|data| data.data_points);
    let histograms = metric.histogram.into_iter().flat_map(|data| data.data_points);
    let exponentials = metric.exponential.into_iter().flat_map(|data| data.data_points);
    numbers
        .flat_map(|point| point.exemplars)
        .chain(histograms.flat_map(|point| point.exemplars))
        .chain(exponentials.flat_map(|point| point.exemplars))
        .collect()
}

/// Whether the table of links in the dictionary of profiles points to another trace.
pub(super) fn has_foreign_link(signal: Signal, body: &[u8]) -> bool {
    if signal != Signal::Profiles {
        return false;
    }
    let mut links =
        Profiles::decode(body).expect("profiles").dictionaries.into_iter().flat_map(|own| own.links);
    links.any(|link| another(&link.trace_ids))
}
