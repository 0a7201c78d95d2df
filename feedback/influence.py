"""How much one rater, one prompt and all AIs together may have of a snapshot. Pure.

Votes write the weights of a model, so that what anybody can do by voting more must be bounded where the votes are
counted. Which votes are dropped is a function of the votes: the order in which they arrived changes nothing.
"""

import hashlib
import hmac
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import msgspec

from feedback.eligibility import UsableVote

Crowded = Literal["duplicate", "theme_share", "rater_share", "ai_fold", "ai_share"]
"""Why a vote gives no row, beside those that are left."""
Withheld = Literal["tie", "stale", "paired", "ai_policy_share"]
"""Why its rows may not train the policy."""
Dropped = dict[str, Crowded]
"""By feedback id."""
_AI_POLICY_SHARE: Withheld = "ai_policy_share"
InForce = dict[str, float]
"""Caps for the manifest: `{"rater_share": 0.01, "rater_votes": 52}`; the share is missing where there is no cap, the
number of votes where nobody has more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caps:
    """Bounds on votes, of which each counts once, whatever rows it gives. The defaults suit a public service."""

    rater_share: float = 0.005
    """Most of all people's votes that one of them may have; where there are too few raters for that, twice an even
    share."""
    rater_floor: int = 20
    """So many votes of a rater are kept in any case: about what one person does in one sitting."""
    from_raters: int = 20
    """With fewer raters none is capped: at home one rater is all there is."""
    theme_share: float = 0.01
    """The same of prompts that are nearly equal (`eligibility.theme_of`): a policy should not be made of its answers
    to one prompt. Twice a rater's, because a popular question is no attack."""
    theme_floor: int = 50
    ai_share: float = 0.3
    """Most that AI raters may have of the optimize fold's votes of a kind, and of those that train the policy. They
    have none in the other folds: what decides about a policy comes from people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounded:
    """What is left, and what was not."""

    votes: list[UsableVote]
    """In the order of time."""
    dropped: Dropped
    """Without a row."""
    withheld: dict[str, Withheld]
    """With a row that may not train the policy."""
    caps: InForce


def bound(votes: Iterable[UsableVote], caps: Caps, *, salt: bytes) -> Bounded:
    """Applies all bounds: duplicates, prompts, people, AIs; each sees what the one before has left.

    Args:
        salt: of the deployment; who could guess it could choose ids that are kept.
    """
    dropped: Dropped = {}
    kept = _once(sorted(votes, key=lambda vote: vote.order), dropped)
    kept, theme_caps = _spread(kept, caps, dropped, salt=salt)
    kept, rater_caps = _rater_share(kept, caps, dropped)
    kept = _ai_share(kept, caps, dropped)
    kept, withheld = _policy(kept, caps)
    in_force = theme_caps | rater_caps | {"ai_share": caps.ai_share}
    return Bounded(votes=kept, dropped=dropped, withheld=withheld, caps=in_force)


def attainable(share: float, among: int) -> float:
    """The share, or twice an even one where that is more: nobody is cut who has no more than twice the mean."""
    return max(share, 2 / among) if among else 1.0


def limit(counts: Iterable[int], *, share: float, floor: int) -> int | None:
    """The most votes that one may keep so that nobody has more than `attainable(share)` of what all keep; None if
    nobody has.

    Counted on what is left, not on what was given, so that votes of one's own do not buy room for more.

    Example: `limit([10] * 99 + [500], share=0.05, floor=0) == 52`, and 52 is 0.05 of 99 × 10 + 52.
    """
    ordered = sorted(counts)
    if not ordered:
        return None
    share = attainable(share, len(ordered))
    sums = [0, *accumulate(ordered)]

    def fits(votes: int) -> bool:
        """Whether all keep so many that this one's are no more than the share; true up to some number, then false."""
        below = bisect_left(ordered, votes)
        return votes <= share * (sums[below] + votes * (len(ordered) - below)) + 1e-9

    low, high = 1, ordered[-1]
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    most = max(low, floor)
    return most if most < ordered[-1] else None


def _once(votes: Sequence[UsableVote], dropped: Dropped) -> list[UsableVote]:
    """Of a rater's votes on the same answers the newest; nobody in particular may be many."""
    newest = {_said(vote): vote for vote in votes}
    if len(newest) == len(votes):
        return list(votes)
    return _kept(votes, lambda vote: newest[_said(vote)] is vote, "duplicate", dropped)


def _said(vote: UsableVote) -> Hashable:
    feedback = vote.feedback
    if feedback.rater is None:
        return feedback.id
    return feedback.rater, feedback.rater_kind, feedback.kind, vote.answers


