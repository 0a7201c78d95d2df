"""What the feedback API takes and gives. Unknown fields are errors: a typo must not lose a vote.

These say which types there are; the rules (what fits what, and how long it may be) are events.check, once for all.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    WrapValidator,
)
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from core.access import Caller
from core.http import ErrorDetail
from core.records import SIDES, Feedback, Kind, RaterEvent, RaterKind, Source, Value, policy_name
from core.text import Text, encodable
from feedback import events, fate
from feedback.fate import Use
from feedback.lookup import Found, Page, Status
from feedback.scripts import View

MAX_BATCH = 1000
_NO_VALUE = 'A value is a whole number, a text, or groups of sides like [["b"], ["a", "c"]].'


def _one_message(value: Any, inner: Callable[[Any], Value]) -> Value:
    """A value of no fitting type is one error of the field, not one of each member of the union."""
    try:
        found = inner(value)
    except ValidationError:
        raise PydanticCustomError("value", _NO_VALUE) from None
    encodable(json.dumps(found, ensure_ascii=False))
    return found


def _in_letters(value: Any) -> Any:
    """Pydantic would take 5 for a time, and seconds and milliseconds for each other."""
    if isinstance(value, datetime) or (isinstance(value, str) and value[4:5] == "-"):
        return value
    raise PydanticCustomError("time", "A time is written as in RFC 3339, 2026-11-21T13:00:00Z.")


Time = Annotated[AwareDatetime, BeforeValidator(_in_letters)]
Id = Annotated[Text, Field(min_length=1, max_length=256)]
"""As long as a chat may name its person, so that whoever chats can vote, say no and be erased."""
AnyValue = Annotated[Value, WrapValidator(_one_message)]
FEEDBACK_ID = r"^fb_[A-Za-z0-9_-]{1,61}$"
FeedbackId = Annotated[str, Field(pattern=FEEDBACK_ID)]
Comment = Annotated[Text, Field(json_schema_extra={"maxLength": events.MAX_COMMENT})]
Reasons = Annotated[
    list[Text],
    Field(
        json_schema_extra={
            "maxItems": events.MAX_REASONS,
            "items": {"type": "string", "minLength": 1, "maxLength": events.MAX_REASON},
        }
    ),
]
Metadata = Annotated[
    dict[Text, Text],
    Field(
        json_schema_extra={
            "maxProperties": events.MAX_METADATA,
            "propertyNames": {"maxLength": events.MAX_METADATA_KEY},
            "additionalProperties": {"type": "string", "maxLength": events.MAX_METADATA_VALUE},
        }
    ),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# --- what is asked ------------------------------------------------------------------------------------------------


class TargetBody(_Body):
    """What is voted on: `{"type": "completion", "id": "chatcmpl-41ab…", "choice_index": 0}`."""

    type: Literal["completion", "comparison"]
    id: Id
    choice_index: StrictInt = Field(0, ge=0, lt=1024)


class RaterBody(_Body):
    """Who votes, when it is not who chatted: `{"id": "user-7"}`, or `{"id": "judge-1", "kind": "ai"}`."""

    id: Id
    kind: RaterKind = "human"
    """`ai_self` is an AI that is the policy in training, or descends from it."""


class FeedbackRequest(_Body):
    """One vote: `{"target": {"type": "comparison", "id": "cmp_52ce…"}, "kind": "preference", "value": "a"}`."""

    id: FeedbackId | None = None
    """The caller's own id for it; sent again with the same body, it is the same vote."""
    target: TargetBody
    kind: Kind
    value: AnyValue
    """`thumb`: 1 or -1. `rating`: 1 to 5. `preference`: `a`, `b`, `tie` or `both_bad`. `ranking`: groups of sides, best
    first. `correction`: the answer as it should be. `comment`: text. `flag`: `safety`, `pii`, `spam` or `other`."""
    reasons: Reasons = []
    comment: Comment | None = None
    metadata: Metadata = {}
    rater: RaterBody | None = None
    occurred_at: Time | None = None
    """When the person did it, if that was earlier."""


class BatchRequest(_Body):
    """Up to 1,000 votes; each is checked and stored by itself."""

    items: Annotated[
        list[Annotated[Any, WithJsonSchema({"$ref": "#/components/schemas/FeedbackRequest"})]],
        Field(max_length=MAX_BATCH),
    ]


class RevisionRequest(_Body):
    """What changes: fields that are left out stay; null takes the comment, reasons or metadata away."""

    value: AnyValue | None = None
    reasons: Reasons | None = None
    comment: Comment | None = None
    metadata: Metadata | None = None


class ListQuery(_Body):
    """Which votes to list; every filter that is given must match."""

    target: Id | None = None
    """Id of a completion or a comparison."""
    policy_version: Annotated[str, Field(pattern=r"^assistant@v[0-9]{1,9}$")] | None = None
    kind: Kind | None = None
    status: Status | None = None
    rater: Id | None = None
    after: FeedbackId | None = None
    """`last_id` of the page before."""
    limit: int = Field(20, ge=1, le=100)


class ConsentRequest(_Body):
    """Whether what a rater writes and votes may be trained on."""

    train: StrictBool


# --- what is answered ---------------------------------------------------------------------------------------------


