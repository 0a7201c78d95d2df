"""Calls share trips, and each has its own answer."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from core.redis import connect_async, script
from core.trips import Call, Trips

_TEXT = "redis.call('RPUSH', KEYS[1], ARGV[1]) if ARGV[1] == 'bad' then error('bad') end return ARGV[1]"


@pytest.fixture
def in_redis(redis_server: str, redis_client: redis.Redis, tmp_path: Path) -> Callable[..., Any]:
    """Runs a coroutine function over trips and a function that makes a call which notes its word and returns it."""
    (tmp_path / "note.lua").write_text(_TEXT)

    def run(work: Callable[[redis.asyncio.Redis, Trips, Callable[[str], Call]], Awaitable[Any]]) -> Any:
        async def within() -> Any:
            client = connect_async(redis_server)
            note = script(client, tmp_path / "note.lua")
            try:
                return await work(client, Trips(client), lambda word: Call(script=note, keys=["noted"], args=[word]))
            finally:
                await client.aclose()

        return asyncio.run(within())

    return run


def test_each_call_has_its_answer_and_its_error(in_redis: Callable[..., Any], redis_client: redis.Redis) -> None:
    """Fifty at once: every one ran once, what was said together ran in order, and one bad call harms no other."""
    words = [str(number) for number in range(49)] + ["bad"]

    async def work(_: redis.asyncio.Redis, trips: Trips, call: Callable[[str], Call]) -> Any:
        return await asyncio.gather(*(trips.send(call(word)) for word in words), return_exceptions=True)

    *answers, bad = in_redis(work)
    assert answers == words[:-1]
    assert isinstance(bad, redis.ResponseError)
    noted = [word for word in redis_client.lrange("noted", 0, -1) if word in words[4:]]
    assert noted == words[4:]
    assert redis_client.llen("noted") == 50


def test_a_script_that_redis_forgot_is_told_again(in_redis: Callable[..., Any], redis_client: redis.Redis) -> None:
    """Alone or together: each call runs once."""

    async def work(client: redis.asyncio.Redis, trips: Trips, call: Callable[[str], Call]) -> Any:
        await client.script_flush()
        alone = await trips.send(call("alone"))
        await client.script_flush()
        return [alone, *await asyncio.gather(*(trips.send(call(str(number))) for number in range(20)))]

    assert in_redis(work) == ["alone", *map(str, range(20))]
    assert redis_client.llen("noted") == 21
