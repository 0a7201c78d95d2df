"""Calls to Redis share round trips, and each still has its own answer."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import redis

from core import keys
from core.errors import Unavailable
from core.records import CompletionRecord
from core.redis import connect_async
from core.trips import MAX_TOGETHER
from feedback import scripts
from feedback.scripts import Call


def _vote(number: int, *, target: str = "chatcmpl-1") -> Call:
    """A thumb by a rater of its own."""
    said = f'{{"id":"fb_{number}","target":{{"type":"completion","id":"{target}"}},"kind":"thumb","value":1,'
    said += f'"rater":"rater-{number}"}}'
    where = [keys.completion(target), keys.FEEDBACK_COUNTS]
    return Call(name="vote", keys=where, args=[said, "", "0", f"word-{number}", 3600, 3600, keys.completion(""), ""])


def test_calls_at_once_share_trips_and_keep_their_answers(
    redis_server: str, redis_client: redis.Redis, put_completion: Callable[..., CompletionRecord]
) -> None:
    """Of 250 votes every third is on nothing: each caller hears of its own, and all good ones are stored once."""
    put_completion("chatcmpl-1")

    async def work() -> list[Any]:
        client = connect_async(redis_server)
        calls = [_vote(number, target="nothing" if number % 3 == 0 else "chatcmpl-1") for number in range(250)]
        before = len(await client.client_list())
        answers = await asyncio.gather(*(scripts.run(client, call) for call in calls))
        opened = len(await client.client_list()) - before
        await client.aclose()
        assert opened <= 10
        return answers

    answers = asyncio.run(work())
    assert [answer[0] for answer in answers] == ["unknown" if number % 3 == 0 else "new" for number in range(250)]
    good = [number for number in range(250) if number % 3]
    assert [scripts.view(answers[number][1]).feedback.id for number in good] == [f"fb_{number}" for number in good]
    stored = [json.loads(fields["event"])["id"] for _, fields in redis_client.xrange(keys.FEEDBACK)]
    assert sorted(stored) == sorted(f"fb_{number}" for number in good)
    assert len(good) > MAX_TOGETHER


def test_scripts_that_redis_forgot_are_told_again(
    redis_server: str, redis_client: redis.Redis, put_completion: Callable[..., CompletionRecord]
) -> None:
    """A restarted Redis knows no script: of votes that share trips none is lost, none stored twice, order is kept."""
    put_completion("chatcmpl-1")

    async def work() -> list[Any]:
        client = connect_async(redis_server)
        await scripts.run_all(client, [_vote(0)])
        await client.script_flush()
        answers = await scripts.run_all(client, [_vote(number) for number in range(1, 6)])
        await client.aclose()
        return answers

    answers = asyncio.run(work())
    assert [answer[0] for answer in answers] == ["new"] * 5
    stored = [json.loads(fields["event"])["id"] for _, fields in redis_client.xrange(keys.FEEDBACK)]
    assert stored == [f"fb_{number}" for number in range(6)]


def test_one_who_gives_up_harms_no_other(
    redis_server: str, redis_client: redis.Redis, put_completion: Callable[..., CompletionRecord]
) -> None:
    """A call that is cancelled while it waits is not sent; those before and after it are answered."""
    put_completion("chatcmpl-1")

    async def work() -> list[Any]:
        client = connect_async(redis_server)
        await scripts.run(client, _vote(0))
        tasks = [asyncio.create_task(scripts.run(client, _vote(number))) for number in range(1, 9)]
        await asyncio.sleep(0)
        tasks[6].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        again = await scripts.run(client, _vote(9))
        await client.aclose()
        return [*answers, again]

    answers = asyncio.run(work())
    assert isinstance(answers[6], asyncio.CancelledError)
    assert [answer[0] for index, answer in enumerate(answers) if index != 6] == ["new"] * 8
    stored = "".join(fields["event"] for _, fields in redis_client.xrange(keys.FEEDBACK))
    assert [number for number in range(10) if f'"fb_{number}"' in stored] == [0, 1, 2, 3, 4, 5, 6, 8, 9]


def test_without_redis_every_caller_is_told() -> None:
    """The one that went first and those that waited for it; and it can be tried again."""

    async def work() -> list[Any]:
        client = connect_async("redis://127.0.0.1:1")
        rounds = [
            await asyncio.gather(*(scripts.run(client, _vote(number)) for number in range(20)), return_exceptions=True)
            for _ in range(2)
        ]
        await client.aclose()
        return [answer for answers in rounds for answer in answers]

    answers = asyncio.run(work())
    assert [type(answer) for answer in answers] == [Unavailable] * 40


def test_a_mistake_in_a_shared_trip_stays_loud(redis_server: str, redis_client: redis.Redis) -> None:
    """What is no trouble of Redis's own is not a 503, also when a call was not alone."""

    async def work() -> list[Any]:
        client = connect_async(redis_server)
        broken = Call(name="vote", keys=[], args=[])
        answers = await asyncio.gather(*(scripts.run(client, broken) for _ in range(9)), return_exceptions=True)
        await client.aclose()
        return answers

    assert [type(answer) for answer in asyncio.run(work())] == [redis.exceptions.ResponseError] * 9
