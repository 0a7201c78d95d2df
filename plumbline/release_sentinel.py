"""Whether people confirm, while a candidate is released, what the reward that made it said of it.

The release test asks whether the candidate is worse than the incumbent; this asks less of people, and only of a
candidate whose optimizer was sure: that it does not win by more than a hair (training/sentinel.py). The bound is that
of a confidence sequence, so that one may look after every vote. As that is wider than the test is sharp, what this adds
is mostly the reason: that not the candidate alone is bad, but the reward that made it.
"""

import redis

from core import registry
from core.errors import UsageError
from core.records import PolicyVersion, Verdict
from core.releases import Release
from serving.release import Step
from serving.sequential_test import Tally, confidence_sequence
from training import runs, sentinel
from training.recipe import GateBounds, Recipe
from training.sentinel import Bounded


def overoptimised(client: redis.Redis, candidate: PolicyVersion, tally: Tally) -> str | None:
    """Why the candidate is to be rolled back; None while nothing says so.

    Args:
        tally: people's first votes between candidate and incumbent.
    """
    if tally.win_rate is None or candidate.gate is None or "proxy_win_low" not in candidate.gate.metrics:
        return None
    reach = confidence_sequence(tally)
    people = Bounded(value=tally.win_rate, low=reach.low, high=reach.high, count=tally.raters)
    check = sentinel.while_released(candidate, people, _bounds(client, candidate))
    return check.reason if check is not None and check.verdict is Verdict.FAIL else None


def heard(client: redis.Redis, release: Release, tally: Tally, step: Step | None) -> Step | None:
    """The step of a release, after people were heard on over-optimisation: back, where it would have waited or gone on;
    and where it goes back anyway, with this as a further reason."""
    reason = overoptimised(client, registry.policy(client, release.version), tally)
    if reason is None or (step is not None and step.kind == "promoted"):
        return step
    before = f"{step.reason}; " if step is not None and step.kind == "rolled_back" else ""
    return Step(kind="rolled_back", reason=before + reason)


def _bounds(client: redis.Redis, candidate: PolicyVersion) -> GateBounds:
    """Those of the run that made it, or the defaults where its record is gone."""
    try:
        return Recipe.model_validate_json(runs.get(client, candidate.run or "").recipe).gate
    except UsageError:
        return GateBounds()
