"""What crosses the wire of the chat API, where it is ours; the rest of a chat body is vLLM's request model."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from core.records import Message

_ID = Field(None, max_length=256)


class _Consent(BaseModel):
    """The fields by which a caller says who rates and what may be kept."""

    user: str | None = _ID
    safety_identifier: str | None = _ID
    store: bool | None = None
    """False keeps no text and no token ids; None takes the deployment's default."""

    @property
    def rater(self) -> str | None:
        return self.safety_identifier or self.user


class ChatBody(_Consent):
    """`POST /v1/chat/completions`. Every other field is handed to vLLM's own request model as it came."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    metadata: dict[str, str] | None = Field(None, max_length=16)

    @property
    def text(self) -> list[Message] | None:
        """The conversation, if it is text alone; None with tools or other media, which nothing here trains on."""
        if (self.model_extra or {}).get("tools") or any(message.get("tool_calls") for message in self.messages):
            return None
        turns = [(str(message.get("role", "")), _text(message.get("content"))) for message in self.messages]
        messages = [Message(role=role, content=content) for role, content in turns if content is not None]
        return messages if len(messages) == len(turns) else None


class ComparisonBody(_Consent):
    """`POST /v1/comparisons`: one prompt, two blind answers. Default: two drafts of the live policy."""

    model_config = ConfigDict(extra="forbid")

    messages: list[dict[str, Any]] = Field(min_length=1)
    policies: tuple[str, str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    """The second policy samples with `seed + 1`, so that one version twice still gives two drafts."""


class Side(BaseModel):
    side: Literal["a", "b"]
    content: str
    finish_reason: str | None


class ComparisonResponse(BaseModel):
    """Says nothing of which policy wrote which side: `{"id": "cmp_…", "sides": [{"side": "a", …}, …]}`."""

    id: str
    object: Literal["comparison"] = "comparison"
    created: int
    sides: tuple[Side, Side]


class Model(BaseModel):
    """`assistant`, whose `parent` is the version that it stands for now, or a version that can be pinned."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["plumbline"] = "plumbline"
    parent: str | None = None


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class Readiness(BaseModel):
    """The body of `/ready`: what serves, and whatever a person should know about it."""

    ready: bool
    engine: bool
    generation: int | None = None
    live: int | None = None
    resident: list[int] = []
    recording: bool
    """Whether new completions are recorded, so that they can be voted on."""
    notes: list[str] = []
    """Reasons: an engine that starts, a registry that is away, a refused adapter."""


def _text(content: Any) -> str | None:
    """The text of one turn, None if there is anything else in it."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(content) else None
