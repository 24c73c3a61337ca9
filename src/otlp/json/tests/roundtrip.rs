//! Any request, written as JSON in any of the ways that are allowed, comes back as itself; any bytes
//! at all are either refused or come out as protobuf.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use super::{arbitrary::request, printer::Printer, usual::spelled_out};
use crate::otlp::{json::to_protobuf, signal::Signal};

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// Scenario: any request, written as JSON in any of the allowed ways.
    /// Guarantees: the protobuf is the request's own, byte for byte where fields come in order, and
    /// never longer; the spelling of strings makes no difference.
    #[test]
    fn any_request_comes_back(request in request(), seed in any::<u64>()) {
        let json = Printer(seed).request(&request);
        let bytes = to_protobuf(Signal::Traces, json.as_bytes());
        prop_assert!(bytes.is_ok(), "{bytes:?} {json}");
        let bytes = bytes.unwrap();
        let decoded = ExportTraceServiceRequest::decode(&bytes[..]).unwrap();
        // Encoded, because NaN is not equal to itself.
        prop_assert_eq!(decoded.encode_to_vec(), request.encode_to_vec(), "{}", json);
        prop_assert_eq!(bytes.len(), request.encoded_len());
        prop_assert_eq!(to_protobuf(Signal::Traces, &spelled_out(json.as_bytes())).unwrap(), bytes);
    }

    /// Scenario: a good document with bytes changed, taken out, doubled or put in.
    /// Guarantees: no panic; what is accepted is protobuf of a bounded size, and is accepted, to the
    /// same effect, in a spelling that no quick way knows.
    #[test]
    fn mutated_documents_are_refused_or_decoded(
        request in request(),
        seed in any::<u64>(),
        changes in vec((any::<proptest::sample::Index>(), 0..4_u8, any::<u8>()), 1..6),
    ) {
        const USUAL: &[u8] = b"{}[]\",:\\u0d8e-+.1tfn ";
        let mut json = Printer(seed).request(&request).into_bytes();
        for (at, change, byte) in changes {
            let at = at.index(json.len().max(1));
            let byte = USUAL.get(usize::from(byte % 64)).copied().unwrap_or(byte);
            match change {
                0 if at < json.len() => json[at] = byte,
                1 if at < json.len() => drop(json.remove(at)),
                2 => json.truncate(at),
                _ => json.insert(at, byte),
            }
        }
        let outcome = to_protobuf(Signal::Traces, &json).ok();
        prop_assert_eq!(&to_protobuf(Signal::Traces, &spelled_out(&json)).ok(), &outcome);
        if let Some(bytes) = outcome {
            prop_assert!(ExportTraceServiceRequest::decode(&bytes[..]).is_ok());
            prop_assert!(bytes.len() <= json.len().saturating_mul(2));
        }
    }

    /// Scenario: any bytes.
    /// Guarantees: no panic.
    #[test]
    fn any_bytes_end(bytes in vec(any::<u8>(), 0..64)) {
        drop(to_protobuf(Signal::Traces, &bytes));
        drop(to_protobuf(Signal::Traces, &[b"{\"resourceSpans\":[", &bytes[..]].concat()));
    }
}
