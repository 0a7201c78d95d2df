"""How much a vote would teach: doubt between policy versions, and between two answers. Pure numpy.

Between versions: Bradley and Terry's model with a normal prior on strengths, and its Laplace approximation. Between
answers: margins of an ensemble, the members of a reward model or, where it has one alone, draws from the posterior of a
linear head over features of the frozen base (the same approximation). What the ensemble disagrees on is what votes have
not taught yet; what all its members call a toss-up is noise, and asking again would teach nothing (Houlsby et al. 2011,
"Bayesian active learning for classification and preference learning").
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.records import VersionDoubt

Floats = NDArray[np.float64]
RIDGE = 30.0
"""Precision of the normal prior on the weights of the head, whose features have unit variance."""
MEMBERS = 64
VERSION_PRIOR = 1.0
"""Variance of a version's strength before any vote: one in three differences is beyond 1.4, a win rate of 80 %."""
VERSIONS = 32
_STEPS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionVote:
    """`VersionVote(winner=3, loser=2, weight=1.0)`; a tie is half a vote each way."""

    winner: int
    loser: int
    weight: float


# --- policy versions --------------------------------------------------------------------------------------------------


def version_doubt(votes: Sequence[VersionVote], *, prior: float = VERSION_PRIOR) -> VersionDoubt:
    """The posterior covariance of strengths, given votes between versions; votes within one say nothing.

    Each version's strength is N(0, prior) before any vote. With two versions and n votes, half of them each way, their
    difference has variance 2 / (1 / prior + n / 2).
    """
    between = [vote for vote in votes if vote.winner != vote.loser and vote.weight > 0]
    known = sorted({version for vote in between for version in (vote.winner, vote.loser)})[-VERSIONS:]
    place = {version: number for number, version in enumerate(known)}
    kept = [vote for vote in between if vote.winner in place and vote.loser in place]
    rows = np.zeros((len(kept), len(known)))
    for number, vote in enumerate(kept):
        rows[number, place[vote.winner]], rows[number, place[vote.loser]] = 1.0, -1.0
    head = fit_head(rows, np.array([vote.weight for vote in kept]), ridge=1 / prior)
    return VersionDoubt(versions=known, covariance=head.covariance.tolist(), prior=prior)


# --- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Head:
    """Normal posterior of the weights of a linear margin."""

    mean: Floats
    """(D,)."""
    covariance: Floats
    """(D, D)."""

    def margins(self, differences: Floats, *, members: int = MEMBERS, seed: int = 0) -> Floats:
        """(members, N), log-odds: of heads that are drawn from the posterior.

        Args:
            differences: (N, D), one answer minus the other.
        """
        drawn = np.random.default_rng(seed).standard_normal((members, len(self.mean)))
        factor = np.linalg.cholesky(self.covariance)
        return np.asarray((self.mean + drawn @ factor.T) @ differences.T)


def fit_head(preferred: Floats, weights: Floats, *, ridge: float = RIDGE) -> Head:
    """Logistic regression of "the preferred one" without intercept, by Newton's method, with the curvature at the end.

    Args:
        preferred: (N, D), preferred minus other answer.
        weights: (N,), of the votes.
    """
    found, precision = np.zeros(preferred.shape[1]), ridge * np.eye(preferred.shape[1])
    for _ in range(_STEPS):
        likely = _sigmoid(preferred @ found)
        step = preferred.T @ (weights * (1 - likely)) - ridge * found
        found = found + np.linalg.solve(_curvature(preferred, weights, likely) + precision, step)
    curvature = _curvature(preferred, weights, _sigmoid(preferred @ found)) + precision
    return Head(mean=found, covariance=np.asarray(np.linalg.inv(curvature)))


def _curvature(rows: Floats, weights: Floats, likely: Floats) -> Floats:
    return np.asarray((rows.T * (weights * likely * (1 - likely))) @ rows)


def variance(margins: Floats) -> Floats:
    """(N,), of the members' margins (members, N)."""
    return np.asarray(margins.var(0))


def information(margins: Floats) -> Floats:
    """(N,), nats: what one vote is expected to tell about the members, the mutual information of vote and member."""
    likely = _sigmoid(margins)
    return np.asarray(np.maximum(_entropy(likely.mean(0)) - _entropy(likely).mean(0), 0.0))


def flips(margins: Floats) -> Floats:
    """(N,), 0 to ½: share of the members who prefer the other answer than most."""
    first = (margins > 0).mean(0)
    return np.asarray(np.minimum(first, 1 - first))


def reduction(margins: Floats) -> Floats:
    """(N,), squared log-odds: by how much one vote is expected to lower the mean variance over all N pairs. One that
    nothing else has to do with lowers only its own, however large that is (Yu, Bi and Tresp 2006, "Active learning via
    transductive experimental design", with the curvature of a vote as its precision)."""
    centred = margins - margins.mean(0)
    covariance = centred.T @ centred / len(margins)
    likely = _sigmoid(margins).mean(0)
    precision = likely * (1 - likely)
    return np.asarray(precision * (covariance**2).mean(1) / (1 + precision * covariance.diagonal()))


ACQUISITIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "variance": variance,
    "information": information,
    "flips": flips,
    "reduction": reduction,
}
"""What was tried (`lab.active`)."""
SERVICE = reduction
"""What the service asks by."""


def _entropy(likely: Floats) -> Floats:
    safe = likely.clip(1e-12, 1 - 1e-12)
    return np.asarray(-safe * np.log(safe) - (1 - safe) * np.log(1 - safe))


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))
