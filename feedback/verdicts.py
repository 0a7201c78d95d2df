"""What the judgement of raters comes to: weights for rows, who is set aside, and reports for people.

The quarantines themselves are events in the log (feedback/rater_review.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import redis

from core import keys, records
from core.records import RaterReport, SharedHabit, TrustReport
from feedback import log as one_log
from feedback.agreement import Share
from feedback.raters import UNKNOWN, RaterTrust, Trust

FROM_RATERS = 20
"""With fewer raters nobody is weighed or quarantined, as none is capped: among few, one of another opinion is no
anomaly, and there is little to tell it by."""
_PRECISION = 2
"""Digits of a weight: numerical noise must not make another snapshot of the same votes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What follows for the next snapshot."""

    raters: dict[str, RaterReport]
    weights: dict[str, float]
    """Of the rows of each; empty where nobody is weighed."""
    unknown: float = 1.0
    """Of those of everybody else: what is known of a rater before the first vote."""

    @property
    def quarantined(self) -> list[RaterReport]:
        return [each for each in self.raters.values() if each.quarantined]


def verdict(trust: Trust, *, as_of: float) -> Verdict:
    """Weighs and quarantines, where there are raters enough."""
    enough = len(trust.raters) >= FROM_RATERS
    reports = {name: _report(each, as_of=as_of, acts=enough) for name, each in trust.raters.items()}
    if not enough:
        return Verdict(raters=reports, weights={})
    weights = {name: each.weight for name, each in reports.items()}
    return Verdict(raters=reports, weights=weights, unknown=round(UNKNOWN, _PRECISION))


def _report(rater: RaterTrust, *, as_of: float, acts: bool) -> RaterReport:
    return RaterReport(
        rater=rater.rater,
        votes=rater.votes,
        judged=rater.judged,
        reliability=rater.reliability.mean,
        reliability_low=rater.reliability.low,
        reliability_high=rater.reliability.high,
        weight=round(rater.weight, _PRECISION) if acts else 1.0,
        quarantined=acts and rater.quarantined,
        reason=rater.reason if acts else "",
        as_of=as_of,
    )


def summary(
    trust: Trust, *, votes: int, surveyed: int, quarantined: int, snapshot: str, as_of: float, error: str = ""
) -> TrustReport:
    """For operators; names nobody."""
    return TrustReport(
        as_of=as_of,
        snapshot=snapshot,
        votes=votes,
        surveyed=surveyed,
        raters=len(trust.raters),
        quarantined=quarantined,
        alpha_nominal=trust.alpha_nominal,
        alpha_ordinal=trust.alpha_ordinal,
        first=_share(trust.first),
        longer=_share(trust.longer),
        longer_expected=trust.longer_expected,
        habits=[
            SharedHabit(habit=each.habit, raters=len(each.raters), log10_e=each.log10_e) for each in trust.collusions
        ],
        error=error,
    )


def _share(found: Share | None) -> records.Share | None:
    if found is None:
        return None
    return records.Share(value=found.mean, low=found.low, high=found.high, count=found.votes)


# --- Redis ------------------------------------------------------------------------------------------------------------


def publish(
    client: redis.Redis, raters: Mapping[str, RaterReport], report: TrustReport, *, kept: Iterable[str]
) -> None:
    """Replaces the last reports, but for those of raters who are set aside and so were not judged again.

    Args:
        kept: who these are.
    """
    aside = [name for name in kept if name not in raters]
    earlier = {
        name: held
        for batch in one_log.batches(aside)
        for name, held in zip(batch, client.hmget(keys.TRUST_RATERS, batch), strict=True)
        if held is not None
    }
    entries = earlier | {name: each.to_json() for name, each in raters.items()}
    pipeline = client.pipeline(transaction=True)
    pipeline.delete(keys.TRUST_RATERS)
    for names in one_log.batches(entries):
        pipeline.hset(keys.TRUST_RATERS, mapping={name: entries[name] for name in names})
    pipeline.set(keys.TRUST, report.to_json())
    pipeline.execute()
