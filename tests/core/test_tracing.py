"""Spans as a real collector receives them, and nothing at all without one."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from core import http, tracing
from core.errors import Unavailable
from core.settings import Settings
from tests.core import otlp
from tests.core.otlp import Collector

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER = 2  # opentelemetry.proto.trace.v1.Span.SpanKind


@pytest.fixture
def collector() -> Iterator[Collector]:
    with otlp.listening() as found:
        tracing.start(Settings(otlp_endpoint=found.url), "test")
        yield found
        tracing.stop()


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    http.install(app, max_body_bytes=1024)

    @app.get("/v1/things/{thing}")
    async def thing(thing: str) -> dict[str, str]:
        with tracing.span("look up", {"plumbline.kind": "thing"}):
            return tracing.ids()

    @app.get("/away")
    async def away() -> None:
        with tracing.span("look up"):
            raise Unavailable("Somebody's secret.")

    @app.get("/health")
    async def health() -> None: ...

    return TestClient(app)


def test_a_request_is_a_span_of_its_callers_trace(collector: Collector, client: TestClient) -> None:
    """W3C traceparent; named by the route's template; spans inside are its children; probes are none."""
    parent = {"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "r-1"}
    inside = client.get("/v1/things/private-name", headers=parent).json()
    assert client.get("/health").status_code == 200
    tracing.stop()
    assert (collector.paths, len(collector.spans)) == (["/v1/traces"], 2)
    (request,), (work,) = collector.named("GET /v1/things/{thing}"), collector.named("look up")
    assert (request.service, request.kind, request.failed) == ("plumbline-test", SERVER, False)
    assert (request.trace_id, request.parent_id) == (TRACE, CALLER)
    assert request.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/v1/things/{thing}",
        "plumbline.request_id": "r-1",
    }
    assert (work.trace_id, work.parent_id) == (TRACE, request.span_id)
    assert inside == {"trace_id": TRACE, "span_id": work.span_id}
    assert b"private-name" not in collector.raw


def test_failures_are_told_by_their_class(collector: Collector, client: TestClient) -> None:
    """A 5xx fails its span. What an exception says is not exported: it may quote what people wrote."""
    assert client.get("/away").status_code == 503
    tracing.stop()
    (request,), (work,) = collector.named("GET /away"), collector.named("look up")
    assert (request.failed, request.attributes["error.type"]) == (True, "503")
    assert (work.failed, work.attributes["error.type"], work.events) == (True, "Unavailable", 0)
    assert b"secret" not in collector.raw


def test_a_span_that_is_known_only_when_it_ended(collector: Collector) -> None:
    """Its times are given, its parent is where it began."""
    with tracing.span("request"):
        parent = tracing.here()
    tracing.finished("chat", {"n": 1}, begin=1790000000.0, end=1790000002.5, parent=parent, error="engine_dead")
    tracing.stop()
    (request,), (chat,) = collector.named("request"), collector.named("chat")
    assert (chat.parent_id, chat.seconds, chat.failed) == (request.span_id, 2.5, True)


def test_without_a_collector_there_are_no_spans() -> None:
    """One shared object stands for all of them, and the exporter is not even imported."""
    assert tracing.span("a") is tracing.span("b")
    assert (tracing.here(), tracing.ids(), tracing.is_on()) == (None, {}, False)
    tracing.annotate({"a": 1})
    tracing.finished("a", {}, begin=0, end=1, parent=None)
    code = (
        "import sys, plumbline.api; from core import tracing; from core.settings import Settings;"
        "tracing.start(Settings(otlp_endpoint=''), 'api');"
        "print([name for name in sys.modules if name.startswith('opentelemetry.exporter')])"
    )
    root = Path(__file__).parents[2]
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert loaded.stdout.strip() == "[]"
