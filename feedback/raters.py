"""How far each rater can be trusted: reliability, weight in training, quarantine with a reason. Pure.

Three sources say how an honest rater would have voted: a gold question, other raters on the same item, and a reward
model that never saw this rater's votes. In a service most items have one vote, so the last one carries the weight.

A rater is quarantined by either of two tests (feedback/habits.py). The first looks after every vote and reaches its
bound for an honest rater with probability `ALONE` at most, however often one looks; honest is whoever prefers what
others prefer at least half as clearly as they do. The second finds habits that many ids share; it quarantines who has
one with 90 % probability, and finds a habit that nobody has with probability `TOGETHER` at most. Both hold as far as
the expected probabilities are calibrated; a simulation in tests/feedback/test_raters.py holds honest raters to 5 %.

Evidence comes from votes between two values: preferences of a side, and thumbs. Ties, ratings and rankings count for
agreement only; a caller may hand in a ranking as its strict pairs.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.records import Kind
from feedback.agreement import Share, krippendorff_alpha, probability, share
from feedback.habits import Evidence, Group, Votes, evidence, group, habits
from feedback.opinions import Opinion, choice, expectations, kept, votes_of

ALONE = 0.02
"""Most honest raters whom the test of one rater ever quarantines."""
TOGETHER = 0.01
"""Probability with which the test of groups finds one where there is none."""
MEMBER = 0.9
"""Who has a group's habit with this probability is quarantined; others weigh less."""
_GRID = np.linspace(-1.0, 1.1, 43)
_PRIOR = np.exp(-0.5 * ((_GRID - 1) / 0.4) ** 2)
UNKNOWN = float(_PRIOR @ _GRID / _PRIOR.sum())
"""Weight of a rater of whom nothing is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """How clearly a rater prefers what is expected: 1 as the usual rater, 0 a coin, below 0 the opposite."""

    mean: float
    low: float
    high: float
    """95 % credible interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterTrust:
    """One rater.

    Example:
        RaterTrust(rater="user-7", votes=41, judged=38, reliability=Reliability(mean=0.1, low=-0.4, high=0.5),
            weight=0.0, quarantined=True, reason="first side: 38 of 38 votes tested, e = 2.1e+06")
    """

    rater: str
    votes: int
    judged: int
    """Votes for which something is known about what an honest rater would have said."""
    reliability: Reliability
    weight: float
    """Of the rater's training rows, 0 to 1."""
    quarantined: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Collusion:
    """A habit that several ids share: `Collusion(habit="policy v3", raters=["user-7", …], log10_e=9.1)`."""

    habit: str
    raters: list[str]
    log10_e: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """What a log of votes says about those who cast them."""

    raters: dict[str, RaterTrust]
    collusions: list[Collusion]
    alpha_nominal: float | None
    """Krippendorff's, of preferences and thumbs on items with several votes."""
    alpha_ordinal: float | None
    """The same of ratings."""
    first: Share | None
    """How often people prefer the side that was shown first: ½ without position bias."""
    longer: Share | None
    """How often they prefer the longer answer."""
    longer_expected: float | None
    """How often they would by what the answers say, where a reward model knows; more is length bias."""

    def weight(self, rater: str) -> float:
        return self.raters[rater].weight if rater in self.raters else 1.0


def trust(opinions: Iterable[Opinion]) -> Trust:
    """Judges all raters; the order of the opinions does not matter, their times do."""
    given = sorted(opinions, key=lambda each: (each.time, each.rater, each.item, each.kind))
    decided = [each for each in given if choice(each) is not None]
    names = sorted({each.rater for each in given})
    number = {name: place for place, name in enumerate(names)}
    honest, known = expectations(decided)
    votes = votes_of(decided, honest, number)
    tested = habits(votes)
    alone = evidence(votes, tested)
    groups = [group(votes, habit) for habit in tested]
    reliabilities = _reliabilities(votes, known, len(names))
    totals, judged = _counts(given, number), np.bincount(votes.rater[known], minlength=len(names))
    raters = {
        name: _judgement(name, number[name], alone, groups, reliabilities[number[name]], totals, judged)
        for name in names
    }
    return _report(given, decided, honest, known, raters, _collusions(groups, names))


# --- judgements -------------------------------------------------------------------------------------------------------


