//! Exports of the three signals beside spans: two resources of a job, forged claims among their
//! attributes, every kind of value and number, and a trace id wherever one can stand.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest,
    },
    common::v1::{
        AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
    },
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    metrics::v1::{
        AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge,
        Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
        SummaryDataPoint, exemplar, exponential_histogram_data_point::Buckets, metric::Data,
        number_data_point::Value as Number, summary_data_point::ValueAtQuantile,
    },
    profiles::v1development::{
        Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ProfilesDictionary,
        ResourceProfiles, Sample, ScopeProfiles, Stack, ValueType,
    },
    resource::v1::Resource,
};

use crate::support::{
    job::Job,
    signal::Otlp,
    spans::{self, int, text},
};

const TIME: u64 = 1_795_000_000_123_456_789;

/// A signal with an export to try.
pub(super) trait Export: Otlp {
    /// An export of a job, with forged claims in its resources; all trace ids are the job's own.
    fn sample(job: &Job) -> Self;

    /// Every trace id in it.
    fn trace_ids(&mut self) -> Vec<&mut Vec<u8>>;
}

pub(super) type Metrics = ExportMetricsServiceRequest;
pub(super) type Logs = ExportLogsServiceRequest;
pub(super) type Profiles = ExportProfilesServiceRequest;

/// The honest runner's resource with forged claims and a reference to an entity between them.
fn forged(job: &Job) -> Resource {
    let mut resource = spans::resource(job);
    for (at, claim) in [
        (0, int("ci.job.id", 666)),
        (3, text("CI_Project-Id", "666")),
        (5, text("service_name", "gitlab-ci-rails")),
        (9, text("ci.runner.type", &"x".repeat(10_000))),
    ] {
        resource.attributes.insert(at, claim);
    }
    resource.attributes.push(int("ci.job.id2", 1));
    resource.dropped_attributes_count = 3;
    resource.entity_refs = vec![EntityRef {
        schema_url: "https://example.com/host".into(),
        r#type: "host".into(),
        id_keys: vec!["host.name".into()],
        description_keys: vec!["host.arch".into()],
    }];
    resource
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "gitlab.com/gitlab-org/gitlab-runner".into(),
        version: "19.4.0".into(),
        attributes: vec![text("scope.kind", "job")],
        dropped_attributes_count: 1,
    }
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// An attribute of every kind, and one without a value.
fn attributes() -> Vec<KeyValue> {
    let list = ArrayValue { values: vec![any(Value::IntValue(i64::MIN)), AnyValue { value: None }] };
    let pairs = KeyValueList { values: vec![text("", "é\u{1F600}\"\\\n"), int("n", i64::MAX)] };
    let values = [
        Value::StringValue(String::new()),
        Value::BoolValue(false),
        Value::IntValue(0),
        Value::DoubleValue(-0.0),
        Value::DoubleValue(f64::NAN),
        Value::BytesValue(vec![0, 0xFF, 0xFE]),
        Value::ArrayValue(list),
        Value::KvlistValue(pairs),
    ];
    let mut all: Vec<KeyValue> = (0..)
        .zip(values)
        .map(|(n, value)| KeyValue { key: format!("kind.{n}"), value: Some(any(value)), key_strindex: 0 })
        .collect();
    all.push(KeyValue { key: "none".into(), value: None, key_strindex: 0 });
    all
}

impl Export for Metrics {
    fn sample(job: &Job) -> Self {
        let entry = |resource, metrics| ResourceMetrics {
            resource,
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics,
                schema_url: "https://example.com/scope".into(),
            }],
            schema_url: "https://example.com/resource".into(),
        };
        let count = metric("jobs", Data::Gauge(Gauge { data_points: vec![point(Some(Number::AsInt(7)))] }));
        Self { resource_metrics: vec![entry(Some(forged(job)), metrics(job)), entry(None, vec![count])] }
    }

    fn trace_ids(&mut self) -> Vec<&mut Vec<u8>> {
        let scopes = self.resource_metrics.iter_mut().flat_map(|entry| &mut entry.scope_metrics);
        let metrics = scopes.flat_map(|scope| &mut scope.metrics);
        let exemplars = metrics.flat_map(|metric| match metric.data.as_mut().unwrap() {
            Data::Gauge(gauge) => gauge.data_points.iter_mut().flat_map(|p| &mut p.exemplars).collect(),
            Data::Sum(sum) => sum.data_points.iter_mut().flat_map(|p| &mut p.exemplars).collect(),
            Data::Histogram(all) => all.data_points.iter_mut().flat_map(|p| &mut p.exemplars).collect(),
            Data::ExponentialHistogram(all) => {
                all.data_points.iter_mut().flat_map(|p| &mut p.exemplars).collect::<Vec<_>>()
            }
            Data::Summary(_) => Vec::new(),
        });
        exemplars.map(|exemplar| &mut exemplar.trace_id).collect()
    }
}

