"""Every error that Plumbline raises on purpose, as one tree.

    PlumblineError
    ├── UsageError                     a wrong command line, setting or file: one line, says what to do
    │   └── AdapterError               an adapter that must not be served (truncated, wrong base, not finite, ...)
    ├── Conflict                       somebody else changed the registry or the run first
    └── ApiError                       has an HTTP status and OpenAI's error body
        ├── InvalidRequest       400   malformed JSON, wrong value, unknown field
        ├── Unauthorized         401   an API key that is unknown or revoked, a receipt that is expired or forged
        ├── Forbidden            403   a receipt for another target, kind or rater
        │   └── InsufficientScope      an API key without the scope that the route needs
        ├── NotFound             404   unknown model, completion, comparison (same words for "not yours")
        ├── Gone                 410   the feedback window of the target is over
        ├── AlreadyDecided       409   one key, two bodies; a vote after the reveal  (never retried)
        ├── NotFinished          409   a vote on a completion that is still streaming  (retried)
        ├── PreconditionFailed   412   If-Match names another revision
        ├── TooLarge             413   the body is over the limit
        ├── RateLimited          429   a limit of the caller's API key  (retried after Retry-After, if that is soon)
        └── Unavailable          503   Redis or the engine is away  (retried after Retry-After)
            └── Overloaded       503   the engine has as many answers to write as it can take  (retried when told)

OpenAI's clients retry 408, 409, 429 and 5xx by themselves and obey `x-should-retry`; so each error says whether a
retry can help (openai-python, `_base_client.py`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar


class PlumblineError(Exception):
    """Root of all errors that are ours; `str(error)` is a sentence for a person."""


class UsageError(PlumblineError):
    """A command line, setting, file or machine that cannot work. The message says what to do next."""


class AdapterError(UsageError):
    """An adapter that must not reach traffic."""


class Conflict(PlumblineError):
    """A compare-and-set lost: the registry's generation or a run's attempt moved on."""


class ApiError(PlumblineError):
    """An answer that is not 2xx, in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    retry: ClassVar[bool | None] = None
    """What `x-should-retry` says; None leaves it to the client."""
    retry_after_s: ClassVar[int | None] = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.error_code = code or self.code

    def body(self) -> dict[str, dict[str, str | None]]:
        error = {
            "message": str(self),
            "type": self.type,
            "param": self.param,
            "code": self.error_code,
        }
        return {"error": error}

    def headers(self) -> dict[str, str]:
        headers = {} if self.retry is None else {"x-should-retry": "true" if self.retry else "false"}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
        return headers


class InvalidRequest(ApiError):
    status, type = 400, "invalid_request_error"


class NotFound(ApiError):
    status, type, code = 404, "invalid_request_error", "not_found"


class Gone(ApiError):
    status, type, code = 410, "invalid_request_error", "target_expired"


class AlreadyDecided(ApiError):
    status, type, code, retry = 409, "conflict_error", "conflict", False


class NotFinished(ApiError):
    status, type, code, retry, retry_after_s = (
        409,
        "conflict_error",
        "not_finished",
        True,
        1,
    )


class PreconditionFailed(ApiError):
    status, type, code, retry = 412, "conflict_error", "precondition_failed", False


class TooLarge(ApiError):
    status, type, code = 413, "invalid_request_error", "body_too_large"


class Unavailable(ApiError):
    status, type, code, retry, retry_after_s = (
        503,
        "server_error",
        "storage_unavailable",
        True,
        2,
    )


class Overloaded(Unavailable):
    """`wait_s`: when there is likely to be room."""

    code = "engine_overloaded"

    def __init__(self, message: str, *, wait_s: float) -> None:
        super().__init__(message)
        self._wait_s = wait_s

    def headers(self) -> dict[str, str]:
        return super().headers() | {"retry-after": str(max(1, math.ceil(self._wait_s)))}


class Unauthorized(ApiError):
    status, type, code, retry = 401, "authentication_error", "token_invalid", False

    def headers(self) -> dict[str, str]:
        return super().headers() | {"www-authenticate": 'Bearer error="invalid_token"'}


class Forbidden(ApiError):
    status, type, code, retry = 403, "permission_error", "token_scope", False


class InsufficientScope(Forbidden):
    code = "insufficient_scope"

    def __init__(self, any_of: Sequence[str]) -> None:
        super().__init__(f"This API key lacks the scope: {' or '.join(any_of)}.")
        self._any_of = any_of

    def headers(self) -> dict[str, str]:
        challenge = f'Bearer error="insufficient_scope", scope="{" ".join(self._any_of)}"'
        return super().headers() | {"www-authenticate": challenge}


class RateLimited(ApiError):
    """`wait_s`: when it is worth while to come again. Clients wait up to a minute; told to wait longer, they are told
    not to try by themselves."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"

    def __init__(self, message: str, *, wait_s: float, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self._wait_s = wait_s
        self._headers = headers or {}

    def headers(self) -> dict[str, str]:
        retry = {"retry-after": str(math.ceil(self._wait_s)), "x-should-retry": str(self._wait_s <= 60).lower()}
        return {**self._headers, **retry}