def _judgement(
    name: str,
    at: int,
    alone: Evidence,
    groups: Sequence[Group],
    reliability: Reliability,
    totals: NDArray[np.int64],
    judged: NDArray[np.int64],
) -> RaterTrust:
    prior = math.log(2 * len(groups))  # one habit in all, with probability one half
    suspicion = max((probability(each.log_e - prior) * each.members[at] for each in groups), default=0.0)
    reason = ""
    if alone.log_e[at] >= math.log(1 / ALONE):
        reason = f"{alone.habit[at]}: e = {math.exp(min(alone.log_e[at], 700)):.2g} after {alone.votes[at]} votes"
    shared = [each for each in groups if _established(each, len(groups)) and each.members[at] >= MEMBER]
    if not reason and shared:
        first = max(shared, key=lambda each: float(each.members[at]))
        reason = f"{first.name}: shared by {int((first.members >= MEMBER).sum())} raters"
    return RaterTrust(
        rater=name,
        votes=int(totals[at]),
        judged=int(judged[at]),
        reliability=reliability,
        weight=0.0 if reason else min(1.0, max(0.0, reliability.mean)) * float(1 - suspicion),
        quarantined=bool(reason),
        reason=reason,
    )


def _established(found: Group, tests: int) -> bool:
    return found.log_e >= math.log(tests / TOGETHER)


def _reliabilities(votes: Votes, known: NDArray[np.bool_], raters: int) -> list[Reliability]:
    """Posterior of c in P(vote) = ½ + c (expected − ½), on a grid; the prior is normal, 1 ± 0.4."""
    logs = np.tile(-0.5 * ((_GRID - 1) / 0.4) ** 2, (raters, 1))
    for column, clarity in enumerate(_GRID):
        each = np.log(np.clip(0.5 + clarity * (votes.honest[known] - 0.5), 1e-3, None))
        logs[:, column] += np.bincount(votes.rater[known], weights=each, minlength=raters)
    weights = np.exp(logs - logs.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    below = weights.cumsum(1)
    low, high = (_GRID[(below < bound).sum(1).clip(max=len(_GRID) - 1)] for bound in (0.025, 0.975))
    return [
        Reliability(mean=float(mean), low=float(least), high=float(most))
        for mean, least, most in zip(weights @ _GRID, low, high, strict=True)
    ]


# --- the report -------------------------------------------------------------------------------------------------------


def _counts(given: Sequence[Opinion], number: dict[str, int]) -> NDArray[np.int64]:
    return np.bincount([number[each.rater] for each in given], minlength=len(number))


def _collusions(groups: Sequence[Group], names: Sequence[str]) -> list[Collusion]:
    found = [each for each in groups if _established(each, len(groups))]
    listed = [
        Collusion(
            habit=each.name,
            raters=[name for name, member in zip(names, each.members, strict=True) if member >= MEMBER],
            log10_e=each.log_e / math.log(10),
        )
        for each in sorted(found, key=lambda each: -each.log_e)
    ]
    return [each for each in listed if len(each.raters) > 1]


def _report(
    given: Sequence[Opinion],
    decided: Sequence[Opinion],
    honest: NDArray[np.float64],
    known: NDArray[np.bool_],
    raters: dict[str, RaterTrust],
    collusions: list[Collusion],
) -> Trust:
    people = [each.rater_kind == "human" for each in decided]
    placed = [each for each, person in zip(decided, people, strict=True) if person and each.position is not None]
    unequal = [
        place for place, each in enumerate(decided) if people[place] and "longer answer" in kept(each) and known[place]
    ]
    longer = [kept(decided[place])["longer answer"] for place in unequal]
    by_content = [honest[place] if hit else 1 - honest[place] for place, hit in zip(unequal, longer, strict=True)]
    return Trust(
        raters=raters,
        collusions=collusions,
        alpha_nominal=krippendorff_alpha(_units(given, "preference", "thumb")),
        alpha_ordinal=krippendorff_alpha(_units(given, "rating"), level="ordinal"),
        first=share(sum(each.position == 0 for each in placed), len(placed)),
        longer=share(sum(longer), len(longer)),
        longer_expected=float(np.mean(by_content)) if by_content else None,
    )


def _units(given: Iterable[Opinion], *kinds: Kind) -> list[list[str]]:
    units: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for each in given:
        if each.kind in kinds:
            units[each.kind, each.item].append(str(each.value))
    return list(units.values())
