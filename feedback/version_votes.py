"""Votes of the log between two policy versions, and what each weighs. Pure but for `read`.

A version vote is a person's standing choice between answers of different versions; a ranking is one for every two of
its sides, which together weigh as much as one vote. Left out are AI raters, whom no board counts, and raters in
quarantine. Consent is not asked: nothing is trained here.

What a vote weighs: the inverse of the probability with which its comparison was asked for, so that pairs that were
asked more often because much was to be learned from them do not speak louder (Horvitz and Thompson 1952). Comparisons
drawn at random, of a release, chosen actively and requested by name are kinds of draws whose probabilities mean
different things, so the weights of each kind are scaled to a mean of 1; none is above `LARGEST`, which costs a little
bias and bounds what one vote can do. A rater with very many votes weighs as snapshots would let them
(feedback/influence.py).
"""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import redis
from numpy.typing import NDArray

from core.records import SIDES, Asked
from feedback import events, store
from feedback import log as one_log
from feedback.archive import Archive
from feedback.bradley_terry import Votes
from feedback.eligibility import choice_of
from feedback.essence import ComparisonEssence, Said, Sampled
from feedback.events import LoggedRater, LoggedVote, rater_states
from feedback.influence import Caps, limit

LARGEST = 10.0
"""Weight of a vote, in means of its kind of draw."""
MOST_VOTES = 100_000
"""Newest votes that are looked at."""
_CAPS = Caps()
LeftOut = Literal["ai", "quarantined", "expired", "same_version"]
Tokens = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionVote:
    """One choice between answers of two versions.

    Example:
        VersionVote(first=2, second=0, won=1.0, share=1.0, tokens=(31, 12), asked="random", propensity=0.05,
            rater="user-7", vote="fb_9f86…")
    """

    first: int
    second: int
    """Policy versions."""
    won: float
    """1 if the first was preferred, 0 if the second, ½ for a tie or if both were bad."""
    share: float = 1.0
    """Of a vote: a ranking of K sides gives K·(K − 1)/2 version votes."""
    tokens: Tokens | None = None
    """Of both answers; None where their text was not kept."""
    asked: Asked = "random"
    propensity: float = 1.0
    rater: str | None = None
    vote: str
    """Its id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighed:
    """Version votes as arrays."""

    votes: Votes
    versions: list[int]
    """Version of each place in `votes`, rising."""
    raters: int
    """With an id."""
    by_rater: bool
    """Whether `votes.unit` are raters. Where they are few, a rater is not drawn from many: each vote is a unit."""
    clipped: int
    """Version votes that would weigh more than `LARGEST`."""
    effective: float
    """(Σ weight)² / Σ weight²: so many equal votes would know as much."""


def read(client: redis.Redis, archive: Archive) -> tuple[list[VersionVote], Counter[LeftOut]]:
    """The version votes of the newest votes between answers, and how many of those votes are none.

    Raises:
        UsageError: Redis gave up entries that `archive` does not hold, or a part of it is damaged.
    """
    votes, raters = store.log(client, archive)
    decided = [vote for vote in events.standing(votes)[0] if vote.feedback.kind in events.DECIDING][-MOST_VOTES:]
    del votes
    found: list[VersionVote] = []
    left_out: Counter[LeftOut] = Counter()
    for chunk in one_log.batches(decided):
        sides = {side for vote in chunk for side in vote.feedback.completion_ids}
        asked = {vote.feedback.target.id for vote in chunk}
        answers, comparisons = store.completions(client, sides, archive), store.comparisons(client, asked, archive)
        some, without = version_votes(chunk, raters, answers, comparisons)
        found += some
        left_out += without
    return found, left_out


def version_votes(
    votes: Sequence[LoggedVote],
    raters: Sequence[LoggedRater],
    answers: Mapping[str, Sampled],
    comparisons: Mapping[str, ComparisonEssence],
) -> tuple[list[VersionVote], Counter[LeftOut]]:
    """What standing preferences and rankings say of policy versions.

    Args:
        raters: every event of the log that concerns them.
        answers, comparisons: their records, by id, as far as they are kept.
    """
    states = rater_states(raters)
    aside = {name for name, state in states.items() if state.quarantined is not None}
    found: list[VersionVote] = []
    left_out: Counter[LeftOut] = Counter()
    for vote in votes:
        feedback = vote.feedback
        if feedback.rater_kind != "human":
            left_out["ai"] += 1
        elif feedback.rater in aside:
            left_out["quarantined"] += 1
        elif not _is_kept(feedback, answers, comparisons):
            left_out["expired"] += 1
        elif some := list(_of_vote(feedback, answers, comparisons[feedback.target.id])):
            found += some
        else:
            left_out["same_version"] += 1
    return found, left_out


def _is_kept(feedback: Said, answers: Mapping[str, Sampled], comparisons: Mapping[str, ComparisonEssence]) -> bool:
    return feedback.target.id in comparisons and all(side in answers for side in feedback.completion_ids)


def _of_vote(feedback: Said, answers: Mapping[str, Sampled], comparison: ComparisonEssence) -> Iterator[VersionVote]:
    sides = [answers[side] for side in feedback.completion_ids]
    ranks = _ranks(feedback)
    share = 1 / math.comb(len(sides), 2)
    for one, two in itertools.combinations(range(len(sides)), 2):
        if sides[one].policy_version != sides[two].policy_version:
            yield VersionVote(
                first=sides[one].policy_version,
                second=sides[two].policy_version,
                won=0.5 + 0.5 * ((ranks[one] < ranks[two]) - (ranks[one] > ranks[two])),
                share=share,
                tokens=_tokens(feedback, sides[one], sides[two]),
                asked=comparison.asked,
                propensity=comparison.propensity,
                rater=feedback.rater,
                vote=feedback.id,
            )


def _ranks(feedback: Said) -> list[int]:
    """Of each side: lower is better."""
    value = feedback.value
    if isinstance(value, list):
        place = {side: rank for rank, group in enumerate(value) for side in group}
        return [place[side] for side, _ in zip(SIDES, feedback.completion_ids, strict=False)]
    return [0, 1] if value == "a" else [1, 0] if value == "b" else [0, 0]


def _tokens(feedback: Said, one: Sampled, other: Sampled) -> Tokens | None:
    counts = [len(choice.token_ids) for side in (one, other) if (choice := choice_of(feedback, side)) is not None]
    return (counts[0], counts[1]) if len(counts) == 2 and min(counts) > 0 else None


# --- weights ----------------------------------------------------------------------------------------------------------


def weigh(found: Sequence[VersionVote]) -> Weighed:
    """Version votes as arrays, with their weights. An answer whose length is not known counts as long as the other."""
    versions = sorted({version for each in found for version in (each.first, each.second)})
    place = {version: number for number, version in enumerate(versions)}
    raters = {each.rater for each in found if each.rater is not None}
    by_rater = len(raters) >= _CAPS.from_raters
    inverse, clipped = _inverse(found)
    weight = inverse * np.array([each.share for each in found]) * (_bounded(found) if by_rater else 1.0)
    return Weighed(
        votes=Votes(
            first=np.array([place[each.first] for each in found], dtype=np.int64),
            second=np.array([place[each.second] for each in found], dtype=np.int64),
            won=np.array([each.won for each in found], dtype=np.float64),
            weight=weight,
            longer=np.array([math.log(each.tokens[0] / each.tokens[1]) if each.tokens else 0.0 for each in found]),
            unit=_units(found, by_rater=by_rater),
        ),
        versions=versions,
        raters=len(raters),
        by_rater=by_rater,
        clipped=clipped,
        effective=float(weight.sum() ** 2 / (weight**2).sum()) if len(found) else 0.0,
    )


def _inverse(found: Sequence[VersionVote]) -> tuple[NDArray[np.float64], int]:
    """(N,): 1 / propensity, with mean 1 among the draws of a kind, and cut; how many were."""
    weight = np.array([1 / each.propensity for each in found], dtype=np.float64)
    asked = np.array([each.asked for each in found])
    for kind in set(asked.tolist()):
        of_kind = asked == kind
        weight[of_kind] /= weight[of_kind].mean()
    return np.minimum(weight, LARGEST), int((weight > LARGEST).sum())


def _bounded(found: Sequence[VersionVote]) -> NDArray[np.float64]:
    """(N,): below 1 for those who have more votes than a rater's share."""
    counts: Counter[str] = Counter()
    for each in found:
        if each.rater is not None:
            counts[each.rater] += 1
    most = limit(counts.values(), share=_CAPS.rater_share, floor=_CAPS.rater_floor)
    if most is None:
        return np.ones(len(found))
    return np.array([min(1.0, most / counts[each.rater]) if each.rater is not None else 1.0 for each in found])


def _units(found: Sequence[VersionVote], *, by_rater: bool) -> NDArray[np.int64]:
    """(N,): a number for each rater, or for each vote; for each vote of nobody in particular in any case."""
    numbers: defaultdict[tuple[str, str], int] = defaultdict(itertools.count().__next__)
    names = [("rater", each.rater) if by_rater and each.rater is not None else ("vote", each.vote) for each in found]
    return np.array([numbers[name] for name in names], dtype=np.int64)
