//! What each set writes, what it takes from senders, and what it leaves to them.

use std::collections::BTreeMap;

use super::*;
use crate::otlp::rewrite::{ProtectedKeys, Stamp};

const ALL: [AttributeSet; 3] = [Cicd, Vcs, Gitlab];

fn full() -> Claims {
    Claims {
        job_id: Some(1),
        pipeline_id: Some(2),
        pipeline_source: Some("push".into()),
        root_pipeline_id: Some(3),
        project_id: Some(4),
        project_path: Some("group/sub-group/project.x".into()),
        namespace_id: Some(5),
        root_namespace_id: Some(6),
        organization_id: Some(7),
        cell_id: Some(8),
        runner_id: Some(9),
        runner_type: Some("group_type".into()),
        runner_manager_system_xid: Some("s_1".into()),
    }
}

fn written<'a>(sets: &[AttributeSet], claims: &'a Claims) -> Vec<(&'static str, Verified<'a>)> {
    let gitlab_url = Some("https://gitlab.example.com/git");
    verified(sets, Facts { claims, service_name: "gitlab-ci-runner", gitlab_url, is_job: true }).collect()
}

fn opted(set: AttributeSet, claims: &Claims) -> Vec<(&'static str, Verified<'_>)> {
    written(&[set], claims).split_off(written(&[], claims).len())
}

fn int(key: &'static str, value: i64) -> (&'static str, Verified<'static>) {
    (key, Verified::Int(value))
}

fn text(key: &'static str, value: &'static str) -> (&'static str, Verified<'static>) {
    (key, Verified::Text(value.into()))
}

/// Scenario: an authority that told everything, and one that told nothing, with no set on demand.
/// Guarantees: each fact gets its own key and type; absent facts get none; the service name is always there.
#[test]
fn what_is_always_written() {
    assert_eq!(
        written(&[], &full()),
        [
            int("ci.job.id", 1),
            int("ci.project.id", 4),
            int("ci.pipeline.id", 2),
            text("ci.pipeline.source", "push"),
            int("ci.runner.id", 9),
            text("ci.runner_manager.system_xid", "s_1"),
            text("ci.runner.type", "group_type"),
            text("service.name", "gitlab-ci-runner"),
        ]
    );
    assert_eq!(written(&[], &Claims::default()), [text("service.name", "gitlab-ci-runner")]);
}

/// Scenario: each set on demand, with all facts known.
/// Guarantees: it writes these keys with these values and types beside what is always written, and no others.
#[test]
fn what_each_set_writes() {
    let project = "https://gitlab.example.com/git/group/sub-group/project.x";
    let link = |key, rest| (key, Verified::Text(format!("{project}{rest}").into()));
    assert_eq!(
        opted(Cicd, &full()),
        [
            text("cicd.pipeline.run.id", "2"),
            link("cicd.pipeline.run.url.full", "/-/pipelines/2"),
            text("cicd.pipeline.task.run.id", "1"),
            link("cicd.pipeline.task.run.url.full", "/-/jobs/1"),
            text("cicd.worker.id", "9"),
        ]
    );
    assert_eq!(
        opted(Vcs, &full()),
        [
            text("vcs.provider.name", "gitlab"),
            text("vcs.owner.name", "group/sub-group"),
            text("vcs.repository.name", "project.x"),
            link("vcs.repository.url.full", ""),
        ]
    );
    assert_eq!(
        opted(Gitlab, &full()),
        [
            int("gitlab.project.id", 4),
            text("gitlab.project.path", "group/sub-group/project.x"),
            text("gitlab.vcs.repository.id", "4"),
            int("gitlab.pipeline.id", 2),
            text("gitlab.pipeline.source", "push"),
            int("gitlab.root_pipeline.id", 3),
            int("gitlab.job.id", 1),
            int("gitlab.runner.id", 9),
            int("gitlab.namespace.id", 5),
            int("gitlab.root_namespace.id", 6),
            int("gitlab.organization.id", 7),
            int("gitlab.cell.id", 8),
        ]
    );
    let nothing_told = Claims::default();
    assert_eq!(written(&ALL, &nothing_told)[1..], [text("vcs.provider.name", "gitlab")]);
}

