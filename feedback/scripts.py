"""Runs this package's Lua scripts: each decision is one of them, the wait is bounded, Redis's troubles become a 503.

All scripts share lua/common.lua, the log and two key prefixes; see there for how the log is indexed.
"""

import asyncio
import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import redis.asyncio
from redis import exceptions

from core import keys, trips
from core.errors import Unavailable
from core.records import Feedback
from core.redis import lua

TIMEOUT_S = 2.0
RETRY_WINDOW_S = 60
"""How long a call finds its own traces, should the Redis client have sent it twice."""
_LUA = Path(__file__).parent / "lua"
_AWAY = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.OutOfMemoryError, exceptions.ReadOnlyError)
_AWAY_WORDS = ("OOM ", "READONLY ", "MISCONF ", "NOREPLICAS ", "MASTERDOWN ", "LOADING ")
_MESSAGE = "Feedback can be neither stored nor read right now; nothing was lost, send it again."


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One script with what it is given, beside what all are given."""

    name: str
    """Of the file under lua/."""
    keys: Sequence[str] = ()
    args: Sequence[str | int] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A vote as it is now: its newest revision and what the index says of it."""

    feedback: Feedback
    where: str
    """The index's word: it changes whenever something happens to the vote."""
    first: str
    """Where in the log the vote was first given: its place in lists, whatever happens to it later."""
    revealed: bool
    """False: it concerns a comparison that is still blind, so nothing may be said of policies."""
    archived: bool = False
    """Its newest revision lies in the archive only: it can be taken back, and otherwise not be changed."""

    @property
    def superseded(self) -> bool:
        return self.where.endswith(",s")

    @property
    def status(self) -> Literal["active", "superseded", "withdrawn"]:
        if self.feedback.withdrawn:
            return "withdrawn"
        return "superseded" if self.superseded else "active"


def view(answer: Sequence[Any]) -> View:
    """What `view` in lua/common.lua returned."""
    event, where, first, revealed = answer
    feedback = Feedback.model_validate_json(event)
    return View(feedback=feedback, where=where, first=first, revealed=bool(revealed))


async def run(client: redis.asyncio.Redis, call: Call) -> list[Any]:
    """Raises Unavailable: Redis is away, full or read-only, or did not answer in time."""
    with unavailable_when_away():
        async with asyncio.timeout(TIMEOUT_S):
            return list(await _trips(client).send(_prepared(client, call)))


async def run_all(client: redis.asyncio.Redis, calls: Sequence[Call]) -> list[list[Any] | Exception]:
    """All calls in one round trip and one fsync, in order; each has its own answer or its own Redis error."""
    with unavailable_when_away():
        async with asyncio.timeout(TIMEOUT_S):
            return await trips.send_all(client, [_prepared(client, call) for call in calls])


@functools.lru_cache(maxsize=64)
def _trips(client: redis.asyncio.Redis) -> trips.Trips:
    return trips.Trips(client)


def _prepared(client: redis.asyncio.Redis, call: Call) -> trips.Call:
    """With what all scripts are given."""
    names, args = [keys.FEEDBACK, *call.keys], [keys.FEEDBACK_INDEX, keys.comparison(""), *call.args]
    return trips.Call(script=_script(client, call.name), keys=names, args=args)


@functools.lru_cache(maxsize=64)
def _script(client: redis.asyncio.Redis, name: str) -> Any:
    return client.register_script(lua(_LUA / "common.lua") + lua(_LUA / f"{name}.lua"))


@contextlib.contextmanager
def unavailable_when_away() -> Iterator[None]:
    """The one place where Redis's troubles become a 503. Anything else is our mistake and stays loud."""
    try:
        yield
    except (*_AWAY, TimeoutError) as error:
        raise Unavailable(_MESSAGE) from error
    except exceptions.ResponseError as error:  # Redis 6.2 wraps what happens inside a script
        if not any(word in str(error) for word in _AWAY_WORDS):
            raise
        raise Unavailable(_MESSAGE) from error