def _spread(
    votes: Sequence[UsableVote], caps: Caps, dropped: Dropped, *, salt: bytes
) -> tuple[list[UsableVote], InForce]:
    """Caps each theme. Everybody's first vote on it goes before anybody's second: nobody crowds others out."""
    counts = Counter(vote.theme for vote in votes)
    most = limit(counts.values(), share=caps.theme_share, floor=caps.theme_floor)
    in_force = {"theme_share": attainable(caps.theme_share, len(counts))}
    if most is None:
        return list(votes), in_force
    themes: defaultdict[bytes, list[tuple[int, bytes, UsableVote]]] = defaultdict(list)
    turns: Counter[Hashable] = Counter()
    for vote in votes:
        if counts[vote.theme] > most:
            feedback = vote.feedback
            rater = (vote.theme, feedback.rater_kind, feedback.rater)
            lot = hmac.new(salt, f"lot:{feedback.id}".encode(), hashlib.sha256).digest()
            themes[vote.theme].append((turns[rater] if feedback.rater is not None else 0, lot, vote))
            turns[rater] += 1
    over = {vote.feedback.id for queue in themes.values() for _, _, vote in sorted(queue, key=lambda it: it[:2])[most:]}
    return _kept(votes, lambda vote: vote.feedback.id not in over, "theme_share", dropped), in_force | {
        "theme_votes": most
    }


def _rater_share(votes: Sequence[UsableVote], caps: Caps, dropped: Dropped) -> tuple[list[UsableVote], InForce]:
    """Of each person who has too many the newest votes. Who gives no id cannot be capped."""
    own: defaultdict[str, list[UsableVote]] = defaultdict(list)
    for vote in votes:
        if vote.feedback.rater_kind == "human" and vote.feedback.rater is not None:
            own[vote.feedback.rater].append(vote)
    if len(own) < caps.from_raters:
        return list(votes), {}
    most = limit(map(len, own.values()), share=caps.rater_share, floor=caps.rater_floor)
    in_force = {"rater_share": attainable(caps.rater_share, len(own))}
    if most is None:
        return list(votes), in_force
    over = {vote.feedback.id for theirs in own.values() for vote in theirs[: max(0, len(theirs) - most)]}
    return _kept(votes, lambda vote: vote.feedback.id not in over, "rater_share", dropped), in_force | {
        "rater_votes": most
    }


def _ai_share(votes: Sequence[UsableVote], caps: Caps, dropped: Dropped) -> list[UsableVote]:
    if all(map(_person, votes)):
        return list(votes)
    learnt = _kept(votes, lambda vote: _person(vote) or vote.fold == "optimize", "ai_fold", dropped)
    over = _excess([vote for vote in learnt if vote.fold == "optimize"], caps)
    return _kept(learnt, lambda vote: vote.feedback.id not in over, "ai_share", dropped)


def _policy(votes: Sequence[UsableVote], caps: Caps) -> tuple[list[UsableVote], dict[str, Withheld]]:
    """Which of them may train the policy; the others keep their rows for the reward model."""
    paired = {side for vote in votes if vote.table in ("pairs", "rankings") for side in vote.sides}
    withheld = {vote.feedback.id: reason for vote in votes if (reason := _unfit(vote, paired))}
    if not all(map(_person, votes)):
        over = _excess([vote for vote in votes if vote.trains and vote.feedback.id not in withheld], caps)
        withheld |= dict.fromkeys(over, _AI_POLICY_SHARE)
    return [
        msgspec.structs.replace(vote, trains=False) if vote.feedback.id in withheld else vote for vote in votes
    ], withheld


def _unfit(vote: UsableVote, paired: set[str]) -> Withheld | None:
    if vote.feedback.kind in ("rating", "correction"):
        return None
    if vote.undecided:
        return "tie"
    if vote.table == "thumbs" and not paired.isdisjoint(vote.sides):
        return "paired"
    return None if vote.recent else "stale"


def _excess(votes: Iterable[UsableVote], caps: Caps) -> set[str]:
    """Ids of AI votes beyond their share in each table, the oldest ones."""
    tables: defaultdict[str, list[UsableVote]] = defaultdict(list)
    for vote in votes:
        tables[vote.table].append(vote)
    over: set[str] = set()
    for table in tables.values():
        machine = [vote.feedback.id for vote in table if not _person(vote)]
        people = len(table) - len(machine)
        most = int(people * caps.ai_share / (1 - caps.ai_share) + 1e-9)
        over.update(machine[: max(0, len(machine) - most)])
    return over


def _person(vote: UsableVote) -> bool:
    return vote.feedback.rater_kind == "human"


def _kept(
    votes: Iterable[UsableVote], keep: Callable[[UsableVote], bool], reason: Crowded, dropped: Dropped
) -> list[UsableVote]:
    kept = []
    for vote in votes:
        if keep(vote):
            kept.append(vote)
        else:
            dropped[vote.feedback.id] = reason
    return kept
