//! Which signal and which protocol a request speaks: exact paths, media types, encodings. It reads
//! the head only and never a credential.

use http::{
    HeaderMap, HeaderName, Method, Version,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HOST},
    request::Parts,
};

use crate::otlp::{compression::Encoding, signal::Signal};

use super::rejection::Rejection;

/// How the sender speaks OTLP, and so how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/HTTP with protobuf.
    HttpProtobuf,
    /// OTLP/HTTP with JSON.
    HttpJson,
    /// OTLP/gRPC.
    Grpc,
}

impl Protocol {
    /// The value of the metric label `protocol`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::HttpProtobuf => "http_protobuf",
            Self::HttpJson => "http_json",
            Self::Grpc => "grpc",
        }
    }

    /// What the content type says, whatever else is wrong with the request; for the form of a refusal.
    #[must_use]
    pub fn of_answer(parts: &Parts) -> Self {
        match media_type(&parts.headers) {
            MediaType::Grpc | MediaType::OtherGrpc if parts.version == Version::HTTP_2 => Self::Grpc,
            MediaType::Protobuf => Self::HttpProtobuf,
            // JSON is what a person with curl can read.
            _ => Self::HttpJson,
        }
    }
}

/// Where a request goes and how its body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The signal.
    pub signal: Signal,
    /// The protocol.
    pub protocol: Protocol,
    /// The encoding of the body, or of the gRPC message; `None`: a gRPC request that names none.
    pub encoding: Option<Encoding>,
}

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

enum MediaType {
    Protobuf,
    Json,
    Grpc,
    OtherGrpc,
    Other,
}

/// Matches path, then method, then media type, then encoding, so that the first refusal names the
/// outermost mistake.
///
/// # Errors
/// [`Rejection::NotFound`], [`Rejection::Method`], [`Rejection::MediaType`], [`Rejection::Encoding`].
pub fn route(parts: &Parts, signals: &[Signal]) -> Result<Route, Rejection> {
    let path = parts.uri.path();
    let over_grpc = |signal: &&Signal| signal.grpc_path() == path;
    let over_http = |signal: &&Signal| signal.http_path() == path;
    let media_type = media_type(&parts.headers);
    if let Some(&signal) = signals.iter().find(over_grpc) {
        return match (&parts.method, media_type) {
            (&Method::POST, MediaType::Grpc) if parts.version == Version::HTTP_2 => {
                let encoding = grpc_encoding(&parts.headers)?;
                Ok(Route { signal, protocol: Protocol::Grpc, encoding })
            }
            (&Method::POST, _) => Err(Rejection::MediaType),
            _ => Err(Rejection::Method),
        };
    }
    let &signal = signals.iter().find(over_http).ok_or(Rejection::NotFound)?;
    if parts.method != Method::POST {
        return Err(Rejection::Method);
    }
    let protocol = match media_type {
        MediaType::Protobuf => Protocol::HttpProtobuf,
        MediaType::Json if signal.takes_json() => Protocol::HttpJson,
        _ => return Err(Rejection::MediaType),
    };
    Ok(Route { signal, protocol, encoding: Some(content_encoding(&parts.headers)?) })
}

/// HTTP/1.1 wants exactly one `Host`: without one, or with two, whoever stands in between may read another one than we.
///
/// Source: RFC 9112, section 3.2.
///
/// # Errors
/// [`Rejection::Malformed`].
pub fn host(parts: &Parts) -> Result<(), Rejection> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => {}
        (None, _) if parts.version == Version::HTTP_11 => {}
        _ => return Ok(()),
    }
    Err(Rejection::Malformed("an HTTP/1.1 request has one Host field".into()))
}

/// A second content type makes the type unknown: two readers could each take another one.
fn media_type(headers: &HeaderMap) -> MediaType {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return MediaType::Other;
    };
    let essence = value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    if is("application/x-protobuf") {
        MediaType::Protobuf
    } else if is("application/json") {
        MediaType::Json
    } else if is("application/grpc") || is("application/grpc+proto") {
        MediaType::Grpc
    } else if essence.to_ascii_lowercase().starts_with("application/grpc") {
        MediaType::OtherGrpc
    } else {
        MediaType::Other
    }
}

