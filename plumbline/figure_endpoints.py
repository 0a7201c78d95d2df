"""Figures of the loop for operators: what feedback came and what was left out, what each version's reward cost, how
good the reward models are, and how the evidence of a release grew.

On the admin listener. All are counted or measured elsewhere; here they are put side by side.
"""

import asyncio
from functools import lru_cache
from pathlib import Path
from typing import cast

import redis
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, ValidationError

from core import evidence, keys, registry, releases
from core.access import LOOK
from core.errors import NotFound, Unavailable, UsageError
from core.http import ERRORS
from core.records import PolicyState, Run, policy_name
from feedback import snapshots
from serving.evidence import figures
from serving.sequential_test import Tally
from training import runs, sentinel
from training.reward_card import Calibration, RewardCard

_NEWEST_RUNS = 50


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


class RewardModel(_Body):
    """What one run's reward model is worth, on votes that it was not trained on."""

    run: str
    created: float
    """Of the run, in Unix seconds."""
    rows: dict[str, int]
    """Trained on, by kind."""
    accuracy: float | None
    """Share of `votes` that it predicts; null without any."""
    accuracy_low: float | None
    """One-sided 95 % lower bound."""
    votes: int
    ceiling: float | None
    """What no model can beat, as raters disagree; null where too few voted on the same pair."""
    calibration: Calibration | None
    """Null with fewer than 20 votes."""
    earlier: float | None
    """Share of the newest votes that the model before it predicted: how fast reward models age."""


class RewardModels(_Body):
    """Of the newest fifty runs, oldest first, as far as their files are on this machine."""

    data: list[RewardModel]


class EvidencePoint(_Body):
    """The evidence when so many people had voted."""

    raters: int
    win_rate: float
    """Of the candidate, ties half."""
    low: float
    """Of the win rate, as `high`: 95 % at all times together."""
    high: float
    log10_e: float
    """Evidence that the candidate is better; promotion needs −log10 alpha."""
    log10_e_against: float
    """That it is worse."""


class EvidenceFigures(_Body):
    """How the evidence of a release grew, first votes first; the last point is that of now."""

    data: list[EvidencePoint]


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

    @router.get("/v1/figures/reward-models", dependencies=[LOOK])
    async def get_reward_model_figures() -> RewardModels:
        """Accuracy and calibration of each run's reward model."""
        return await asyncio.to_thread(_reward_models, client, artifacts / "runs")

    @router.get("/v1/figures/evidence/{release}", dependencies=[LOOK])
    async def get_evidence_figures(release: str) -> EvidenceFigures:
        """How the e-values and the confidence sequence of a release went, for a plot."""
        return await asyncio.to_thread(_evidence, client, release)

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


def _reward_models(client: redis.Redis, directory: Path) -> RewardModels:
    try:
        newest = runs.newest(client, limit=_NEWEST_RUNS)[0][::-1]
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        raise _away() from error
    cards = [(run, _card(directory / run.id / "reward" / "reward.json")) for run in newest]
    return RewardModels(data=[_reward_model(run, card) for run, card in cards if card is not None])


def _card(file: Path) -> RewardCard | None:
    """None where there is none, or one of another Plumbline's."""
    try:
        return RewardCard.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _reward_model(run: Run, card: RewardCard) -> RewardModel:
    earlier = card.prequential.overall if card.prequential is not None else None
    return RewardModel(
        run=run.id,
        created=run.created,
        rows=card.rows,
        accuracy=card.test_accuracy,
        accuracy_low=card.test_accuracy_low,
        votes=card.test_pairs,
        ceiling=card.noise_ceiling.ceiling if card.noise_ceiling is not None else None,
        calibration=card.calibration,
        earlier=earlier.accuracy if earlier is not None else None,
    )


def _evidence(client: redis.Redis, release: str) -> EvidenceFigures:
    try:
        releases.release(client, release)
        found = evidence.load(client, release)
    except UsageError:
        raise NotFound("There is no such release.", param="release", code="release_not_found") from None
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        raise _away() from error
    if found is None or found.raters == 0:
        return EvidenceFigures(data=[])
    now = (found.wins, found.ties, found.losses)
    trail = found.trail if now in found.trail[-1:] else (*found.trail, now)
    return EvidenceFigures(data=[_point(*counts) for counts in trail])


@lru_cache(maxsize=1024)  # a trail only grows, and a confidence sequence takes milliseconds
def _point(wins: int, ties: int, losses: int) -> EvidencePoint:
    counts = Tally(wins=wins, ties=ties, losses=losses)
    assert counts.win_rate is not None
    return EvidencePoint(raters=counts.raters, win_rate=counts.win_rate, **figures(counts))


def _away() -> Unavailable:
    return Unavailable("The figures cannot be read right now; try again.")
