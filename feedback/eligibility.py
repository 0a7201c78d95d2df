"""Which standing votes may give rows, and why the others may not. Pure.

A vote is judged together with the completions that it is about, which are large and come in chunks; what is kept of
them is only what later rules need (feedback/influence.py), so that a log of any length can be judged.
"""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from core.records import SIDES, CompletionState, Fold, Kind
from feedback.essence import AnyChoice, AnyTurn, Said, Sampled
from feedback.events import LoggedVote, RaterState, after
from feedback.rows import canonical_prompt, cluster_of, fold_of, hashed_rater

_hashed = functools.lru_cache(maxsize=100_000)(hashed_rater)
_WORDS = re.compile(r"\w+").findall
FLAGS = ("safety", "pii", "spam")
"""Values of a flag that keep a completion out of all training; `other` is for people to read."""
KINDS: tuple[Kind, ...] = ("preference", "ranking", "thumb", "rating", "correction")
"""Kinds that give rows. Comments and flags are no opinion on which answer is better."""
Unusable = Literal[
    "expired", "no_consent", "quarantined", "erased", "truncated", "flagged", "too_fast", "identical", "untrusted"
]
"""Why a vote gives no row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Freshness:
    """Which votes may still train the policy: `Freshness(versions=frozenset({2, 1}), since="1790000099-0")`."""

    versions: frozenset[int]
    """The live version and its nearest ancestors, as far back as the allowed staleness."""
    since: str
    """The last event of the live policy's snapshot: what lies before has trained the policy already."""

    def recent(self, sides: Iterable[Sampled]) -> bool:
        return {side.policy_version for side in sides} <= self.versions


@dataclass(frozen=True, kw_only=True, slots=True)
class Circumstances:
    """What a vote is judged by, besides its completions."""

    salt: bytes
    freshness: Freshness
    raters: Mapping[str, RaterState] = field(default_factory=dict)
    flagged: frozenset[str] = frozenset()
    """Completions that somebody flagged with one of `FLAGS`."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Trust of each rater."""
    unknown: float = 1.0
    """Of those who are not named, and of nobody in particular."""
    fastest_s: float = 0.0
    """A person who votes sooner after an answer began has not read it; 0 lets every vote pass. The answer's clock is
    that of the API process, the vote's is Redis's: keep it well above what they may differ by."""

    def state(self, rater: str | None) -> RaterState | None:
        """None: nothing is known of them. An erased one is known by a hash only."""
        if rater is None or not self.raters:
            return None
        return self.raters.get(_hashed(self.salt, rater)) or self.raters.get(rater)

    def hashed(self, rater: str | None) -> str:
        """As rows name them."""
        return _hashed(self.salt, rater)

    def weight(self, feedback: Said) -> float:
        return self.weights.get(feedback.rater, self.unknown) if feedback.rater is not None else self.unknown


