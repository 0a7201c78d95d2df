"""`/v1/runs` on the admin listener: what `plumbline runs` does, over HTTP. The scope is `train`, so that whoever asks
for rounds needs no power over what is served; snapshots and exports are open to it too (feedback/export_endpoints.py).

Each act needs a reason, which the audit trail keeps with the caller.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import redis
from fastapi import APIRouter, Query
from kombu.exceptions import OperationalError
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

from core import releases
from core.access import LOOK_AT_TRAINING, TRAIN, Caller
from core.errors import AlreadyDecided, InvalidRequest, NotFound, Unavailable, UsageError
from core.http import ERRORS
from core.records import Run
from core.settings import Settings
from plumbline import scheduler
from plumbline.because import Because
from training import runs
from training.worker import ring

_Trainer = Annotated[Caller, TRAIN]


class RunListQuery(BaseModel):
    """Which runs to list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after: str | None = None
    """`last_id` of the page before."""
    limit: int = Field(20, ge=1, le=100)


class RunList(BaseModel):
    """A page, newest first."""

    object: Literal["list"] = "list"
    data: list[Run]
    first_id: str | None
    last_id: str | None
    has_more: bool


class RoundAsked(BaseModel):
    """The scheduler will begin a round; its run then stands in the list. `{"object": "round", "votes_new": 127}`."""

    object: Literal["round"] = "round"
    votes_new: int
    """Preferences and rankings of people since the last snapshot."""


def routes(client: redis.Redis, config: Settings) -> APIRouter:
    """All routes; each is a plain function, which FastAPI runs in a thread, as the client blocks."""
    router = APIRouter(responses=ERRORS)

    @router.get("/v1/runs", dependencies=[LOOK_AT_TRAINING])
    def list_runs(query: Annotated[RunListQuery, Query()]) -> RunList:
        """Training runs, newest first, with their state, stage, verdict and recipe."""
        try:
            data, more = runs.newest(client, limit=query.limit, after=query.after)
        except UsageError:
            raise InvalidRequest("There is no such run to go on from.", param="query.after") from None
        except RedisError as error:
            raise _away("Runs cannot be read") from error
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return RunList(data=data, first_id=first, last_id=last, has_more=more)

    @router.get("/v1/runs/{run}", dependencies=[LOOK_AT_TRAINING])
    def get_run(run: str) -> Run:
        """One run."""
        return _found(client, run)

    @router.post("/v1/runs", status_code=202)
    def start_run(body: Because, caller: _Trainer) -> RoundAsked:
        """Asks for a round now, however few new votes there are."""
        _refuse_a_second(client)
        try:
            scheduler.request_round(client, config, actor=caller.actor, reason=body.reason)
            new = scheduler.new_votes(client)
        except (OperationalError, RedisError) as error:
            raise _away("The scheduler cannot be asked") from error
        return RoundAsked(votes_new=new)

    @router.post("/v1/runs/{run}/cancel")
    def cancel_run(run: str, body: Because, caller: _Trainer) -> Run:
        """Cancels a queued or running run; its trainer is stopped within a heartbeat."""
        _found(client, run)
        _change(lambda: runs.cancel(client, run, actor=caller.actor, reason=body.reason))
        return _found(client, run)

    @router.post("/v1/runs/{run}/retry")
    def retry_run(run: str, body: Because, caller: _Trainer) -> Run:
        """Queues a failed, skipped or cancelled run again, with fresh attempts; finished stages are kept."""
        _found(client, run)
        _change(lambda: runs.retry(client, run, actor=caller.actor, reason=body.reason))
        ring(run, config)
        return _found(client, run)

    return router


def _refuse_a_second(client: redis.Redis) -> None:
    """Raises AlreadyDecided where the scheduler would begin none."""
    try:
        active, release = runs.active(client), releases.current(client)
    except RedisError as error:
        raise _away("Neither runs nor the registry can be read") from error
    if active:
        raise AlreadyDecided(f"Not done: run {active[0].id} is {active[0].state}.")
    if release is not None:
        raise AlreadyDecided(f"Not done: release {release.id} is open, and its votes decide what a round starts from.")


def _found(client: redis.Redis, run: str) -> Run:
    try:
        return runs.get(client, run)
    except UsageError:
        raise NotFound("There is no such run.", param="run", code="run_not_found") from None
    except RedisError as error:
        raise _away("Runs cannot be read") from error


def _change(work: Callable[[], None]) -> None:
    try:
        work()
    except UsageError as error:
        raise AlreadyDecided(f"Not done: {error}") from None
    except RedisError as error:
        raise _away("Runs cannot be changed") from error


def _away(what: str) -> Unavailable:
    return Unavailable(f"{what} right now: Redis is away; try again.")
