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

from core import keys
from core.errors import Unavailable
from core.records import Feedback
from core.redis import lua

TIMEOUT_S = 2.0
_TRIPS = 4
MAX_TOGETHER = 100
"""Calls that share a round trip: Redis serves nobody else meanwhile."""
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
            return list(await _trips(client).send(call))


async def run_all(client: redis.asyncio.Redis, calls: Sequence[Call]) -> list[list[Any] | Exception]:
    """All calls in one round trip and one fsync, in order; each has its own answer or its own Redis error."""
    with unavailable_when_away():
        async with asyncio.timeout(TIMEOUT_S), client.pipeline(transaction=False) as pipeline:
            for call in calls:
                await _send(client, pipeline, call)
            return list(await pipeline.execute(raise_on_error=False))


class _Trips:
    """Round trips to Redis, a few at a time: a call that finds all under way waits, and shares the next one to leave.

    Under load that is one fsync and little work for dozens of votes, while others are read and answered; without load a
    call goes at once.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._under_way = 0
        self._waiting: list[tuple[Call, asyncio.Future[list[Any]]]] = []
        self._shared: set[asyncio.Task[None]] = set()
        """Kept, because the event loop itself would not."""

    async def send(self, call: Call) -> list[Any]:
        if self._under_way >= _TRIPS:
            answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
            self._waiting.append((call, answer))
            return await answer
        self._under_way += 1
        try:
            return list(await _send(self._client, self._client, call))
        finally:
            self._depart()

    def _depart(self) -> None:
        """In place of a trip that is over, the next, if anybody still waits for it."""
        waiting = [entry for entry in self._waiting if not entry[1].done()]
        together, self._waiting = waiting[:MAX_TOGETHER], waiting[MAX_TOGETHER:]
        if not together:
            self._under_way -= 1
            return
        trip = asyncio.get_running_loop().create_task(self._share(together))
        self._shared.add(trip)
        trip.add_done_callback(self._shared.discard)

    async def _share(self, together: Sequence[tuple[Call, asyncio.Future[list[Any]]]]) -> None:
        answers: Sequence[list[Any] | Exception]
        try:
            answers = await run_all(self._client, [call for call, _ in together])
        except Exception as error:  # it is every caller's
            answers = [error] * len(together)
        finally:
            self._depart()
        for (_, waiting), answer in zip(together, answers, strict=True):
            if waiting.done():  # its caller gave up
                continue
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)


@functools.lru_cache(maxsize=64)
def _trips(client: redis.asyncio.Redis) -> _Trips:
    return _Trips(client)


def _send(client: redis.asyncio.Redis, to: Any, call: Call) -> Any:
    args = [keys.FEEDBACK_INDEX, keys.comparison(""), *call.args]
    return _script(client, call.name)(keys=[keys.FEEDBACK, *call.keys], args=args, client=to)


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
