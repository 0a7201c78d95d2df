"""Calls of Lua scripts that share round trips to Redis.

Under load that is one fsync and little work for dozens of calls, while others are read and answered; without load a
call goes at once.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from redis import exceptions

MAX_TOGETHER = 100
"""Calls that share a round trip: Redis serves nobody else meanwhile."""
_TRIPS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One script, safe to be retried, with what it is given."""

    script: Any
    """As `core.redis.script` registers it."""
    keys: Sequence[str] = ()
    args: Sequence[str | int] = ()


class Trips:
    """Round trips, a few at a time: a call that finds all under way waits, and shares the next one to leave. Calls are
    sent in the order in which they were made, but up to four trips are under way together."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._under_way = 0
        self._waiting: list[tuple[Call, asyncio.Future[Any]]] = []
        self._shared: set[asyncio.Task[None]] = set()
        """Kept, because the event loop itself would not."""

    async def send(self, call: Call) -> Any:
        """Its answer. Raises RedisError: its own, or the trip's."""
        if self._under_way >= _TRIPS:
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._waiting.append((call, answer))
            return await answer
        self._under_way += 1
        try:
            return await call.script(keys=call.keys, args=call.args)
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

    async def _share(self, together: Sequence[tuple[Call, asyncio.Future[Any]]]) -> None:
        answers: Sequence[Any]
        try:
            answers = await send_all(self._client, [call for call, _ in together])
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


async def send_all(client: redis.asyncio.Redis, calls: Sequence[Call]) -> list[Any]:
    """All calls in one round trip and one fsync, in order; each has its own answer or its own RedisError."""
    answers = await _trip(client, calls)
    unknown = [place for place, answer in enumerate(answers) if isinstance(answer, exceptions.NoScriptError)]
    if unknown:  # Redis was restarted; what it did not know it did not run
        for text in {calls[place].script.script for place in unknown}:
            await client.script_load(text)
        again = await _trip(client, [calls[place] for place in unknown])
        for place, answer in zip(unknown, again, strict=True):
            answers[place] = answer
    return answers


async def _trip(client: redis.asyncio.Redis, calls: Sequence[Call]) -> list[Any]:
    """Not by redis-py's script objects, which in a pipeline ask before every trip whether Redis knows the script."""
    async with client.pipeline(transaction=False) as pipeline:
        for call in calls:
            pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
        return list(await pipeline.execute(raise_on_error=False))
