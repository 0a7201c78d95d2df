"""Evidence that somebody does not vote as people do: e-values for one rater, and pooled over many who share something.

A habit says how somebody with it would vote where it applies: always the first side, always the longer answer, always
policy v3, against what others prefer, or that only where a tag stands (a word of the prompt, an hour, a network). Each
vote then has a ratio: its probability by habit over its probability by an honest rater. The product over a rater's
votes is an e-value: whatever an honest rater does, its mean is at most 1, so by Ville's inequality it ever reaches 1/α
with probability α at most, however often one looks (Ville 1939; Ramdas et al. 2023, "Game-theoretic statistics").

Ids with two votes each never reach that. What gives them away is that many of them share a habit: the mean over shares
π of Π_r (1 + π (E_r − 1)) is an e-value against "nobody has it", where E_r is that of one rater.

No finite list of habits is complete: see docs/trust.md for what cannot be seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]

SHARP = 0.9
"""How often somebody with a habit keeps to it."""
CARELESS = 0.5
"""An honest rater may prefer what others prefer only half as clearly as they do."""
CONTRARY = 1.4
"""Who wants harm votes against the better answer without the noise of an honest vote."""
SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Of all raters, who may have a habit: the mean over these is taken."""
MOST_TAGS, FEWEST_VOTES, FEWEST_RATERS, COMMON = 200, 15, 3, 0.3
"""Tags that are tested: the most frequent ones with so many votes and raters, and less than this share of votes."""
_UNUSUAL = 0.05
_CLARITIES = np.linspace(0.0, 1.1, 23)


@dataclass(frozen=True, eq=False, kw_only=True)
class Votes:
    """Votes between two values, oldest first; N votes of R raters."""

    rater: Places
    """(N,), 0 to R − 1."""
    honest: Floats
    """(N,): probability with which an honest rater gives this value, 0.05 to 0.95; ½ where nobody knows."""
    hits: Mapping[str, Places]
    """By name of a habit: positions of votes to which it applies and that keep to it."""
    misses: Mapping[str, Places]
    """The same: that do not."""
    tags: Mapping[str, Places]
    """Positions of votes that share something."""
    elsewhere: Mapping[str, Floats]
    """Of the votes at these positions: `honest` by what is known without any vote that shares it."""

    raters: int
    """R."""

    @cached_property
    def counts(self) -> Places:
        """(R,): votes of each."""
        return np.bincount(self.rater, minlength=self.raters).astype(np.int64)

    def by_rater(self, values: Floats) -> Floats:
        """(N,) → (R,): sums."""
        return np.asarray(np.bincount(self.rater, weights=values, minlength=self.raters), dtype=np.float64)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Habit:
    """One way to vote unlike an honest rater."""

    name: str
    gains: Floats
    """(N,): log of probability by habit over that of an honest vote; 0 where it does not apply."""
    insiders: Flags | None = None
    """(R,): who meets its tag far more often than chance, or did nothing else. Others show what is usual there."""


def habits(votes: Votes) -> list[Habit]:
    """All that are tested."""
    found = [_directed(votes, name) for name in sorted(votes.hits)]
    found.append(Habit(name="against what others prefer", gains=_contrary(votes.honest, _most_honest(votes.honest))))
    return found + [habit for tag in tested_tags(votes.tags, votes.rater) if (habit := _tagged(votes, tag)) is not None]


def _directed(votes: Votes, name: str) -> Habit:
    """What most raters do more often than expected is no habit of a few: expectations are moved to what is usual."""
    hits, misses = votes.hits[name], votes.misses[name]
    pull = _pull(np.concatenate([votes.honest[hits], 1 - votes.honest[misses]]), len(hits))
    gains = np.zeros(len(votes.rater))
    for places, towards, probability in ((hits, pull, SHARP), (misses, -pull, 1 - SHARP)):
        usual = _most_honest(np.clip(_moved(votes.honest[places], towards), 0.05, 0.95))
        gains[places] = np.log(probability / usual)
    return Habit(name=name, gains=gains)


def _moved(probabilities: Floats, pull: float) -> Floats:
    """By so much log-odds."""
    return np.asarray(1 / (1 + (1 / probabilities - 1) * np.exp(-pull)))


def _pull(expected: Floats, hits: int) -> float:
    """The log-odds by which expectations must be moved so that as many hits are expected as there were; by bisection,
    and never so far that nearly all are."""
    low, high = -4.0, 4.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _moved(expected, middle).sum() < hits else (low, middle)
    return low if len(expected) else 0.0


def _most_honest(honest: Floats) -> Floats:
    """The largest probability that any honest rater, careful or careless, gives to the vote. Divided by it, the ratio's
    mean is at most 1 for each of them."""
    return np.asarray(np.maximum(honest, 0.5 + CARELESS * (honest - 0.5)))


def _contrary(honest: Floats, usual: Floats) -> Floats:
    habitual = np.clip(0.5 - CONTRARY * (honest - 0.5), 0.05, 0.95)
    return np.asarray(np.where(honest == 0.5, 0.0, np.log(habitual / usual)), dtype=np.float64)