fn content_encoding(headers: &HeaderMap) -> Result<Encoding, Rejection> {
    Ok(single_encoding(headers, &CONTENT_ENCODING)?.unwrap_or(Encoding::Identity))
}

fn grpc_encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Rejection> {
    single_encoding(headers, &GRPC_ENCODING)
}

fn single_encoding(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Encoding>, Rejection> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let token = value.to_str().map_err(|_| Rejection::Encoding)?;
            Encoding::from_token(token).map(Some).ok_or(Rejection::Encoding)
        }
        (Some(_), Some(_)) => Err(Rejection::Encoding),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(method: &str, path: &str, version: Version, headers: &[(&str, &str)]) -> Parts {
        let builder = Request::builder().method(method).uri(path).version(version);
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).unwrap().into_parts().0
    }

    fn label(parts: &Parts) -> &'static str {
        match route(parts, &[Signal::Traces, Signal::Profiles]) {
            Ok(route) => route.protocol.label(),
            Err(rejection) => rejection.label(),
        }
    }

    const GRPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

    /// Scenario: paths, methods, media types and encodings, right and nearly right.
    /// Guarantees: only exact routes pass, and each mistake has its own refusal.
    #[test]
    fn routes_are_exact() {
        let http = Version::HTTP_11;
        let h2 = Version::HTTP_2;
        let protobuf = ("content-type", "application/x-protobuf");
        for (parts, expected) in [
            (head("POST", "/v1/traces", http, &[protobuf]), "http_protobuf"),
            (head("POST", "/v1/traces?x=1", http, &[protobuf]), "http_protobuf"),
            (
                head("POST", "/v1/traces", h2, &[("content-type", "Application/JSON; charset=utf-8")]),
                "http_json",
            ),
            (head("POST", GRPC, h2, &[("content-type", "application/grpc")]), "grpc"),
            (head("POST", GRPC, h2, &[("content-type", "application/grpc+proto")]), "grpc"),
            (head("POST", GRPC, h2, &[("content-type", "application/grpc+json")]), "media_type"),
            (head("POST", GRPC, http, &[("content-type", "application/grpc")]), "media_type"),
            (head("POST", GRPC, h2, &[protobuf]), "media_type"),
            (head("GET", GRPC, h2, &[]), "method"),
            (head("POST", "/v1/traces", h2, &[("content-type", "application/grpc")]), "media_type"),
            (head("POST", "/v1/traces/", http, &[protobuf]), "not_found"),
            (head("POST", "//v1/traces", http, &[protobuf]), "not_found"),
            (head("POST", "/v1/Traces", http, &[protobuf]), "not_found"),
            (head("POST", "/v1/%74races", http, &[protobuf]), "not_found"),
            (head("GET", "/v1/metrics", http, &[protobuf]), "not_found"),
            (head("GET", "/v1/traces", http, &[protobuf]), "method"),
            (head("POST", "/v1development/profiles", http, &[protobuf]), "http_protobuf"),
            (
                head("POST", "/v1development/profiles", http, &[("content-type", "application/json")]),
                "media_type",
            ),
            (head("POST", "/v1/traces", http, &[]), "media_type"),
            (head("POST", "/v1/traces", http, &[protobuf, protobuf]), "media_type"),
            (head("POST", "/v1/traces", http, &[protobuf, ("content-encoding", "br")]), "encoding"),
            (head("POST", "/v1/traces", http, &[protobuf, ("content-encoding", "gzip, gzip")]), "encoding"),
            (head("POST", "/v1/traces", http, &[protobuf, ("content-encoding", "GZIP")]), "http_protobuf"),
            (
                head("POST", GRPC, h2, &[("content-type", "application/grpc"), ("grpc-encoding", "snappy")]),
                "encoding",
            ),
        ] {
            assert_eq!(label(&parts), expected, "{parts:?}");
        }
    }

    /// Scenario: a listener that takes no signal.
    /// Guarantees: its routes do not exist there.
    #[test]
    fn a_signal_that_is_not_taken_is_not_found() {
        let parts = head("POST", "/v1/traces", Version::HTTP_11, &[("content-type", "application/json")]);
        assert!(matches!(route(&parts, &[]), Err(Rejection::NotFound)));
    }
}
