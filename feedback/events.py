"""The rules of votes, pure: which kind fits which target, when two votes are the same, which votes stand."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from core.errors import InvalidRequest
from core.records import Feedback, Kind, Message, RaterKind, Target
from feedback.schemas import Value

_KIND_OF = {"completion": "thumb", "comparison": "preference"}
_VALUES: dict[Kind, tuple[Value, ...]] = {"thumb": (1, -1), "preference": ("a", "b", "tie")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ballot:
    """A vote before it is stored: what the client says. All else is added from our own records."""

    id: str
    """Minted here, for this request; the vote's id if it is stored."""
    target: Target
    kind: Kind
    value: Value
    rater: str | None
    comment: str | None
    rater_kind: RaterKind = "human"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedVote:
    """One entry of the feedback stream: its position in the log (`1790000003200-0`) and the event."""

    entry: str
    feedback: Feedback


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedPrompt:
    """One entry of the prompt stream: a prompt of consented traffic."""

    messages: list[Message]
    prompt_token_ids: list[int]


def check(ballot: Ballot) -> None:
    """Raises:
    InvalidRequest: the kind does not fit the target, or the value does not fit the kind.
    """
    target, kind = ballot.target, ballot.kind
    expected = _KIND_OF[target.type]
    if kind != expected:
        raise InvalidRequest(f"A {target.type} takes kind {expected!r}, not {kind!r}.", param="kind")
    allowed = _VALUES[kind]
    if ballot.value not in allowed:
        choices = ", ".join(json.dumps(value) for value in allowed)
        raise InvalidRequest(f"The value of a {kind} is one of {choices}.", param="value")
    if target.type == "comparison" and target.choice_index != 0:
        raise InvalidRequest("A comparison has no choices to index.", param="target.choice_index")


def digest(ballot: Ballot) -> str:
    """Says whether two requests under one `Idempotency-Key` are the same; the minted id is not part of it."""
    target = ballot.target
    said = [target.type, target.id, target.choice_index, ballot.kind, ballot.value, ballot.rater, ballot.comment]
    said += [ballot.rater_kind] if ballot.rater_kind != "human" else []  # digests from before there were other raters
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def after(entry: str, boundary: str) -> bool:
    """Whether a stream position lies behind another: `after("1790-10", "1790-9")` is true."""
    return _position(entry) > _position(boundary)


def _position(entry: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)


def standing(votes: Iterable[LoggedVote]) -> tuple[list[LoggedVote], int]:
    """The votes that no other vote supersedes, in the order of the log, and how many were superseded.

    A fold over a set: the order in which events arrive, and events that arrive twice, change nothing.
    """
    by_id = {vote.feedback.id: vote for vote in sorted(votes, key=lambda vote: _position(vote.entry), reverse=True)}
    superseded = {vote.feedback.supersedes for vote in by_id.values()}
    active = [vote for identifier, vote in by_id.items() if identifier not in superseded]
    return sorted(active, key=lambda vote: _position(vote.entry)), len(by_id) - len(active)
