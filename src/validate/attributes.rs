//! Every attribute that the gateway answers for, one row each: its key, the set that it belongs to,
//! the verified fact that fills it and its type. The row alone decides what is written, what no sender
//! may set and what docs/attributes.md says. It never judges a sender and never reads a sender's value.

mod reference;

use std::borrow::Cow;

use crate::{
    config::AttributeSet::{self, Cicd, Gitlab, Vcs},
    otlp::rewrite,
};

use super::{Claims, answer::MAX_TEXT};

pub use self::reference::reference;

/// One row: a key that belongs to the gateway wherever its set is on. No sender may set it, also where
/// there is no value for it: an absent fact must not become a sender's claim.
#[derive(Debug)]
struct Attribute {
    /// `None`: always on.
    set: Option<AttributeSet>,
    /// The whole key; one that ends in a dot stands for all keys that begin so.
    key: &'static str,
    source: Source,
    /// Where the value comes from, for the reference: a field of the authority's answer, or a sentence.
    from: &'static str,
}

/// What fills a row, and hence its type.
#[derive(Debug)]
enum Source {
    /// An id as `int_value`.
    Int(fn(&Claims) -> Option<u64>),
    /// An id in decimal digits as `string_value`.
    Digits(fn(&Claims) -> Option<u64>),
    /// `string_value`
    Text(for<'a> fn(&Facts<'a>) -> Option<Cow<'a, str>>),
    /// No authority tells it: taken from senders, never written.
    Nothing,
}

/// What values are made of.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) claims: &'a Claims,
    pub(super) service_name: &'a str,
    /// Where people open GitLab, without a slash at its end.
    pub(super) gitlab_url: Option<&'a str>,
    /// Whether the sender is a job of GitLab's, as far as its authority knows.
    pub(super) is_job: bool,
}

/// A value that its authority vouched for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verified<'a> {
    Int(i64),
    Text(Cow<'a, str>),
}

impl Verified<'_> {
    pub(super) fn encode(&self) -> rewrite::Value<'_> {
        match self {
            Self::Int(number) => rewrite::Value::Int(*number),
            Self::Text(text) => rewrite::Value::String(text),
        }
    }
}

/// The rows of one set. A claim's name gives both the accessor and the text of the reference, so that
/// they can't part.
macro_rules! rows {
    ($($set:expr => {$($key:literal: $kind:ident $(($($from:tt)+))?,)+})+) => {
        &[$($(Attribute {
            set: $set,
            key: $key,
            source: rows!(@source $kind $(($($from)+))?),
            from: rows!(@from $kind $(($($from)+))?),
        },)+)+]
    };
    (@source int($claim:ident)) => { Source::Int(|claims| claims.$claim) };
    (@source digits($claim:ident)) => { Source::Digits(|claims| claims.$claim) };
    (@source text($claim:ident)) => {
        Source::Text(|facts| facts.claims.$claim.as_deref().map(Cow::Borrowed))
    };
    (@source made($about:literal, $make:expr)) => { Source::Text($make) };
    (@source nothing) => { Source::Nothing };
    (@from made($about:literal, $make:expr)) => { $about };
    (@from nothing) => { "" };
    (@from $kind:ident($claim:ident)) => { concat!("`", stringify!($claim), "`") };
}

/// All rows, in the order in which they are written.
///
/// Sources: `ci.*` and `service.name`: GitLab's design for job telemetry. `cicd.*`, `vcs.*`:
/// OpenTelemetry's semantic conventions 1.44, where all of them are strings; `cicd.worker.type`, `tags`,
/// `shared` and `cicd.pipeline.run.actor.*` are additions of the Collector's GitLab receiver. `gitlab.*`:
/// the resource attributes that GitLab's own exporter of pipelines writes and its manual recommends, and
/// ids that have no name there, in the same form; the keys without a value are of that exporter and of
/// the receiver.
static TABLE: &[Attribute] = rows! {
    None => {
        "ci.job.id": int(job_id),
        "ci.project.id": int(project_id),
        "ci.pipeline.id": int(pipeline_id),
        "ci.pipeline.source": text(pipeline_source),
        "ci.runner.id": int(runner_id),
        "ci.runner_manager.system_xid": text(runner_manager_system_xid),
        "ci.runner.type": text(runner_type),
        "service.name": made("`attributes.service_name`", |facts| Some(facts.service_name.into())),
    }
    Some(Cicd) => {
        "cicd.pipeline.run.id": digits(pipeline_id),
        "cicd.pipeline.run.url.full": made(
            "GitLab's address, `project_path`, `pipeline_id`",
            |facts| page(facts, "pipelines", facts.claims.pipeline_id)
        ),
        "cicd.pipeline.task.run.id": digits(job_id),
        "cicd.pipeline.task.run.url.full": made(
            "GitLab's address, `project_path`, `job_id`",
            |facts| page(facts, "jobs", facts.claims.job_id)
        ),
        "cicd.worker.id": digits(runner_id),
        "cicd.pipeline.name": nothing,
        "cicd.pipeline.run.actor.": nothing,
        "cicd.pipeline.task.name": nothing,
        "cicd.system.component": nothing,
        "cicd.worker.name": nothing,
        "cicd.worker.shared": nothing,
        "cicd.worker.tags": nothing,
        "cicd.worker.type": nothing,
        "cicd.worker.url.full": nothing,
    }
    Some(Vcs) => {
        "vcs.provider.name": made("`gitlab`, for CI jobs", |facts| facts.is_job.then(|| "gitlab".into())),
        "vcs.owner.name": made(
            "`project_path` up to its last slash",
            |facts| project(facts).map(|(owner, _)| owner.into())
        ),
        "vcs.repository.name": made(
            "`project_path` behind its last slash",
            |facts| project(facts).map(|(_, name)| name.into())
        ),
        "vcs.repository.url.full": made(
            "GitLab's address, `project_path`",
            |facts| bounded(project_url(facts)?)
        ),
    }
    Some(Gitlab) => {
        "gitlab.project.id": int(project_id),
        "gitlab.project.path": text(project_path),
        "gitlab.vcs.repository.id": digits(project_id),
        "gitlab.pipeline.id": int(pipeline_id),
        "gitlab.pipeline.source": text(pipeline_source),
        "gitlab.root_pipeline.id": int(root_pipeline_id),
        "gitlab.job.id": int(job_id),
        "gitlab.runner.id": int(runner_id),
        "gitlab.namespace.id": int(namespace_id),
        "gitlab.root_namespace.id": int(root_namespace_id),
        "gitlab.organization.id": int(organization_id),
        "gitlab.cell.id": int(cell_id),
        "gitlab.project.name": nothing,
        "gitlab.project.namespace": nothing,
        "gitlab.pipeline.run.actor.": nothing,
        "gitlab.pipeline.source.pipeline.": nothing,
        "gitlab.cicd.pipeline.source_pipeline.": nothing,
        "gitlab.cicd.pipeline.task.trigger.type": nothing,
        "gitlab.cicd.pipeline.task.user.": nothing,
        "gitlab.cicd.pipeline.trigger.type": nothing,
        "gitlab.cicd.pipeline.user.": nothing,
        "gitlab.cicd.runner.": nothing,
        "gitlab.cicd.worker.": nothing,
    }
};

