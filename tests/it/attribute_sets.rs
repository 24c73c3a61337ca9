//! The sets of verified attributes that an operator can add: what arrives at the collector with each of
//! them, whatever the sender claimed under their keys.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use spangate::config::AttributeSet::{self, Cicd, Gitlab, Vcs};

use crate::support::{
    authority::Script,
    client::{Export, Form},
    job::{Job, Verified},
    spans::{self, int, text},
    world::{World, unlimited},
};

const ADDRESS: &str = "https://gitlab.example.com/git";

/// What a set writes for a job, in its order.
fn written(set: AttributeSet, job: &Job) -> Vec<KeyValue> {
    let id = |id: u64| i64::try_from(id).unwrap();
    let project = format!("{ADDRESS}/group/sub-group/project");
    match set {
        Cicd => vec![
            text("cicd.pipeline.run.id", &job.pipeline_id.to_string()),
            text("cicd.pipeline.run.url.full", &format!("{project}/-/pipelines/{}", job.pipeline_id)),
            text("cicd.pipeline.task.run.id", &job.job_id.to_string()),
            text("cicd.pipeline.task.run.url.full", &format!("{project}/-/jobs/{}", job.job_id)),
            text("cicd.worker.id", &job.runner_id.to_string()),
        ],
        Vcs => vec![
            text("vcs.provider.name", "gitlab"),
            text("vcs.owner.name", "group/sub-group"),
            text("vcs.repository.name", "project"),
            text("vcs.repository.url.full", &project),
        ],
        Gitlab => vec![
            int("gitlab.project.id", id(job.project_id)),
            text("gitlab.project.path", "group/sub-group/project"),
            text("gitlab.vcs.repository.id", &job.project_id.to_string()),
            int("gitlab.pipeline.id", id(job.pipeline_id)),
            text("gitlab.pipeline.source", "merge_request_event"),
            int("gitlab.root_pipeline.id", id(job.pipeline_id) - 1),
            int("gitlab.job.id", id(job.job_id)),
            int("gitlab.runner.id", id(job.runner_id)),
            int("gitlab.namespace.id", 77),
            int("gitlab.root_namespace.id", 70),
            int("gitlab.organization.id", 1),
            int("gitlab.cell.id", 3),
        ],
    }
}

/// Claims under the keys of a set, in other spellings, types and numbers, and such as no authority could prove.
fn forged(set: AttributeSet) -> Vec<KeyValue> {
    match set {
        Cicd => vec![
            text("cicd.pipeline.run.id", "666"),
            int("cicd.pipeline.run.id", 666),
            text("CICD_Pipeline-Run.ID", "666"),
            text("cicd.pipeline.task_run_id", "666"),
            text("cicd.worker.id", ""),
            text("cicd.worker.name", "another runner"),
            text("Cicd.Pipeline_Name", "another pipeline"),
            text("cicd.pipeline.run.actor.name", "root"),
        ],
        Vcs => vec![
            text("vcs.repository.url.full", "https://gitlab.example.com/git/other/project"),
            text("vcs-repository-name", "other"),
            text("VCS.OWNER.NAME", "other"),
            text("vcs.provider.name", "github"),
        ],
        Gitlab => vec![
            int("gitlab.project.id", 666),
            text("gitlab_project_path", "other/project"),
            text("gitlab.project.name", "other"),
            int("GitLab.Root-Namespace.Id", 666),
            int("gitlab.cicd.pipeline.user.id", 1),
            int("gitlab.cicd_pipeline_source_pipeline_id", 666),
        ],
    }
}

/// What a sender may say with all sets on.
fn honest() -> Vec<KeyValue> {
    vec![
        text("vcs.ref.head.name", "main"),
        text("vcs.ref.head.revision", "9d59409acf479dfa0df1aa568182e43e43df8bbe"),
        text("vcs.change.id", "7"),
        text("cicd.pipeline.result", "success"),
        text("cicd.pipeline.task.type", "build"),
        text("gitlab.pipeline.ref", "main"),
        text("gitlab.job.failure_reason", "script_failure"),
    ]
}

/// What is always written, in its order.
fn always(job: &Job) -> Vec<KeyValue> {
    let order = [
        "ci.job.id",
        "ci.project.id",
        "ci.pipeline.id",
        "ci.pipeline.source",
        "ci.runner.id",
        "ci.runner_manager.system_xid",
        "ci.runner.type",
        "service.name",
    ];
    let verified = job.verified();
    assert_eq!(verified.len(), order.len());
    order
        .map(|wanted| match verified.iter().find(|(key, _)| key == wanted) {
            Some((key, Verified::Int(value))) => int(key, *value),
            Some((key, Verified::Text(value))) => text(key, value),
            None => panic!("{wanted} is not verified"),
        })
        .to_vec()
}