def tested_tags(tags: Mapping[str, Places], rater: Places) -> list[str]:
    """The most frequent ones that enough raters share and not everybody.

    Args:
        tags: positions of votes.
        rater: (N,), of each vote.
    """
    large = {tag: len(at) for tag, at in tags.items() if FEWEST_VOTES <= len(at) <= COMMON * len(rater)}
    wide = [tag for tag in large if len(np.unique(rater[tags[tag]])) >= FEWEST_RATERS]
    return sorted(wide, key=lambda tag: (-large[tag], tag))[:MOST_TAGS]


def _tagged(votes: Votes, tag: str) -> Habit | None:
    """Against the others where the tag stands. The yardstick are raters who come across it as everybody does: if they
    disagree with the reward model there too, it is the reward model that is wrong."""
    at = votes.tags[tag]
    met = np.bincount(votes.rater[at], minlength=votes.raters)
    often = (met >= 2) & (_tail(met, votes.counts, len(at) / len(votes.rater)) <= _UNUSUAL)
    insiders = often | ((met > 0) & (met == votes.counts))
    if insiders.sum() < 2:
        return None
    honest = votes.elsewhere[tag]
    outside = ~insiders[votes.rater[at]]
    usual = 0.5 + _clarity(honest[outside]) * (honest - 0.5)
    gains = np.zeros(len(votes.rater))
    gains[at] = _contrary(honest, usual)
    return Habit(name=f"against what others prefer, on {tag}", gains=gains, insiders=insiders)


def _clarity(honest: Floats) -> float:
    """How clearly these votes follow the expected preference: 1 as expected, 0 not at all. Cautiously: the posterior
    mean less one standard deviation, from a normal prior of 1 ± 0.3."""
    fit = np.log(0.5 + _CLARITIES[:, None] * (honest[None, :] - 0.5)).sum(1) - 0.5 * ((_CLARITIES - 1) / 0.3) ** 2
    weights = np.exp(fit - fit.max())
    weights /= weights.sum()
    mean = float(weights @ _CLARITIES)
    return min(1.0, max(0.0, mean - float(np.sqrt(weights @ (_CLARITIES - mean) ** 2))))


def _tail(successes: Places, trials: Places, share: float) -> Floats:
    """(R,): probability of as many successes or more, binomial."""
    most = int(trials.max())
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
    tail = np.zeros(len(trials))
    for hits in range(most + 1):
        there = (hits >= successes) & (hits <= trials)
        n = trials[there]
        logs = factorial[n] - factorial[hits] - factorial[n - hits]
        tail[there] += np.exp(logs + hits * np.log(share) + (n - hits) * np.log1p(-share))
    return tail


# --- one rater --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Evidence:
    """Against each rater, (R,)."""

    log_e: Floats
    """Largest log e-value after any of their votes; that of the mean over habits."""
    habit: list[str]
    """Which of them it is most."""
    votes: Places
    """After how many votes it was largest."""


def evidence(votes: Votes, tested: Sequence[Habit]) -> Evidence:
    """Looks after every vote. Habits that need a tag are left out: their yardstick is estimated from others."""
    plain = [habit for habit in tested if habit.insiders is None]
    order = np.argsort(votes.rater, kind="stable")
    ends = np.cumsum(votes.counts)
    gains = np.stack([habit.gains[order] for habit in plain], axis=1)
    log_e, name, after = np.zeros(votes.raters), [""] * votes.raters, np.zeros(votes.raters, dtype=np.int64)
    for rater, (start, end) in enumerate(zip(ends - votes.counts, ends, strict=True)):
        wealth = np.cumsum(gains[start:end], axis=0)
        if start == end:
            continue
        total = _log_mean(wealth)
        best = int(total.argmax())
        log_e[rater], after[rater] = max(0.0, total[best]), best + 1
        name[rater] = plain[int(wealth[best].argmax())].name
    return Evidence(log_e=log_e, habit=name, votes=after)


def _log_mean(values: Floats) -> Floats:
    """log mean exp over the last axis."""
    top = values.max(-1)
    return np.asarray(top + np.log(np.exp(values - top[..., None]).mean(-1)))


# --- many raters ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Group:
    """Raters who share a habit."""

    name: str
    log_e: float
    """Log e-value against "nobody has it"."""
    members: Floats
    """(R,): probability that a rater has it, given that some do."""


def group(votes: Votes, habit: Habit) -> Group:
    """Pooled evidence for one habit. Of a tag only insiders count: they are measured against the others."""
    own = np.clip(votes.by_rater(habit.gains), -30.0, 30.0)
    inside = habit.insiders if habit.insiders is not None else np.ones(votes.raters, dtype=bool)
    ratios = np.exp(own[inside])
    log_e = _log_mean(np.array([np.log1p(share * (ratios - 1)).sum() for share in SHARES]))
    members = np.zeros(votes.raters)
    members[inside] = _members(ratios)
    return Group(name=habit.name, log_e=float(log_e), members=members)


def _members(ratios: Floats) -> Floats:
    """Posterior of each rater, with the share of those who have the habit by expectation maximisation."""
    share = 0.1
    for _ in range(50):
        posterior = share * ratios / (share * ratios + 1 - share)
        share = (posterior.sum() + 0.1) / (len(ratios) + 1)
    return np.asarray(share * ratios / (share * ratios + 1 - share))
