"""Erasures as the scheduler does them: feedback/erasure.py knows the data, this the training runs."""

import logging
import shutil
from collections.abc import Collection
from functools import partial

import redis

from core.errors import UsageError
from core.records import RunState
from core.redis import clock
from core.settings import Settings
from feedback import deletion, erasure
from feedback.archive import Archive
from training import runs

STOPPING_S = 10.0
"""A cancelled run's trainer is stopped within a heartbeat; until then it writes to its directory."""

log = logging.getLogger("plumbline.erasures")


def carry_out(client: redis.Redis, config: Settings) -> None:
    """One attempt at each job that is not done."""
    for job in erasure.pending(client):
        try:
            done = erasure.run(client, config.artifacts, job, forget_runs=partial(forget_runs, client, config))
            log.info("erasure %s: %s", job, done.state if done else "the archive is in use")
        except (UsageError, OSError) as error:
            log.error("erasure %s is tried again: %s", job, error)
        except redis.RedisError as error:
            log.error("erasure %s is tried again when Redis works: %s", job, type(error).__name__)


def strike_off(client: redis.Redis, config: Settings) -> None:
    """Takes single completions that were deleted out of the archive."""
    try:
        if gone := deletion.run(client, Archive(config.artifacts)):
            log.info("%d deleted completions are out of the archive", gone)
    except (UsageError, OSError) as error:
        log.error("deleted completions are struck off later: %s", error)


def forget_runs(client: redis.Redis, config: Settings, snapshots: Collection[str]) -> list[str]:
    """Stops the runs on these snapshots and deletes their directories whole: samples, checkpoints, reward models, lists
    of votes, logs. A gate's report stays with the policy, in the registry.

    Raises:
        UsageError: a trainer is being stopped.
    """
    now = clock(client)
    found = [run for run in runs.all_runs(client) if run.snapshot in snapshots]
    for run in found:
        if run.state in runs.ACTIVE:
            runs.cancel(client, run.id, actor="scheduler", reason="somebody in its snapshot was erased")
            raise UsageError(f"run {run.id[:8]} is being stopped")
        if run.state is RunState.CANCELLED and run.updated + STOPPING_S > now:
            raise UsageError(f"run {run.id[:8]} is being stopped")
    for run in found:
        directory = config.artifacts / "runs" / run.id
        if directory.exists():
            shutil.rmtree(directory)
    return [run.id for run in found]
