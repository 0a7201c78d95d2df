"""Which chats the engine takes: those of vLLM's own request model, but for what it would drop in silence.

vLLM's model takes any field, and its chat template any argument: what neither uses is refused here, by name.
"""

import re
from typing import Any

from pydantic import BaseModel, ValidationError
from vllm.entrypoints.generate.base.protocol import ResponseFormat
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import VLLMError

from core.errors import InvalidRequest
from core.http import invalid_request
from serving.engine_errors import api_error
from serving.protocol import ChatRequest

MAX_CHOICES = 16
_UNION_MEMBER = re.compile(r"[A-Z]|.*\[|(str|int|float|bool)$")


def parse(body: dict[str, Any], *, template: str, tool_parser: str) -> ChatRequest:
    """Checks a chat body.

    Args:
        template: the base's chat template.
        tool_parser: vLLM's name for how the base writes tool calls; empty: tools are refused.

    Raises:
        InvalidRequest: with the field in `param`.
    """
    try:
        native = ChatCompletionRequest.model_validate(body)
    except ValidationError as error:
        raise _malformed(error) from None
    except VLLMError as error:
        raise api_error(error) from None
    except (KeyError, TypeError, AttributeError) as error:  # vLLM looks into fields before it knows their types
        raise InvalidRequest(f"The request is malformed: {error!r}.") from None
    if native.n is not None and not 1 <= native.n <= MAX_CHOICES:
        raise InvalidRequest(f"n is from 1 to {MAX_CHOICES}.", param="n")
    _refuse_unknown(native)
    if native.tools and native.tool_choice != "none" and not tool_parser:
        raise InvalidRequest(
            "Tools need a parser of the base's tool calls: PLUMBLINE_TOOL_PARSER names it (docs/api.md).",
            param="tools",
            code="tools_unavailable",
        )
    form = native.response_format
    if isinstance(form, ResponseFormat) and form.json_schema is not None and form.json_schema.json_schema is None:
        said = "A json_schema needs its `schema`; any JSON is `json_object`."
        raise InvalidRequest(said, param="response_format.json_schema.schema")
    _refuse_unrendered(native, template)
    return ChatRequest(stream=bool(native.stream), native=native, choices=native.n or 1)


def _malformed(error: ValidationError) -> InvalidRequest:
    """pydantic names the union member inside the location; the caller only knows the field."""
    first = dict(error.errors()[0])
    location = first["loc"]
    assert isinstance(location, tuple)
    readable = [part for part in location if not (isinstance(part, str) and _UNION_MEMBER.match(part))]
    return invalid_request([first | {"loc": tuple(readable)}])


def _refuse_unknown(native: BaseModel, place: str = "") -> None:
    """Fields that vLLM does not know; but inside free-form values, such as a JSON schema, all are the caller's."""
    if unknown := sorted(native.model_extra or {}):
        param = f"{place}{unknown[0]}"
        raise InvalidRequest(f"Unknown field {param!r}.", param=param, code="unknown_parameter")
    for name, value in vars(native).items():
        for number, each in enumerate(value if isinstance(value, list) else ()):
            if isinstance(each, BaseModel):
                _refuse_unknown(each, f"{place}{name}.{number}.")
        if isinstance(value, BaseModel):
            _refuse_unknown(value, f"{place}{name}.")


def _refuse_unrendered(request: ChatCompletionRequest, template: str) -> None:
    """Arguments of the chat template for which this one has no place."""
    sought = {"tools": request.tools, "documents": request.documents} | (request.chat_template_kwargs or {})
    missing = [name for name, value in sought.items() if value is not None and not _names(template, name)]
    effort = request.reasoning_effort is not None
    if effort and not _names(template, "reasoning_effort") and not _names(template, "enable_thinking"):
        missing.append("reasoning_effort")
    if missing:
        known = missing[0] in ChatCompletionRequest.model_fields
        raise InvalidRequest(
            f"The base's chat template has no place for {missing[0]!r}.",
            param=missing[0] if known else f"chat_template_kwargs.{missing[0]}",
            code="unsupported_parameter",
        )


def _names(template: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", template) is not None
