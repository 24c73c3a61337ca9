//! What the four signals have in common, though prost's types share no trait: entries, scopes and
//! items, and where an item's own attributes are.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{InstrumentationScope, KeyValue},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{Exemplar, Metric, ResourceMetrics, ScopeMetrics, metric::Data},
    profiles::v1development::{Profile, ProfilesDictionary, ResourceProfiles, ScopeProfiles},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;

/// `ExportXServiceRequest`
pub(super) trait Export: Message + Default + std::fmt::Debug {
    type Entry: Entry;
    fn entries(&mut self) -> &mut Vec<Self::Entry>;
    fn dictionary(&mut self) -> Option<&mut ProfilesDictionary> {
        None
    }
}

/// `ResourceX`
pub(super) trait Entry {
    type Scopes: Scopes;
    fn resource(&mut self) -> &mut Option<Resource>;
    fn scopes(&mut self) -> &mut Vec<Self::Scopes>;
}

/// `ScopeX`
pub(super) trait Scopes {
    type Item: Item;
    fn scope(&mut self) -> &mut Option<InstrumentationScope>;
    fn items(&mut self) -> &mut Vec<Self::Item>;
}

/// A span, a metric, a log record, a profile.
pub(super) trait Item {
    /// Visits every list of attributes that is the item's own.
    fn own_attributes(&mut self, visit: &mut dyn FnMut(&mut Vec<KeyValue>));
}

macro_rules! export {
    ($request:ty, $entry:ty, $scope:ty, $item:ty, $entries:ident, $scopes:ident, $items:ident $(, $dictionary:ident)?) => {
        impl Export for $request {
            type Entry = $entry;
            fn entries(&mut self) -> &mut Vec<$entry> {
                &mut self.$entries
            }
            $(fn dictionary(&mut self) -> Option<&mut ProfilesDictionary> {
                self.$dictionary.as_mut()
            })?
        }

        impl Entry for $entry {
            type Scopes = $scope;
            fn resource(&mut self) -> &mut Option<Resource> {
                &mut self.resource
            }
            fn scopes(&mut self) -> &mut Vec<$scope> {
                &mut self.$scopes
            }
        }

        impl Scopes for $scope {
            type Item = $item;
            fn scope(&mut self) -> &mut Option<InstrumentationScope> {
                &mut self.scope
            }
            fn items(&mut self) -> &mut Vec<$item> {
                &mut self.$items
            }
        }
    };
}

export!(ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span, resource_spans, scope_spans, spans);
export!(
    ExportMetricsServiceRequest,
    ResourceMetrics,
    ScopeMetrics,
    Metric,
    resource_metrics,
    scope_metrics,
    metrics
);
export!(ExportLogsServiceRequest, ResourceLogs, ScopeLogs, LogRecord, resource_logs, scope_logs, log_records);
export!(
    ExportProfilesServiceRequest,
    ResourceProfiles,
    ScopeProfiles,
    Profile,
    resource_profiles,
    scope_profiles,
    profiles,
    dictionary
);

impl Item for Span {
    /// Not those of its events and links, which claim nothing about the job.
    fn own_attributes(&mut self, visit: &mut dyn FnMut(&mut Vec<KeyValue>)) {
        visit(&mut self.attributes);
    }
}

impl Item for LogRecord {
    fn own_attributes(&mut self, visit: &mut dyn FnMut(&mut Vec<KeyValue>)) {
        visit(&mut self.attributes);
    }
}

impl Item for Profile {
    /// They stand in the dictionary.
    fn own_attributes(&mut self, _visit: &mut dyn FnMut(&mut Vec<KeyValue>)) {}
}

impl Item for Metric {
    fn own_attributes(&mut self, visit: &mut dyn FnMut(&mut Vec<KeyValue>)) {
        visit(&mut self.metadata);
        let mut point = |attributes: &mut Vec<KeyValue>, exemplars: &mut [Exemplar]| {
            visit(attributes);
            for exemplar in exemplars {
                visit(&mut exemplar.filtered_attributes);
            }
        };
        match &mut self.data {
            None => {}
            Some(Data::Gauge(data)) => {
                data.data_points.iter_mut().for_each(|own| point(&mut own.attributes, &mut own.exemplars));
            }
            Some(Data::Sum(data)) => {
                data.data_points.iter_mut().for_each(|own| point(&mut own.attributes, &mut own.exemplars));
            }
            Some(Data::Histogram(data)) => {
                data.data_points.iter_mut().for_each(|own| point(&mut own.attributes, &mut own.exemplars));
            }
            Some(Data::ExponentialHistogram(data)) => {
                data.data_points.iter_mut().for_each(|own| point(&mut own.attributes, &mut own.exemplars));
            }
            Some(Data::Summary(data)) => {
                data.data_points.iter_mut().for_each(|own| point(&mut own.attributes, &mut []));
            }
        }
    }
}
