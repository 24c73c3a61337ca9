//! That figures that stand side by side are about the same work.

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::Message;

use super::*;

/// What prost reads, for comparison.
fn read(signal: Signal, body: &[u8]) -> String {
    fn shown<R: Message + Default + std::fmt::Debug>(body: &[u8]) -> String {
        format!("{:?}", R::decode(body).unwrap())
    }
    match signal {
        Signal::Traces => shown::<ExportTraceServiceRequest>(body),
        Signal::Metrics => shown::<ExportMetricsServiceRequest>(body),
        Signal::Logs => shown::<ExportLogsServiceRequest>(body),
        Signal::Profiles => shown::<ExportProfilesServiceRequest>(body),
    }
}

fn small_samples() -> impl Iterator<Item = Sample> {
    Sample::all().into_iter().filter(|sample| sample.items <= 512)
}

/// Scenario: every sample through the gateway's kernels, at both depths, and through the structs.
/// Guarantees: all give the same request, so that their figures are about the same work; nothing is refused or dropped.
#[test]
fn the_easy_way_does_the_same() {
    for sample in small_samples() {
        let easy = (sample.edit)(&peers::Editor::default(), &sample.body);
        for depth in [Depth::Full, Depth::Structure] {
            let job = Job::new(&sample, depth);
            let inspection = job.inspect();
            let found = (inspection.items, inspection.oversize, inspection.foreign);
            assert_eq!(found.1, 0, "{}", sample.name);
            assert_eq!(found.2, 0, "{}", sample.name);
            let rewritten = job.rewrite();
            assert_eq!(rewritten.kept, found.0, "{}", sample.name);
            assert!(
                read(sample.signal, &rewritten.pieces.concat()) == read(sample.signal, &easy),
                "{} at {depth:?}",
                sample.name
            );
        }
    }
}

/// Scenario: every sample.
/// Guarantees: it holds as many items as its figures are divided by.
#[test]
fn figures_are_divided_by_what_is_there() {
    for sample in small_samples() {
        let items = Job::new(&sample, Depth::Full).inspect().items;
        assert_eq!(items, u64::from(sample.items), "{}", sample.name);
    }
}

/// Scenario: the samples that JSON is measured on, through the gateway's decoder and through serde.
/// Guarantees: both give the request that the document was made of.
#[test]
fn both_json_decoders_read_the_same() {
    for sample in small_samples().filter(|sample| sample.every_way) {
        let document = (sample.to_json)(&sample.body);
        let ours = json::to_protobuf(sample.signal, &document).unwrap();
        let original = read(sample.signal, &sample.body);
        assert!(read(sample.signal, &ours) == original, "{}", sample.name);
        assert!(read(sample.signal, &(sample.from_json)(&document)) == original, "{}", sample.name);
    }
}

/// Scenario: a body compressed as exporters do, and the rewritten one compressed as the gateway does.
/// Guarantees: both really are compressed, and inflate to what they were made of.
#[test]
fn compressed_bodies_are_compressed() {
    let sample = Sample::named("spans_32");
    for (encoding, body) in [(Encoding::Gzip, gzip(&sample.body)), (Encoding::Zstd, zstd(&sample.body))] {
        assert!(body.len() * 3 < sample.body.len(), "{encoding:?}");
        assert_eq!(compression::inflate(encoding, &body, CAPS).unwrap(), sample.body, "{encoding:?}");
        let pieces = Job::new(&sample, Depth::Full).whole().pieces;
        let out = Bytes::from(compression::deflate(encoding, &pieces).concat());
        assert!(out.len() * 3 < sample.body.len(), "{encoding:?}");
        assert_eq!(compression::inflate(encoding, &out, CAPS).unwrap(), pieces.concat(), "{encoding:?}");
    }
}
