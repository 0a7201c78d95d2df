"""What `POST /v1/feedback` takes and gives. Unknown fields are errors: a typo must not lose a vote."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from core.records import Feedback, Kind, PreferenceValue, RaterKind, policy_name


def _encodable(text: str) -> str:
    """JSON can spell half a surrogate pair, which no store can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not valid Unicode") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Value = Literal[1, -1, PreferenceValue]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetBody(_Body):
    """What is voted on: `{"type": "completion", "id": "chatcmpl-41ab…", "choice_index": 0}`."""

    type: Literal["completion", "comparison"]
    id: Annotated[Text, Field(min_length=1, max_length=128)]
    choice_index: int = Field(0, ge=0, lt=1024)


class RaterBody(_Body):
    """Who votes, when it is not who chatted: `{"id": "user-7"}`, or `{"id": "judge-1", "kind": "ai"}`."""

    id: Annotated[Text, Field(min_length=1, max_length=128)]
    kind: RaterKind = "human"
    """`ai_self` is an AI that is the policy in training, or descends from it."""


class FeedbackRequest(_Body):
    """One vote: `{"target": {"type": "comparison", "id": "cmp_52ce…"}, "kind": "preference", "value": "a"}`."""

    target: TargetBody
    kind: Kind
    value: Value
    """`thumb`: 1 or -1. `preference`: `a`, `b` or `tie`."""
    rater: RaterBody | None = None
    comment: Annotated[Text, Field(max_length=4000)] | None = None


class Reveal(_Body):
    """Which policy version wrote which side."""

    a: str
    b: str


class FeedbackObject(_Body):
    """The stored vote, as the rater sees it."""

    id: str
    object: Literal["feedback"] = "feedback"
    target: TargetBody
    kind: Kind
    value: Value
    status: Literal["active", "superseded"]
    supersedes: str | None
    trainable: bool
    """Whether the text that was voted on may be trained on: its author's consent, not a promise that it will be."""
    created_at: datetime
    policy_versions: list[str]
    """From our own record of the completions: `["assistant@v3"]`; a comparison has two."""
    reveal: Reveal | None = Field(default=None, exclude_if=lambda reveal: reveal is None)


def feedback_object(feedback: Feedback, *, active: bool) -> FeedbackObject:
    """The answer to a vote; a comparison's carries the reveal."""
    names = [policy_name(version) for version in feedback.policy_versions]
    target = feedback.target
    return FeedbackObject(
        id=feedback.id,
        target=TargetBody(type=target.type, id=target.id, choice_index=target.choice_index),
        kind=feedback.kind,
        value=feedback.value,
        status="active" if active else "superseded",
        supersedes=feedback.supersedes,
        trainable=feedback.train,
        created_at=datetime.fromtimestamp(feedback.created_at, tz=UTC),
        policy_versions=names,
        reveal=Reveal(a=names[0], b=names[1]) if target.type == "comparison" else None,
    )
