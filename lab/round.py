"""One round as the demo sees it: votes until the service starts a run, the run to its end, its candidate's release, the
first better answer.

Nothing is commanded here. Raters vote, the service does its work, and this module watches: the scheduler's hash and the
run's hash in Redis, the release (lab/release.py), and the version that chats are answered by.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

import redis
from pydantic import BaseModel

from core import keys, registry
from core.errors import PlumblineError
from core.records import PolicyVersion, Run, RunState, SnapshotManifest, Verdict
from core.settings import Settings
from lab import release
from lab.chats import Chats
from lab.demo_config import DemoConfig
from lab.display import Display
from lab.raters import Ballot, Raters
from lab.report import ReleaseFigures, RoundFigures
from training import runs

_POLL_S = 0.25


class RunningStack(Protocol):
    """What the demo needs of a started stack."""

    redis: redis.Redis
    settings: Settings

    @property
    def api_url(self) -> str: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Who takes part in a demo."""

    stack: RunningStack
    config: DemoConfig
    display: Display
    chats: Chats
    raters: Raters
    seconds: dict[str, float]
    """Part of the demo → how long it took."""


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Writes down how long the body took."""
    begun = time.monotonic()
    yield
    seconds[part] = time.monotonic() - begun


async def play_round(scene: Scene, number: int) -> RoundFigures:
    """From the first vote to the end of the candidate's release, or to the gate's refusal.

    Raises:
        PlumblineError: the service did not start, finish or serve what it should have; says which and why.
    """
    served, failed = scene.chats.served, scene.chats.failed
    ballot = Ballot()
    scene.display.say(f"Round {number}: raters compare answers and give thumbs", style="bold")
    with timed(scene.seconds, f"round {number} votes"):
        run = await _collect_votes(scene, number, ballot)
    with timed(scene.seconds, f"round {number} training"):
        run, policy = await _follow(scene, run.id)
    wait = released = None
    if run.verdict == Verdict.PASS:
        with timed(scene.seconds, f"round {number} release"):
            released = await _release(scene, policy)
        if released.state == "promoted":
            wait = await _see_new_version(scene, run, policy)
    else:
        scene.display.say(f"The gate held {policy.name} back: {run.reason}", style="yellow")
    return _figures(scene, run, policy, ballot).model_copy(
        update={
            "release": released,
            "vote_to_first_token_s": wait,
            "served": scene.chats.served - served,
            "failed": scene.chats.failed - failed,
        }
    )


async def _collect_votes(scene: Scene, number: int, ballot: Ballot) -> Run:
    """Raters vote until the service has started a run; the run is returned."""
    client, needed = scene.stack.redis, scene.stack.settings.min_votes
    # Not those under way: as soon as a release has ended, enough votes may be there for the next round.
    known = {run.id for run in runs.all_runs(client) if run.state not in runs.ACTIVE}
    deadline = time.monotonic() + scene.config.votes_timeout_s
    stop = asyncio.Event()
    voting = asyncio.create_task(scene.raters.vote_until(stop, ballot))
    bar = f"round {number}: votes"
    try:
        while not (started := [run for run in runs.all_runs(client) if run.id not in known]):
            noticed = f"the service has noticed {_scheduler(client, 'votes_new', '0')}; {ballot.thumbs} thumbs"
            scene.display.bar(bar, ballot.comparisons, needed, note=noticed)
            if voting.done() or time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL_S)
    finally:
        stop.set()
        await voting
        scene.display.end(bar)
    if not started:
        reason = _scheduler(client, "last_reason", "it gave no reason")
        raise PlumblineError(f"The service started no run after {ballot.comparisons} votes: {reason}")
    scene.display.say(
        f"The service has frozen a snapshot and started run {started[0].id[:8]} "
        f"({ballot.comparisons} comparisons, {ballot.ties} of them ties; {ballot.thumbs} thumbs)"
    )
    return started[0]


def _scheduler(client: redis.Redis, name: str, otherwise: str) -> str:
    return cast(str | None, client.hget(keys.SCHEDULER, name)) or otherwise


async def _follow(scene: Scene, run_id: str) -> tuple[Run, PolicyVersion]:
    """Watch a run to its end; the run and the version that it registered."""
    client = scene.stack.redis
    deadline = time.monotonic() + scene.config.training_timeout_s
    stage, begun = "", time.monotonic()
    while (run := runs.get(client, run_id)).state in runs.ACTIVE:
        if run.stage != stage:
            _leave_stage(scene, stage, time.monotonic() - begun)
            stage, begun = run.stage, time.monotonic()
        scene.display.bar(_bar(stage), 100 * run.progress, 100, note=run.state)
        if time.monotonic() > deadline:
            raise PlumblineError(f"Run {run_id[:8]} is still {run.state} (stage {run.stage!r}); see its logs.")
        await asyncio.sleep(_POLL_S)
    _leave_stage(scene, stage, time.monotonic() - begun)
    if run.state is not RunState.DONE or run.version is None:
        raise PlumblineError(f"Run {run_id[:8]} ended {run.state}: {run.reason} (`plumbline runs logs {run_id[:8]}`)")
    policy = registry.policy(client, run.version)
    scene.display.say(f"Run {run_id[:8]} registered {policy.name}; the gate says {run.verdict}")
    return run, policy


def _leave_stage(scene: Scene, stage: str, seconds: float) -> None:
    scene.display.end(_bar(stage))
    if stage:
        scene.display.say(f"  {stage}: {seconds:.0f} s", style="dim")


def _bar(stage: str) -> str:
    return f"training: {stage or 'waiting for a worker'}"


async def _release(scene: Scene, policy: PolicyVersion) -> ReleaseFigures:
    return await release.follow(
        scene.stack.redis,
        f"rel_{policy.version}",
        chats=scene.chats,
        raters=scene.raters,
        display=scene.display,
        config=scene.config.release,
        rng=random.Random(scene.config.seed + policy.version),
    )


async def _see_new_version(scene: Scene, run: Run, policy: PolicyVersion) -> float:
    """Wait until somebody in the background traffic has read a token of `policy`; seconds since the last vote of its
    snapshot."""
    deadline = time.monotonic() + scene.config.swap_timeout_s
    while policy.version not in scene.chats.first_tokens:
        if time.monotonic() > deadline:
            raise PlumblineError(f"{policy.name} is live in the registry, but no chat was answered by it.")
        await asyncio.sleep(_POLL_S)
    seconds = scene.chats.first_tokens[policy.version] - run.last_vote
    scene.display.say(
        f"{policy.name} answers now, {seconds:.0f} s after the last vote that it learned from", style="green"
    )
    return seconds


# -- figures -----------------------------------------------------------------------------------------------------------


def _figures(scene: Scene, run: Run, policy: PolicyVersion, ballot: Ballot) -> RoundFigures:
    """What the service itself measured, on all votes to date. What is new is not their difference to the round before:
    a bound on raters may leave out votes that an earlier snapshot held."""
    manifest, gate = _manifest(scene.stack, run.snapshot), policy.gate
    assert gate is not None, "only version 0 has no gate report"
    return RoundFigures(
        version=policy.version,
        method=run.method,
        votes=manifest.rows,
        policy_rows=manifest.policy_rows if run.method == "dpo" else 0,  # PPO's policy sees prompts only
        dropped=manifest.dropped,
        thumbs=manifest.thumbs,
        rm_accuracy=_reward_accuracy(scene.stack, run),
        rm_ceiling=ballot.ceiling(scene.config.raters),
        kl_parent=gate.metrics.get("kl_to_parent"),
        kl_base=gate.metrics.get("kl_to_base"),
        tokens=gate.metrics.get("mean_tokens"),
        gate=gate.verdict,
        gate_reason=gate.summary,
    )


class _RewardCard(BaseModel):
    """What the demo shows of the trainer's reward.json."""

    test_accuracy: float | None


def _reward_accuracy(stack: RunningStack, run: Run) -> float | None:
    path = stack.settings.artifacts / "runs" / run.id / "reward" / "reward.json"
    return _RewardCard.model_validate_json(path.read_text(encoding="utf-8")).test_accuracy


def _manifest(stack: RunningStack, snapshot: str) -> SnapshotManifest:
    path = stack.settings.artifacts / "snapshots" / snapshot / "manifest.json"
    return SnapshotManifest.model_validate_json(path.read_text(encoding="utf-8"))
