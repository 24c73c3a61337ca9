"""Real exporters against the real gateway: what they send arrives verified, and what the gateway
answers makes them do the right thing (go on, retry, or give up at once)."""

import logging
import sys
import traceback

import signals
from fakes import Authority, Collector
from gateway import Gateway
from grpc import Compression as GrpcCompression
from job import CLAIMED, HONEST, JOB, JobIds, check_resource, plain, timed, tokens
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def make_spans(trace_id=JOB["trace_id"], long_one=False):
    """A job span and three sections, as the SDK makes them."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({**CLAIMED, **HONEST}), id_generator=JobIds(trace_id))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("interop", "1.0")
    with tracer.start_as_current_span("job"):
        for name in ("get_sources", "step_script", "upload_artifacts"):
            with tracer.start_as_current_span(name, attributes={"section": name, "exit_code": 0}) as span:
                span.add_event("section_end", {"bytes": 12345})
                if long_one and name == "step_script":
                    span.set_attribute("output", "x" * 5000)
    return memory.get_finished_spans()


def http(gateway, headers, compression=HttpCompression.NoCompression):
    endpoint = f"http://{gateway.address}/v1/traces"
    return HttpExporter(endpoint=endpoint, headers=headers, compression=compression, timeout=20)


def grpc(gateway, headers, compression=GrpcCompression.NoCompression):
    # Metadata keys are lower-case in gRPC.
    metadata = tuple((name.lower(), value) for name, value in headers.items())
    endpoint = f"http://{gateway.address}"
    return GrpcExporter(
        endpoint=endpoint, insecure=True, headers=metadata, compression=compression, timeout=20
    )


def arrived_spans(collector):
    request = collector.only("traces")
    for entry in request.resource_spans:
        check_resource(entry.resource)
    return [span for entry in request.resource_spans for scope in entry.scope_spans for span in scope.spans]


def check_arrival(sent, spans):
    assert [span.name for span in spans] == [span.name for span in sent]
    for one, other in zip(sent, spans):
        assert other.trace_id.hex() == JOB["trace_id"]
        assert int.from_bytes(other.span_id, "big") == one.context.span_id
        assert {each.key: plain(each.value) for each in other.attributes} == dict(one.attributes)
        assert [event.name for event in other.events] == [event.name for event in one.events]
        assert (other.start_time_unix_nano, other.end_time_unix_nano) == (one.start_time, one.end_time)


def accepted(gateway, _, collector, make, *more):
    sent = make_spans()
    result, _ = timed(make(gateway, tokens(), *more), sent)
    assert result is SpanExportResult.SUCCESS, result
    check_arrival(sent, arrived_spans(collector))


def denied(gateway, _, collector, make):
    result, took = timed(make(gateway, tokens("glcbt-64_Stranger")), make_spans())
    assert result is SpanExportResult.FAILURE and not collector.take()
    assert took < 5, f"a 401 was retried for {took:.1f} s"


def foreign(gateway, _, collector, make):
    result, took = timed(make(gateway, tokens()), make_spans("ab" * 16))
    assert result is SpanExportResult.FAILURE and not collector.take()
    assert took < 5, f"a 400 was retried for {took:.1f} s"


def unknown_encoding(gateway, authority, collector):
    before = authority.questions
    exporter = http(gateway, tokens(), HttpCompression.Deflate)
    result, took = timed(exporter, make_spans())
    assert result is SpanExportResult.FAILURE and not collector.take() and took < 5
    assert authority.questions == before, "asked about an export that could not be read"


def partial(gateway, _, collector, make):
    sent = make_spans(long_one=True)
    result, _ = timed(make(gateway, tokens()), sent)
    assert result is SpanExportResult.SUCCESS, result
    check_arrival([span for span in sent if span.name != "step_script"], arrived_spans(collector))


def retried(gateway, _, collector, make):
    collector.refuse_next = 1
    sent = make_spans()
    result, took = timed(make(gateway, tokens()), sent)
    assert result is SpanExportResult.SUCCESS, f"given up after {took:.1f} s"
    check_arrival(sent, arrived_spans(collector))


CASES = [
    ("HTTP, uncompressed", accepted, http),
    ("HTTP, gzip", accepted, http, HttpCompression.Gzip),
    ("gRPC, uncompressed", accepted, grpc),
    ("gRPC, gzip", accepted, grpc, GrpcCompression.Gzip),
    ("HTTP, denied tokens: given up at once", denied, http),
    ("gRPC, denied tokens: given up at once", denied, grpc),
    ("HTTP, foreign trace: given up at once", foreign, http),
    ("gRPC, foreign trace: given up at once", foreign, grpc),
    ("HTTP, deflate: given up at once", unknown_encoding),
    ("HTTP, one span too long: the others arrive", partial, http),
    ("gRPC, one span too long: the others arrive", partial, grpc),
    ("HTTP, collector busy once: retried", retried, http),
    ("gRPC, collector busy once: retried", retried, grpc),
    *signals.CASES,
]


def main(binary):
    # The exporters log what they give up on; here that is expected.
    logging.disable(logging.CRITICAL)
    authority, collector = Authority(JOB), Collector()
    passed = failed = 0
    with Gateway(binary, authority.url, collector.url) as gateway:
        for name, case, *arguments in CASES:
            try:
                case(gateway, authority, collector, *arguments)
                passed += 1
                print(f"ok      {name}")
            except Exception:
                failed += 1
                collector.take()
                collector.refuse_next = 0
                print(f"FAILED  {name}")
                traceback.print_exc(file=sys.stdout)
    if gateway.exit_code != 0:
        failed += 1
        print(f"FAILED  the gateway ended with {gateway.exit_code}:\n{''.join(gateway.log)}")
    collector.stop()
    authority.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
