"""Training runs: the Redis hash behind each is the truth, and the broker's messages are only doorbells.

A claim gives a run to one worker for a lease, on Redis's clock. Its number, the attempt, is a fencing token: a worker
that was silent for too long finds its heartbeats and its commit refused (reliability notes, 1.2). The commit itself
is `core.registry.publish`.
"""

import hashlib
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import redis

from core import audit, keys
from core.errors import UsageError
from core.records import Run, RunState
from core.redis import clock, script
from training.recipe import Recipe

_LUA = Path(__file__).parent / "lua"
ACTIVE = (RunState.QUEUED, RunState.RUNNING)
UNCLAIMED_S = 10.0
"""A queued run that nobody claims for so long has lost its doorbell."""


def planned(*, snapshot: str, parent: int, recipe: str, last_vote: float) -> Run:
    """A run that `create` can queue. Its id is a hash of what it is made of, so planning it twice is one run.

    Args:
        recipe: a whole recipe as JSON; it says by which method the candidate is trained.
    """
    method = Recipe.model_validate_json(recipe).method
    identity = json.dumps([method, snapshot, parent, recipe])
    return Run(
        id=hashlib.sha256(identity.encode()).hexdigest()[:32],
        snapshot=snapshot,
        parent=parent,
        method=method,
        recipe=recipe,
        state=RunState.QUEUED,
        created=0.0,
        updated=0.0,
        last_vote=last_vote,
    )


def create(client: redis.Redis, run: Run, *, votes: int) -> Literal["created", "exists", "busy"]:
    """Queues a planned run, unless it exists or another one is active; one script, so two schedulers make one run.

    Args:
        votes: how many votes there were when its snapshot was cut; the next round counts from there.
    """
    fields = [part for name, value in _fields(run).items() for part in (name, value)]
    arguments = [run.id, keys.run(""), votes, *fields]
    outcome = script(client, _LUA / "run_create.lua")(
        keys=[keys.run(run.id), keys.RUNS, keys.SCHEDULER], args=arguments
    )
    return cast(Literal["created", "exists", "busy"], outcome)


def claim(client: redis.Redis, run_id: str, owner: str, lease_s: float, *, max_attempts: int = 3) -> Run | None:
    """Takes a run for `lease_s` seconds; None if it is not to be had. `owner` must be unique to this claim."""
    flat = script(client, _LUA / "run_claim.lua")(keys=[keys.run(run_id)], args=[owner, lease_s, max_attempts])
    return Run.model_validate(dict(zip(flat[::2], flat[1::2], strict=True))) if flat else None


def heartbeat(client: redis.Redis, run_id: str, attempt: int, stage: str, progress: float, lease_s: float) -> bool:
    """Renews the lease. False: the run was cancelled or taken over, and its trainer must stop."""
    arguments = [attempt, stage, progress, lease_s]
    return bool(script(client, _LUA / "run_heartbeat.lua")(keys=[keys.run(run_id)], args=arguments))


def finish(client: redis.Redis, run_id: str, attempt: int, state: RunState, reason: str) -> bool:
    """Ends an attempt without a policy version. False: it no longer holds the run, and nothing was changed."""
    assert state in (RunState.FAILED, RunState.SKIPPED)
    return bool(script(client, _LUA / "run_finish.lua")(keys=[keys.run(run_id)], args=[attempt, state, reason]))


def release(client: redis.Redis, run_id: str, attempt: int) -> bool:
    """Gives a run back at an orderly stop: it can be claimed at once, and the attempt does not count to the cap."""
    arguments = [attempt, RunState.QUEUED, "given back by a worker that was stopped"]
    return bool(script(client, _LUA / "run_finish.lua")(keys=[keys.run(run_id)], args=arguments))


def cancel(client: redis.Redis, run_id: str, *, actor: str, reason: str) -> None:
    """Cancels a queued or running run and tells the audit; its trainer is stopped within a heartbeat.

    Raises:
        UsageError: there is no such run, or it has ended.
    """
    state = _act(client, "run_cancel", run_id, actor, reason)
    if state not in ACTIVE:
        raise UsageError(f"Run {run_id} has ended ({state})." if state else _unknown(run_id))


def retry(client: redis.Redis, run_id: str, *, actor: str, reason: str) -> None:
    """Queues a failed, skipped or cancelled run again, against the policy that is live now, and tells the audit;
    finished stages are kept.

    Raises:
        UsageError: there is no such run, or it is active or done.
    """
    state = _act(client, "run_retry", run_id, actor, reason)
    if state not in (RunState.FAILED, RunState.CANCELLED, RunState.SKIPPED):
        raise UsageError(f"Run {run_id} is {state}: there is nothing to retry." if state else _unknown(run_id))


def get(client: redis.Redis, run_id: str) -> Run:
    """Raises:
    UsageError: there is no such run.
    """
    fields = client.hgetall(keys.run(run_id))
    if not fields:
        raise UsageError(_unknown(run_id))
    return Run.model_validate(fields)


def all_runs(client: redis.Redis) -> list[Run]:
    """Every run, oldest first."""
    return _read(client, cast(list[str], client.zrange(keys.RUNS, 0, -1)))


def newest(client: redis.Redis, *, limit: int, after: str | None = None) -> tuple[list[Run], bool]:
    """Up to so many runs, newest first, from behind the run `after` on; and whether there are more.

    Raises:
        UsageError: there is no run `after`.
    """
    start = 0
    if after is not None:
        rank = client.zrevrank(keys.RUNS, after)
        if rank is None:
            raise UsageError(_unknown(after))
        start = cast(int, rank) + 1
    ids = cast(list[str], client.zrevrange(keys.RUNS, start, start + limit))
    return _read(client, ids[:limit]), len(ids) > limit


def _read(client: redis.Redis, ids: Sequence[str]) -> list[Run]:
    pipeline = client.pipeline()
    for run_id in ids:
        pipeline.hgetall(keys.run(run_id))
    return [Run.model_validate(fields) for fields in pipeline.execute()]


def active(client: redis.Redis) -> list[Run]:
    """Runs that are queued or running."""
    return [run for run in all_runs(client) if run.state in ACTIVE]


def lost(client: redis.Redis) -> list[Run]:
    """Runs whose doorbell must ring again: queued and unclaimed for too long, or held by a worker that fell silent."""
    now = clock(client)
    return [run for run in active(client) if _is_lost(run, now)]


def _act(client: redis.Redis, name: str, run_id: str, actor: str, reason: str) -> str | None:
    """The state that the run had; None if there is none."""
    used = [keys.run(run_id), keys.REGISTRY, keys.AUDIT, keys.AUDIT_HEAD, keys.call(secrets.token_hex(16))]
    act = script(client, *audit.APPENDING, _LUA / f"{name}.lua")
    return cast(str | None, act(keys=used, args=[run_id, actor, reason]))


def _is_lost(run: Run, now: float) -> bool:
    return run.updated + UNCLAIMED_S <= now if run.state is RunState.QUEUED else run.lease_until <= now


def _fields(run: Run) -> dict[str, str]:
    return {name: str(value) for name, value in run.model_dump(by_alias=True, exclude_none=True).items()}


def _unknown(run_id: str) -> str:
    return f"There is no run {run_id}; `plumbline runs list` shows those that exist."
