"""What decides which rows a stored record gives: the part of it that is needed where records come by the million.

The records themselves are core/records.py's, and were checked when they were written. Read with msgspec, which takes a
fifth of pydantic's time and memory; each field has the name and the meaning that it has there. What else is made once
for every event of a log is a msgspec structure for the same reason: a frozen dataclass takes ten times as long to make.
"""

from typing import Literal

import msgspec

from core.records import Asked, Choice, CompletionRecord, CompletionState, Feedback, Kind, Message, RaterKind, Source


class Aim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Of a `Target`."""

    type: Literal["completion", "comparison"]
    id: str
    choice_index: int = 0


class Essence(msgspec.Struct, frozen=True, kw_only=True):
    """Of a `Feedback`."""

    id: str
    revision: int = 1
    withdrawn: bool = False
    target: Aim
    kind: Kind
    value: int | str | list[list[str]]
    metadata: dict[str, str] = {}
    rater: str | None = None
    rater_kind: RaterKind = "human"
    source: Source = "api"
    created_at: float
    supersedes: str | None = None
    completion_ids: list[str]
    train: bool


class Turn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Of a `Message`."""

    role: str
    content: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Of a `Choice`."""

    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None = None


class CompletionEssence(msgspec.Struct, frozen=True, kw_only=True):
    """Of a `CompletionRecord`."""

    id: str
    state: CompletionState
    created: float
    messages: list[Turn] = []
    prompt_token_ids: list[int] = []
    choices: list[Answer] = []
    policy_version: int
    propensity: float = 1.0
    rater: str | None = None
    train: bool = True
    finished: float | None = None


class ComparisonEssence(msgspec.Struct, frozen=True, kw_only=True):
    """Of a `Comparison`."""

    id: str
    completion_ids: list[str]
    order: list[int]
    asked: Asked = "random"
    propensity: float = 1.0


Said = Feedback | Essence
Sampled = CompletionRecord | CompletionEssence
AnyTurn = Message | Turn
AnyChoice = Choice | Answer

feedback = msgspec.json.Decoder(Essence).decode
completion = msgspec.json.Decoder(CompletionEssence).decode
comparison = msgspec.json.Decoder(ComparisonEssence).decode