/// Scenario: paths that GitLab gives no project, among them ones that would lead a link elsewhere.
/// Guarantees: no owner, no name, no link is made of them.
#[test]
fn odd_paths_make_no_links() {
    let odd = [
        "", "project", "/project", "group/", "a//b", "a/../b", "./b", "a/b?c", "a/b#c", "a/b%2e", "a b/c",
        "ä/b",
    ];
    for path in odd {
        let claims = Claims { project_path: Some(path.into()), ..full() };
        let keys = |set| opted(set, &claims).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(Vcs), ["vcs.provider.name"], "{path}");
        assert_eq!(
            keys(Cicd),
            ["cicd.pipeline.run.id", "cicd.pipeline.task.run.id", "cicd.worker.id"],
            "{path}"
        );
    }
    let claims = full();
    let facts = Facts { claims: &claims, service_name: "x", gitlab_url: None, is_job: true };
    assert!(verified(&ALL, facts).all(|(key, _)| !key.contains(".url.")), "a link to nowhere");
}

/// Scenario: ids that no signed 64-bit attribute can hold.
/// Guarantees: they are left out in every form, never wrapped into another's.
#[test]
fn ids_out_of_range_are_left_out() {
    let claims = Claims { job_id: Some(u64::MAX), project_id: Some(u64::MAX), ..full() };
    for (key, value) in written(&ALL, &claims) {
        assert!(
            !key.contains("job") && !key.contains("task") && !key.contains("project.id"),
            "{key}: {value:?}"
        );
    }
    assert!(opted(Gitlab, &claims).iter().all(|(key, _)| *key != "gitlab.vcs.repository.id"));
}

/// Scenario: an authority whose every text is as long as it may be, and an address of GitLab to match; all sets.
/// Guarantees: no text is longer than the bound, so that a thousand stamped resources stay below the 20 MiB that a
/// collector takes over HTTP; a stamp with usual values stays below 1.5 KiB.
#[test]
fn what_is_written_is_bounded() {
    let stamp = |claims, gitlab_url| {
        let attributes: Vec<_> =
            verified(&ALL, Facts { claims, service_name: "gitlab-ci-runner", gitlab_url, is_job: true })
                .collect();
        for (key, value) in &attributes {
            assert!(!matches!(value, Verified::Text(text) if text.len() > MAX_TEXT), "{key}");
        }
        Stamp::new(attributes.iter().map(|(key, value)| (*key, value.encode()))).encoded().len()
    };
    let long = || Some("x".repeat(MAX_TEXT));
    let path = format!("{}/{}", "x".repeat(MAX_TEXT / 2), "y".repeat(MAX_TEXT / 2 - 1));
    let claims = Claims {
        pipeline_source: long(),
        project_path: Some(path),
        runner_type: long(),
        runner_manager_system_xid: long(),
        ..full()
    };
    let url = format!("https://{}", "z".repeat(MAX_TEXT));
    for url in ["https://g", &url] {
        let worst = stamp(&claims, Some(url));
        assert!(worst * 1000 < 20 << 20, "{worst}");
    }
    let usual = stamp(&full(), Some("https://gitlab.example.com"));
    assert!((800..1536).contains(&usual), "{usual}");
}

