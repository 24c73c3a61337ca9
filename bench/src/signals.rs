//! Export requests of the other signals, as a runner's own instruments would send them: made with
//! the structs of `opentelemetry-proto`, because no peer of theirs was ever measured byte by byte.

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest,
    },
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Sum, exemplar, metric, number_data_point,
    },
    profiles::v1development::{
        Function, Line, Link, Location, Profile, ProfilesDictionary, ResourceProfiles, Sample, ScopeProfiles,
        Stack, ValueType,
    },
    resource::v1::Resource,
};
use prost::Message as _;

use crate::payload::{RESOURCE_ATTRIBUTES, SPAN_ATTRIBUTES, START, TRACE};

/// Data points of one metric.
const POINTS: u64 = 8;

/// Samples of one profile.
const SAMPLES: i32 = 64;

/// Functions, and lines of code, that the stacks of all profiles are made of.
const FUNCTIONS: i32 = 128;

/// An `ExportLogsServiceRequest`: lines of a job's log, each of the job's trace.
#[must_use]
pub fn logs(records: u32) -> Bytes {
    let record = |index: u32| LogRecord {
        time_unix_nano: START + u64::from(index) * 1_000,
        observed_time_unix_nano: START + u64::from(index) * 1_000 + 250,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        body: Some(text(&format!("   Compiling crate-{index} v1.{index}.0 (/builds/group/project/crate)"))),
        attributes: attributes(&SPAN_ATTRIBUTES[..6]),
        trace_id: TRACE.to_be_bytes().to_vec(),
        span_id: 1_u64.to_be_bytes().to_vec(),
        ..LogRecord::default()
    };
    let scope_logs =
        ScopeLogs { scope: scope(), log_records: (0..records).map(record).collect(), ..ScopeLogs::default() };
    let entry =
        ResourceLogs { resource: resource(), scope_logs: vec![scope_logs], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![entry] }.encode_to_vec().into()
}

/// An `ExportMetricsServiceRequest`: counters, gauges and histograms with exemplars, in turn.
#[must_use]
pub fn metrics(metrics: u32) -> Bytes {
    let metric = |index: u32| Metric {
        name: format!("gitlab_runner.jobs.measure_{index}"),
        description: "What a runner counts about its jobs".to_owned(),
        unit: "{job}".to_owned(),
        data: Some(match index % 3 {
            0 => metric::Data::Sum(Sum {
                data_points: (0..POINTS)
                    .map(|point| number(point, number_data_point::Value::AsInt(42)))
                    .collect(),
                aggregation_temporality: 2,
                is_monotonic: true,
            }),
            1 => metric::Data::Gauge(Gauge {
                data_points: (0..POINTS)
                    .map(|point| number(point, number_data_point::Value::AsDouble(0.75)))
                    .collect(),
            }),
            _ => metric::Data::Histogram(Histogram {
                data_points: (0..POINTS).map(distribution).collect(),
                aggregation_temporality: 2,
            }),
        }),
        ..Metric::default()
    };
    let scope_metrics = ScopeMetrics {
        scope: scope(),
        metrics: (0..metrics).map(metric).collect(),
        ..ScopeMetrics::default()
    };
    let entry = ResourceMetrics {
        resource: resource(),
        scope_metrics: vec![scope_metrics],
        ..ResourceMetrics::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![entry] }.encode_to_vec().into()
}

/// An `ExportProfilesServiceRequest`: profiles of a job's processes that share one dictionary.
#[must_use]
pub fn profiles(profiles: u32) -> Bytes {
    let sample = |index: i32| Sample {
        stack_index: index,
        attribute_indices: Vec::new(),
        link_index: 1,
        values: vec![i64::from(index) + 1],
        timestamps_unix_nano: vec![START + u64::from(index.unsigned_abs()) * 10_000],
    };
    let profile = |index: u32| Profile {
        sample_type: Some(ValueType { type_strindex: 1, unit_strindex: 2 }),
        samples: (0..SAMPLES).map(sample).collect(),
        time_unix_nano: START,
        duration_nano: 10_000_000_000,
        period: 10_000_000,
        profile_id: u128::from(index + 1).to_be_bytes().to_vec(),
        ..Profile::default()
    };
    let scope_profiles = ScopeProfiles {
        scope: scope(),
        profiles: (0..profiles).map(profile).collect(),
        ..ScopeProfiles::default()
    };
    let entry = ResourceProfiles {
        resource: resource(),
        scope_profiles: vec![scope_profiles],
        ..ResourceProfiles::default()
    };
    ExportProfilesServiceRequest { resource_profiles: vec![entry], dictionary: Some(dictionary()) }
        .encode_to_vec()
        .into()
}

fn dictionary() -> ProfilesDictionary {
    let mut strings: Vec<String> = ["", "cpu", "nanoseconds", "src/main.rs"].map(str::to_owned).into();
    let first = i32::try_from(strings.len()).unwrap_or(i32::MAX);
    strings.extend((0..FUNCTIONS).map(|index| format!("project::module_{index}::function")));
    ProfilesDictionary {
        string_table: strings,
        function_table: (0..FUNCTIONS)
            .map(|index| Function {
                name_strindex: first + index,
                filename_strindex: 3,
                ..Function::default()
            })
            .collect(),
        location_table: (0..FUNCTIONS)
            .map(|index| Location {
                address: 0x0040_0000 + u64::from(index.unsigned_abs()),
                lines: vec![Line { function_index: index, line: i64::from(index) + 10, column: 0 }],
                ..Location::default()
            })
            .collect(),
        stack_table: (0..SAMPLES)
            .map(|index| Stack { location_indices: (index..index + 16).collect() })
            .collect(),
        link_table: vec![
            Link::default(),
            Link { trace_id: TRACE.to_be_bytes().to_vec(), span_id: 1_u64.to_be_bytes().to_vec() },
        ],
        ..ProfilesDictionary::default()
    }
}

fn number(point: u64, value: number_data_point::Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(&SPAN_ATTRIBUTES[..3]),
        start_time_unix_nano: START,
        time_unix_nano: START + point * 1_000_000,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn distribution(point: u64) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: attributes(&SPAN_ATTRIBUTES[..3]),
        start_time_unix_nano: START,
        time_unix_nano: START + point * 1_000_000,
        count: 45,
        sum: Some(123.5),
        bucket_counts: (0..10).collect(),
        explicit_bounds: vec![0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0],
        exemplars: vec![Exemplar {
            time_unix_nano: START,
            trace_id: TRACE.to_be_bytes().to_vec(),
            span_id: 1_u64.to_be_bytes().to_vec(),
            value: Some(exemplar::Value::AsDouble(4.5)),
            ..Exemplar::default()
        }],
        ..HistogramDataPoint::default()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the structs hold an Option")]
fn resource() -> Option<Resource> {
    Some(Resource { attributes: attributes(&RESOURCE_ATTRIBUTES), ..Resource::default() })
}

#[expect(clippy::unnecessary_wraps, reason = "the structs hold an Option")]
fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "gitlab-runner".to_owned(),
        version: "19.6.0".to_owned(),
        ..InstrumentationScope::default()
    })
}

fn attributes(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    let pair = |&(key, value): &(&str, &str)| KeyValue {
        key: key.to_owned(),
        value: Some(text(value)),
        ..KeyValue::default()
    };
    pairs.iter().map(pair).collect()
}

fn text(value: &str) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }
}
