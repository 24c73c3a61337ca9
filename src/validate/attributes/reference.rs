//! docs/attributes.md, made from the table, so that no attribute can be forgotten. It decides wording
//! only.

use std::fmt::Write as _;

use crate::config::AttributeSet::{self, Cicd, Gitlab, Vcs};

use super::{Source, TABLE};

/// What is said of a set beyond its rows.
struct Section {
    set: Option<AttributeSet>,
    title: &'static str,
    about: &'static str,
}

const SECTIONS: [Section; 4] = [
    Section {
        set: None,
        title: "Always",
        about: "GitLab's names for job telemetry, and `service.name`. They can't be switched off.",
    },
    Section {
        set: Some(Cicd),
        title: "`cicd`",
        about: "OpenTelemetry's semantic conventions for CI/CD, which are not yet stable: names may still change. \
                Ids are strings there. A run is a pipeline, a task run is a job, a worker is a runner.\n\n\
                Left to senders, because it says how work went and not whose it was: `cicd.pipeline.action.name`, \
                `cicd.pipeline.result`, `cicd.pipeline.run.state`, `cicd.pipeline.task.run.result`, \
                `cicd.pipeline.task.type`, `cicd.worker.state`.",
    },
    Section {
        set: Some(Vcs),
        title: "`vcs`",
        about: "OpenTelemetry's semantic conventions for version control, not yet stable either. The name of the \
                repository is the last part of its path.\n\n\
                Left to senders, because only they know them: refs, revisions and changes (`vcs.ref.*`, `vcs.change.*`, \
                `vcs.line_change.type`, `vcs.revision_delta.direction`, and the older `vcs.repository.ref.*` and \
                `vcs.repository.change.*`). They are as true as the sender is honest.",
    },
    Section {
        set: Some(Gitlab),
        title: "`gitlab`",
        about: "GitLab's own ids, named as GitLab's exporter of pipelines names them where it has a name. Numbers \
                are integers.\n\n\
                Left to senders: other keys that begin with `gitlab.`, as `gitlab.pipeline.ref` or \
                `gitlab.job.failure_reason`; `attributes.protected.prefixes: [gitlab.]` removes them all.",
    },
];

/// The reference of all attributes, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Verified attributes\n\n\
         Made from the table in the code. With `attributes.mode: inject` the gateway writes these attributes into every \
         resource, from what GitLab said about the tokens. `attributes.sets` adds sets to the one that is always on:\n\n\
         ```yaml\n\
         attributes:\n  \
           sets: [cicd, vcs, gitlab]                # any of them; none is on by default\n  \
           gitlab_url: https://gitlab.example.com   # for links, if people open GitLab under another address than gitlab.url\n\
         ```\n\n\
         - A fact that GitLab did not tell is not written. A text longer than 1,024 bytes counts as not told.\n\
         - No sender can set a key of a set that is on, whatever its case and whatever stands for its dots: not the ones that are \
         written, not those for which there is no value today, and not those that nobody can prove and that would name \
         another job, project, runner or person. They are removed from resources, with `attributes.also_strip` from \
         scopes and spans too.\n\
         - Keys of a set that is not on are the sender's own, and nobody vouches for them.\n\
         - GitLab's address is `attributes.gitlab_url`, else `gitlab.url`; with neither (`fixed.file`) there are no links. A \
         `project_path` that is not of the form of GitLab's paths gives no link, owner or name.\n\
         - Another choice of sets, `gitlab_url` or `service_name`, put in force by a reload, empties the cache of verdicts: \
         GitLab is asked again about every pair.\n",
    );
    for section in SECTIONS {
        let rows = || TABLE.iter().filter(|row| row.set == section.set);
        let _infallible = write!(
            out,
            "\n## {}\n\n{}\n\n| key | type | from |\n|---|---|---|\n",
            section.title, section.about
        );
        for row in rows() {
            let kind = match row.source {
                Source::Int(_) => "int",
                Source::Digits(_) | Source::Text(_) => "string",
                Source::Nothing => continue,
            };
            let _infallible = writeln!(out, "| `{}` | {kind} | {} |", row.key, row.from);
        }
        let unproven: Vec<_> = rows()
            .filter(|row| matches!(row.source, Source::Nothing))
            .map(|row| format!("`{}{}`", row.key, if row.is_family() { "*" } else { "" }))
            .collect();
        if !unproven.is_empty() {
            let _infallible =
                writeln!(out, "\nRemoved from senders and never written: {}.", unproven.join(", "));
        }
    }
    out
}
