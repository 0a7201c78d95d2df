"""What crosses the wire of the chat API, where it is ours; the rest of a chat body is vLLM's request model."""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from core.records import ALIAS, SIDES, Message
from serving.request_fields import reshapes_prompt

_ID = Field(None, max_length=256)
_COMPLETION = re.compile(r"chatcmpl-[0-9a-f]{32}")
Label = Annotated[str, StringConstraints(max_length=64)]
LabelValue = Annotated[str, StringConstraints(max_length=512)]


def _encodable(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """JSON can spell half a surrogate pair, which no record can hold."""
    try:
        json.dumps(messages, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it is not valid Unicode") from None
    return messages


def _known_roles(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """OpenAI's newer name for `system` is unknown to most chat templates, which would drop the turn in silence."""
    return [message | {"role": "system"} if message.get("role") == "developer" else message for message in messages]


Messages = Annotated[
    list[dict[str, Any]], Field(min_length=1), AfterValidator(_encodable), AfterValidator(_known_roles)
]
"""OpenAI's messages; what may stand in them is for the engine's own request model to say."""


class _Consent(BaseModel):
    """The fields by which a caller says who rates, what may be kept and what for. None of them concerns the engine."""

    user: str | None = _ID
    safety_identifier: str | None = _ID
    store: bool | None = None
    """False keeps no text, no token ids and no metadata, and nothing is trained on."""
    train: bool | None = None
    """May what is kept be trained on? None: yes if the caller said `store`, else as the deployment does by default."""
    metadata: dict[Label, LabelValue] | None = Field(None, max_length=16)
    """The caller's own labels, within OpenAI's limits."""

    @property
    def rater(self) -> str | None:
        """Whom votes are credited to; an empty name is nobody's."""
        return self.safety_identifier or self.user or None

    @property
    def regenerates(self) -> str | None:
        """The answer in whose place another one is asked for, if a label says so: `{"regenerates": "chatcmpl-…"}`."""
        said = (self.metadata or {}).get("regenerates", "")
        return said if _COMPLETION.fullmatch(said) else None

    def may_train(self, *, by_default: bool) -> bool:
        if self.store is False:
            return False
        return self.train if self.train is not None else bool(self.store) or by_default


class ChatBody(_Consent):
    """`POST /v1/chat/completions`. What becomes of every other field stands in `serving/request_fields.py`."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: Messages

    @property
    def text(self) -> list[Message] | None:
        """The conversation, if the prompt is that and text alone; None with tools and the like, which nothing here
        trains on."""
        if reshapes_prompt(self.model_extra or {}) or any(message.get("tool_calls") for message in self.messages):
            return None
        turns = [(str(message.get("role", "")), _text(message.get("content"))) for message in self.messages]
        messages = [Message(role=role, content=content) for role, content in turns if content is not None]
        return messages if len(messages) == len(turns) else None


class ComparisonBody(_Consent):
    """`POST /v1/comparisons`: one prompt, two to nine blind answers. Default: two drafts of the live policy."""

    model_config = ConfigDict(extra="forbid")

    messages: Messages
    n: int | None = Field(None, ge=2, le=len(SIDES))
    """How many sides; None: as many as there are `policies`, else two."""
    policies: list[str] | None = Field(None, min_length=2, max_length=len(SIDES))
    """`assistant` or `assistant@vN`, one for each side, in any order: the server deals them out."""
    choice: Literal["random", "active"] = "random"
    """`active`: two different versions that the server chooses, preferably those of which the votes say least."""
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    """The second policy samples with `seed + 1` and so on, so that one version twice still gives two drafts."""

    @property
    def models(self) -> list[str]:
        """One for each side."""
        return self.policies or [ALIAS] * (self.n or 2)

    @field_validator("policies")
    @classmethod
    def _one_for_each_side(cls, policies: list[str] | None, said: ValidationInfo) -> list[str] | None:
        n = said.data.get("n")
        if policies is not None and n is not None and n != len(policies):
            raise ValueError(f"n is {n}, so {n} policies must be named")
        return policies

    @field_validator("choice")
    @classmethod
    def _chosen_by_one(cls, choice: str, said: ValidationInfo) -> str:
        if choice == "active" and said.data.get("policies") is not None:
            raise ValueError("the server chooses the policies, so none can be named")
        if choice == "active" and said.data.get("n") not in (None, 2):
            raise ValueError("two policies are chosen, so n can only be 2")
        return choice


class Side(BaseModel):
    side: str
    """`a`, `b`, … `i`."""
    content: str
    finish_reason: str | None


class ComparisonResponse(BaseModel):
    """Says nothing of which policy wrote which side: `{"id": "cmp_…", "sides": [{"side": "a", …}, …]}`."""

    id: str
    object: Literal["comparison"] = "comparison"
    created: int
    sides: list[Side]


class ComparisonStarted(BaseModel):
    """The first event of a streamed comparison: `{"id": "cmp_…", "sides": ["a", "b"]}`."""

    id: str
    object: Literal["comparison"] = "comparison"
    created: int
    sides: list[str]


class SideDelta(BaseModel):
    """More words of one side: `{"side": "a", "delta": " A dog"}`."""

    side: str
    delta: str


class SideFinished(BaseModel):
    """The end of one side: `{"side": "a", "finish_reason": "stop"}`."""

    side: str
    finish_reason: str | None


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
