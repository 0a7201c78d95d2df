"""What stops a release whatever the votes say: the candidate fails, stalls, says nothing, refuses or goes round. Pure.

Each guardrail compares a share of the candidate's completions with the same share of the incumbent's, and stops when
the candidate is worse by more than a fixed limit: when the lower bound of its share is above the upper bound of the
incumbent's plus the limit. Both bounds hold at all times together (a uniform mixture of likelihood ratios, Robbins
1970), so they may be looked at after every completion: a healthy release is stopped with probability ALPHA at most,
over all guardrails and all looks. In fact it is far less, as healthy arms are alike and not a whole limit apart.

Lengths and times are shares too: of answers above each of a few fixed edges, so that no mean and no shape is assumed.

Guardrails only stop. Not here: what needs a judge. Assumed: people come independently of each other; what one person
can add is bounded where completions are counted (core/exposures.py).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from core.exposures import SECONDS, TOKENS, Exposure

ALPHA = 0.01
"""Probability with which any guardrail ever stops a release whose two arms are alike."""
_STEPS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Thumbs:
    """The first thumb of each person on one arm: `Thumbs(given=31, down=4)`."""

    given: int = 0
    down: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """All that guardrails look at in one arm."""

    exposure: Exposure
    thumbs: Thumbs = field(default_factory=Thumbs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Where a share lies: `Bounds(low=0.41, high=1.0)`."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """One share in one arm: `Count(name="over 64 tokens", hits=3, trials=40)`."""

    name: str
    hits: int
    trials: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Guardrail:
    """One thing that must not get worse."""

    name: str
    limit: float
    """By how much the candidate's share may exceed the incumbent's."""
    counts: Callable[[Side], list[Count]]
    """The shares that are compared, each with its like in the other arm."""


def _of_completions(name: str, hits: Callable[[Exposure], int]) -> Callable[[Side], list[Count]]:
    return lambda side: [Count(name=name, hits=hits(side.exposure), trials=side.exposure.completions)]


def _cut_off(side: Side) -> list[Count]:
    return [Count(name="cut off", hits=side.exposure.cut_off, trials=side.exposure.firsts)]


def _thumbs_down(side: Side) -> list[Count]:
    return [Count(name="thumbs down", hits=side.thumbs.down, trials=side.thumbs.given)]


def _slower(side: Side) -> list[Count]:
    return _above("over {:g} s", SECONDS, side.exposure.seconds)


def _longer(side: Side) -> list[Count]:
    return _above("over {} tokens", TOKENS, side.exposure.tokens)


def _shorter(side: Side) -> list[Count]:
    longer = _above("at most {} tokens", TOKENS, side.exposure.tokens)
    return [Count(name=count.name, hits=count.trials - count.hits, trials=count.trials) for count in longer]


def _above(name: str, edges: tuple[float, ...], places: tuple[int, ...]) -> list[Count]:
    """One share for each edge: of the answers above it."""
    trials = sum(places)
    return [
        Count(name=name.format(edge), hits=sum(places[place + 1 :]), trials=trials) for place, edge in enumerate(edges)
    ]


GUARDRAILS = (
    Guardrail(name="errors", limit=0.01, counts=_of_completions("failed", lambda it: it.failed)),
    Guardrail(name="empty", limit=0.01, counts=_of_completions("empty", lambda it: it.empty)),
    Guardrail(name="repetition", limit=0.02, counts=_of_completions("going round", lambda it: it.loops)),
    Guardrail(name="refusal", limit=0.10, counts=_of_completions("refusing", lambda it: it.refuses)),
    Guardrail(name="truncation", limit=0.15, counts=_cut_off),
    Guardrail(name="latency", limit=0.20, counts=_slower),
    Guardrail(name="longer", limit=0.25, counts=_longer),
    Guardrail(name="shorter", limit=0.25, counts=_shorter),
    Guardrail(name="thumbs down", limit=0.10, counts=_thumbs_down),
)
SAMPLE_RATIO = 2.0
"""The candidate's share of people may be so many times too large or too small: more is a broken assignment."""
_LEVEL = ALPHA / (len(GUARDRAILS) + 1)
"""Of each guardrail, the sample ratio included."""


def alarm(candidate: Side, incumbent: Side, *, share: float) -> str | None:
    """Why the release must stop; None while nothing speaks against it.

    Args:
        share: of end users whom the candidate is to answer now.
    """
    for guardrail in GUARDRAILS:
        pairs = list(zip(guardrail.counts(candidate), guardrail.counts(incumbent), strict=True))
        for ours, theirs in pairs:
            if _is_worse(ours, theirs, guardrail.limit, _LEVEL / len(pairs)):
                return (
                    f"{guardrail.name}: {ours.hits} of {ours.trials} {ours.name}, "
                    f"{theirs.hits} of {theirs.trials} of the incumbent's"
                )
    return _sample_ratio(candidate.exposure.people, incumbent.exposure.people, share)


def _is_worse(ours: Count, theirs: Count, limit: float, level: float) -> bool:
    """Whether the candidate's share is above the incumbent's by more than the limit, beyond doubt."""
    if not ours.trials or not theirs.trials or ours.hits / ours.trials <= theirs.hits / theirs.trials + limit:
        return False  # the bounds lie around these
    return bounds(ours.hits, ours.trials, level / 2).low > bounds(theirs.hits, theirs.trials, level / 2).high + limit


def _sample_ratio(candidate: int, incumbent: int, share: float) -> str | None:
    people = candidate + incumbent
    found = bounds(candidate, people, _LEVEL)
    if found.low <= SAMPLE_RATIO * share and found.high >= share / SAMPLE_RATIO:
        return None
    return f"sample ratio: {candidate} of {people} people got the candidate, {share:.0%} were to"


def bounds(hits: int, trials: int, alpha: float) -> Bounds:
    """All shares m that stay credible: B(hits+1, misses+1) / (m^hits (1−m)^misses) < 1/alpha. Miss the true one ever
    with probability alpha at most; by bisection on both sides of the observed share."""
    misses = trials - hits
    mixture = math.lgamma(hits + 1) + math.lgamma(misses + 1) - math.lgamma(trials + 2)

    def is_credible(share: float) -> bool:
        likelihood = (hits * math.log(share) if hits else 0.0) + (misses * math.log1p(-share) if misses else 0.0)
        return mixture - likelihood < -math.log(alpha)

    observed = hits / trials if trials else 0.5
    low, high = (0.0, observed), (observed, 1.0)
    for _ in range(_STEPS):
        middle = sum(low) / 2
        low = (low[0], middle) if middle > 0 and is_credible(middle) else (middle, low[1])
        middle = sum(high) / 2
        high = (middle, high[1]) if middle < 1 and is_credible(middle) else (high[0], middle)
    return Bounds(low=low[0], high=high[1])
