"""A fake GitLab and a recording OTLP/HTTP collector, on the standard library alone.

They decide nothing about the gateway; they answer as they are told and keep what they saw.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


class Fake:
    """An HTTP server on loopback, port 0, in a thread of its own."""

    def __init__(self):
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, answer = fake.answer(self.path, self.headers, body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class Authority(Fake):
    """Knows one pair of tokens."""

    def __init__(self, job):
        self.job = job
        self.questions = 0
        super().__init__()

    def answer(self, path, headers, body):
        self.questions += 1
        right = path == "/api/v4/internal/ci/telemetry/auth" and body == b"{}"
        pair = (headers.get("Runner-Token"), headers.get("Job-Token"))
        if not right:
            return 404, {}, b"{}"
        if pair != (self.job["runner_token"], self.job["job_token"]):
            return 401, {"Content-Type": "application/json"}, b'{"message":"401 Unauthorized"}'
        known = {key: value for key, value in self.job.items() if not key.endswith("_token")}
        headers = {"Content-Type": "application/json", "Cache-Control": "private, max-age=300"}
        return 200, headers, json.dumps(known).encode()


class Collector(Fake):
    """Keeps decoded requests and their headers; refuses the next ones when told to."""

    def __init__(self):
        self.received = []
        self.refuse_next = 0
        self._lock = threading.Lock()
        super().__init__()

    def answer(self, path, headers, body):
        with self._lock:
            if self.refuse_next:
                self.refuse_next -= 1
                return 503, {"Retry-After": "1"}, b""
            assert headers["Content-Type"] == "application/x-protobuf", path
            self.received.append((path, dict(headers), REQUESTS[path].FromString(body)))
        return 200, {"Content-Type": "application/x-protobuf"}, b""

    def take(self):
        """What arrived since the last call."""
        with self._lock:
            received, self.received = self.received, []
        return received

    def only(self, signal):
        """The one request that arrived since the last call, which must be of this signal."""
        [(path, headers, request)] = self.take()
        assert path == f"/v1/{signal}", path
        for name in headers:
            assert name.lower() not in ("runner-token", "job-token", "authorization"), name
        return request
