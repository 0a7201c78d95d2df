"""What the trainers of a run say, and when the next round is due: on the admin listener, for who watches rounds.

Runs themselves are `plumbline/run_endpoints.py`.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar, cast

import redis
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

from core import keys
from core.access import LOOK_AT_TRAINING
from core.errors import NotFound, Unavailable, UsageError
from core.http import ERRORS
from training import runs

TAIL_BYTES = 64 * 1024
T = TypeVar("T")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunLog(_Body):
    """The end of what one program of the run said."""

    files: list[str]
    """All of them, the one that spoke last at the end: `attempt-1/reward.log`."""
    file: str | None
    text: str
    is_whole: bool


class NextRound(_Body):
    """What the scheduler said of the next round, when it last looked."""

    votes_new: int
    votes_needed: int
    next_check_at: float | None
    """Unix seconds; null if it never looked."""
    reason: str
    """Why the last round that could have begun did not; empty if it did."""


class LogQuery(_Body):
    file: str | None = Field(None, max_length=200)
    """One of `files`; without it the one that spoke last."""


def routes(client: redis.Redis, artifacts: Path) -> APIRouter:
    router = APIRouter(responses=ERRORS, dependencies=[LOOK_AT_TRAINING])

    @router.get("/v1/runs/{run}/log")
    async def get_run_log(run: str, query: Annotated[LogQuery, Query()]) -> RunLog:
        """The last 64 KiB of a log, where the artifacts lie on this machine or a shared disk."""
        found = await _asked(partial(runs.get, client, run))
        return await asyncio.to_thread(_log, artifacts / "runs" / found.id, query.file)

    @router.get("/v1/rounds/next")
    async def get_next_round() -> NextRound:
        """New votes, how many start a round, and when the scheduler looks again."""
        plan = await _asked(lambda: cast(dict[str, str], client.hgetall(keys.SCHEDULER)))
        return NextRound(
            votes_new=int(plan.get("votes_new", 0)),
            votes_needed=int(plan.get("min_votes", 0)),
            next_check_at=float(plan["next_check"]) if "next_check" in plan else None,
            reason=plan.get("last_reason", ""),
        )

    return router


async def _asked(look: Callable[[], T]) -> T:
    """What a blocking look at Redis finds.

    Raises:
        NotFound: there is no such run.
        Unavailable: Redis is away.
    """
    try:
        return await asyncio.to_thread(look)
    except UsageError:
        raise NotFound("There is no such run.", param="run", code="run_not_found") from None
    except RedisError as error:
        raise Unavailable("Runs cannot be read right now: Redis is away; try again.") from error


def _log(directory: Path, wanted: str | None) -> RunLog:
    """Raises NotFound: there is no such file among the run's logs."""
    found = sorted(directory.glob("attempt-*/*.log"), key=lambda path: path.stat().st_mtime)
    names = [path.relative_to(directory).as_posix() for path in found]
    if wanted is not None and wanted not in names:
        raise NotFound("There is no such log.", param="query.file", code="log_not_found")
    if not names:
        return RunLog(files=[], file=None, text="", is_whole=True)
    name = wanted or names[-1]
    with (directory / name).open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - TAIL_BYTES))
        text = stream.read(TAIL_BYTES).decode(errors="replace")
    return RunLog(files=names, file=name, text=text, is_whole=size <= TAIL_BYTES)
