"""What both HTTP apps share: request ids, OpenAI-shaped errors, the body limit, counted requests, CORS for receipts,
and work that ends when the client hangs up.

Plain ASGI, no response is buffered: streams pass through untouched.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import logs, metrics, tracing
from core.errors import ApiError, InvalidRequest, NotFound, TooLarge

log = logging.getLogger("plumbline.http")
T = TypeVar("T")
CLIENT_CLOSED = 499
"""The status, for logs and metrics, of what nobody waits for any more."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PLACE = re.compile(r"{[^}]*}")
VOTES_PATH = "/v1/feedback"
"""Where a receipt is good for a vote: the one path that pages of other origins may post to."""


class ErrorDetail(BaseModel):
    """What went wrong, in a sentence; `param` names the field at fault, `code` is for programs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every error, in OpenAI's shape."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}
"""What every router says of its refusals in the OpenAPI document; FastAPI's own 422 then stays out of it."""


class RequestShell:
    """Gives every response an `x-request-id`, refuses bodies over the limit and counts requests by route. What a route
    leaves in `request.state.response_headers` goes out with the answer, whatever that will be.

    A well-formed inbound `X-Request-Id` is echoed; it is a label for the caller's logs and never an id of ours.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, headers = time.monotonic(), dict(scope["headers"])
        inbound = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = inbound if _REQUEST_ID.fullmatch(inbound) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        logs.bind(request_id=request_id)

        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                more = {"x-request-id": request_id} | scope["state"].get("response_headers", {})
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in more.items())]
                metrics.HTTP_REQUESTS.labels(_route(scope), f"{message['status'] // 100}xx").inc()
            await send(message)

        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_body_bytes:
            message = f"The body may hold {self.max_body_bytes} bytes, this one has {int(declared)}."
            await error_response(TooLarge(message))(scope, receive, send_with_id)
            return
        try:
            await self.app(scope, self._limited(receive), send_with_id)
        except Exception:
            log.exception("request %s failed", request_id)
            if started:  # too late for a status: the server closes the connection, so that the client sees a cut
                raise
            mistake = ApiError("The server made a mistake; its log has the details under this request's id.")
            await error_response(mistake)(scope, receive, send_with_id)
        finally:
            metrics.HTTP_DURATION.labels(_route(scope)).observe(time.monotonic() - began)

    def _limited(self, receive: Receive) -> Receive:
        """Counts a body that came without a Content-Length."""
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_body_bytes:
                raise TooLarge(f"The body may hold {self.max_body_bytes} bytes.")
            return message

        return limited


def _route(scope: Scope) -> str:
    """The route's template: a closed set, which paths are not."""
    return getattr(scope.get("route"), "path", "unmatched")


class ReceiptCors:
    """Lets pages of the given origins vote with a receipt, and nothing else.

    Only `POST` to the one path: a page that could also read would be shown everybody's votes. No cookies, no `*`.
    It stands outside the shell, so that a page sees why it was refused; a preflight therefore has no `x-request-id`.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        self.app = app
        self.voting = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=["POST"],
            allow_headers=["authorization", "content-type", "idempotency-key", "x-request-id"],
            expose_headers=["etag", "retry-after", "www-authenticate", "x-request-id", "x-should-retry"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        votes = scope["type"] == "http" and scope["path"] == VOTES_PATH and scope["method"] in ("OPTIONS", "POST")
        await (self.voting if votes else self.app)(scope, receive, send)


def error_response(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers())


def install(app: FastAPI, *, max_body_bytes: int, cors_origins: Sequence[str] = ()) -> None:
    """Puts the shell around `app` and makes every error, ours or the framework's, OpenAI-shaped.

    Args: `cors_origins`: whose pages may vote with receipts.
    """

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error_response(error)

    async def malformed(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(invalid_request(error.errors()))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if isinstance(error.__context__, ApiError):  # e.g. the body limit, met while the framework parsed
            return error_response(error.__context__)
        if error.status_code in (404, 405):
            return _unrouted(request, error)
        return JSONResponse(InvalidRequest(str(error.detail)).body(), error.status_code, error.headers)

    app.add_exception_handler(ApiError, ours)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, http)
    app.add_middleware(RequestShell, max_body_bytes=max_body_bytes)
    if tracing.is_on():
        app.add_middleware(tracing.TracedRequests)
    if cors_origins:
        app.add_middleware(ReceiptCors, origins=cors_origins)


def _unrouted(request: Request, error: HTTPException) -> JSONResponse:
    """What no route takes is 405 if a route takes the path by other methods, else 404. The framework sees it otherwise
    where pages are mounted behind the routes: they take every path, and to them all but GET is a wrong method."""
    asked, path = request.method, request.url.path[:200]
    if (methods := _methods(request)) and asked not in methods:
        allowed = ", ".join(methods)
        message = f"{path} takes {allowed}, not {asked}."
        return JSONResponse(InvalidRequest(message).body(), 405, {"allow": allowed})
    return JSONResponse(NotFound(f"There is no {asked} {path}.").body(), 404)


def _methods(request: Request) -> list[str]:
    """What the path takes; the framework names only the methods of the first route that fits.

    Of several templates the one that spells out most of the path is meant: `/v1/raters/{id}/restore` is no rater,
    though ids may hold slashes.
    """
    routes = [each for each in request.app.routes if isinstance(each, Route)]
    fitting = [each for each in routes if each.matches(request.scope)[0] is not Match.NONE]
    meant = max((_spelled_out(each) for each in fitting), default=0)
    return sorted(set().union(*(each.methods or set() for each in fitting if _spelled_out(each) == meant)))


def _spelled_out(route: Route) -> int:
    return len(_PLACE.sub("", route.path))


def invalid_request(errors: list[dict[str, Any]] | object) -> InvalidRequest:
    """The first of pydantic's errors as OpenAI says it: a sentence, and the field in `param`."""
    first = next(iter(errors)) if isinstance(errors, list) else {}
    kind, location = str(first.get("type")), first.get("loc", ())
    assert isinstance(location, tuple)
    if kind == "json_invalid":
        return InvalidRequest(
            f"The body is not valid JSON: {first.get('ctx', {}).get('error')}, at character {location[-1]}."
        )
    if location == ("body",):
        return InvalidRequest(_NO_OBJECT if kind in _NOT_OBJECT else "The request has no body: send a JSON object.")
    param = ".".join(str(part) for part in location if part != "body") or None
    said = str(first.get("msg", "Malformed request"))
    if isinstance(first.get("input"), str):
        said = re.sub(r" item(s?),", r" character\1,", said)  # where pydantic counts without asking of what
    return InvalidRequest(_sentence(kind, said, param), param=param)


_NOT_OBJECT = ("model_type", "model_attributes_type", "dict_type")
_NO_OBJECT = "The body is no JSON object: send one, with the header `content-type: application/json`."


def _sentence(kind: str, said: str, param: str | None) -> str:
    """What pydantic said, about a field that is named."""
    name = "It" if param is None else repr(param)
    if kind == "extra_forbidden":
        return f"Unknown field {name}."
    if kind == "missing":
        return f"Field {name} is missing."
    if kind in _NOT_OBJECT:
        return f"{name} should be a JSON object."
    if kind == "value_error":
        return f"{name}: {said.removeprefix('Value error, ')}."
    said = re.sub(r" after validation|, unable to .*", "", said)
    return re.sub(r"^\w+ should", lambda _: f"{name} should", said).rstrip(".") + "."


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None if the client hangs up first; then `work` is cancelled, and with it its tokens."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        watching.cancel()
        if not working.done():
            working.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
