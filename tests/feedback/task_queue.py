"""Tasks in the queue of raters, and what happens to them, for the tests of the queue."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import redis
import redis.asyncio

from core import keys
from core.records import RaterTask, Target, now
from core.redis import connect_async
from feedback import store, task_store, tasks
from feedback.task_store import Added, Draft
from feedback.tasks import Said
from tests.feedback.conftest import WINDOW_S

T = TypeVar("T")


@pytest.fixture
def run(redis_server: str):
    """Runs async work over the test Redis."""

    def on(work: Callable[[redis.asyncio.Redis], Awaitable[T]]) -> T:
        async def inner() -> T:
            client = connect_async(redis_server)
            try:
                return await work(client)
            finally:
                await client.aclose()

        return asyncio.run(inner())

    return on


def compare(name: str, *, overlap: int = 1, **more: object) -> Draft:
    """A task about the comparison `cmp_{name}`."""
    fields: dict[str, Any] = {
        "id": f"task_{name}",
        "kind": "compare",
        "target": Target(type="comparison", id=f"cmp_{name}"),
        "overlap": overlap,
        "created": now(),
        "deadline": now() + WINDOW_S,
    }
    return Draft(task=RaterTask(**(fields | more)), digest="d")


async def add(client: redis.asyncio.Redis, *drafts: Draft) -> list[str]:
    added = await task_store.add(client, drafts, now=now(), window_s=WINDOW_S)
    return [each.task_id for each in added if isinstance(each, Added)]


async def crash(client: redis.asyncio.Redis, task_id: str, said: Said) -> None:
    """What `answer` does, up to the vote: then the process dies."""
    task = await task_store.begin(client, task_id, said.rater)
    await store.vote(client, tasks.ballot(task, said), idempotency_key=None, window_s=WINDOW_S)


def end_leases(client: redis.Redis) -> None:
    """As if time had passed."""
    for member, _ in client.zscan_iter(keys.TASKS_DUE):
        if " " in member:
            client.zadd(keys.TASKS_DUE, {member: 1.0})
