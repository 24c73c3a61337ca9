//! Whether what became of an export is what was designed: the answer, the authority's questions,
//! and span by span, attribute by attribute what arrived. It never repairs and never guesses.

use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::Span,
};

use super::{
    authority::{Job, PIPELINE_SOURCE, RUNNER_TYPE},
    client::Status,
    exports::Row,
    spans,
};

/// The `service.name` that the demo's gateway stamps on every resource.
pub(super) const SERVICE_NAME: &str = "gitlab-ci-runner";

/// What should become of an export.
#[derive(Clone, Debug)]
pub(super) struct Design {
    /// The answer.
    pub(super) status: Status,
    /// Whether the answer says when to try again.
    pub(super) retry_after: bool,
    /// Spans that the answer says were refused.
    pub(super) rejected: usize,
    /// Spans that arrive.
    pub(super) spans: usize,
    /// Whether the authority has to be asked; otherwise the verdict is known and it must not be.
    pub(super) asked: bool,
}

impl Design {
    /// Everything arrives and the verdict was known before.
    pub(super) fn accepted(status: Status, spans: usize) -> Self {
        Self { status, retry_after: false, rejected: 0, spans, asked: false }
    }

    /// Nothing arrives and the verdict was known before.
    pub(super) fn refused(status: Status) -> Self {
        Self::accepted(status, 0)
    }
}

/// The attributes that the gateway must write into every resource of a job.
pub(super) fn verified(job: &Job) -> Vec<KeyValue> {
    let id = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    vec![
        spans::int("ci.job.id", id(job.id)),
        spans::int("ci.project.id", id(job.project_id)),
        spans::int("ci.pipeline.id", id(job.pipeline_id)),
        spans::text("ci.pipeline.source", PIPELINE_SOURCE),
        spans::int("ci.runner.id", id(job.runner.id)),
        spans::text("ci.runner_manager.system_xid", &job.runner.system_xid),
        spans::text("ci.runner.type", RUNNER_TYPE),
        spans::text("service.name", SERVICE_NAME),
    ]
}

/// A key as the gateway compares it: lower case, `_` and `-` read as `.`.
fn folded(key: &str) -> String {
    key.to_ascii_lowercase().replace(['_', '-'], ".")
}

/// Every point in which a row is not as designed, one sentence each.
pub(super) fn differences(row: &Row, job: &Job, design: &Design) -> Vec<String> {
    let mut found = Vec::new();
    let reply = &row.reply;
    if reply.status != design.status {
        found.push(format!("answered {}, designed {}", reply.status, design.status));
    }
    if reply.retry_after.is_some() != design.retry_after {
        let [seen, meant] = [reply.retry_after.is_some(), design.retry_after]
            .map(|there| if there { "a Retry-After" } else { "no Retry-After" });
        found.push(format!("{seen}, designed {meant}"));
    }
    if usize::try_from(reply.rejected).ok() != Some(design.rejected) {
        found.push(format!("{} spans said to be refused, designed {}", reply.rejected, design.rejected));
    }
    if design.asked != (row.asked > 0) {
        let meant = if design.asked { "at least once" } else { "never" };
        found.push(format!("the authority was asked {} times, designed {meant}", row.asked));
    }
    found.extend(arrival_differences(row, job, design));
    found
}

fn arrival_differences(row: &Row, job: &Job, design: &Design) -> Vec<String> {
    let mut found = Vec::new();
    let arrived: Vec<&Span> = row.arrived.iter().flat_map(spans::all).collect();
    if arrived.len() != design.spans {
        found.push(format!("{} spans arrived, designed {}", arrived.len(), design.spans));
    }
    let sent: Vec<&Span> = spans::all(&row.sent).collect();
    if !arrived.iter().all(|span| sent.contains(span)) {
        found.push("a span arrived that is not one of those that were sent".to_owned());
    }
    if arrived.iter().any(|span| span.trace_id != job.trace_id.as_bytes()) {
        found.push("a span of a foreign trace arrived".to_owned());
    }
    let verified = verified(job);
    let resources = row.arrived.iter().flat_map(|export| &export.resource_spans);
    for resource in resources.map(|entry| entry.resource.as_ref()) {
        found.extend(resource_differences(row, resource, &verified));
    }
    found.dedup();
    found
}

fn resource_differences(row: &Row, resource: Option<&Resource>, verified: &[KeyValue]) -> Vec<String> {
    let protected = |attribute: &&KeyValue| {
        let key = folded(&attribute.key);
        verified.iter().any(|known| folded(&known.key) == key)
    };
    let attributes = resource.map_or(&[][..], |resource| &resource.attributes);
    let (stamped, kept): (Vec<_>, Vec<_>) = attributes.iter().partition(protected);
    let mut found = Vec::new();
    for meant in verified {
        match stamped.iter().filter(|seen| folded(&seen.key) == folded(&meant.key)).collect::<Vec<_>>()[..] {
            [seen] if *seen == meant => {}
            [] => found.push(format!("{} did not arrive", meant.key)),
            [seen] => found.push(format!("{} arrived, designed {}", shown(seen), shown(meant))),
            _ => found.push(format!("{} arrived more than once", meant.key)),
        }
    }
    let unprotected = spans::resource_attributes(&row.sent).iter().filter(|sent| !protected(sent));
    if !kept.iter().copied().eq(unprotected) {
        found.push("the attributes that nobody protects are not the ones that were sent".to_owned());
    }
    found
}

/// An attribute as a reader sees it.
pub(super) fn shown(attribute: &KeyValue) -> String {
    let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => format!("{text:?}"),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(value)) => value.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        Some(any_value::Value::ArrayValue(_)) => "[...]".to_owned(),
        Some(any_value::Value::KvlistValue(_)) => "{...}".to_owned(),
        Some(any_value::Value::BytesValue(bytes)) => format!("0x{}", spans::hex(bytes)),
        Some(any_value::Value::StringValueStrindex(_)) | None => "(none)".to_owned(),
    };
    format!("{} = {value}", attribute.key)
}
