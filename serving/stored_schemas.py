"""OpenAI's stored chat completions on the wire."""

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from serving.schemas import Label, LabelValue

CompletionPath = Annotated[str, Path(max_length=128)]
MAX_PAGE = 100


class StoredMessage(BaseModel):
    role: str
    content: str | None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: None = None
    refusal: None = None


class StoredChoice(BaseModel):
    index: int
    message: StoredMessage
    finish_reason: str | None
    """null: the answer was cut off."""
    logprobs: None = None
    """Those that were asked for came with the answer."""


class StoredUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class StoredCompletion(BaseModel):
    """A completion as it is kept, with the values that it was sampled with."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    """The version that wrote it: `assistant@v3`."""
    choices: list[StoredChoice]
    usage: StoredUsage
    system_fingerprint: str
    service_tier: None = None
    metadata: dict[str, str]
    input_user: str | None
    temperature: float | None
    top_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    response_format: dict[str, Any] | None = None


class StoredList(BaseModel):
    object: Literal["list"] = "list"
    data: list[StoredCompletion]
    first_id: str | None
    last_id: str | None
    has_more: bool


class StoredInput(BaseModel):
    """One turn of the prompt; its id is its place: `chatcmpl-41ab…-0`."""

    id: str
    role: str
    content: str | None
    content_parts: list[dict[str, Any]] | None = None
    """If the content was sent in parts."""
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class StoredInputs(BaseModel):
    object: Literal["list"] = "list"
    data: list[StoredInput]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    id: str
    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"
    deleted: Literal[True] = True


class Labels(BaseModel):
    """`POST /v1/chat/completions/{id}`."""

    model_config = ConfigDict(extra="forbid")

    metadata: dict[Label, LabelValue] | None = Field(max_length=16)
    """In place of what was said; null is none."""
