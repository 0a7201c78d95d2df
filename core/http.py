"""What both HTTP apps share: request ids, OpenAI-shaped errors, the body limit, counted requests.

Plain ASGI, no response is buffered: streams pass through untouched.
"""

import logging
import re
import uuid

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import metrics
from core.errors import ApiError, InvalidRequest, NotFound, TooLarge

log = logging.getLogger("plumbline.http")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestShell:
    """Gives every response an `x-request-id`, refuses bodies over the limit and counts requests by route.

    A well-formed inbound `X-Request-Id` is echoed; it is a label for the caller's logs and never an id of ours.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        inbound = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = inbound if _REQUEST_ID.fullmatch(inbound) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id

        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                route = getattr(scope.get("route"), "path", "unmatched")
                metrics.HTTP_REQUESTS.labels(route, f"{message['status'] // 100}xx").inc()
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


def error_response(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers())


def install(app: FastAPI, *, max_body_bytes: int) -> None:
    """Puts the shell around `app` and makes every error, ours or the framework's, OpenAI-shaped."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error_response(error)

    async def malformed(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(invalid_request(error.errors()))

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if isinstance(error.__context__, ApiError):  # e.g. the body limit, met while the framework parsed
            return error_response(error.__context__)
        shaped = NotFound(str(error.detail)) if error.status_code == 404 else InvalidRequest(str(error.detail))
        return JSONResponse(shaped.body(), status_code=error.status_code, headers=error.headers)

    app.add_exception_handler(ApiError, ours)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, http)
    app.add_middleware(RequestShell, max_body_bytes=max_body_bytes)


def invalid_request(errors: list[dict[str, object]] | object) -> InvalidRequest:
    """The first of pydantic's errors as OpenAI says it: a sentence, and the field in `param`."""
    first = next(iter(errors)) if isinstance(errors, list) else {}
    location = first.get("loc", ())
    assert isinstance(location, tuple)
    names = [str(part) for part in location if part != "body"]
    param = ".".join(names) or None
    message = {
        "extra_forbidden": f"Unknown field {param!r}.",
        "json_invalid": "The body is not valid JSON.",
    }.get(str(first.get("type")), f"{first.get('msg', 'malformed request')}")
    return InvalidRequest(message, param=None if first.get("type") == "json_invalid" else param)
