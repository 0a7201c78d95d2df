"""Two policy versions by the votes of people who compared them directly: how often the one is preferred to the other.

The same votes, weights and intervals as the leaderboard's (feedback/version_votes.py, feedback/bradley_terry.py), but
only those between these two: what third versions say of them is left to the board. `python -m feedback.head_to_head 6
7` prints it as JSON, for the API, which does not read long logs itself.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace

import redis

from core.errors import UsageError
from core.records import Record
from feedback import bradley_terry, child, version_votes
from feedback.archive import Archive
from feedback.bradley_terry import Fit
from feedback.leaderboard import Interval
from feedback.version_votes import VersionVote


class HeadToHead(Record):
    """How often people prefer `after` to `before`.

    Example:
        HeadToHead(before=6, after=7, votes=212, raters=61, by_rater=True, wins=118.0, ties=9.0, losses=85.0,
            win_rate=Interval(value=0.57, low=0.49, high=0.65), at_equal_length=Interval(value=0.54, …))
    """

    before: int
    after: int
    votes: int
    """Between answers of these two; a ranking is one vote."""
    raters: int
    """With an id."""
    by_rater: bool
    """Whether intervals are over raters; below twenty they are over votes, and speak of these raters alone."""
    wins: float
    """Of `after`; a ranking counts in parts, as in `ties` and `losses`."""
    ties: float
    losses: float
    win_rate: Interval | None
    """Of `after`, ties half, each vote with its weight; 95 %. None without votes."""
    at_equal_length: Interval | None
    """The same were both answers equally long."""


def head_to_head(found: Sequence[VersionVote], before: int, after: int) -> HeadToHead:
    """What these votes say of two different versions."""
    direct = [_seen_from(each, after) for each in found if {each.first, each.second} == {before, after}]
    weighed = version_votes.weigh(direct)
    written, level = (bradley_terry.fit(weighed.votes, 2, length=it) if direct else None for it in (False, True))
    place = 1 if after > before else 0
    return HeadToHead(
        before=before,
        after=after,
        votes=len({each.vote for each in direct}),
        raters=weighed.raters,
        by_rater=weighed.by_rater,
        wins=_shares(direct, 1.0),
        ties=_shares(direct, 0.5),
        losses=_shares(direct, 0.0),
        win_rate=_share(written, place),
        at_equal_length=_share(level, place),
    )


def _seen_from(vote: VersionVote, after: int) -> VersionVote:
    """The same vote with `after` as its first side."""
    if vote.first == after:
        return vote
    tokens = vote.tokens and (vote.tokens[1], vote.tokens[0])
    return replace(vote, first=vote.second, second=vote.first, won=1.0 - vote.won, tokens=tokens)


def _shares(votes: Sequence[VersionVote], won: float) -> float:
    return round(sum(vote.share for vote in votes if vote.won == won), 3)


def _share(fit: Fit | None, place: int) -> Interval | None:
    """σ of how much stronger the version at that place is than the other."""
    if fit is None:
        return None
    found = fit.difference(place, 1 - place)
    return Interval(value=_sigmoid(found.value), low=_sigmoid(found.low), high=_sigmoid(found.high))


def _sigmoid(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))


def read(client: redis.Redis, archive: Archive, before: int, after: int) -> HeadToHead:
    """By the whole log.

    Raises:
        UsageError: Redis gave up entries that `archive` does not hold, or a part of it is damaged.
    """
    found, _ = version_votes.read(client, archive)
    return head_to_head(found, before, after)


def main() -> int:
    """Prints it as JSON. Returns the exit status (feedback/child.py)."""

    def work(client: redis.Redis, archive: Archive) -> None:
        if len(sys.argv) != 3 or not all(each.isdecimal() for each in sys.argv[1:]):
            raise UsageError("usage: python -m feedback.head_to_head BEFORE AFTER")
        print(read(client, archive, int(sys.argv[1]), int(sys.argv[2])).to_json())

    return child.run(work)


if __name__ == "__main__":
    sys.exit(main())
