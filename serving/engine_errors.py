"""What a caller is told of a failure inside vLLM."""

import logging

from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.v1.engine.exceptions import EngineDeadError

from core.errors import ApiError, InvalidRequest, NotFound, Overloaded, Unavailable

log = logging.getLogger("plumbline.engine")


def engine_away() -> Unavailable:
    """Until the process that computes is there again."""
    return Unavailable("The engine is restarting; try again in a moment.", code="engine_unavailable")


def api_error(error: Exception) -> ApiError:
    """Of any failure, ours as it is."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, EngineDeadError):
        return engine_away()
    return shaped(create_error_response(error))


def shaped(response: ErrorResponse) -> ApiError:
    """vLLM's error body (numbers as `code`) as one of ours."""
    error = response.error
    if error.code == 404:
        return NotFound(error.message, param="model", code="model_not_found")
    if 400 <= error.code < 500:
        if error.param == "input_tokens" or "maximum context length" in error.message:
            return InvalidRequest(error.message, param="messages", code="context_length_exceeded")
        return InvalidRequest(error.message, param=error.param)
    if error.code == 503:
        return Overloaded(error.message, wait_s=2.0)
    log.error("the engine failed a request: %s", error.message)
    return ApiError("The engine could not answer this request.", code="engine_error")
