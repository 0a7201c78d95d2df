"""How many votes an API key may cast for one rater in a minute, and that all of them are counted.

Votes of nobody in particular are one rater's. A limit slows a key down that stuffs ballots; what such votes may do to
training, feedback/raters.py bounds. While Redis is away nothing is limited here, because nothing is stored.
"""

from collections import Counter
from collections.abc import Sequence

from core import metrics
from core.access import Caller
from core.errors import ApiError, RateLimited
from core.quotas import Quotas, duration
from feedback.events import Ballot


async def check(quotas: Quotas, caller: Caller, ballot: Ballot) -> None:
    """Raises RateLimited: the rater has voted too often."""
    waits = await quotas.votes(caller, {_rater(ballot): 1})
    if waits:
        raise _refusal(caller, waits[_rater(ballot)])


async def within(quotas: Quotas, caller: Caller, ballots: Sequence[Ballot | ApiError]) -> list[Ballot | ApiError]:
    """The batch, with the refusal in place of each vote of a rater who may not cast all that are theirs."""
    counts = Counter(_rater(ballot) for ballot in ballots if isinstance(ballot, Ballot))
    waits = await quotas.votes(caller, dict(counts)) if counts else {}
    return [
        _refusal(caller, waits[_rater(ballot)]) if isinstance(ballot, Ballot) and _rater(ballot) in waits else ballot
        for ballot in ballots
    ]


def _rater(ballot: Ballot) -> str:
    return ballot.rater or ""


def _refusal(caller: Caller, wait_s: float) -> RateLimited:
    metrics.LIMITED.labels("votes").inc()
    most = caller.limits.votes_per_minute
    return RateLimited(
        f"This API key may cast {most} votes a minute for one rater; try again in {duration(wait_s)}.", wait_s=wait_s
    )
