"""The leaderboard: how strong each policy version is by people's votes, at equal length of the answers.

Versions that no chain of votes connects are in different groups and are not compared. In each group the oldest version
is the anchor, version 0 where it is there; intervals are of the difference to it. `python -m feedback.leaderboard`
prints it as JSON: the API starts that as a process of its own, for which chat does not wait.
"""

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import redis

from core.records import Record, now
from feedback import bradley_terry, child, version_votes
from feedback.archive import Archive
from feedback.bradley_terry import Fit
from feedback.version_votes import VersionVote, Weighed

ELO_ANCHOR, ELO_PER_LOGIT = 1000.0, 400 / math.log(10)


class Interval(Record):
    """An estimate with its 95 % interval: `Interval(value=0.41, low=0.12, high=0.70)`."""

    value: float
    low: float
    high: float


class Standing(Record):
    """One version on the board.

    Example:
        Standing(version=2, anchor=0, votes=312.0, rank=1, rank_last=2, strength=Interval(value=0.41, …),
            elo=Interval(value=1071, …), as_written=Interval(value=0.63, …))
    """

    version: int
    anchor: int
    """The version of its group that the numbers are relative to; groups are not comparable."""
    votes: float
    """In which it stood; a ranking counts in parts."""
    rank: int
    """1 + versions of its group that are better beyond doubt (95 %, Bonferroni over the group's pairs)."""
    rank_last: int
    """The last rank that is not out of the question."""
    strength: Interval
    """Log-odds of being preferred to the anchor, were both answers equally long."""
    elo: Interval
    """The same as 1000 + 400/ln 10 · strength."""
    as_written: Interval
    """Log-odds without the length term: answers as long as they were."""


class Leaderboard(Record):
    """All versions with votes, best first in each group.

    Example:
        Leaderboard(as_of=1790000400.0, standings=[Standing(…)], votes=812, raters=61, by_rater=True,
            length=Interval(value=0.25, …), clipped=3, effective=640.2, left_out={"same_version": 1204})
    """

    as_of: float
    standings: list[Standing]
    votes: int
    """Between answers of different versions."""
    raters: int
    by_rater: bool
    """Whether intervals are over raters; below twenty they are over votes, and speak of these raters alone."""
    length: Interval | None
    """What one more e-fold of length adds to the log-odds; None without votes."""
    clipped: int
    """Version votes whose weight was cut."""
    effective: float
    """So many equally weighed votes would know as much."""
    left_out: dict[str, int]
    """Votes of people and AIs that do not count, by reason."""


def leaderboard(found: Sequence[VersionVote], left_out: Mapping[str, int], *, as_of: float) -> Leaderboard:
    """The board of these votes."""
    weighed = version_votes.weigh(found)
    length, standings = None, []
    if found:
        count = len(weighed.versions)
        level = bradley_terry.fit(weighed.votes, count, length=True)
        written = bradley_terry.fit(weighed.votes, count, length=False)
        length = _interval(level.contrast(np.eye(count + 1)[-1]))
        for group in bradley_terry.components(weighed.votes, count):
            standings += _group(group, level, written, weighed, _votes(found))
    return Leaderboard(
        as_of=as_of,
        standings=standings,
        votes=len({each.vote for each in found}),
        raters=weighed.raters,
        by_rater=weighed.by_rater,
        length=length,
        clipped=weighed.clipped,
        effective=weighed.effective,
        left_out=dict(left_out),
    )


def _group(
    group: Sequence[int], level: Fit, written: Fit, weighed: Weighed, votes: Mapping[int, float]
) -> list[Standing]:
    """Standings of versions (places) that votes connect, best first."""
    anchor = group[0]
    better, worse = _ranks(group, level)
    standings = []
    for place in sorted(group, key=lambda each: (-level.found[each], each)):
        strength = level.difference(place, anchor)
        standings.append(
            Standing(
                version=weighed.versions[place],
                anchor=weighed.versions[anchor],
                votes=votes[weighed.versions[place]],
                rank=1 + better[place],
                rank_last=len(group) - worse[place],
                strength=_interval(strength),
                elo=_interval(strength, scale=ELO_PER_LOGIT, origin=ELO_ANCHOR),
                as_written=_interval(written.difference(place, anchor)),
            )
        )
    return standings


def _ranks(group: Sequence[int], level: Fit) -> tuple[Counter[int], Counter[int]]:
    """How many versions are better than each beyond doubt, and how many worse."""
    better: Counter[int] = Counter()
    worse: Counter[int] = Counter()
    pairs = list(combinations(group, 2))
    for one, other in pairs:
        gap = level.difference(one, other, level=1 - 0.05 / len(pairs))
        if gap.low > 0 or gap.high < 0:
            best, least = (one, other) if gap.low > 0 else (other, one)
            better[least] += 1
            worse[best] += 1
    return better, worse


def _votes(found: Sequence[VersionVote]) -> dict[int, float]:
    shares: dict[int, float] = {}
    for each in found:
        for version in (each.first, each.second):
            shares[version] = shares.get(version, 0.0) + each.share
    return {version: round(share, 3) for version, share in shares.items()}


def _interval(of: bradley_terry.Interval, *, scale: float = 1.0, origin: float = 0.0) -> Interval:
    return Interval(value=origin + scale * of.value, low=origin + scale * of.low, high=origin + scale * of.high)


# --- as a program -----------------------------------------------------------------------------------------------------


def read(client: redis.Redis, archive: Archive) -> Leaderboard:
    """The board of the whole log.

    Raises:
        UsageError: Redis gave up entries that `archive` does not hold, or a part of it is damaged.
    """
    found, left_out = version_votes.read(client, archive)
    return leaderboard(found, {str(reason): count for reason, count in left_out.items()}, as_of=now())


def main() -> int:
    """Prints the board as JSON. Returns the exit status (feedback/child.py)."""
    return child.run(lambda client, archive: print(read(client, archive).to_json()))


if __name__ == "__main__":
    sys.exit(main())
