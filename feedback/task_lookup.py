"""Reads the queue of rater tasks: pages for operators, a rater's progress, gold questions for the trust of raters.

The queue's own scripts end what is over (lua/task_common.lua); until one runs, a task may still be shown as open here.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import redis
import redis.asyncio

from core import keys
from core.errors import InvalidRequest, NotFound
from core.records import RaterTask, TaskState
from feedback import lookup, scripts, tasks
from feedback.events import LoggedVote

_CHUNK = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A task as its operator sees it."""

    task: RaterTask
    state: TaskState
    leased: int
    """Raters who hold it now."""
    answers: dict[str, str]
    """Rater -> feedback id."""
    skips: dict[str, str]
    """Rater -> reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPage:
    """Tasks, newest first."""

    tasks: list[Standing]
    more: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a rater is: `Progress(done=40, skipped=2, left=18)`."""

    done: int
    skipped: int
    left: int
    """Tasks with a free place that they have not dealt with."""


async def page(client: redis.asyncio.Redis, *, after: str | None, limit: int) -> TaskPage:
    """One page of tasks, newest first.

    Raises:
        InvalidRequest: there is no task `after`.
        Unavailable: Redis is away.
    """
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S):
            start = 0
            if after is not None:
                rank = await client.zrevrank(keys.TASKS, after)
                if rank is None:
                    raise InvalidRequest("There is no such task to go on from.", param="query.after")
                start = cast(int, rank) + 1
            ids = cast(list[str], await client.zrevrange(keys.TASKS, start, start + limit))
            found = await _hashes(client, [keys.task(each) for each in ids[:limit]])
    return TaskPage(tasks=[_standing(fields) for fields in found], more=len(ids) > limit)


async def get(client: redis.asyncio.Redis, task_ids: Iterable[str]) -> list[Standing]:
    """These tasks, in their order; raises Unavailable."""
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S):
            found = await _hashes(client, [keys.task(each) for each in task_ids])
    return [_standing(fields) for fields in found if fields]


async def progress(client: redis.asyncio.Redis, rater: str) -> Progress:
    """What a rater did and what is left for them; raises Unavailable."""
    key, left, start = keys.task_rater(rater), 0, 0
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S):
            counts = await client.hmget(key, ["@answered", "@skipped"])
            while ids := cast(list[str], await client.zrange(keys.TASKS_READY, start, start + _CHUNK - 1)):
                left += (await client.hmget(key, ids)).count(None)
                start += _CHUNK
    done, skipped = (int(count or 0) for count in counts)
    return Progress(done=done, skipped=skipped, left=left)


async def gold(client: redis.asyncio.Redis, rater: str) -> Counter[bool]:
    """How many gold questions a rater answered rightly (True) and wrongly; raises Unavailable."""
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S):
            words = cast(dict[str, str], await client.hgetall(keys.task_rater(rater)))
    answered = [task for task, word in words.items() if word == "answered"]
    found = [each for each in await get(client, answered) if each.task.gold is not None]
    votes = [vote for each in found if (vote := await _vote(client, each.answers[rater])) is not None]
    by_id = {each.task.id: each.task for each in found}
    return Counter(right for _, right in tasks.gold_results(by_id, votes))


async def _vote(client: redis.asyncio.Redis, feedback_id: str) -> LoggedVote | None:
    """The vote if it stands."""
    try:
        view = (await lookup.find(client, feedback_id)).view
    except NotFound:  # erased
        return None
    return LoggedVote(entry=view.first, feedback=view.feedback) if view.status == "active" else None


async def _hashes(client: redis.asyncio.Redis, of: list[str]) -> list[dict[str, str]]:
    async with client.pipeline(transaction=False) as pipeline:
        for key in of:
            pipeline.hgetall(key)
        return list(await pipeline.execute())


def _standing(fields: dict[str, str]) -> Standing:
    return Standing(
        task=RaterTask.model_validate_json(fields["record"]),
        state=cast(TaskState, fields["state"]),
        leased=int(fields["leased"]),
        answers={name[2:]: value for name, value in fields.items() if name.startswith("a:")},
        skips={name[2:]: value for name, value in fields.items() if name.startswith("s:")},
    )


# --- for the scheduler and the command line -----------------------------------------------------------------------


def gold_tasks(client: redis.Redis) -> dict[str, RaterTask]:
    """All gold questions ever asked, by id: what `tasks.gold_results` needs."""
    found: dict[str, RaterTask] = {}
    for records in _fields(client, "record"):
        task = RaterTask.model_validate_json(records[0])
        if task.gold is not None:
            found[task.id] = task
    return found


def counts(client: redis.Redis) -> Counter[str]:
    """Tasks by state; and `answers`, `leased`, over all of them."""
    total: Counter[str] = Counter()
    for state, answered, leased in _fields(client, "state", "answered", "leased"):
        total[state] += 1
        total["answers"] += int(answered)
        total["leased"] += int(leased)
    return total


def _fields(client: redis.Redis, *names: str) -> Iterable[list[Any]]:
    start = 0
    while ids := cast(list[str], client.zrange(keys.TASKS, start, start + _CHUNK - 1)):
        pipeline = client.pipeline(transaction=False)
        for each in ids:
            pipeline.hmget(keys.task(each), list(names))
        yield from pipeline.execute()
        start += _CHUNK
