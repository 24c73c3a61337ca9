//! Requests of the metrics signal: all five kinds of data, exemplars of this trace and of others.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message;

use super::{attributes, double, entries, span_id, text, trace_id};

fn exemplars() -> impl Strategy<Value = Vec<Exemplar>> {
    let value = prop_oneof![
        double().prop_map(exemplar::Value::AsDouble),
        any::<i64>().prop_map(exemplar::Value::AsInt),
    ];
    let exemplar = (attributes(), any::<u64>(), span_id(), trace_id(), option::of(value)).prop_map(
        |(filtered_attributes, time_unix_nano, span_id, trace_id, value)| Exemplar {
            filtered_attributes,
            time_unix_nano,
            span_id,
            trace_id,
            value,
        },
    );
    // Most data points have none, so that most metrics stay in the trace.
    prop_oneof![2 => Just(Vec::new()), 1 => vec(exemplar, 1..3)]
}

fn number() -> impl Strategy<Value = NumberDataPoint> {
    let value = prop_oneof![
        double().prop_map(number_data_point::Value::AsDouble),
        any::<i64>().prop_map(number_data_point::Value::AsInt),
    ];
    (attributes(), any::<(u64, u64)>(), exemplars(), any::<u32>(), option::of(value)).prop_map(
        |(attributes, times, exemplars, flags, value)| NumberDataPoint {
            attributes,
            start_time_unix_nano: times.0,
            time_unix_nano: times.1,
            exemplars,
            flags,
            value,
        },
    )
}

fn histogram() -> impl Strategy<Value = HistogramDataPoint> {
    let buckets = (vec(any::<u64>(), 0..4), vec(double(), 0..4));
    let edges = (option::of(double()), option::of(double()), option::of(double()));
    (attributes(), any::<u64>(), exemplars(), any::<u32>(), buckets, edges).prop_map(
        |(attributes, time, exemplars, flags, (bucket_counts, explicit_bounds), (sum, min, max))| {
            HistogramDataPoint {
                attributes,
                start_time_unix_nano: time,
                time_unix_nano: time,
                count: time,
                sum,
                bucket_counts,
                explicit_bounds,
                exemplars,
                flags,
                min,
                max,
            }
        },
    )
}

fn exponential() -> impl Strategy<Value = ExponentialHistogramDataPoint> {
    let buckets = || {
        let buckets = (any::<i32>(), vec(any::<u64>(), 0..4));
        option::of(buckets.prop_map(|(offset, bucket_counts)| Buckets { offset, bucket_counts }))
    };
    let edges = (option::of(double()), option::of(double()), option::of(double()), double());
    (attributes(), any::<u64>(), exemplars(), any::<u32>(), (buckets(), buckets()), edges).prop_map(
        |(attributes, time, exemplars, flags, (positive, negative), edges)| {
            let (sum, min, max, zero_threshold) = edges;
            ExponentialHistogramDataPoint {
                attributes,
                start_time_unix_nano: time,
                time_unix_nano: time,
                count: time,
                sum,
                scale: flags.cast_signed(),
                zero_count: time,
                positive,
                negative,
                flags,
                exemplars,
                min,
                max,
                zero_threshold,
            }
        },
    )
}

fn summary() -> impl Strategy<Value = SummaryDataPoint> {
    let quantile = (double(), double()).prop_map(|(quantile, value)| ValueAtQuantile { quantile, value });
    (attributes(), any::<u64>(), double(), vec(quantile, 0..3), any::<u32>()).prop_map(
        |(attributes, time, sum, quantile_values, flags)| SummaryDataPoint {
            attributes,
            start_time_unix_nano: time,
            time_unix_nano: time,
            count: time,
            sum,
            quantile_values,
            flags,
        },
    )
}

fn data() -> impl Strategy<Value = Data> {
    let temporality = any::<i32>;
    prop_oneof![
        vec(number(), 0..3).prop_map(|data_points| Data::Gauge(Gauge { data_points })),
        (vec(number(), 0..3), temporality(), any::<bool>()).prop_map(
            |(data_points, aggregation_temporality, is_monotonic)| Data::Sum(Sum {
                data_points,
                aggregation_temporality,
                is_monotonic,
            })
        ),
        (vec(histogram(), 0..3), temporality()).prop_map(|(data_points, aggregation_temporality)| {
            Data::Histogram(Histogram { data_points, aggregation_temporality })
        }),
        (vec(exponential(), 0..3), temporality()).prop_map(|(data_points, aggregation_temporality)| {
            Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality })
        }),
        vec(summary(), 0..3).prop_map(|data_points| Data::Summary(Summary { data_points })),
    ]
}

fn metric() -> impl Strategy<Value = Metric> {
    (text(), text(), text(), attributes(), option::weighted(0.9, data())).prop_map(
        |(name, description, unit, metadata, data)| Metric { name, description, unit, metadata, data },
    )
}

pub(super) fn body() -> impl Strategy<Value = Vec<u8>> {
    entries(
        metric(),
        |scope, metrics, schema_url| ScopeMetrics { scope, metrics, schema_url },
        |resource, scope_metrics, schema_url| ResourceMetrics { resource, scope_metrics, schema_url },
    )
    .prop_map(|resource_metrics| ExportMetricsServiceRequest { resource_metrics }.encode_to_vec())
}
