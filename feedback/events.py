"""The rules of feedback, pure: what may be said of what, when two votes are the same, and what stands of a log.

State is a fold of events. The log is never edited, so whoever folds it, in whatever order and however often an event
comes up in it, finds the same votes standing.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import msgspec

from core.errors import AlreadyDecided, InvalidRequest
from core.records import (
    SIDES,
    Feedback,
    FlagValue,
    Kind,
    Message,
    PreferenceValue,
    RaterEvent,
    RaterKind,
    Source,
    Target,
    Value,
)
from feedback.essence import Said

MAX_COMMENT = 4000
MAX_REASONS, MAX_REASON = 16, 64
MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE = 16, 64, 512
CLOCK_SKEW_S = 60.0
"""How far a client's clock may be ahead of ours."""
DECIDING: tuple[Kind, ...] = ("preference", "ranking")
"""Kinds that decide a comparison: they reveal its policies, so that they cannot be changed afterwards."""

TAKES: dict[str, tuple[Kind, ...]] = {
    "completion": ("thumb", "rating", "correction", "comment", "flag"),
    "comparison": ("preference", "ranking", "comment", "flag"),
}
"""The kinds that each type of target takes."""
_VALUES: dict[Kind, tuple[Value, ...]] = {
    "thumb": (1, -1),
    "rating": (1, 2, 3, 4, 5),
    "preference": get_args(PreferenceValue),
    "flag": get_args(FlagValue),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ballot:
    """A vote before it is stored: what the client says. All else is added from our own records."""

    id: str
    """The vote's id if it is stored: the client's own choice, or minted here for this request."""
    own_id: bool = False
    """The client chose the id; then it is an idempotency key as well."""
    target: Target
    kind: Kind
    value: Value
    reasons: tuple[str, ...] = ()
    comment: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    """Sorted by key."""
    rater: str | None = None
    rater_kind: RaterKind = "human"
    source: Source = "api"
    occurred_at: float | None = None
    on_own: bool = False
    """The rater may vote only on answers that they asked for themselves: a visitor of the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What a revision replaces; None leaves a field as it is. `clear_comment` takes the comment away."""

    value: Value | None = None
    reasons: tuple[str, ...] | None = None
    comment: str | None = None
    clear_comment: bool = False
    metadata: tuple[tuple[str, str], ...] | None = None


class LoggedVote(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One Feedback event of the log and its position there (`1790000003200-0`)."""

    entry: str
    feedback: Said


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedRater:
    """One RaterEvent of the log and its position there."""

    entry: str
    event: RaterEvent


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedPrompt:
    """One entry of the prompt stream: a prompt of consented traffic."""

    messages: list[Message]
    prompt_token_ids: list[int]
    rater: str | None = None
    """Whose chat it was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterState:
    """What all events about one rater come to: `RaterState(train=False, quarantined="anomaly: p = 0.0004")`."""

    train: bool | None = None
    """The newest consent; None if they never said."""
    quarantined: str | None = None
    """Why their votes are set aside; None while they count. May be empty: compare with None."""
    erased: bool = False
    """For good: who votes again after an erasure is somebody else to us only under another id."""


# --- what may be said ---------------------------------------------------------------------------------------------


def check(ballot: Ballot, *, now: float) -> None:
    """Whether the ballot can be right at all; what depends on the target's record, the vote script decides.

    Raises:
        InvalidRequest: the kind does not fit the target, the value the kind, or a field is over its limit; `param`
            names the field.
    """
    check_kind(ballot.target.type, ballot.kind, param="kind")
    if ballot.target.type == "comparison" and ballot.target.choice_index != 0:
        raise _wrong("target.choice_index", "A comparison has no choices to index.")
    check_value(ballot.kind, ballot.value)
    check_extras(ballot.reasons, ballot.comment, ballot.metadata)
    if ballot.occurred_at is not None and not 0 <= ballot.occurred_at <= now + CLOCK_SKEW_S:
        raise _wrong("occurred_at", "It lies in the future, or before 1970.")


def check_kind(target: Literal["completion", "comparison"], kind: Kind, *, param: str) -> None:
    """Raises InvalidRequest: the kind does not fit this type of target."""
    if kind not in TAKES[target]:
        raise _wrong(param, f"A {target} takes {', '.join(TAKES[target])}; not {kind}.")


def check_value(kind: Kind, value: Value) -> None:
    """Raises InvalidRequest: the value does not fit the kind."""
    if kind in _VALUES:
        if value not in _VALUES[kind]:
            raise _wrong("value", f"The value of a {kind} is one of {', '.join(map(json.dumps, _VALUES[kind]))}.")
    elif kind == "ranking":
        if not _is_ranking(value):
            example = '[["b"], ["a", "c"]]'
            raise _wrong("value", f"A ranking groups all of three to nine sides, best first, each once: {example}.")
    elif not isinstance(value, str) or not value.strip():
        raise _wrong("value", f"The value of a {kind} is a text that is not empty.")
    elif kind == "comment" and len(value) > MAX_COMMENT:
        raise _wrong("value", f"A comment has at most {MAX_COMMENT} characters.")


def check_extras(reasons: tuple[str, ...], comment: str | None, metadata: tuple[tuple[str, str], ...]) -> None:
    """Raises InvalidRequest: reasons, comment or metadata are over their limits."""
    if len(reasons) > MAX_REASONS or not all(1 <= len(reason) <= MAX_REASON for reason in reasons):
        raise _wrong("reasons", f"At most {MAX_REASONS} tags of 1 to {MAX_REASON} characters.")
    if comment is not None and len(comment) > MAX_COMMENT:
        raise _wrong("comment", f"At most {MAX_COMMENT} characters.")
    fits = all(len(key) <= MAX_METADATA_KEY and len(value) <= MAX_METADATA_VALUE for key, value in metadata)
    if len(metadata) > MAX_METADATA or not fits:
        limits = f"keys of {MAX_METADATA_KEY} and values of {MAX_METADATA_VALUE} characters"
        raise _wrong("metadata", f"At most {MAX_METADATA} pairs, {limits}.")


def ranked_sides(value: Value) -> int:
    """How many sides a ranking places: `ranked_sides([["b"], ["a", "c"]]) == 3`; 0 for any other value."""
    return sum(len(group) for group in value) if isinstance(value, list) else 0


def _is_ranking(value: Value) -> bool:
    """Groups that are not empty, of the first three or more sides, each exactly once."""
    if not isinstance(value, list) or not all(value):
        return False
    return ranked_sides(value) > 2 and sorted(side for group in value for side in group) == list(
        SIDES[: ranked_sides(value)]
    )


def _wrong(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=param)


def digest(ballot: Ballot) -> str:
    """Says whether two requests under one idempotency key are the same; a minted id is not part of it."""
    said = replace(ballot, id=ballot.id if ballot.own_id else "")
    fields = [getattr(said, name) for name in said.__slots__ if name not in ("target", "on_own")]
    return hashlib.sha256(json.dumps([said.target.model_dump(), *fields]).encode()).hexdigest()


# --- what changes -------------------------------------------------------------------------------------------------


def revised(feedback: Feedback, change: Change, *, superseded: bool) -> Feedback | None:
    """The next revision, but for its `created_at`; None if the change says nothing new.

    Raises:
        AlreadyDecided: the vote was withdrawn or superseded, or decides a comparison and would get another value.
        InvalidRequest: the new value does not fit, or a field is over its limit.
    """
    if feedback.withdrawn or superseded:
        code = "withdrawn" if feedback.withdrawn else "superseded"
        raise AlreadyDecided(f"This feedback was {code}; give a new one instead.", code=f"feedback_{code}")
    given: dict[str, Any] = {
        "value": change.value,
        "reasons": None if change.reasons is None else list(change.reasons),
        "comment": change.comment,
        "metadata": None if change.metadata is None else dict(change.metadata),
    }
    update = {name: value for name, value in given.items() if value is not None}
    if change.clear_comment:
        update["comment"] = None
    new = feedback.model_copy(update=update)
    check_value(new.kind, new.value)
    check_extras(tuple(new.reasons), new.comment, tuple(new.metadata.items()))
    if new.kind in DECIDING and new.value != feedback.value:
        message = "This vote decided its comparison, so its value cannot change; DELETE takes the whole vote back."
        raise AlreadyDecided(message, code="already_revealed")
    return None if new == feedback else new.model_copy(update={"revision": feedback.revision + 1})


def withdrawn(feedback: Feedback) -> Feedback | None:
    """The revision that takes everything back, but for its `created_at`; None if that was done before."""
    update = {"revision": feedback.revision + 1, "withdrawn": True}
    return None if feedback.withdrawn else feedback.model_copy(update=update)


# --- what stands --------------------------------------------------------------------------------------------------


def after(entry: str, boundary: str) -> bool:
    """Whether a log position lies behind another: `after("1790-10", "1790-9")` is true."""
    return position(entry) > position(boundary)


def position(entry: str) -> tuple[int, int]:
    """A log position as numbers, which compare as the log is ordered."""
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)


def standing(votes: Iterable[LoggedVote]) -> tuple[list[LoggedVote], int]:
    """The newest revision of each vote that nobody withdrew and no other vote superseded, in the order of the log;
    and how many votes were superseded.

    A superseded vote stays so even if the later one is withdrawn: who changed their mind and then took it back has
    nothing standing.
    """
    newest: dict[str, LoggedVote] = {}
    superseded: set[str] = set()
    for vote in sorted(votes, key=lambda vote: position(vote.entry)):
        held = newest.get(vote.feedback.id)
        if held is None or vote.feedback.revision > held.feedback.revision:
            newest.pop(vote.feedback.id, None)  # so that the order is the log's
            newest[vote.feedback.id] = vote
        if vote.feedback.supersedes is not None:
            superseded.add(vote.feedback.supersedes)
    active = [vote for id_, vote in newest.items() if id_ not in superseded and not vote.feedback.withdrawn]
    return active, len(superseded & newest.keys())


def up_to(votes: Iterable[LoggedVote], boundary: str) -> list[LoggedVote]:
    """The votes that were given up to a position of the log, but for those that were superseded later; with their
    later revisions, so that what was withdrawn stays so."""
    every = list(votes)
    given = {vote.feedback.id for vote in every if not after(vote.entry, boundary)}
    gone = {vote.feedback.supersedes for vote in every if vote.feedback.id not in given}
    return [vote for vote in every if vote.feedback.id in given - gone]


def rater_states(events: Iterable[LoggedRater]) -> dict[str, RaterState]:
    """Of each rater with events: the newest consent, quarantined or not, erased or not. The erased go by their hash."""
    states: dict[str, RaterState] = {}
    for logged in sorted(events, key=lambda logged: position(logged.entry)):
        event = logged.event
        states[event.rater] = _next(states.get(event.rater, RaterState()), event)
    return states


def _next(state: RaterState, event: RaterEvent) -> RaterState:
    match event.action:
        case "consent":
            return replace(state, train=event.train)
        case "quarantine":
            return replace(state, quarantined=event.reason)
        case "restore":
            return replace(state, quarantined=None)
        case "erase":
            return replace(state, erased=True)
