"""Figures of the loop for operators: what feedback came and what was left out, and what each version's reward cost.

On the admin listener. All are counted or measured elsewhere; here they are put side by side.
"""

import asyncio
from pathlib import Path
from typing import cast

import redis
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from core import keys, registry
from core.access import LOOK
from core.errors import Unavailable
from core.http import ERRORS
from core.records import PolicyState, policy_name
from feedback import snapshots
from training import sentinel


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FeedbackFigures(_Body):
    """Since the deployment began, but for `dropped`."""

    people: dict[str, int]
    """Votes by kind, changed and withdrawn ones among them: `{"thumb": 812, "preference": 204}`."""
    ai: dict[str, int]
    """The same of AI raters."""
    regenerated: dict[str, int]
    """Answers in whose place their reader asked for another, by the version that wrote them: `{"assistant@v2": 14}`."""
    snapshot: str | None
    """The newest one, which `dropped` is about; null before the first, or where the artifacts are elsewhere."""
    dropped: dict[str, int]
    """Votes that gave no row or no policy row, by reason."""


class StepFigures(_Body):
    """One version on the way from version 0 to the live one."""

    version: str
    state: PolicyState
    figures: dict[str, float]
    """Of its gate report, as far as they were measured: `proxy_win_rate` (by the reward that was optimized),
    `win_rate` (by the judge), `people_win_rate`, `prequential_rate`, `kl_to_base`, `kl_path`, `length_path`,
    `agreement`."""


class RewardFigures(_Body):
    """Reward against KL, oldest version first."""

    data: list[StepFigures]


def routes(client: redis.Redis, artifacts: Path) -> APIRouter:
    router = APIRouter(responses=ERRORS)

    @router.get("/v1/figures/feedback", dependencies=[LOOK])
    async def get_feedback_figures() -> FeedbackFigures:
        """Feedback by kind, what the newest snapshot left out and why, and answers that were asked for again."""
        return await asyncio.to_thread(_feedback, client, artifacts)

    @router.get("/v1/figures/reward", dependencies=[LOOK])
    async def get_reward_figures() -> RewardFigures:
        """What the optimizer's reward, the judge and people said of each version, and how far it is from the base."""
        return await asyncio.to_thread(_reward, client)

    return router


def _feedback(client: redis.Redis, artifacts: Path) -> FeedbackFigures:
    try:
        counts = cast(dict[str, str], client.hgetall(keys.FEEDBACK_COUNTS))
        regenerated = cast(dict[str, str], client.hgetall(keys.REGENERATED))
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        raise _away() from error
    newest = next(iter(snapshots.newest_first(artifacts / "snapshots")), None)
    return FeedbackFigures(
        people={kind: int(count) for kind, count in sorted(counts.items()) if not kind.startswith("ai_")},
        ai={kind.removeprefix("ai_"): int(count) for kind, count in sorted(counts.items()) if kind.startswith("ai_")},
        regenerated={policy_name(int(version)): int(regenerated[version]) for version in sorted(regenerated, key=int)},
        snapshot=newest.id if newest else None,
        dropped=newest.dropped if newest else {},
    )


def _reward(client: redis.Redis) -> RewardFigures:
    try:
        state, policies = registry.state(client), registry.policies(client)
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        raise _away() from error
    states = {policy.version: policy.state for policy in policies}
    found = sentinel.series(policies, state.live) if state is not None else []
    steps = [StepFigures(version=policy_name(it), state=states[it], figures=figures) for it, figures in found]
    return RewardFigures(data=steps)


def _away() -> Unavailable:
    return Unavailable("The figures cannot be read right now; try again.")
