//! The same work the easy way: decode into the structs of `opentelemetry-proto`, edit, encode. It
//! is what the kernels are compared with and checks nothing that the libraries do not check.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use spangate_otlp::otlp::rewrite::{ProtectedKeys, Value};

use crate::kernels;

/// An export request as structs.
pub trait Request: Message + Default + Serialize + DeserializeOwned {
    /// The resource of each `ResourceX`, absent ones included.
    fn resources(&mut self) -> impl Iterator<Item = &mut Option<Resource>>;
}

macro_rules! requests {
    ($($request:ty: $entries:ident,)+) => {
        $(impl Request for $request {
            fn resources(&mut self) -> impl Iterator<Item = &mut Option<Resource>> {
                self.$entries.iter_mut().map(|entry| &mut entry.resource)
            }
        })+
    };
}

requests! {
    ExportTraceServiceRequest: resource_spans,
    ExportMetricsServiceRequest: resource_metrics,
    ExportLogsServiceRequest: resource_logs,
    ExportProfilesServiceRequest: resource_profiles,
}

/// What an edit takes out of and puts into every resource.
#[derive(Debug)]
pub struct Editor {
    protected: ProtectedKeys,
    verified: Vec<KeyValue>,
}

impl Default for Editor {
    fn default() -> Self {
        let verified = kernels::VERIFIED.iter().map(|(key, value)| KeyValue {
            key: (*key).to_owned(),
            value: Some(AnyValue {
                value: Some(match *value {
                    Value::Int(number) => any_value::Value::IntValue(number),
                    Value::String(text) => any_value::Value::StringValue(text.to_owned()),
                }),
            }),
            ..KeyValue::default()
        });
        Self { protected: kernels::protected(), verified: verified.collect() }
    }
}

/// Decodes, removes the protected attributes of every resource, appends the verified ones, encodes.
///
/// # Panics
/// On a request that prost does not read.
#[must_use]
pub fn edit<R: Request>(editor: &Editor, body: &[u8]) -> Vec<u8> {
    let mut request = R::decode(body).expect("a sample is well formed");
    for resource in request.resources() {
        let attributes = &mut resource.get_or_insert_default().attributes;
        attributes.retain(|attribute| !editor.protected.contains(attribute.key.as_bytes()));
        attributes.extend_from_slice(&editor.verified);
    }
    request.encode_to_vec()
}

/// Reads OTLP/JSON with serde and encodes it as protobuf.
///
/// # Panics
/// On a document that serde does not read.
#[must_use]
pub fn from_json<R: Request>(json: &[u8]) -> Vec<u8> {
    serde_json::from_slice::<R>(json).expect("a document of to_json's").encode_to_vec()
}

/// A protobuf request as OTLP/JSON, every default value written out.
///
/// # Panics
/// On a request that prost does not read.
#[must_use]
pub fn to_json<R: Request>(body: &[u8]) -> Vec<u8> {
    let request = R::decode(body).expect("a sample is well formed");
    serde_json::to_vec(&request).expect("OTLP structs are JSON")
}