class FeedbackObject(_Body):
    """A stored vote, as its rater sees it."""

    id: str
    object: Literal["feedback"] = "feedback"
    revision: int
    target: TargetBody
    kind: Kind
    value: Value
    reasons: list[str]
    comment: str | None
    metadata: dict[str, str]
    source: Source
    status: Status
    supersedes: str | None
    trainable: bool
    """Whether the text that was voted on may be trained on: its author's consent, not a promise that it will be."""
    created_at: datetime
    """Of this revision."""
    occurred_at: datetime | None
    policy_versions: list[str]
    """From our own record of the completions: `["assistant@v3"]`, one a side; empty while a comparison is blind."""
    reveal: dict[str, str] | None = Field(default=None, exclude_if=lambda reveal: reveal is None)
    """Of a comparison that was voted on: which policy version wrote which side."""


class Revision(_Body):
    """A vote as it was."""

    revision: int
    value: Value
    reasons: list[str]
    comment: str | None
    metadata: dict[str, str]
    created_at: datetime


class UsedIn(_Body):
    """What the vote became in one snapshot, and a policy version that was trained on that."""

    snapshot: str
    policy_version: str | None
    """`assistant@v12`; null while there is none. A version may have been rejected, which `outcome` says."""
    as_: Literal["pair", "ranking", "thumb", "rating", "demonstration"] | None = Field(alias="as")
    """The row that it became; null if none."""
    excluded: str | None
    """Why it became none; beside an `as`, why that row trains only what judges answers, and no policy."""


class FeedbackDetail(FeedbackObject):
    """A stored vote, what it was before, and what became of it."""

    history: list[Revision]
    """Newest first."""
    used_in: list[UsedIn] | None
    """The newest snapshot first: of all that were cut since the vote the first twenty and the last twenty. Null where
    this process cannot read the artifacts."""
    outcome: str | None
    """The same in words: `used in assistant@v12`, `waiting for the next round`, `not used: …`."""


class FeedbackList(_Body):
    """A page, newest first. It may hold fewer than `limit`, even none, and still have more: go on after `last_id`."""

    object: Literal["list"] = "list"
    data: list[FeedbackObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class BatchResult(_Body):
    """What came of one item: the status it would have had alone, and the vote or the error."""

    index: int
    status: int
    feedback: FeedbackObject | None = Field(default=None, exclude_if=lambda it: it is None)
    error: ErrorDetail | None = Field(default=None, exclude_if=lambda it: it is None)


class BatchResponse(_Body):
    object: Literal["feedback.batch"] = "feedback.batch"
    results: list[BatchResult]


class ConsentObject(_Body):
    """A rater's consent; `train` is null if they never said, then each request's own consent counts."""

    object: Literal["rater.consent"] = "rater.consent"
    rater: str
    train: bool | None
    created_at: datetime | None


# --- from records -------------------------------------------------------------------------------------------------


def feedback_object(view: View, caller: Caller) -> FeedbackObject:
    """The vote as it is now; a comparison's carries the reveal as soon as there is one."""
    return FeedbackObject(**_fields(view, caller))


def feedback_detail(found: Found, uses: Sequence[Use] | None, caller: Caller) -> FeedbackDetail:
    """Args: `uses`: see `Lineage.uses`."""
    view = found.view
    return FeedbackDetail(
        **_fields(view, caller),
        history=[_revision(feedback) for feedback in found.history],
        used_in=None if uses is None else [it for use in uses for it in _used_in(use)],
        outcome=None if uses is None else fate.in_words(view.feedback, uses, superseded=view.superseded),
    )


def _used_in(use: Use) -> list[UsedIn]:
    """One for each version that was trained on the snapshot, at least one."""
    names: list[str | None] = [policy_name(version) for version, _ in use.versions]
    became = {"as": use.outcome.used_as, "excluded": fate.shown(use.outcome.reason)}
    return [UsedIn(snapshot=use.snapshot, policy_version=name, **became) for name in names or [None]]


def _fields(view: View, caller: Caller) -> dict[str, Any]:
    said = view.feedback
    names = [policy_name(version) for version in said.policy_versions] if view.revealed else []
    target = TargetBody(type=said.target.type, id=said.target.id, choice_index=said.target.choice_index)
    same = said.model_dump(include={"kind", "source", *_REVISED})
    return same | {
        "id": caller.shown(said.id),
        "supersedes": None if said.supersedes is None else caller.shown(said.supersedes),
        "target": target,
        "status": view.status,
        "trainable": said.train,
        "created_at": as_time(said.created_at),
        "occurred_at": None if said.occurred_at is None else as_time(said.occurred_at),
        "policy_versions": names,
        "reveal": dict(zip(SIDES, names, strict=False)) if names and said.target.type == "comparison" else None,
    }


_REVISED = ("revision", "value", "reasons", "comment", "metadata")


def _revision(feedback: Feedback) -> Revision:
    return Revision(**feedback.model_dump(include=set(_REVISED)), created_at=as_time(feedback.created_at))


def feedback_list(page: Page, caller: Caller) -> FeedbackList:
    data = [feedback_object(view, caller) for view in page.views]
    last = None if page.last is None else caller.shown(page.last)
    return FeedbackList(data=data, first_id=data[0].id if data else None, last_id=last, has_more=page.more)


def consent_object(rater: str, event: RaterEvent | None) -> ConsentObject:
    if event is None:
        return ConsentObject(rater=rater, train=None, created_at=None)
    return ConsentObject(rater=rater, train=event.train, created_at=as_time(event.created_at))


def as_time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
