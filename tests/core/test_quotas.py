"""The limits of API keys: shared by replicas, settled after the answer, kept by each replica while Redis is away."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import redis

from core import keys, usage
from core.access import Caller, Limits
from core.errors import RateLimited
from core.local_quotas import LocalQuotas
from core.quotas import Quotas, duration
from core.redis import connect_async
from tests.serving.redis_process import RedisProcess

DAY_S = 86_400


def caller(**limits: int) -> Caller:
    return Caller(key_id="key_1", limits=Limits(**limits))


def run(url: str, work: Callable[[Quotas, Quotas], Coroutine[Any, Any, None]]) -> None:
    """With two replicas' quotas over one Redis."""

    async def both() -> None:
        clients = [connect_async(url) for _ in range(2)]
        try:
            await work(*(Quotas(client) for client in clients))
        finally:
            for client in clients:
                await client.aclose()

    asyncio.run(both())


def as_if_later(client: redis.Redis, seconds: float) -> None:
    """What was written to the buckets was written so much earlier."""
    for field, value in client.hgetall(keys.quota("key_1")).items():
        if field.endswith("_at"):
            client.hset(keys.quota("key_1"), field, str(float(value) - seconds))


def test_requests_are_counted_over_all_replicas(redis_server: str, redis_client: redis.Redis) -> None:
    """Two a minute: the third is refused, wherever; after half a minute one more is let in."""

    async def work(one: Quotas, other: Quotas) -> None:
        first = await one.take(caller(requests_per_minute=2))
        second = await other.take(caller(requests_per_minute=2))
        left = [it.headers["x-ratelimit-remaining-requests"] for it in (first, second)]
        assert (left, second.headers["x-ratelimit-limit-requests"]) == (["1", "0"], "2")
        with pytest.raises(RateLimited) as refused:
            await one.take(caller(requests_per_minute=2))
        headers = refused.value.headers()
        assert 29 <= int(headers["retry-after"]) <= 30
        assert (headers["x-should-retry"], headers["x-ratelimit-remaining-requests"]) == ("true", "0")
        as_if_later(redis_client, 30)
        await other.take(caller(requests_per_minute=2))

    run(redis_server, work)


def test_tokens_are_drawn_when_they_are_known(redis_server: str, redis_client: redis.Redis) -> None:
    """A key may overdraw by what it has under way, and then waits until the debt is paid back: 100 a minute, 150
    used, so that 51 are owed before one is there, which takes 30.6 seconds."""

    async def work(one: Quotas, other: Quotas) -> None:
        limited = caller(tokens_per_minute=100)
        allowance = await one.take(limited)
        assert allowance.headers["x-ratelimit-remaining-tokens"] == "100"
        one.end(allowance, prompt_tokens=50, completion_tokens=100)
        await one.drain()
        with pytest.raises(RateLimited) as refused:
            await other.take(limited)
        assert 30 <= int(refused.value.headers()["retry-after"]) <= 31
        as_if_later(redis_client, 31)
        await other.take(limited)

    run(redis_server, work)


def test_tokens_of_a_day_end_with_it(redis_server: str, redis_client: redis.Redis) -> None:
    """Who has used them is told when the day ends, and not to try again by themselves if that is long."""

    async def work(one: Quotas, other: Quotas) -> None:
        limited = caller(tokens_per_day=10)
        one.end(await one.take(limited), prompt_tokens=4, completion_tokens=6)
        await one.drain()
        with pytest.raises(RateLimited, match="10 tokens a day") as refused:
            await other.take(limited)
        seconds, _ = redis_client.time()
        wait_s = int(refused.value.headers()["retry-after"])
        assert abs(wait_s - (DAY_S - seconds % DAY_S)) <= 2
        assert refused.value.headers()["x-should-retry"] == ("true" if wait_s <= 60 else "false")

    run(redis_server, work)


def test_requests_under_way_are_counted_over_all_replicas(redis_server: str, redis_client: redis.Redis) -> None:
    """A place is free again when a request has ended, or when its replica has not been heard of for its lease."""

    async def work(one: Quotas, other: Quotas) -> None:
        limited = caller(concurrency=2)
        first, second = await one.take(limited), await other.take(limited)
        with pytest.raises(RateLimited, match="2 requests at a time"):
            await one.take(limited)
        one.end(first, prompt_tokens=1, completion_tokens=1)
        await one.drain()
        third = await one.take(limited)
        redis_client.zadd(keys.in_flight("key_1"), {second.request: 1.0})  # its replica died long ago
        await one.take(limited)
        assert redis_client.zscore(keys.in_flight("key_1"), third.request) is not None

    run(redis_server, work)


def test_a_comparison_is_one_request_of_several_parts(redis_server: str, redis_client: redis.Redis) -> None:
    """Its place is free when the last side has ended, and the tokens of all sides are counted."""

    async def work(one: Quotas, other: Quotas) -> None:
        allowance = await one.take(caller(concurrency=1))
        allowance.parts = 2
        one.end(allowance, prompt_tokens=3, completion_tokens=4)
        await one.drain()
        assert redis_client.zcard(keys.in_flight("key_1")) == 1
        one.end(allowance, prompt_tokens=3, completion_tokens=5)
        one.end(allowance, prompt_tokens=9, completion_tokens=9)  # once too often
        await one.drain()
        assert redis_client.zcard(keys.in_flight("key_1")) == 0

    run(redis_server, work)
    [day] = usage.by_day(redis_client, "key_1")
    assert (day.requests, day.prompt_tokens, day.completion_tokens, day.votes) == (1, 6, 9, 0)