/// Scenario: the protected keys of every set, and what honest senders put beside them.
/// Guarantees: each set protects all that it writes, its look-alikes, and what would name another job, project, runner or
/// person; it leaves what only the sender can know, and the keys of sets that are off.
#[test]
fn what_each_set_protects() {
    let protection =
        |sets: &[AttributeSet]| ProtectedKeys::new(protected_keys(sets), protected_prefixes(sets));
    let lies: [(AttributeSet, &[&str]); 3] = [
        (
            Cicd,
            &[
                "cicd.pipeline.name",
                "cicd.pipeline.task.name",
                "CICD_Worker-Name",
                "cicd.worker.url.full",
                "cicd.system.component",
                "cicd.pipeline.run.actor.name",
                "cicd.pipeline.run_actor-id",
            ],
        ),
        (Vcs, &["VCS.Repository_Name", "vcs-owner-name", "vcs.provider.name", "vcs.repository.url_full"]),
        (
            Gitlab,
            &[
                "gitlab.project.name",
                "GitLab.Project-Id",
                "gitlab.root.namespace.id",
                "gitlab.cicd.pipeline.user.username",
                "gitlab.pipeline.source.pipeline.project.id",
                "gitlab.cicd.worker.tags",
            ],
        ),
    ];
    let honest: [(AttributeSet, &[&str]); 3] = [
        (
            Cicd,
            &[
                "cicd.pipeline.action.name",
                "cicd.pipeline.result",
                "cicd.pipeline.run.state",
                "cicd.pipeline.task.run.result",
                "cicd.pipeline.task.type",
                "cicd.worker.state",
            ],
        ),
        (
            Vcs,
            &[
                "vcs.ref.head.name",
                "vcs.ref.head.revision",
                "vcs.ref.head.type",
                "vcs.ref.base.name",
                "vcs.change.id",
                "vcs.line_change.type",
                "vcs.revision_delta.direction",
                "vcs.repository.ref.name",
                "vcs.repository.ref.revision",
                "vcs.repository.change.id",
            ],
        ),
        (
            Gitlab,
            &["gitlab.pipeline.ref", "gitlab.job.failure_reason", "gitlab.environment.action", "gitlab"],
        ),
    ];
    let none = protection(&[]);
    for (set, lies) in lies {
        let on = protection(&[set]);
        let others: Vec<_> = ALL.into_iter().filter(|other| *other != set).collect();
        let off = protection(&others);
        let claims = full();
        for key in opted(set, &claims).into_iter().map(|(key, _)| key).chain(lies.iter().copied()) {
            assert!(on.contains(key.as_bytes()), "{key}");
            assert!(!none.contains(key.as_bytes()) && !off.contains(key.as_bytes()), "{key}");
        }
    }
    let everything = protection(&ALL);
    for key in honest.into_iter().flat_map(|(_, keys)| keys) {
        assert!(!everything.contains(key.as_bytes()), "{key}");
    }
    for (key, _) in written(&[], &full()) {
        assert!(none.contains(key.as_bytes()), "{key}");
    }
}

/// Scenario: all rows, by the form in which keys are compared.
/// Guarantees: no two say different things about one key; every row belongs to the family of keys that its set is named for;
/// only rows that are never written stand for families.
#[test]
fn rows_do_not_contradict_each_other() {
    let mut seen = BTreeMap::new();
    for row in TABLE {
        let folded = row.key.to_lowercase().replace(['_', '-'], ".");
        assert_eq!(seen.insert(folded, row.key), None, "{}", row.key);
        let prefixes: &[&str] = match row.set {
            None => &["ci.", "service.name"],
            Some(Cicd) => &["cicd."],
            Some(Vcs) => &["vcs."],
            Some(Gitlab) => &["gitlab."],
        };
        assert!(prefixes.iter().any(|prefix| row.key.starts_with(prefix)), "{}", row.key);
        assert!(!row.is_family() || matches!(row.source, Source::Nothing), "{}", row.key);
        assert_eq!(row.from.is_empty(), matches!(row.source, Source::Nothing), "{}", row.key);
    }
    let families: Vec<_> = protected_prefixes(&ALL).collect();
    for row in TABLE.iter().filter(|row| !row.is_family()) {
        assert!(families.iter().all(|family| !row.key.starts_with(family)), "{} stands twice", row.key);
    }
}

/// Scenario: the reference is read.
/// Guarantees: every row is named in it, with its type where it has one.
#[test]
fn the_reference_names_every_row() {
    let reference = reference();
    for row in TABLE {
        let line = match row.source {
            Source::Int(_) => format!("| `{}` | int | {} |", row.key, row.from),
            Source::Digits(_) | Source::Text(_) => format!("| `{}` | string | {} |", row.key, row.from),
            Source::Nothing => format!("`{}{}`", row.key, if row.is_family() { "*" } else { "" }),
        };
        assert!(reference.contains(&line), "{line}");
    }
}
