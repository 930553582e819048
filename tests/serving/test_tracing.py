"""Traces: a collector on a real socket gets a request's stages under its span, and the span under the caller's."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.errors import EngineDownError
from serving.http.middleware import current
from serving.settings import Settings
from serving.telemetry.observer import Telemetry
from serving.types import Timings
from tests.serving.answer_fixtures import answer

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TIMINGS = Timings(tokenise_s=0.001, queue_s=0.02, inference_s=0.003)


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, ExportTraceServiceRequest]]]]:
    """Listen as an OpenTelemetry collector does; gives its URL and what came, with the path."""
    reply: list[tuple[str, ExportTraceServiceRequest]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            reply.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", reply
        finally:
            server.shutdown()
            thread.join()


def client_of(watch: Telemetry) -> TestClient:
    async def classify(_: Request) -> PlainTextResponse:
        watch.answered("/v1/classify", [answer()], TIMINGS, 0.03)
        return PlainTextResponse("ok")

    async def down(_: Request) -> PlainTextResponse:
        watch.refused("/v1/down", EngineDownError("hung"), 0.01)
        return PlainTextResponse("no", status_code=503)

    app = Starlette(routes=[Route("/v1/classify", classify), Route("/v1/down", down)])
    watch.attach(app)
    return TestClient(app)


def spans_of(reply: list[tuple[str, ExportTraceServiceRequest]]) -> list[Span]:
    return [
        span
        for _, request in reply
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_the_stages_are_under_the_request_and_the_request_under_its_caller() -> None:
    with collector() as (url, reply):
        watch = Telemetry(Settings(otlp=url))
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "abc"}
        assert client_of(watch).get("/v1/classify", headers=headers).status_code == 200
        watch.close()
    assert [path for path, _ in reply] == ["/v1/traces"]
    spans = {span.name: span for span in spans_of(reply)}
    assert set(spans) == {"/v1/classify", "tokenise", "queue", "inference"}, "no escalation, so no span of one"
    request = spans.pop("/v1/classify")
    assert {span.trace_id.hex() for span in (request, *spans.values())} == {TRACE}
    assert request.parent_span_id.hex() == PARENT
    assert {span.parent_span_id for span in spans.values()} == {request.span_id}
    queue = spans["queue"]
    assert queue.end_time_unix_nano - queue.start_time_unix_nano == pytest.approx(20_000_000, abs=1000)
    assert spans["tokenise"].end_time_unix_nano == queue.start_time_unix_nano
    told = {attribute.key: attribute.value for attribute in request.attributes}
    assert told["request.id"].string_value == "abc"
    assert told["http.response.status_code"].int_value == 200


def test_without_a_parent_a_request_begins_a_trace_of_its_own_and_a_failure_is_one() -> None:
    with collector() as (url, reply):
        watch = Telemetry(Settings(otlp=url + "/v1/traces"))
        client = client_of(watch)
        for _ in range(2):
            client.get("/v1/down")
        watch.close()
    spans = spans_of(reply)
    assert [path for path, _ in reply] == ["/v1/traces"]
    assert len({span.trace_id for span in spans}) == len(spans) == 2
    assert not any(span.parent_span_id for span in spans)
    assert {span.status.code for span in spans} == {2}, "an error"


def test_a_caller_that_does_not_sample_is_not_traced() -> None:
    with collector() as (url, reply):
        watch = Telemetry(Settings(otlp=url))
        client_of(watch).get("/v1/classify", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
        watch.close()
    assert not reply


def test_requests_are_answered_where_no_collector_listens() -> None:
    with collector() as (url, _):
        pass
    watch = Telemetry(Settings(otlp=url))
    client = client_of(watch)
    assert {client.get("/v1/classify").status_code for _ in range(20)} == {200}
    assert current() is None


def test_without_a_collector_opentelemetry_is_not_even_imported() -> None:
    code = (
        "import sys; from serving.settings import Settings; from serving.telemetry.observer import Telemetry; Telemetry(Settings()); "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
