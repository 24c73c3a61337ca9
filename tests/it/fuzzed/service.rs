//! Any bytes as a request of a sender that may use two service names: what is allowed, prost reads as one of
//! them in each resource, before and after the rewrite. The first byte chooses the signal.

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{KeyValue, any_value::Value},
    resource::v1::Resource,
};
use prost::Message as _;
use spangate::otlp::{
    inspect::{Depth, Rules, inspect},
    rewrite::{Policy, Stamp, rewrite},
    service::{ServiceNames, all_allowed},
    signal::Signal,
};

use super::{signals, within};

/// What the sender may call itself.
pub(crate) const ALLOWED: [&str; 2] = ["gitlab-ci-rails", "gitlab-ci-job-router"];

/// Most memory for each byte of the body, which profiles need for their dictionaries.
const FOR_A_BYTE: usize = 4;

pub(crate) fn hold(data: &[u8]) {
    if let Some((&choice, body)) = data.split_first() {
        judge(signals::of(choice), body);
    }
}

/// What the gateway says of a body; `None`: it is no request. Panics where prost reads it another way.
pub(crate) fn judge(signal: Signal, body: &[u8]) -> Option<bool> {
    let rules =
        Rules { trace_id: None, max_item_size: usize::MAX, refuse_unknown: false, depth: Depth::Full };
    inspect(signal, body, &rules).ok()?;
    let names = ServiceNames::new(ALLOWED);
    let most = if signal == Signal::Profiles { FOR_A_BYTE * body.len() + 64 } else { 0 };
    let allowed = within(most, || all_allowed(signal, body, &names)).expect("what was accepted breaks");
    let read = Read::of(signal, body);
    let good = read.entries.iter().all(|entry| read.names(&entry.resource));
    assert!(good || !allowed, "prost reads another name, or none");
    if read.is_as_written {
        assert_eq!(allowed, good, "a plain request is read in two ways");
    }
    if allowed {
        let body = Bytes::copy_from_slice(body);
        let leaves = rewrite(signal, &body, &Policy::keep_all(usize::MAX), &Stamp::default(), u64::MAX);
        let left = Read::of(signal, &leaves.expect("what was allowed is not rewritten").pieces.concat());
        assert_eq!(left.strings, read.strings);
        let stays: Vec<_> = read.entries.iter().filter(|entry| entry.items > 0).collect();
        assert_eq!(left.entries.len(), stays.len());
        for (left, came) in left.entries.iter().zip(stays) {
            // By bytes: a number that is none is not equal to itself.
            assert_eq!(left.resource.encode_to_vec(), came.resource.encode_to_vec(), "a resource changed");
            assert_eq!(left.items, came.items);
        }
    }
    Some(allowed)
}

/// One `ResourceX`.
struct Entry {
    resource: Resource,
    items: usize,
}

/// A request as prost reads it.
struct Read {
    entries: Vec<Entry>,
    strings: Vec<String>,
    /// Whether prost would write it byte for byte so: nothing comes twice, nothing is unknown.
    is_as_written: bool,
}

/// The parts of a request of one signal, by the names of its fields.
macro_rules! read {
    ($request:ty, $body:expr, $entries:ident, $scopes:ident, $items:ident) => {{
        let request = <$request>::decode($body).expect("prost refuses what was accepted");
        let is_as_written = request.encode_to_vec() == $body;
        let entries = request.$entries.into_iter().map(|entry| Entry {
            resource: entry.resource.unwrap_or_default(),
            items: entry.$scopes.iter().map(|scope| scope.$items.len()).sum(),
        });
        Self { entries: entries.collect(), strings: Vec::new(), is_as_written }
    }};
}

impl Read {
    fn of(signal: Signal, body: &[u8]) -> Self {
        match signal {
            Signal::Traces => read!(ExportTraceServiceRequest, body, resource_spans, scope_spans, spans),
            Signal::Metrics => {
                read!(ExportMetricsServiceRequest, body, resource_metrics, scope_metrics, metrics)
            }
            Signal::Logs => read!(ExportLogsServiceRequest, body, resource_logs, scope_logs, log_records),
            Signal::Profiles => {
                let read =
                    read!(ExportProfilesServiceRequest, body, resource_profiles, scope_profiles, profiles);
                let request = ExportProfilesServiceRequest::decode(body).expect("read before");
                Self { strings: request.dictionary.unwrap_or_default().string_table, ..read }
            }
        }
    }

    /// Whether a resource has a service name, and none but allowed ones.
    fn names(&self, resource: &Resource) -> bool {
        let all: Option<Vec<bool>> = resource.attributes.iter().map(|one| self.attribute(one)).collect();
        all.is_some_and(|all| all.contains(&true))
    }

    /// Whether an attribute gives an allowed name; `None`: another one, or nobody knows which.
    fn attribute(&self, attribute: &KeyValue) -> Option<bool> {
        let key = match attribute.key_strindex {
            0 => &attribute.key,
            place => Some(self.string(place)?).filter(|_| attribute.key.is_empty())?,
        };
        if key.to_ascii_lowercase().replace(['_', '-'], ".") != "service.name" {
            return Some(false);
        }
        let value = match attribute.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => text,
            Value::StringValueStrindex(place) if *place != 0 => self.string(*place)?,
            _ => return None,
        };
        ALLOWED.contains(&value).then_some(key == "service.name")
    }

    fn string(&self, place: i32) -> Option<&str> {
        self.strings.get(usize::try_from(place).ok()?).map(String::as_str)
    }
}
