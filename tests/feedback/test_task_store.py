"""The queue of rater tasks against a real Redis: concurrency and crashes."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from core import keys
from core.errors import AlreadyDecided, Unavailable
from core.records import Choice, Target, now
from feedback import events, store, task_lookup, task_store, tasks
from feedback.task_store import Leased
from feedback.tasks import Said
from tests.feedback.conftest import WINDOW_S
from tests.feedback.task_queue import add, compare, crash, end_leases, run

__all__ = ["run"]


class TwiceSent:
    """A client whose every script reaches Redis twice, as after a silent retry; the second answer is returned."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def register_script(self, text: str) -> Callable[..., Awaitable[object]]:
        script = self._client.register_script(text)

        async def twice(**given: Any) -> object:
            await script(**(given | {"client": self._client}))
            return await script(**given)

        return twice


def test_a_hundred_raters(run, redis_client, put_comparison):
    """Twenty ask at once. They get distinct leases up to the overlap, no task is given to more, and who is left over
    gets none."""
    for index in range(30):
        put_comparison(str(index))

    async def work(client: redis.asyncio.Redis) -> list[Leased | None]:
        await add(client, *(compare(str(index), overlap=3) for index in range(30)))
        raters = [f"rater-{index}" for index in range(100)]
        parts = [raters[start : start + 20] for start in range(0, 100, 20)]  # all together may take Redis's two seconds
        leased = [await asyncio.gather(*(task_store.lease(client, rater) for rater in part)) for part in parts]
        return [each for part in leased for each in part]

    leased = Counter(each.task.id if each else None for each in run(work))
    assert leased.pop(None) == 10
    assert leased == {f"task_{index}": 3 for index in range(30)}
    assert redis_client.zcard(keys.TASKS_READY) == 0


def test_silent_retries_do_nothing_twice(run, redis_client, put_comparison):
    """Whatever redis-py sends twice is done once."""
    for name in "12":
        put_comparison(name)

    async def work(client: redis.asyncio.Redis) -> None:
        twice = TwiceSent(client)
        await add(twice, compare("1", overlap=2), compare("2"))
        ann, bob = [await task_store.lease(twice, rater) for rater in ("ann", "bob")]
        await task_store.answer(twice, ann.task.id, Said(rater="ann", value="a"), window_s=WINDOW_S)
        await task_store.skip(twice, bob.task.id, "bob", reason="no")

    run(work)
    assert task_lookup.counts(redis_client) == Counter(open=2, answers=1, leased=0)
    assert redis_client.hgetall(keys.task_rater("ann")) == {"task_1": "answered", "@answered": "1"}
    assert redis_client.hgetall(keys.task_rater("bob")) == {"task_1": "skipped", "@skipped": "1"}
    assert redis_client.xlen(keys.FEEDBACK) == 1


def test_a_lease_that_ended_is_given_away(run, redis_client, put_comparison):
    """The place goes to the next one; who was too late is told so, or answers while there is room."""
    for name in "12":
        put_comparison(name)

    async def work(client: redis.asyncio.Redis) -> None:
        await add(client, compare("1"), compare("2"))
        for rater in ("ann", "bob"):
            assert await task_store.lease(client, rater)
        end_leases(redis_client)
        assert (await task_store.lease(client, "eve")).task.id == "task_1"
        with pytest.raises(AlreadyDecided) as late:
            await task_store.answer(client, "task_1", Said(rater="ann", value="a"), window_s=WINDOW_S)
        assert late.value.error_code == "lease_expired"
        stored = await task_store.answer(client, "task_2", Said(rater="bob", value="a"), window_s=WINDOW_S)
        assert stored.new

    run(work)
    assert task_lookup.counts(redis_client) == Counter(open=1, done=1, answers=1, leased=1)


@pytest.mark.parametrize("then", ["retry", "next", "other", "skip"])
def test_a_crash_between_vote_and_mark_is_healed(run, redis_client, put_comparison, then):
    """By the rater's retry, by their next request, or without them when somebody else looks: one answer, one vote."""
    put_comparison()
    said = Said(rater="ann", value="a")

    async def work(client: redis.asyncio.Redis) -> None:
        await add(client, compare("1"))
        await task_store.lease(client, "ann")
        await crash(client, "task_1", said)
        if then == "retry":
            assert not (await task_store.answer(client, "task_1", said, window_s=WINDOW_S)).new
        elif then == "next":
            assert await task_store.lease(client, "ann") is None
        elif then == "skip":
            with pytest.raises(AlreadyDecided):
                await task_store.skip(client, "task_1", "ann", reason="")
        else:
            end_leases(redis_client)
            assert await task_store.lease(client, "bob") is None

    run(work)
    assert task_lookup.counts(redis_client) == Counter(done=1, answers=1, leased=0)
    assert redis_client.hget(keys.comparison("cmp_1"), "revealed") == store.log(redis_client)[0][0].feedback.id
    assert redis_client.hget(keys.task_rater("ann"), "@answered") == "1"