/// A world in which these sets are on and the authority tells all facts of `job`.
async fn world(job: &Job, sets: &[AttributeSet]) -> World {
    let world = World::with(|config| {
        unlimited(config);
        config.attributes.sets = sets.to_vec();
        config.attributes.gitlab_url = format!("{ADDRESS}/");
    })
    .await;
    let mut told = job.answer();
    told["cell_id"] = 3.into();
    world.authority.know(job, Script::allow(job, 300).body(told.to_string()));
    world
}

/// Sends one span under a resource of just these attributes, and gives back the attributes that arrive.
async fn through(world: &World, form: Form, job: &Job, attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    let mut sent = spans::export(job, 1);
    sent.resource_spans[0].resource.as_mut().unwrap().attributes = attributes;
    world.send(&Export::of(form, job, &sent)).await.assert_accepted(form);
    let arrived = world.collector.received().pop().unwrap().request();
    assert_eq!(arrived.resource_spans[0].scope_spans, sent.resource_spans[0].scope_spans);
    arrived.resource_spans[0].resource.clone().unwrap().attributes
}

/// Scenario: no set, each set alone, all sets; forged claims under the keys of every set, between honest attributes.
/// Guarantees: exactly the attributes of the sets that are on arrive, once each, with the authority's values and the right
/// types, behind what is always written; forged claims and look-alikes under their keys do not, and all else does, in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sets_that_are_on_arrive() {
    let job = Job::new(1);
    let all = [Cicd, Vcs, Gitlab];
    for sets in [&[][..], &[Cicd], &[Vcs], &[Gitlab], &[Gitlab, Cicd, Vcs, Cicd]] {
        let world = world(&job, sets).await;
        let mut sent = vec![text("host.name", "a")];
        sent.extend(all.into_iter().flat_map(forged));
        sent.extend(honest());
        sent.push(int("ci.job.id", 666));
        let on = all.into_iter().filter(|set| sets.contains(set));
        let off = all.into_iter().filter(|set| !sets.contains(set));
        let mut expected = vec![text("host.name", "a")];
        expected.extend(off.flat_map(forged));
        expected.extend(honest());
        expected.extend(always(&job));
        expected.extend(on.flat_map(|set| written(set, &job)));
        for form in Form::ALL {
            assert_eq!(through(&world, form, &job, sent.clone()).await, expected, "{sets:?} {form:?}");
        }
    }
}

/// Scenario: all sets are on and the authority tells the trace only, then a project path that no project can have.
/// Guarantees: what it did not tell is not written, in no set; claims under those keys are removed all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_told_is_not_written() {
    let all = [Cicd, Vcs, Gitlab];
    let told = [
        (serde_json::json!({}), vec![]),
        (
            serde_json::json!({ "project_path": "group/../other?x=" }),
            vec![text("gitlab.project.path", "group/../other?x=")],
        ),
    ];
    for (seed, (facts, more)) in (1..).zip(told) {
        let job = Job::new(seed);
        let world = world(&job, &all).await;
        let mut answer = facts;
        answer["trace_id"] = job.trace_hex().into();
        world.authority.know(&job, Script::allow(&job, 300).body(answer.to_string()));
        let sent = all.into_iter().flat_map(forged).chain(honest()).collect();
        let mut expected = honest();
        expected.push(text("service.name", "gitlab-ci-runner"));
        expected.push(text("vcs.provider.name", "gitlab"));
        expected.extend(more);
        assert_eq!(through(&world, Form::Protobuf, &job, sent).await, expected);
    }
}

/// Scenario: a set is put on and off again by reloads while a job's verdict is cached; links follow `gitlab.url` where no
/// other address is set.
/// Guarantees: from the reload on, what is protected and what is written belong together: no request carries a forged claim
/// under a key that is on, nor an attribute of a set that is off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_sets_at_once() {
    let job = Job::new(1);
    let world = world(&job, &[]).await;
    let mut config = world.config.clone();
    config.attributes.gitlab_url = String::new();
    let project = format!("{}/group/sub-group/project", world.authority.url());
    for on in [false, true, false, true] {
        config.attributes.sets = if on { vec![Vcs] } else { Vec::new() };
        world.running.reload(&config).expect("a good configuration");
        let arrived = through(&world, Form::Grpc, &job, forged(Vcs)).await;
        let mut expected = if on { Vec::new() } else { forged(Vcs) };
        expected.extend(always(&job));
        if on {
            expected.extend(written(Vcs, &job));
            let link = expected.last_mut().unwrap();
            *link = text(&link.key, &project);
        }
        assert_eq!(arrived, expected);
    }
}
