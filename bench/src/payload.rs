//! Export requests in the shape of CI job telemetry: one resource with twelve attributes, spans of
//! about 590 bytes with eight attributes and two events. Written straight in the wire format.

use bytes::Bytes;

/// The trace of every span, as the authority tells it.
pub const TRACE_ID: &str = "000000000000000000000000499602d2";

/// The same in bytes: pipeline 1234567890.
pub(crate) const TRACE: u128 = 1_234_567_890;
pub(crate) const START: u64 = 1_790_000_000_000_000_000;

/// What a runner says about itself, its claim to a service name included, which is taken from it.
pub const RESOURCE_ATTRIBUTES: [(&str, &str); 12] = [
    ("service.name", "runner"),
    ("service.version", "19.6.0"),
    ("host.name", "runner-7d9f8b6c5d-x2x4q"),
    ("host.arch", "amd64"),
    ("os.type", "linux"),
    ("os.description", "Debian GNU/Linux 12 (bookworm)"),
    ("process.pid", "4242"),
    ("process.runtime.name", "go"),
    ("process.runtime.version", "go1.26.8"),
    ("telemetry.sdk.name", "opentelemetry"),
    ("telemetry.sdk.language", "go"),
    ("telemetry.sdk.version", "1.41.0"),
];

/// What a span of a job tells.
pub const SPAN_ATTRIBUTES: [(&str, &str); 8] = [
    ("gitlab.job.section", "step_script"),
    ("gitlab.job.stage", "integration-test"),
    ("gitlab.runner.executor", "docker+machine"),
    ("gitlab.job.image", "registry.example.com/group/project/ci:1.95"),
    ("process.command", "make test-integration"),
    ("container.id", "4f1c3e2a9b8d7c6f5e4d3c2b1a09f8e7"),
    ("vcs.ref.head.name", "feature/telemetry-gateway"),
    ("gitlab.job.name", "integration 3/8"),
];

/// An `ExportTraceServiceRequest` with that many spans in one resource.
#[must_use]
pub fn export(spans: u32) -> Bytes {
    export_resources(1, spans)
}

/// An `ExportTraceServiceRequest` with that many equal resources, each with its own spans.
#[must_use]
pub fn export_resources(resources: u32, spans_each: u32) -> Bytes {
    let resource = resource();
    let scope = scope();
    let mut request = Vec::new();
    for entry in 0..resources {
        let mut scope_spans = Vec::new();
        bytes_field(&mut scope_spans, 1, &scope);
        for index in 0..spans_each {
            bytes_field(&mut scope_spans, 2, &span(entry * spans_each + index));
        }
        let mut resource_spans = Vec::new();
        bytes_field(&mut resource_spans, 1, &resource);
        bytes_field(&mut resource_spans, 2, &scope_spans);
        bytes_field(&mut request, 1, &resource_spans);
    }
    request.into()
}

fn resource() -> Vec<u8> {
    let mut resource = Vec::new();
    for (key, value) in RESOURCE_ATTRIBUTES {
        attribute(&mut resource, 1, key, value);
    }
    resource
}

fn scope() -> Vec<u8> {
    let mut scope = Vec::new();
    bytes_field(&mut scope, 1, b"gitlab-runner");
    bytes_field(&mut scope, 2, b"19.6.0");
    scope
}

fn span(index: u32) -> Vec<u8> {
    let start = START + u64::from(index) * 1_000_000;
    let mut span = Vec::new();
    bytes_field(&mut span, 1, &TRACE.to_be_bytes());
    bytes_field(&mut span, 2, &(u64::from(index) + 1).to_be_bytes());
    bytes_field(&mut span, 4, &1_u64.to_be_bytes());
    bytes_field(&mut span, 5, b"section: step_script");
    varint_field(&mut span, 6, 1);
    fixed64_field(&mut span, 7, start);
    fixed64_field(&mut span, 8, start + 900_000);
    for (key, value) in SPAN_ATTRIBUTES {
        attribute(&mut span, 9, key, value);
    }
    for (name, offset) in [("section.expanded", "00017202"), ("section.collapsed", "00018446")] {
        let mut event = Vec::new();
        fixed64_field(&mut event, 1, start + 450_000);
        bytes_field(&mut event, 2, name.as_bytes());
        attribute(&mut event, 3, "gitlab.log.offset", offset);
        bytes_field(&mut span, 11, &event);
    }
    let mut status = Vec::new();
    varint_field(&mut status, 3, 1);
    bytes_field(&mut span, 15, &status);
    span
}

fn attribute(out: &mut Vec<u8>, field: u64, key: &str, value: &str) {
    let mut any = Vec::new();
    bytes_field(&mut any, 1, value.as_bytes());
    let mut pair = Vec::new();
    bytes_field(&mut pair, 1, key.as_bytes());
    bytes_field(&mut pair, 2, &any);
    bytes_field(out, field, &pair);
}

fn bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn fixed64_field(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::{TRACE, TRACE_ID, export, export_resources, span};

    /// Scenario: the shape that the figures are about.
    /// Guarantees: a span has about 590 bytes, a request grows by whole spans, and the authority names the same trace.
    #[test]
    fn the_shape_is_as_promised() {
        let size = span(1).len();
        assert!((570..=610).contains(&size), "{size}");
        assert!(export(512).len() > export(32).len() + 480 * size);
        assert_eq!(format!("{TRACE:032x}"), TRACE_ID);
    }

    /// Scenario: the same spans in one resource and in many.
    /// Guarantees: more resources only add what a resource costs, so that figures per span compare.
    #[test]
    fn resources_add_only_themselves() {
        let heads = export_resources(64, 8).len() - export(512).len();
        assert!((63 * 400..63 * 600).contains(&heads), "{heads}");
    }
}