fn metric(name: &str, data: Data) -> Metric {
    Metric {
        name: name.into(),
        description: "of a job".into(),
        unit: "1".into(),
        metadata: vec![text("origin", "runner")],
        data: Some(data),
    }
}

fn point(value: Option<Number>) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(),
        start_time_unix_nano: TIME,
        time_unix_nano: u64::MAX,
        exemplars: Vec::new(),
        flags: 1,
        value,
    }
}

fn exemplars(job: &Job) -> Vec<Exemplar> {
    let exemplar = |value| Exemplar {
        filtered_attributes: vec![text("step", "build")],
        time_unix_nano: TIME,
        span_id: vec![7; 8],
        trace_id: job.trace_id.to_vec(),
        value: Some(value),
    };
    vec![exemplar(exemplar::Value::AsInt(-1)), exemplar(exemplar::Value::AsDouble(f64::INFINITY))]
}

/// A metric of every kind.
fn metrics(job: &Job) -> Vec<Metric> {
    let ints = [i64::MIN, i64::MAX, 0].map(Number::AsInt);
    let doubles = [f64::NAN, f64::NEG_INFINITY, f64::MIN_POSITIVE, 1e300].map(Number::AsDouble);
    let values = ints.into_iter().chain(doubles).map(Some).chain([None]);
    let mut points: Vec<NumberDataPoint> = values.map(point).collect();
    points[3].exemplars = exemplars(job);
    let delta = AggregationTemporality::Delta.into();
    let cumulative = AggregationTemporality::Cumulative.into();
    let counted = NumberDataPoint { exemplars: exemplars(job), ..point(Some(Number::AsInt(12))) };
    let filled = HistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano: TIME,
        time_unix_nano: TIME + 1,
        count: u64::MAX,
        sum: Some(f64::INFINITY),
        bucket_counts: vec![0, 1, 300, u64::MAX],
        explicit_bounds: vec![f64::NEG_INFINITY, -0.5, 1e-300],
        exemplars: exemplars(job),
        flags: 0,
        min: Some(0.0),
        max: Some(f64::NAN),
    };
    let empty = HistogramDataPoint { time_unix_nano: TIME, ..HistogramDataPoint::default() };
    let exponential = ExponentialHistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano: TIME,
        time_unix_nano: TIME + 1,
        count: 1 << 53 | 1,
        sum: Some(-1.25),
        scale: -10,
        zero_count: u64::MAX,
        positive: Some(Buckets { offset: i32::MIN, bucket_counts: vec![1, 0, u64::MAX] }),
        negative: Some(Buckets { offset: 3, bucket_counts: Vec::new() }),
        flags: 1,
        exemplars: exemplars(job),
        min: None,
        max: Some(2.0),
        zero_threshold: 1e-9,
    };
    let summary = SummaryDataPoint {
        attributes: attributes(),
        start_time_unix_nano: TIME,
        time_unix_nano: TIME + 1,
        count: u64::MAX,
        sum: f64::NAN,
        quantile_values: vec![
            ValueAtQuantile { quantile: 0.0, value: -3.0 },
            ValueAtQuantile { quantile: 0.99, value: f64::INFINITY },
        ],
        flags: 0,
    };
    vec![
        metric("gauge", Data::Gauge(Gauge { data_points: points })),
        metric(
            "sum",
            Data::Sum(Sum { data_points: vec![counted], aggregation_temporality: delta, is_monotonic: true }),
        ),
        metric(
            "histogram",
            Data::Histogram(Histogram {
                data_points: vec![filled, empty],
                aggregation_temporality: cumulative,
            }),
        ),
        metric(
            "exponential",
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential],
                // A number that has no name yet.
                aggregation_temporality: 77,
            }),
        ),
        metric("summary", Data::Summary(Summary { data_points: vec![summary] })),
    ]
}

