"""Metrics and logs by the SDK's own exporters. What must arrive is what the SDK's own encoder makes
of the same data, but for the resource."""

from grpc import Compression as GrpcCompression
from job import CLAIMED, HONEST, JOB, JobIds, check_resource, timed, tokens
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

FOREIGN = "ab" * 16


def in_a_span(trace_id):
    """A sampled span of the trace, as the current one."""
    provider = TracerProvider(id_generator=JobIds(trace_id))
    return provider.get_tracer("interop").start_as_current_span("job")


def make_metrics(trace_id=JOB["trace_id"]):
    """Every kind of instrument, two kinds of histogram, exemplars of the trace."""
    reader = InMemoryMetricReader()
    view = View(
        instrument_type=Histogram, instrument_name="sizes", aggregation=ExponentialBucketHistogramAggregation()
    )
    provider = MeterProvider([reader], Resource({**CLAIMED, **HONEST}), views=[view])
    meter = provider.get_meter("interop", "1.0")
    with in_a_span(trace_id):
        meter.create_counter("sections", "1").add(3, {"section": "step_script"})
        meter.create_up_down_counter("containers").add(-2)
        meter.create_gauge("load").set(0.25)
        seconds = meter.create_histogram("seconds", "s")
        sizes = meter.create_histogram("sizes", "By")
        for value in (0.001, 1.5, 40, 1e9):
            seconds.record(value, {"cached": True})
            sizes.record(value)
    return reader.get_metrics_data()


def make_logs(trace_id=JOB["trace_id"]):
    """Records in a span and outside of any."""
    memory = InMemoryLogRecordExporter()
    provider = LoggerProvider(Resource({**CLAIMED, **HONEST}))
    provider.add_log_record_processor(SimpleLogRecordProcessor(memory))
    logger = provider.get_logger("interop", "1.0")
    bodies = ["a line", {"exit_code": 1, "steps": ["a", "b"]}, 2**62, True]

    def emit(body):
        logger.emit(
            LogRecord(
                timestamp=1_795_000_000_000_000_000,
                severity_number=SeverityNumber.WARN,
                severity_text="WARN",
                body=body,
                attributes={"section": "step_script"},
            )
        )

    with in_a_span(trace_id):
        for body in bodies:
            emit(body)
    emit("outside")
    return memory.get_finished_logs()


def over_http(exporter, path):
    def make(gateway, headers, compression=HttpCompression.NoCompression):
        endpoint = f"http://{gateway.address}{path}"
        return exporter(endpoint=endpoint, headers=headers, compression=compression, timeout=20)

    return make


def over_grpc(exporter):
    def make(gateway, headers, compression=GrpcCompression.NoCompression):
        # Metadata keys are lower-case in gRPC.
        metadata = tuple((name.lower(), value) for name, value in headers.items())
        endpoint = f"http://{gateway.address}"
        return exporter(
            endpoint=endpoint, insecure=True, headers=metadata, compression=compression, timeout=20
        )

    return make


class Metrics:
    name, make, encode = "metrics", staticmethod(make_metrics), staticmethod(encode_metrics)
    http, grpc = staticmethod(over_http(HttpMetrics, "/v1/metrics")), staticmethod(over_grpc(GrpcMetrics))

    @staticmethod
    def entries(request):
        return request.resource_metrics

    @staticmethod
    def trace_ids(request):
        metrics = [m for e in request.resource_metrics for s in e.scope_metrics for m in s.metrics]
        points = [point for m in metrics for point in getattr(m, m.WhichOneof("data")).data_points]
        assert len(points) == 5, "five instruments"
        return [exemplar.trace_id.hex() for point in points for exemplar in point.exemplars]


class Logs:
    name, make, encode = "logs", staticmethod(make_logs), staticmethod(encode_logs)
    http, grpc = staticmethod(over_http(HttpLogs, "/v1/logs")), staticmethod(over_grpc(GrpcLogs))

    @staticmethod
    def entries(request):
        return request.resource_logs

    @staticmethod
    def trace_ids(request):
        records = [r for e in request.resource_logs for s in e.scope_logs for r in s.log_records]
        assert len(records) == 5, "five records"
        return [record.trace_id.hex() for record in records if any(record.trace_id)]


def accepted(gateway, _, collector, signal, make, *more):
    sent = signal.make()
    result, _ = timed(make(gateway, tokens(), *more), sent)
    assert result.name == "SUCCESS", result
    arrives(signal, sent, collector)


def arrives(signal, sent, collector):
    arrived, wanted = collector.only(signal.name), signal.encode(sent)
    ids = signal.trace_ids(arrived)
    assert len(ids) >= 4 and set(ids) == {JOB["trace_id"]}, ids
    assert signal.entries(arrived)
    for entry in signal.entries(arrived):
        check_resource(entry.resource)
    for request in (arrived, wanted):
        for entry in signal.entries(request):
            entry.ClearField("resource")
    assert arrived == wanted, f"{arrived}\n!=\n{wanted}"


def foreign(gateway, _, collector, signal, make):
    result, took = timed(make(gateway, tokens()), signal.make(FOREIGN))
    assert result.name == "FAILURE" and not collector.take()
    assert took < 5, f"a 400 was retried for {took:.1f} s"


def denied(gateway, _, collector, signal, make):
    result, took = timed(make(gateway, tokens("glcbt-64_Stranger")), signal.make())
    assert result.name == "FAILURE" and not collector.take()
    assert took < 5, f"a 401 was retried for {took:.1f} s"


def retried(gateway, _, collector, signal, make):
    collector.refuse_next = 1
    sent = signal.make()
    result, took = timed(make(gateway, tokens()), sent)
    assert result.name == "SUCCESS", f"given up after {took:.1f} s"
    arrives(signal, sent, collector)


CASES = [
    case
    for signal in (Metrics, Logs)
    for case in [
        (f"{signal.name}: HTTP, uncompressed", accepted, signal, signal.http),
        (f"{signal.name}: HTTP, gzip", accepted, signal, signal.http, HttpCompression.Gzip),
        (f"{signal.name}: gRPC, uncompressed", accepted, signal, signal.grpc),
        (f"{signal.name}: gRPC, gzip", accepted, signal, signal.grpc, GrpcCompression.Gzip),
        (f"{signal.name}: HTTP, foreign trace: given up at once", foreign, signal, signal.http),
        (f"{signal.name}: gRPC, foreign trace: given up at once", foreign, signal, signal.grpc),
        (f"{signal.name}: HTTP, denied tokens: given up at once", denied, signal, signal.http),
        (f"{signal.name}: gRPC, denied tokens: given up at once", denied, signal, signal.grpc),
        (f"{signal.name}: HTTP, collector busy once: retried", retried, signal, signal.http),
        (f"{signal.name}: gRPC, collector busy once: retried", retried, signal, signal.grpc),
    ]
]
