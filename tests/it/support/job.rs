//! A CI job as the tests know it: its tokens, what the authority says of it, and what the gateway
//! must therefore write into its resources.

use serde_json::{Value, json};

/// One job of one runner.
#[expect(clippy::struct_field_names, reason = "these are GitLab's own names")]
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) runner_token: String,
    pub(crate) job_token: String,
    pub(crate) trace_id: [u8; 16],
    pub(crate) job_id: u64,
    pub(crate) project_id: u64,
    pub(crate) pipeline_id: u64,
    pub(crate) runner_id: u64,
}

/// A verified value, as a resource carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verified {
    Int(i64),
    Text(String),
}

impl Job {
    /// Job number `seed`: everything about it differs from any other job's.
    pub(crate) fn new(seed: u64) -> Self {
        let pipeline_id = 2_000_000 + seed;
        Self {
            runner_token: format!("glrt-t1_RunnerSecret{seed:08}Kq8wzX0"),
            job_token: format!("glcbt-64_JobSecret{seed:08}pYv-7_Tn.Zm4="),
            // A child pipeline: the trace is the root pipeline's id in hex, not its own.
            trace_id: (u128::from(pipeline_id) - 1).to_be_bytes(),
            job_id: 7_000_000 + seed,
            project_id: 500_000 + seed,
            pipeline_id,
            runner_id: 31_000 + seed,
        }
    }

    /// The trace id as the authority writes it.
    pub(crate) fn trace_hex(&self) -> String {
        hex(&self.trace_id)
    }

    /// The authority's whole answer.
    pub(crate) fn answer(&self) -> Value {
        json!({
            "trace_id": self.trace_hex(),
            "job_id": self.job_id,
            // Rails writes some ids as strings; both are legal.
            "pipeline_id": self.pipeline_id.to_string(),
            "pipeline_source": "merge_request_event",
            "root_pipeline_id": self.pipeline_id - 1,
            "project_id": self.project_id,
            "project_path": "group/sub-group/project",
            "namespace_id": 77,
            "root_namespace_id": 70,
            "organization_id": 1,
            "runner_id": self.runner_id,
            "runner_type": "group_type",
            "runner_manager_system_xid": "s_c2d22f638c25",
            "job_status": "running",
            "a_field_of_tomorrow": {"nested": [1, 2, 3]},
        })
    }

    /// Every attribute that the gateway must assert under the default configuration, sorted by key.
    pub(crate) fn verified(&self) -> Vec<(String, Verified)> {
        let int = |id: u64| Verified::Int(i64::try_from(id).unwrap());
        let text = |text: &str| Verified::Text(text.into());
        [
            ("ci.job.id", int(self.job_id)),
            ("ci.pipeline.id", int(self.pipeline_id)),
            ("ci.pipeline.source", text("merge_request_event")),
            ("ci.project.id", int(self.project_id)),
            ("ci.runner.id", int(self.runner_id)),
            ("ci.runner.type", text("group_type")),
            ("ci.runner_manager.system_xid", text("s_c2d22f638c25")),
            ("service.name", text("gitlab-ci-runner")),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