def test_a_request_that_fails_to_open_gives_its_place_back(redis_server: str, redis_client: redis.Redis) -> None:
    """And was a request all the same."""

    async def work(one: Quotas, other: Quotas) -> None:
        with pytest.raises(ValueError):
            async with one.opening(caller(concurrency=1)):
                raise ValueError
        await one.drain()
        await other.take(caller(concurrency=1))

    run(redis_server, work)
    assert [day.requests for day in usage.by_day(redis_client, "key_1")] == [1]


def test_votes_are_limited_for_each_rater(redis_server: str, redis_client: redis.Redis) -> None:
    """Ann's do not count against Bob; those that may not be cast are not counted."""

    async def work(one: Quotas, other: Quotas) -> None:
        limited = caller(votes_per_minute=2)
        assert await one.votes(limited, {"ann": 2, "bob": 1}) == {}
        waits = await other.votes(limited, {"ann": 1, "bob": 1})
        assert list(waits) == ["ann"] and 29 <= waits["ann"] <= 30
        assert list(await one.votes(limited, {"eve": 3})) == [], (
            "a first batch over the limit is a burst of all there is"
        )

    run(redis_server, work)
    assert [day.votes for day in usage.by_day(redis_client, "key_1")] == [7]


def test_a_key_without_limits_is_counted_all_the_same(redis_server: str, redis_client: redis.Redis) -> None:
    """And waits for nothing; who has no key is neither limited nor counted."""

    async def work(one: Quotas, other: Quotas) -> None:
        allowance = await one.take(caller())
        assert (allowance.headers, redis_client.exists(keys.in_flight("key_1"))) == ({}, 0)
        one.end(allowance, prompt_tokens=1, completion_tokens=2)
        one.end(await one.take(Caller()), prompt_tokens=1, completion_tokens=2)
        assert await one.votes(Caller(), {"ann": 99}) == {}
        await one.drain()

    run(redis_server, work)
    assert [day.requests for day in usage.by_day(redis_client, "key_1")] == [1]
    assert redis_client.keys(keys.usage("") + "*") == [keys.usage("key_1")]


def test_a_silent_retry_takes_nothing_twice(redis_server: str, redis_client: redis.Redis) -> None:
    """redis-py sends a script again after a time-out: the same request, the same answer."""

    async def work(one: Quotas, other: Quotas) -> None:
        limited = caller(requests_per_minute=2, concurrency=1)
        first = await one._look(limited, "request-1")
        again = await other._look(limited, "request-1")
        assert first is not None and again is not None
        assert (first.refused, again.refused, again.requests_left) == ("", "", 1)

    run(redis_server, work)


def test_without_redis_each_replica_goes_by_the_same_limits(store: RedisProcess) -> None:
    """Chat goes on; what ended then gives its place back."""

    async def work(one: Quotas, other: Quotas) -> None:
        limited = caller(requests_per_minute=2, concurrency=1)
        store.stop()
        allowance = await one.take(limited)
        with pytest.raises(RateLimited, match="1 requests at a time"):
            await one.take(limited)
        one.end(allowance, prompt_tokens=1, completion_tokens=1)
        await one.drain()
        await one.take(limited)
        await other.take(limited)
        assert await one.votes(caller(votes_per_minute=1), {"ann": 5}) == {}

    run(store.url, work)


def test_local_buckets_fill_as_time_goes_by() -> None:
    """60 a minute are one a second, and never more than 60."""
    clock = [0.0]
    quotas, limits = LocalQuotas(lambda: clock[0]), Limits(requests_per_minute=60)
    assert [quotas.take("k", limits).refused for _ in range(61)] == [""] * 60 + ["requests"]
    clock[0] = 1.5
    assert (quotas.take("k", limits).refused, quotas.take("k", limits).wait_s) == ("", 0.5)
    clock[0] = 10_000.0
    assert quotas.take("k", limits).requests_left == 59


def test_local_tokens_may_be_overdrawn() -> None:
    """As in Redis: 100 a minute and 150 used is 30.6 seconds until one is there."""
    quotas, limits = LocalQuotas(lambda: 0.0), Limits(tokens_per_minute=100)
    assert quotas.take("k", limits).refused == ""
    quotas.end("k", limits, tokens=150)
    room = quotas.take("k", limits)
    assert (room.refused, round(room.wait_s, 6)) == ("tokens", 30.6)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0, "0ms"), (0.12, "120ms"), (1.0, "1s"), (8.64, "8.64s"), (59.5, "59.5s"), (360.0, "6m0s"), (3661.0, "1h1m1s")],
)
def test_durations_are_written_as_openai_does(seconds: float, written: str) -> None:
    """As `x-ratelimit-reset-tokens: 6m0s`."""
    assert duration(seconds) == written