class UsableVote(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A vote that may give rows, with what is to be known of its completions."""

    feedback: Said
    sides: tuple[str, ...]
    """Ids of the completions that give rows, in the order of the comparison's sides."""
    cluster: str
    fold: Fold
    theme: bytes
    """Prompts that differ in punctuation, case or spaces share it."""
    spelling: bytes
    """Digest of the very prompt: of the spellings in a cluster the smallest stands for it."""
    table: Literal["pairs", "rankings", "thumbs", "ratings", "demonstrations"]
    """Where its rows go, or the most telling of them."""
    answers: bytes
    """Digest of prompt and answers, whatever their order: the same thing was voted on."""
    recent: bool
    """Sampled by policies that are fresh enough."""
    trains: bool
    """May train the policy, as far as this vote alone is concerned."""

    @property
    def order(self) -> tuple[float, str]:
        """By time; the same in whatever order votes arrive."""
        return self.feedback.created_at, self.feedback.id

    @property
    def undecided(self) -> bool:
        """A comparison without any order between its sides."""
        if self.feedback.kind == "ranking":
            return len(ranked(self)) == 1
        return self.feedback.kind == "preference" and self.feedback.value == "tie"


def judge(vote: LoggedVote, records: Mapping[str, Sampled], by: Circumstances) -> UsableVote | Unusable:
    """The vote as it may be used, or the reason why it gives no row."""
    feedback = vote.feedback
    if reason := _voter(feedback, by):
        return reason
    reasons = [_side(feedback, records.get(identifier), by) for identifier in feedback.completion_ids]
    sides = [records[side] for side, found in zip(feedback.completion_ids, reasons, strict=True) if not found]
    enough = max(2, len(reasons)) if feedback.kind == "preference" else 2 if feedback.kind == "ranking" else 1
    if len(sides) < enough:  # of a ranking, the sides that are left are ranked all the same
        return next(reason for reason in reasons if reason)
    if _too_fast(feedback, sides, by.fastest_s):
        return "too_fast"
    texts = [choice.text for side in sides if (choice := choice_of(feedback, side)) is not None]
    if _identical(feedback, texts):
        return "identical"
    return _usable(vote, sides, texts, by)


def _usable(vote: LoggedVote, sides: Sequence[Sampled], texts: Sequence[str], by: Circumstances) -> UsableVote:
    messages, ids = sides[0].messages, tuple(side.id for side in sides)
    cluster = cluster_of(messages)
    fold, recent = fold_of(by.salt, cluster), by.freshness.recent(sides)
    fresh = vote.feedback.kind == "correction" or (recent and after(vote.entry, by.freshness.since))
    return UsableVote(
        feedback=vote.feedback,
        sides=ids,
        cluster=cluster,
        fold=fold,
        theme=theme_of(messages),
        spelling=spelling_of(canonical_prompt(messages)),
        table=_table(vote.feedback),
        answers=hashlib.sha256(msgspec.json.encode([cluster, sorted(texts)])).digest(),
        recent=recent,
        trains=fold == "optimize" and fresh and vote.feedback.kind != "rating",
    )


def _table(feedback: Said) -> Any:
    if feedback.kind == "preference":
        return "thumbs" if feedback.value == "both_bad" else "pairs"
    return {"ranking": "rankings", "thumb": "thumbs", "rating": "ratings"}.get(feedback.kind, "demonstrations")


def _voter(feedback: Said, by: Circumstances) -> Unusable | None:
    if reason := of_person(feedback.rater, by):
        return reason
    if not feedback.train:
        return "no_consent"
    return "untrusted" if by.weight(feedback) <= 0 else None


def of_person(rater: str | None, by: Circumstances) -> Unusable | None:
    """Why nothing of this person's is trained on, be it a vote or a conversation."""
    state = by.state(rater)
    if state is None:
        return None
    if state.erased:
        return "erased"
    if state.quarantined is not None:
        return "quarantined"
    return "no_consent" if state.train is False else None


def _side(feedback: Said, side: Sampled | None, by: Circumstances) -> Unusable | None:
    """Why a completion is not trained on; None if it may be."""
    if side is None:
        return "expired"
    if reason := of_person(side.rater, by):
        return reason
    if not (side.train and side.messages):
        return "no_consent"
    if side.id in by.flagged:
        return "flagged"
    choice = choice_of(feedback, side)
    complete = side.state is CompletionState.COMPLETE and choice is not None and choice.finish_reason == "stop"
    return None if complete else "truncated"


def _too_fast(feedback: Said, sides: Iterable[Sampled], fastest_s: float) -> bool:
    """Hired raters vote on answers that were written long ago; an AI need not read."""
    if fastest_s <= 0 or feedback.rater_kind != "human" or feedback.source == "task":
        return False
    return feedback.created_at - max(side.created for side in sides) < fastest_s


def _identical(feedback: Said, texts: Sequence[str]) -> bool:
    """Nothing is preferred to itself, and an answer that was not edited demonstrates nothing new."""
    if feedback.kind == "correction":
        return str(feedback.value).strip() == texts[0].strip()
    return len(texts) > 1 and len(set(texts)) == 1


def choice_of(feedback: Said, record: Sampled) -> AnyChoice | None:
    """The answer that was voted on; None if the engine never began it."""
    for choice in record.choices:
        if choice.index == feedback.target.choice_index:
            return choice
    return None


def ranked(usable: UsableVote) -> list[list[str]]:
    """The usable sides of a ranking in groups, best first: `[["chatcmpl-2"], ["chatcmpl-1", "chatcmpl-4"]]`."""
    feedback = usable.feedback
    assert isinstance(feedback.value, list), "see feedback/events.py"
    named = dict(zip(SIDES, feedback.completion_ids, strict=False))
    groups = ([named[side] for side in group if named[side] in usable.sides] for group in feedback.value)
    return [group for group in groups if group]


def theme_of(messages: Iterable[AnyTurn]) -> bytes:
    """What near-duplicate prompts have in common: the words of all turns in their order, folded, hashed.

    A paraphrase is another theme. What has no words at all is a theme of its own spelling.
    """
    turns = [unicodedata.normalize("NFKC", message.content).casefold() for message in messages]
    words = [_WORDS(turn) for turn in turns]
    if not any(words):
        return hashlib.sha256(msgspec.json.encode(turns)).digest()
    return _digest("\n".join(" ".join(turn) for turn in words))  # no word holds either, so no two are the same


def spelling_of(prompt: str) -> bytes:
    """Digest of a prompt as `VoteRow.prompt` holds it."""
    return _digest(prompt)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