impl Export for Logs {
    fn sample(job: &Job) -> Self {
        let record = |n: u64, body: Option<AnyValue>| LogRecord {
            time_unix_nano: TIME + n,
            observed_time_unix_nano: u64::MAX,
            severity_number: SeverityNumber::Warn3.into(),
            severity_text: "WARNING".into(),
            body,
            attributes: attributes(),
            dropped_attributes_count: u32::MAX,
            flags: 0x8000_0001,
            trace_id: job.trace_id.to_vec(),
            span_id: vec![0xAB; 8],
            event_name: "section.end".into(),
        };
        let bodies = attributes().into_iter().map(|attribute| attribute.value);
        let records: Vec<LogRecord> = (0..).zip(bodies).map(|(n, body)| record(n, body)).collect();
        let unnamed = LogRecord { severity_number: 99, ..LogRecord::default() };
        let entry = |resource, log_records| ResourceLogs {
            resource,
            scope_logs: vec![ScopeLogs {
                scope: Some(scope()),
                log_records,
                schema_url: "https://example.com/scope".into(),
            }],
            schema_url: "https://example.com/resource".into(),
        };
        Self {
            resource_logs: vec![
                entry(Some(forged(job)), records),
                entry(None, vec![record(99, None), unnamed]),
            ],
        }
    }

    fn trace_ids(&mut self) -> Vec<&mut Vec<u8>> {
        let scopes = self.resource_logs.iter_mut().flat_map(|entry| &mut entry.scope_logs);
        let records = scopes.flat_map(|scope| &mut scope.log_records);
        records.map(|record| &mut record.trace_id).collect()
    }
}

impl Export for Profiles {
    fn sample(job: &Job) -> Self {
        // Forged keys by their place; the last place does not exist.
        let mut resource = forged(job);
        for (key_strindex, value) in [(2, 666), (3, 4), (4, 666), (900, 1)] {
            let value = Some(any(Value::IntValue(value)));
            resource.attributes.push(KeyValue { key: String::new(), value, key_strindex });
        }
        let profile = |n: u8| Profile {
            sample_type: Some(ValueType { type_strindex: 5, unit_strindex: 6 }),
            samples: vec![Sample {
                stack_index: 1,
                attribute_indices: vec![1, 0],
                link_index: 1,
                values: vec![-1, i64::MAX],
                timestamps_unix_nano: vec![TIME, u64::MAX],
            }],
            time_unix_nano: TIME,
            duration_nano: u64::MAX,
            period_type: Some(ValueType { type_strindex: 5, unit_strindex: 6 }),
            period: -1,
            profile_id: vec![n; 16],
            dropped_attributes_count: 1,
            original_payload_format: "pprof".into(),
            original_payload: vec![0x1F, 0x8B, 0xFF],
            attribute_indices: vec![1],
        };
        let entry = |resource, profiles| ResourceProfiles {
            resource,
            scope_profiles: vec![ScopeProfiles {
                scope: Some(scope()),
                profiles,
                schema_url: "https://example.com/scope".into(),
            }],
            schema_url: "https://example.com/resource".into(),
        };
        Self {
            resource_profiles: vec![
                entry(Some(resource), vec![profile(1), profile(2)]),
                entry(None, vec![profile(3)]),
            ],
            dictionary: Some(dictionary(job)),
        }
    }

    fn trace_ids(&mut self) -> Vec<&mut Vec<u8>> {
        let links = &mut self.dictionary.as_mut().unwrap().link_table;
        // The first one is empty by rule, and stands for none.
        links[1..].iter_mut().map(|link| &mut link.trace_id).collect()
    }
}

fn dictionary(job: &Job) -> ProfilesDictionary {
    let strings = ["", "frames", "CI.Job-Id", "host.name", "service.name", "cpu", "nanoseconds", "main"];
    let link = |span| Link { trace_id: job.trace_id.to_vec(), span_id: vec![span; 8] };
    ProfilesDictionary {
        mapping_table: vec![
            Mapping::default(),
            Mapping { memory_start: u64::MAX, memory_limit: 1, ..Mapping::default() },
        ],
        location_table: vec![
            Location::default(),
            Location {
                mapping_index: 1,
                address: u64::MAX,
                lines: vec![Line { function_index: 1, line: -1, column: 80 }],
                attribute_indices: vec![1],
            },
        ],
        function_table: vec![
            Function::default(),
            Function { name_strindex: 7, start_line: 1, ..Function::default() },
        ],
        link_table: vec![Link::default(), link(1), link(2)],
        string_table: strings.map(str::to_owned).to_vec(),
        attribute_table: vec![
            KeyValueAndUnit::default(),
            KeyValueAndUnit {
                key_strindex: 1,
                value: Some(any(Value::IntValue(i64::MIN))),
                unit_strindex: 6,
            },
        ],
        stack_table: vec![Stack::default(), Stack { location_indices: vec![1, 1] }],
    }
}
