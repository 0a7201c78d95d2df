"""What to ask next: draws that prefer what is least known and never rule anything out. Pure.

A share of every draw is uniform (the exploration floor), so that each probability is known and positive: whoever wants
an estimate that the choice has not bent can divide by it. The service draws pairs of policy versions and rater tasks by
these functions, and `lab.active` measures them.
"""

import random
from collections.abc import Sequence
from itertools import accumulate

EXPLORATION = 0.2
"""Share of a draw that is uniform."""


def probabilities(scores: Sequence[float], *, exploration: float = EXPLORATION) -> list[float]:
    """Of each to be the one that is drawn: `probabilities([3, 1], exploration=0.2)` is `[0.7, 0.3]`.

    Args:
        scores: not negative; how little is known. All zero is all alike.
    """
    total, count = sum(scores), len(scores)
    wanted = [score / total if total > 0 else 1 / count for score in scores]
    return [exploration / count + (1 - exploration) * share for share in wanted]


def inclusion(scores: Sequence[float], count: int, *, exploration: float = EXPLORATION) -> list[float]:
    """Of each to be among the `count` that are drawn together, all of them if there are no more.

    Example: `inclusion([8, 1, 1], 2, exploration=0.0)` is `[1.0, 0.5, 0.5]`: nothing is drawn twice.

    Returns:
        Probabilities that sum up to the number drawn, none below exploration · count / len(scores).
    """
    count = min(count, len(scores))
    floor = exploration * count / len(scores) if scores else 0.0
    return [min(1.0, floor + (1 - exploration) * share) for share in _in_proportion(scores, count)]


def _in_proportion(scores: Sequence[float], count: int) -> list[float]:
    """min(1, c · score) with the c that makes them sum up to `count`. Of scores of 0 all are alike."""
    found = [0.0] * len(scores)
    left = sorted(range(len(scores)), key=lambda place: -scores[place])
    while left and count:
        total = sum(scores[place] for place in left)
        if total <= 0:
            for place in left:
                found[place] = count / len(left)
            break
        first = left[0]
        if count * scores[first] < total:
            for place in left:
                found[place] = count * scores[place] / total
            break
        found[first], count = 1.0, count - 1
        left = left[1:]
    return found


def draw(included: Sequence[float], rng: random.Random) -> list[int]:
    """Which are drawn: as many as `included` sums up to, each with exactly its probability, in a random order.

    Systematic sampling (Madow 1949): the probabilities lie end to end in random order, and every whole number after a
    random start picks the one on which it falls.
    """
    order = rng.sample(range(len(included)), len(included))
    ends = list(accumulate(included[place] for place in order))
    count = round(ends[-1]) if ends else 0
    start, place, found = rng.random(), 0, []
    for number in range(count):
        while place + 1 < len(order) and ends[place] <= start + number:
            place += 1
        found.append(order[place])
        place = min(place + 1, len(order) - 1)  # no probability is above 1, so none is met twice
    return found
