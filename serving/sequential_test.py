"""The live test of a release: is the candidate preferred more often than the incumbent? Pure; may be asked at any time.

Each person's first vote of a release is one bet at even odds: x is 1 if the candidate's answer was preferred, 0 if the
incumbent's, ½ for a tie. Who stakes a share λ on the candidate multiplies their capital by 1 + λ(x − ½). If the
candidate is no better (E[x | past] ≤ ½) no capital can be expected to grow, so by Ville's inequality the mean over
several λ ever reaches 1/α with probability α at most, however often one looks and whenever one stops (Ville 1939;
Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting"). With −λ it is the same test of
"no worse", which rolls back.

As x takes three values and a tie multiplies by 1, the capital is a function of how many won and how many lost: nothing
else has to be kept, and a vote that must not count any more (its rater was set aside or erased) is simply subtracted.

Left out: a stored maximum of E. The p-value is 1/E as it stands, which is never too small and needs no history.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.evidence import Finding, Outcome

LAMBDAS = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0])
"""Small ones find small differences after many votes, large ones large differences after few."""
MIN_RATERS = 50
"""Fewer never promote, however much they agree: a handful of friends is no public."""
MAX_RATERS = 1500
"""So many without a decision leave the incumbent where it is."""
_COVERAGE_ALPHA = 0.05
_RATES = np.linspace(0.0005, 0.9995, 1000)
_BETS = np.linspace(0.0025, 0.9975, 200)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """First votes of people, one each: `Tally(wins=61, ties=12, losses=40)`, of the candidate."""

    wins: int = 0
    ties: int = 0
    losses: int = 0

    @property
    def raters(self) -> int:
        return self.wins + self.ties + self.losses

    @property
    def win_rate(self) -> float | None:
        """Ties half; None before the first vote."""
        return (self.wins + self.ties / 2) / self.raters if self.raters else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """`Interval(low=0.512, high=0.604)`."""

    low: float
    high: float


def counted(tally: Tally, outcome: Outcome, times: int = 1) -> Tally:
    """The tally with one vote more, or with `times=-1` one less."""
    return Tally(
        wins=tally.wins + times * (outcome == "win"),
        ties=tally.ties + times * (outcome == "tie"),
        losses=tally.losses + times * (outcome == "loss"),
    )


def log_e(wins: ArrayLike, losses: ArrayLike) -> NDArray[np.float64]:
    """ln E against "the candidate is no better", of counts of any one shape; with the two swapped, against "no worse".

    E = mean over λ of (1 + λ/2)^wins · (1 − λ/2)^losses.
    """
    won, lost = (np.asarray(counts, dtype=np.float64)[..., None] for counts in (wins, losses))
    capitals = won * np.log1p(LAMBDAS / 2) + lost * np.log1p(-LAMBDAS / 2)
    return np.asarray(np.logaddexp.reduce(capitals, axis=-1) - np.log(len(LAMBDAS)))


def finding(tally: Tally, alpha: float) -> Finding | None:
    """What these votes decide; None while more are to come."""
    bar = -np.log(alpha)
    if log_e(tally.losses, tally.wins) >= bar:
        return "worse"
    if tally.raters >= MIN_RATERS and log_e(tally.wins, tally.losses) >= bar:
        return "better"
    return "undecided" if tally.raters >= MAX_RATERS else None


def p_value(tally: Tally) -> float:
    """Of "the candidate is no better", valid whenever one stops: 1/E, at most 1."""
    return min(1.0, float(np.exp(-log_e(tally.wins, tally.losses))))


def confidence_sequence(tally: Tally) -> Interval:
    """Bounds of the win rate that hold at all times together with 95 % probability, for people to look at.

    All rates m whose own e-value stays below 20: the mean over bets p of (p/m)^wins · ((1−p)/(1−m))^losses · (½(p/m +
    (1−p)/(1−m)))^ties, a uniform mixture (Robbins 1970), log-convex in m. Wider than the test is sharp, because it
    tells every rate from its neighbours and not only better from worse. Bounds are rounded outwards to a thousandth.
    """
    for_candidate = np.log(_BETS) - np.log(_RATES)[:, None]
    for_incumbent = np.log1p(-_BETS) - np.log1p(-_RATES)[:, None]
    even = np.logaddexp(for_candidate, for_incumbent) - np.log(2)
    capitals = tally.wins * for_candidate + tally.losses * for_incumbent + tally.ties * even
    log_values = np.logaddexp.reduce(capitals, axis=1) - np.log(len(_BETS))
    kept = np.flatnonzero(log_values < -np.log(_COVERAGE_ALPHA))
    return Interval(low=float(kept[0] / 1000), high=float((kept[-1] + 1) / 1000))
