"""How far raters agree: Krippendorff's alpha, Dawid and Skene's skills, shares with their intervals.

Pure numpy. crowd-kit has Dawid–Skene too, but brings pandas, scikit-learn and nltk for forty lines and no prior of an
item, which is what a reward model gives.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core import wilson


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A share of votes with its 95 % interval: `Share(mean=0.52, low=0.47, high=0.57, votes=400)`."""

    mean: float
    low: float
    high: float
    votes: int


def share(hits: int, votes: int) -> Share | None:
    """None without a vote."""
    if votes == 0:
        return None
    low, high = wilson.interval(hits, votes)
    return Share(mean=hits / votes, low=low, high=high, votes=votes)


def krippendorff_alpha(
    units: Iterable[Sequence[Hashable]], *, level: Literal["nominal", "ordinal"] = "nominal"
) -> float | None:
    """Agreement beyond chance: 1 is perfect, 0 what chance gives, below 0 worse than that.

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section D; any number of raters, values missing.

    Args:
        units: the values that each item got, in any order; an item with fewer than two says nothing.
        level: `ordinal` needs values that can be sorted.

    Returns:
        None where no item has two values, or all values are the same: then there is nothing to disagree about.
    """
    paired = [Counter(values) for values in units if len(values) > 1]
    totals: Counter[Hashable] = Counter()
    for values in paired:
        totals.update(values)
    if len(totals) < 2:
        return None
    order = sorted(totals) if level == "ordinal" else list(totals)  # type: ignore[type-var]
    place = {value: number for number, value in enumerate(order)}
    counts = np.array([totals[value] for value in order], dtype=np.float64)
    distance = _ordinal(counts) if level == "ordinal" else 1.0 - np.eye(len(order))
    observed = 0.0
    for values in paired:
        own = np.zeros(len(order))
        for value, count in values.items():
            own[place[value]] = count
        observed += own @ distance @ own / (own.sum() - 1)  # the distance of a value to itself is 0
    expected = counts @ distance @ counts / (counts.sum() - 1)
    return float(1 - observed / expected)


def _ordinal(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distance of two ranks: how many values lie between their middles."""
    middles = np.cumsum(counts) - counts / 2
    return np.asarray((middles[:, None] - middles[None, :]) ** 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Skills:
    """`Skills(of={"ann": 0.9, "bob": 0.6}, mean=0.8)`: probability of giving the right one of two values."""

    of: Mapping[str, float]
    mean: float


def dawid_skene(
    labels: Iterable[tuple[str, str, bool]], *, prior: tuple[float, float] = (4.0, 1.0), rounds: int = 50
) -> Skills:
    """How often each rater is right, where items have several votes and nobody knows the truth.

    Expectation maximisation with one number a rater (Dawid and Skene 1979; one coin, symmetric values). The prior makes
    a rater without overlap an average one and breaks the symmetry: most people are more often right than wrong.

    Args:
        labels: rater, item, and which of two values.
        prior: right and wrong votes that everybody starts with.
    """
    by_item: defaultdict[str, list[tuple[str, bool]]] = defaultdict(list)
    for rater, item, value in labels:
        by_item[item].append((rater, value))
    items = [votes for votes in by_item.values() if len(votes) > 1]
    start = prior[0] / sum(prior)
    skills = {rater: start for votes in items for rater, _ in votes}
    for _ in range(rounds):
        right: defaultdict[str, float] = defaultdict(float)
        seen: Counter[str] = Counter()
        for votes in items:
            truth = probability(sum(log_odds(skills[rater]) * (1 if value else -1) for rater, value in votes))
            for rater, value in votes:
                right[rater] += truth if value else 1 - truth
                seen[rater] += 1
        new = {rater: (right[rater] + prior[0]) / (seen[rater] + sum(prior)) for rater in skills}
        moved = max((abs(new[rater] - skills[rater]) for rater in skills), default=0.0)
        skills = new
        if moved < 1e-6:
            break
    return Skills(of=skills, mean=float(np.mean(list(skills.values()))) if skills else start)


def log_odds(value: float) -> float:
    """Of a probability, which is taken to lie in [0.01, 0.99]: nobody is certain."""
    value = min(max(value, 0.01), 0.99)
    return math.log(value / (1 - value))


def probability(odds: float) -> float:
    """The inverse of `log_odds`."""
    return 0.5 * (1 + math.tanh(odds / 2))