impl Attribute {
    /// Whether the key stands for all that begin with it.
    fn is_family(&self) -> bool {
        self.key.ends_with('.')
    }

    fn value<'a>(&self, facts: &Facts<'a>) -> Option<Verified<'a>> {
        match self.source {
            Source::Int(id) => signed(id(facts.claims)).map(Verified::Int),
            Source::Digits(id) => signed(id(facts.claims)).map(|id| Verified::Text(id.to_string().into())),
            Source::Text(text) => text(facts).map(Verified::Text),
            Source::Nothing => None,
        }
    }
}

/// The rows that are in force.
fn rows_of(sets: &[AttributeSet]) -> impl Iterator<Item = &'static Attribute> {
    TABLE.iter().filter(|row| row.set.is_none_or(|set| sets.contains(&set)))
}

/// The keys that no sender may set while these sets are on.
pub fn protected_keys(sets: &[AttributeSet]) -> impl Iterator<Item = &str> {
    rows_of(sets).filter(|row| !row.is_family()).map(|row| row.key)
}

/// The beginnings of further keys that no sender may set while these sets are on.
pub fn protected_prefixes(sets: &[AttributeSet]) -> impl Iterator<Item = &str> {
    rows_of(sets).filter(|row| row.is_family()).map(|row| row.key)
}

/// The keys that are written while these sets are on.
pub(super) fn written_keys(sets: &[AttributeSet]) -> impl Iterator<Item = &'static str> {
    rows_of(sets).filter(|row| !matches!(row.source, Source::Nothing)).map(|row| row.key)
}

/// The verified attributes of these sets, those without a value left out.
pub(super) fn verified<'a>(
    sets: &[AttributeSet],
    facts: Facts<'a>,
) -> impl Iterator<Item = (&'static str, Verified<'a>)> {
    rows_of(sets).filter_map(move |row| Some((row.key, row.value(&facts)?)))
}

/// The same, each with what its value is made of, in the words of the reference.
pub(super) fn told<'a>(
    sets: &[AttributeSet],
    facts: Facts<'a>,
) -> impl Iterator<Item = (&'static str, Verified<'a>, &'static str)> {
    rows_of(sets).filter_map(move |row| Some((row.key, row.value(&facts)?, row.from)))
}

/// An id that an attribute can hold; one out of range is left out, never wrapped into another's.
fn signed(id: Option<u64>) -> Option<i64> {
    id.and_then(|id| i64::try_from(id).ok())
}

/// The owner and the name of a project, from a path of the form that GitLab gives projects. Anything
/// else could lead elsewhere once it is part of a URL.
fn project<'a>(facts: &Facts<'a>) -> Option<(&'a str, &'a str)> {
    let path = facts.claims.project_path.as_deref()?;
    let is_segment = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    path.split('/').all(is_segment).then(|| path.rsplit_once('/')).flatten()
}

fn project_url(facts: &Facts<'_>) -> Option<String> {
    let (owner, name) = project(facts)?;
    Some(format!("{}/{owner}/{name}", facts.gitlab_url?))
}

/// A page of the project that is about one thing.
fn page<'a>(facts: &Facts<'_>, kind: &str, id: Option<u64>) -> Option<Cow<'a, str>> {
    bounded(format!("{}/-/{kind}/{}", project_url(facts)?, signed(id)?))
}

/// Texts of the authority are bounded where they are read; what is made of several is bounded here,
/// because each resource of a request gets a copy.
fn bounded<'a>(text: String) -> Option<Cow<'a, str>> {
    (text.len() <= MAX_TEXT).then_some(text.into())
}

#[cfg(test)]
mod tests;
