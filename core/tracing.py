"""OpenTelemetry traces to the collector that `PLUMBLINE_OTLP_ENDPOINT` names; without one nothing is imported and a
span is a shared object that does nothing.

Spans hold no prompt, no answer and no name of a person: paths are given by their route's template, and of an exception
only its class. Head sampling, resource attributes and the exporter's headers are the SDK's own `OTEL_*` variables.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from importlib import metadata
from typing import TYPE_CHECKING, Any

from core.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from core.settings import Settings

Attributes = Mapping[str, str | int | float | bool | list[str]]
_OFF: AbstractContextManager[None] = contextlib.nullcontext()
_QUIET = frozenset({"/health", "/ready", "/metrics"})
"""Asked for all the time by machines."""

_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None


def start(settings: "Settings", process: str) -> None:
    """Begins to export, if a collector is named. Spans are sent in the background and dropped if it is away.

    Raises:
        UsageError: OpenTelemetry's packages are not installed.
    """
    global _provider, _tracer
    if not settings.otlp_endpoint:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UsageError(
            f"PLUMBLINE_OTLP_ENDPOINT needs OpenTelemetry ({error}): pip install opentelemetry-exporter-otlp-proto-http"
        ) from None
    who = {
        "service.namespace": "plumbline",
        "service.name": f"plumbline-{process}",
        "service.version": metadata.version("plumbline"),
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    _provider = TracerProvider(resource=Resource.create(who), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("plumbline")


def stop() -> None:
    """Sends what waits, for some seconds at most, and ends."""
    global _provider, _tracer
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


def is_on() -> bool:
    return _tracer is not None


def span(name: str, attributes: Attributes | None = None) -> AbstractContextManager[object]:
    """A span around a block, child of the one that is open here; what is raised marks it by the class of the error."""
    return _OFF if _tracer is None else _around(_tracer, name, attributes or {})


def annotate(attributes: Attributes) -> None:
    """Adds to the span that is open here."""
    if _tracer is not None:
        from opentelemetry import trace

        trace.get_current_span().set_attributes(attributes)


def here() -> Any:
    """Where a span begins that is only known when it has ended (`finished`); None while off."""
    if _tracer is None:
        return None
    from opentelemetry import context

    return context.get_current()


def finished(name: str, attributes: Attributes, *, begin: float, end: float, parent: Any, error: str = "") -> None:
    """A span whose times are known only now.

    Args:
        begin, end: unix seconds.
        parent: what `here` said then.
        error: its class, if it failed.
    """
    if _tracer is None:
        return
    from opentelemetry.trace import SpanKind

    made = _tracer.start_span(
        name, context=parent, kind=SpanKind.INTERNAL, attributes=attributes, start_time=int(begin * 1e9)
    )
    if error:
        _fail(made, error)
    made.end(end_time=int(end * 1e9))


def ids() -> dict[str, str]:
    """`trace_id` and `span_id` of the span that is open here, in hex; nothing outside of one."""
    if _tracer is None:
        return {}
    from opentelemetry import trace

    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return {}
    return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}


class TracedRequests:
    """ASGI middleware: a server span for each request to the last byte of its answer, child of its `traceparent`."""

    def __init__(self, app: "ASGIApp") -> None:
        self.app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if _tracer is None or scope["type"] != "http" or scope["path"] in _QUIET:
            await self.app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        parent = TraceContextTextMapPropagator().extract(carrier)
        method = scope["method"]
        with _around(_tracer, method, {"http.request.method": method}, context=parent, kind=SpanKind.SERVER) as opened:

            async def watched(message: "Message") -> None:
                if message["type"] == "http.response.start":
                    opened.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        _fail(opened, str(message["status"]))
                await send(message)

            try:
                await self.app(scope, receive, watched)
            finally:
                _name(opened, scope)


def _name(opened: "Span", scope: "Scope") -> None:
    """By the route, which is known when the request was dispatched."""
    if route := getattr(scope.get("route"), "path", ""):
        opened.update_name(f"{scope['method']} {route}")
        opened.set_attribute("http.route", route)
    if request_id := scope.get("state", {}).get("request_id"):
        opened.set_attribute("plumbline.request_id", request_id)


@contextlib.contextmanager
def _around(tracer: "Tracer", name: str, attributes: Attributes, **options: Any) -> Iterator["Span"]:
    with tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False, **options
    ) as opened:
        try:
            yield opened
        except BaseException as error:
            _fail(opened, type(error).__qualname__)
            raise


def _fail(opened: "Span", error: str) -> None:
    """By its class only: what an exception says may quote what people wrote."""
    from opentelemetry.trace import StatusCode

    opened.set_status(StatusCode.ERROR)
    opened.set_attribute("error.type", error)
