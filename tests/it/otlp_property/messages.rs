//! Requests that opentelemetry-proto can build: every field of every message, forged and look-alike
//! keys, missing and several resources. Here is what the signals share.

mod logs;
mod metrics;
mod profiles;
mod traces;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value},
    resource::v1::Resource,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use spangate::otlp::signal::Signal;

use super::judge::TRACE;

/// Keys: verified, disguised, near misses, honest, and any text.
pub(super) const NAMES: [&str; 16] = [
    "ci.job.id",
    "CI_JOB-ID",
    "Ci.Job.Id",
    "service.name",
    "service_name",
    "ci.runner.manager.system-xid",
    "gitlab.cell.id",
    "GitLab_anything",
    "gitlab",
    "ci.job.id.",
    "ci.job",
    "сi.job.id",
    "ci.job.id\u{0}",
    "host.name",
    "http.status",
    "",
];

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(&NAMES[..]).prop_map(str::to_owned), 1 => text()]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-z.]{0,12}", 2 => "\\PC{0,8}", 1 => "[a-z]{120,140}"]
}

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        6 => text().prop_map(any_value::Value::StringValue),
        1 => any::<bool>().prop_map(any_value::Value::BoolValue),
        2 => any::<i64>().prop_map(any_value::Value::IntValue),
        1 => double().prop_map(any_value::Value::DoubleValue),
        1 => vec(any::<u8>(), 0..20).prop_map(any_value::Value::BytesValue),
        1 => reference().prop_map(any_value::Value::StringValueStrindex),
    ];
    let leaf = option::weighted(0.9, leaf).prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 8, 3, |inner| {
        let list = vec((key(), option::of(inner.clone())), 0..3).prop_map(|pairs| {
            let values =
                pairs.into_iter().map(|(key, value)| KeyValue { key, value, key_strindex: 0 }).collect();
            any_value::Value::KvlistValue(KeyValueList { values })
        });
        let array = vec(inner, 0..3).prop_map(|values| any_value::Value::ArrayValue(ArrayValue { values }));
        prop_oneof![list, array].prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let index = prop_oneof![16 => Just(0), 2 => reference()];
    let both = prop::bool::weighted(0.1);
    vec((key(), option::weighted(0.9, value()), index, both), 0..5).prop_map(|all| {
        let attribute = |(key, value, key_strindex, both)| KeyValue {
            key: if key_strindex == 0 || both { key } else { String::new() },
            value,
            key_strindex,
        };
        all.into_iter().map(attribute).collect()
    })
}

/// A place that nearly every dictionary has: one that has not makes the whole request malformed.
fn reference() -> impl Strategy<Value = i32> {
    prop_oneof![40 => 0..3_i32, 1 => index()]
}

/// An index into a table of about ten entries, now and then past its end or negative.
fn index() -> impl Strategy<Value = i32> {
    prop_oneof![8 => 0..10_i32, 1 => -1..30_i32, 1 => any::<i32>()]
}

/// Any double, NaN in all its forms among them.
fn double() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits)
}

fn resource() -> impl Strategy<Value = Resource> {
    let entity = (text(), text(), vec(key(), 0..3), vec(key(), 0..3)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef {
            schema_url,
            r#type,
            id_keys,
            description_keys,
        },
    );
    (attributes(), any::<u32>(), vec(entity, 0..3)).prop_map(
        |(attributes, dropped_attributes_count, entity_refs)| Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        },
    )
}

fn trace_id() -> impl Strategy<Value = Vec<u8>> {
    select(vec![TRACE.to_vec(), TRACE.to_vec(), TRACE.to_vec(), vec![9; 16], vec![0; 16], vec![]])
}

fn span_id() -> impl Strategy<Value = Vec<u8>> {
    select(vec![vec![1; 8], vec![0xFF; 8], vec![]])
}

/// The `ResourceX` of a signal around its items, none, one or several in each.
fn entries<I, S, E>(
    item: impl Strategy<Value = I>,
    scopes: fn(Option<InstrumentationScope>, Vec<I>, String) -> S,
    entry: fn(Option<Resource>, Vec<S>, String) -> E,
) -> impl Strategy<Value = Vec<E>>
where
    I: std::fmt::Debug,
    S: std::fmt::Debug,
    E: std::fmt::Debug,
{
    let scope = (text(), text(), attributes(), any::<u32>()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    );
    let scopes = (option::of(scope), vec(item, 0..4), text())
        .prop_map(move |(scope, items, schema_url)| scopes(scope, items, schema_url));
    let entry = (option::of(resource()), vec(scopes, 0..3), text())
        .prop_map(move |(resource, scopes, schema_url)| entry(resource, scopes, schema_url));
    vec(entry, 0..3)
}

/// A whole request, encoded by prost.
pub(super) fn body(signal: Signal) -> BoxedStrategy<Vec<u8>> {
    match signal {
        Signal::Traces => traces::body().boxed(),
        Signal::Metrics => metrics::body().boxed(),
        Signal::Logs => logs::body().boxed(),
        Signal::Profiles => profiles::body().boxed(),
    }
}
