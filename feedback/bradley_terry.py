"""Bradley–Terry strengths of policy versions from weighted votes, with a length term and intervals. Pure numpy.

    P(first is preferred) = σ(strength[first] − strength[second] + length · ln(tokens of first / tokens of second))

Bradley and Terry 1952; the length term is the style control of Chatbot Arena (Li, Angelopoulos and Chiang 2024), with
the one style that decides most. A tie is half a vote each way, as everywhere in this service. Davidson's model of ties
(1970) is left out: it has a parameter more, and its strengths no longer say how often one is preferred to the other.

Intervals are a delete-one-rater jackknife, since votes of one rater are no independent witnesses; each is at least as
wide as the curvature of the likelihood makes it, because a jackknife of unanimous votes knows no doubt at all.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
RIDGE = 0.1
"""Precision of a normal prior of mean 0 on every strength, in 1/logits². Five votes to none are about 3.7 logits, not
infinity; two hundred votes hardly feel it."""
_TOLERANCE, _LARGEST_STEP, _STEPS = 1e-10, 2.0, 200
_TOGETHER = 2048
"""Votes whose curvatures are in memory at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Votes:
    """N votes between K versions."""

    first: Places
    """(N,), 0 to K − 1."""
    second: Places
    """(N,), another version."""
    won: Floats
    """(N,): 1 if the first was preferred, 0 if the second, ½ for a tie."""
    weight: Floats
    """(N,), not negative."""
    longer: Floats
    """(N,): ln(tokens of first / tokens of second)."""
    unit: Places
    """(N,): who gave it, 0 to G − 1 without gaps; votes of one unit may depend on each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An estimate with its 95 % interval: `Interval(value=0.41, low=0.12, high=0.70)`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Strengths in log-odds; only differences mean anything."""

    found: Floats
    """(K,), or (K + 1,) with the length term last."""
    clustered: Floats
    """Their covariance, by leaving out one unit after the other."""
    plain: Floats
    """Their covariance if every vote stood for itself: the inverse curvature."""
    freedom: int
    """Units less one."""

    def contrast(self, direction: Floats, *, level: float = 0.95) -> Interval:
        """A combination of what was found, `direction @ found`, with an interval of this two-sided level."""
        variance = max(float(direction @ matrix @ direction) for matrix in (self.clustered, self.plain))
        value = float(direction @ self.found)
        reach = student_quantile(0.5 + level / 2, self.freedom) * math.sqrt(variance)
        return Interval(value=value, low=value - reach, high=value + reach)

    def difference(self, one: int, other: int, *, level: float = 0.95) -> Interval:
        """By how much one version is stronger than another."""
        direction = np.zeros(len(self.found))
        direction[one] += 1
        direction[other] -= 1
        return self.contrast(direction, level=level)


def fit(votes: Votes, versions: int, *, length: bool) -> Fit:
    """Most probable strengths under the prior, by Newton's method, and how sure they are.

    Args:
        versions: K.
        length: whether there is a length term. It has the same prior, so that it is defined where all are alike.
    """
    rows = _design(votes, versions, length=length)
    ridge = RIDGE * np.eye(rows.shape[1])
    found = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        likely = _sigmoid(rows @ found)
        pull = rows.T @ (votes.weight * (votes.won - likely)) - RIDGE * found
        step = np.linalg.solve(_curvature(rows, votes.weight, likely) + ridge, pull)
        found += step * min(1.0, _LARGEST_STEP / max(float(np.abs(step).max()), _TOLERANCE))
        if np.abs(step).max() < _TOLERANCE:
            break
    likely = _sigmoid(rows @ found)
    curvature = _curvature(rows, votes.weight, likely) + ridge
    units = int(votes.unit.max()) + 1
    return Fit(
        found=found,
        clustered=_jackknife(rows, votes, likely, curvature, units),
        plain=np.asarray(np.linalg.inv(curvature)),
        freedom=units - 1,
    )


def components(votes: Votes, versions: int) -> list[list[int]]:
    """Versions that votes connect, however indirectly, each list sorted: only within one is anybody comparable."""
    home = list(range(versions))
    for one, other in {(int(a), int(b)) for a, b in zip(votes.first, votes.second, strict=True)}:
        old, new = home[other], home[one]
        home = [new if each == old else each for each in home]
    found: dict[int, list[int]] = {}
    for version, where in enumerate(home):
        found.setdefault(where, []).append(version)
    return sorted(found.values())


def student_quantile(share: float, freedom: int) -> float:
    """Of Student's t, by its expansion around the normal one (Abramowitz and Stegun 1964, 26.7.5): within 0.001 of the
    97.5 % quantile from five degrees of freedom on."""
    z, n = NormalDist().inv_cdf(share), max(freedom, 1)
    terms: tuple[float, ...] = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(n) ** power for power, term in enumerate(terms, start=1))


def _design(votes: Votes, versions: int, *, length: bool) -> Floats:
    """(N, K) or (N, K + 1): one row a vote."""
    rows = np.zeros((len(votes.won), versions + length))
    every = np.arange(len(rows))
    rows[every, votes.first] += 1
    rows[every, votes.second] -= 1
    if length:
        rows[:, -1] = votes.longer
    return rows


def _jackknife(rows: Floats, votes: Votes, likely: Floats, curvature: Floats, units: int) -> Floats:
    """(G − 1)/G · Σ d dᵀ, where d is how far the fit moves, to first order, when a unit's votes are left out."""
    order = np.argsort(votes.unit, kind="stable")
    ends = np.searchsorted(votes.unit[order], np.arange(units), side="right")
    total, start, unit = np.zeros_like(curvature), 0, 0
    while unit < units:
        last = max(unit + 1, int(np.searchsorted(ends, start + _TOGETHER, side="right")))
        chosen = order[start : ends[last - 1]]
        places = np.concatenate([[0], ends[unit : last - 1] - start])
        total += _moved(rows[chosen], votes.weight[chosen], votes.won[chosen], likely[chosen], places, curvature)
        start, unit = int(ends[last - 1]), last
    return total * (units - 1) / units


def _moved(rows: Floats, weight: Floats, won: Floats, likely: Floats, places: Places, curvature: Floats) -> Floats:
    """Σ d dᵀ over the units whose votes begin at these places."""
    pulls = np.add.reduceat(rows * (weight * (won - likely))[:, None], places)
    bends = np.add.reduceat(np.einsum("ni,nj,n->nij", rows, rows, weight * likely * (1 - likely)), places)
    moves = np.linalg.solve(curvature - bends, pulls[:, :, None])[:, :, 0]
    return np.asarray(moves.T @ moves)


def _curvature(rows: Floats, weight: Floats, likely: Floats) -> Floats:
    return np.asarray((rows.T * (weight * likely * (1 - likely))) @ rows)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))