def test_a_task_ends_at_its_deadline(run, redis_client, put_comparison):
    """Then it is given to nobody, answers are refused, and a comparison that was decided is revealed."""
    for name in "12":
        put_comparison(name)

    async def work(client: redis.asyncio.Redis) -> None:
        await add(client, compare("1", overlap=3), compare("2"))
        for rater in ("ann", "bob"):
            await task_store.lease(client, rater)
        vote = await task_store.answer(client, "task_1", Said(rater="ann", value="a"), window_s=WINDOW_S)
        redis_client.zadd(keys.TASKS_DUE, {"task_1": 1.0, "task_2": 1.0})
        with pytest.raises(AlreadyDecided) as late:
            await task_store.answer(client, "task_1", Said(rater="bob", value="a"), window_s=WINDOW_S)
        assert late.value.error_code == "task_closed"
        assert [await task_store.lease(client, rater) for rater in ("ann", "bob", "eve")] == [None] * 3
        assert redis_client.hget(keys.comparison("cmp_1"), "revealed") == vote.view.feedback.id

    run(work)
    assert redis_client.hget(keys.comparison("cmp_2"), "revealed") is None
    assert task_lookup.counts(redis_client) == Counter(expired=2, answers=1, leased=0)


@pytest.mark.parametrize("key", [keys.comparison("cmp_1"), keys.completion("chatcmpl-1-b")])
def test_a_task_whose_answers_are_gone_is_passed_over(run, redis_client, put_comparison, key):
    """An erased target, or one side of it, stops nobody."""
    for name in "12":
        put_comparison(name)

    async def work(client: redis.asyncio.Redis) -> str:
        await add(client, compare("1"), compare("2"))
        redis_client.delete(key)
        leased = await task_store.lease(client, "ann")
        return leased.task.id

    assert run(work) == "task_2"
    assert redis_client.exists(keys.comparison("cmp_1"), keys.completion("chatcmpl-1-b")) == 1


def test_a_long_queue_is_looked_through_in_parts(run, redis_client, put_completion):
    """A rater who did much finds what is left, wherever it stands."""
    choices = [Choice(index=index, text="A pet.", token_ids=[70]) for index in range(100)]
    for part in range(7):
        put_completion(f"chatcmpl-{part}", choices=choices, sampling={"n": 100})

    async def work(client: redis.asyncio.Redis) -> tuple[str, int]:
        targets = [Target(type="completion", id=f"chatcmpl-{it // 100}", choice_index=it % 100) for it in range(601)]
        await add(client, *(compare(str(it), kind="rate", target=target) for it, target in enumerate(targets)))
        redis_client.hset(keys.task_rater("ann"), mapping={f"task_{index}": "skipped" for index in range(600)})
        left = (await task_lookup.progress(client, "ann")).left
        return (await task_store.lease(client, "ann")).task.id, left

    assert run(work) == ("task_600", 1)


def test_a_full_redis_leaves_nothing_half_done(run, redis_client, put_comparison):
    """Refused is refused: no lease, no task."""
    for name in "12":
        put_comparison(name)
    run(lambda client: add(client, compare("1")))
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable):
            run(lambda client: task_store.lease(client, "ann"))
        (refused,) = run(lambda client: task_store.add(client, [compare("2")], now=now(), window_s=WINDOW_S))
    finally:
        redis_client.config_set("maxmemory", 0)
    assert isinstance(refused, Unavailable)
    assert task_lookup.counts(redis_client) == Counter(open=1, answers=0, leased=0)
    assert redis_client.hget(keys.comparison("cmp_2"), "t:0:preference") is None
    assert run(lambda client: task_store.lease(client, "ann")).task.id == "task_1"


def test_gold_tasks_and_results(run, redis_client, put_comparison):
    """What the trust of raters reads: gold questions, and from the log who met them."""
    for name in "123":
        put_comparison(name)

    async def work(client: redis.asyncio.Redis) -> None:
        await add(client, compare("1", gold="a", overlap=2), compare("2"), compare("3", gold="b", overlap=2))
        for rater in ("ann", "bob"):
            while leased := await task_store.lease(client, rater):
                said = Said(rater=rater, value="a")
                await task_store.answer(client, leased.task.id, said, window_s=WINDOW_S)

    run(work)
    votes, _ = events.standing(store.log(redis_client)[0])
    found = Counter(tasks.gold_results(task_lookup.gold_tasks(redis_client), votes))
    assert sorted(task_lookup.gold_tasks(redis_client)) == ["task_1", "task_3"]
    assert found == {(rater, right): 1 for rater in ("ann", "bob") for right in (True, False)}


def test_an_erased_rater_is_forgotten(run, redis_client, put_comparison):
    """No key of the queue names them any more; what they answered stays answered, what they held goes to others."""
    for name in "123":
        put_comparison(name)

    async def work(client: redis.asyncio.Redis) -> None:
        await add(client, compare("1", overlap=2), compare("2"), compare("3"))
        await task_store.lease(client, "canary")
        await task_store.answer(client, "task_1", Said(rater="canary", value="a"), window_s=WINDOW_S)
        await task_store.skip(client, (await task_store.lease(client, "canary")).task.id, "canary", reason="no")
        await task_store.lease(client, "canary")

    run(work)
    assert task_store.forget(redis_client, "canary") == 3
    assert task_store.forget(redis_client, "canary") == 0
    assert list(redis_client.scan_iter("*canary*")) == []
    assert all("canary" not in str(redis_client.hgetall(keys.task(f"task_{name}"))) for name in "123")
    assert all("canary" not in member for member, _ in redis_client.zscan_iter(keys.TASKS_DUE))
    assert task_lookup.counts(redis_client) == Counter(open=3, answers=1, leased=0)
    assert redis_client.zcard(keys.TASKS_READY) == 3
