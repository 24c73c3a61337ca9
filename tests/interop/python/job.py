"""The job that the checks play: its tokens, what GitLab says of it, what must stand in every resource."""

import time

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

JOB = {
    "runner_token": "glrt-t1_InteropRunner",
    "job_token": "glcbt-64_InteropJob",
    "trace_id": "000000000000000000000000001e8480",
    "job_id": 7001,
    "project_id": "501",
    "pipeline_id": 2000001,
    "pipeline_source": "push",
    "runner_id": 31,
    "runner_type": "project_type",
    "runner_manager_system_xid": "s_interop",
}
VERIFIED = {
    "ci.job.id": 7001,
    "ci.project.id": 501,
    "ci.pipeline.id": 2000001,
    "ci.pipeline.source": "push",
    "ci.runner.id": 31,
    "ci.runner.type": "project_type",
    "ci.runner_manager.system_xid": "s_interop",
    "service.name": "gitlab-ci-runner",
}
# Forged or claimed by the sender; none of them may arrive.
CLAIMED = {"service.name": "runner", "ci.job.id": 666, "CI_Project-Id": 666}
HONEST = {"host.name": "runner-1", "os.type": "linux"}


class JobIds(RandomIdGenerator):
    """The job's own trace, as the runner makes it."""

    def __init__(self, trace_id):
        self._trace_id = int(trace_id, 16)

    def generate_trace_id(self):
        return self._trace_id


def tokens(job_token=JOB["job_token"]):
    return {"Runner-Token": JOB["runner_token"], "Job-Token": job_token}


def plain(value):
    return getattr(value, value.WhichOneof("value"))


def check_resource(resource):
    """The verified attributes and the honest ones, once each, and no other."""
    keys = [attribute.key for attribute in resource.attributes]
    assert len(keys) == len(set(keys)), keys
    attributes = {each.key: plain(each.value) for each in resource.attributes}
    assert attributes == {**HONEST, **VERIFIED}, attributes


def timed(exporter, items):
    """The result of an export, and the seconds that it took."""
    started = time.monotonic()
    result = exporter.export(items)
    exporter.shutdown()
    return result, time.monotonic() - started
