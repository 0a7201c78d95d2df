"""The queue of rater tasks in Redis: each decision is one script, on Redis's clock.

An answer is an ordinary vote, stored before the task is marked. Should the process die between the two, the next
script that looks at the task finds the vote on its target and marks it (lua/task_common.lua).
"""

import asyncio
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

from core import keys
from core.access import DEPLOYMENT
from core.errors import AlreadyDecided, ApiError, NotFound, Unavailable
from core.records import Comparison, CompletionRecord, RaterTask, now
from core.redis import lua
from feedback import events, scripts, store, tasks
from feedback.scripts import Call
from feedback.store import StoredVote
from feedback.tasks import Said, Shown

_LUA = Path(__file__).parent / "lua"
_TOGETHER = 20
"""Tasks whose targets are read in one round trip."""
_LOOKED_AT = 500
"""Tasks that one script looks at: Redis serves nobody else meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A task to be added, and a digest of what the operator sent, which tells whether it was sent before."""

    task: RaterTask
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Added:
    """A task that lies durably in the queue."""

    task_id: str
    new: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Leased:
    """A task that a rater holds, and until when."""

    task: RaterTask
    shown: Shown
    until: float


# --- adding -------------------------------------------------------------------------------------------------------


async def add(
    client: redis.asyncio.Redis, drafts: Sequence[Draft], *, now: float, window_s: int
) -> list[Added | ApiError]:
    """Adds tasks in order, each on its own account. Once Redis is away, so it is for all that are left."""
    outcomes: list[Added | ApiError] = []
    for start in range(0, len(drafts), _TOGETHER):
        try:
            outcomes += await _add(client, drafts[start : start + _TOGETHER], now=now, window_s=window_s)
        except Unavailable as away:
            return outcomes + [away] * (len(drafts) - len(outcomes))
    return outcomes


async def _add(
    client: redis.asyncio.Redis, drafts: Sequence[Draft], *, now: float, window_s: int
) -> list[Added | ApiError]:
    subjects = await _subjects(client, [draft.task for draft in drafts])
    known = await _known(client, drafts)
    refused = [
        None if before else _refused(draft.task, sides, now=now, window_s=window_s)
        for draft, sides, before in zip(drafts, subjects, known, strict=True)
    ]
    each = zip(drafts, subjects, refused, strict=True)
    answers = iter(await _run_all(client, [_add_call(draft, sides) for draft, sides, error in each if error is None]))
    return [error or _added(draft.task, next(answers)) for draft, error in zip(drafts, refused, strict=True)]


def _refused(task: RaterTask, sides: list[CompletionRecord], *, now: float, window_s: int) -> ApiError | None:
    if not sides or any(side.tenant != DEPLOYMENT for side in sides):
        return _no_target(task)
    try:
        tasks.check(task, sides, now=now, window_s=window_s)
    except ApiError as refused:
        return refused
    return None


def _add_call(draft: Draft, sides: list[CompletionRecord]) -> Call:
    task = draft.task
    held = [_target_key(task)]
    held += [keys.completion(side.id) for side in sides] if task.target.type == "comparison" else []
    return Call(
        name="add",
        keys=[keys.TASKS, keys.TASK_NAMES, *held],
        args=[task.id, task.to_json(), task.priority, task.external_id or "", draft.digest],
    )


def _added(task: RaterTask, answer: list[Any]) -> Added | ApiError:
    outcome, *rest = answer
    if outcome in ("new", "replay"):
        return Added(task_id=rest[0], new=outcome == "new")
    refusals: dict[str, ApiError] = {
        "conflict": AlreadyDecided("This external_id was used for another task.", code="idempotency_conflict"),
        "unknown": _no_target(task),
        "revealed": AlreadyDecided("The comparison has been voted on and revealed.", code="already_revealed"),
        "taken": AlreadyDecided("An open task asks this already.", code="task_exists"),
    }
    return refusals[outcome]


def _no_target(task: RaterTask) -> NotFound:
    return NotFound(f"There is no such {task.target.type}, or it is too old.", param="target", code="target_not_found")


async def _known(client: redis.asyncio.Redis, drafts: Sequence[Draft]) -> list[bool]:
    names = [draft.task.external_id or "" for draft in drafts]
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S):
            return [found is not None for found in await client.hmget(keys.TASK_NAMES, names)]


# --- what a rater does --------------------------------------------------------------------------------------------


async def lease(client: redis.asyncio.Redis, rater: str, *, lease_s: int = tasks.LEASE_S) -> Leased | None:
    """The task that the rater holds, else the next one for them; None if there is none.

    Raises:
        Unavailable: Redis is away.
    """
    start = "-inf"
    while True:
        outcome, *rest = await _run(client, "next", rater, lease_s, start, _LOOKED_AT)
        if outcome == "none":
            return None
        if outcome == "more":
            start = f"({rest[0]}"
            continue
        task = RaterTask.model_validate_json(rest[0])
        (sides,) = await _subjects(client, [task])
        if sides:
            return Leased(task=task, shown=tasks.shown(task, sides), until=float(rest[1]))
        await skip(client, task.id, rater, reason="the answers are gone")


async def answer(client: redis.asyncio.Redis, task_id: str, said: Said, *, window_s: int) -> StoredVote:
    """Stores the rater's answer as a vote and marks the task. The same again, from wherever it broke off, is once.

    Raises:
        NotFound: there is no such task, or its target is gone.
        AlreadyDecided: the task is over or given to others, or the rater skipped it or gave another answer.
        InvalidRequest: the value does not answer the task.
        Unavailable: Redis is away.
    """
    task = await begin(client, task_id, said.rater)
    ballot = tasks.ballot(task, said)
    events.check(ballot, now=now())
    try:
        vote = await store.vote(client, ballot, idempotency_key=None, window_s=window_s)
    except AlreadyDecided as refused:
        if refused.error_code != "idempotency_conflict":
            raise
        raise AlreadyDecided("You gave another answer to this task.", code="task_answered") from None
    await _run(client, "mark", task_id, said.rater)
    return vote


async def begin(client: redis.asyncio.Redis, task_id: str, rater: str) -> RaterTask:
    """Keeps the rater's place for an answer that is about to be stored; raises as `answer`."""
    outcome, *rest = await _run(client, "begin", task_id, rater, tasks.KEPT_S)
    if outcome in ("kept", "answered"):
        return RaterTask.model_validate_json(rest[0])
    refusals: dict[str, ApiError] = {
        "unknown": _no_task(),
        "skipped": AlreadyDecided("You skipped this task.", code="task_skipped"),
        "closed": AlreadyDecided("This task is over; ask for the next one.", code="task_closed"),
        "full": AlreadyDecided("Your time for this task ran out; ask for the next one.", code="lease_expired"),
    }
    raise refusals[outcome]


async def skip(client: redis.asyncio.Redis, task_id: str, rater: str, *, reason: str) -> None:
    """Gives a task back: the rater will not see it again. Twice is once.

    Raises:
        NotFound: there is no such task.
        AlreadyDecided: the rater answered it.
        Unavailable: Redis is away.
    """
    (outcome,) = await _run(client, "skip", task_id, rater, reason)
    if outcome == "unknown":
        raise _no_task()
    if outcome == "answered":
        raise AlreadyDecided("You answered this task.", code="task_answered")


def _no_task() -> NotFound:
    return NotFound("There is no such task.", code="task_not_found")


def forget(client: redis.Redis, rater: str) -> int:
    """Removes an erased rater from the queue; their answers stay counted, without a name. Returns how many tasks knew
    of them. A lease that has ended without anybody looking since is swept on the way."""
    script = client.register_script(lua(_LUA / "task_common.lua") + lua(_LUA / "task_forget.lua"))
    known = script(keys=[keys.TASKS_READY, keys.TASKS_DUE], args=[*_prefixes(), rater])
    return int(known[0])


# --- Redis --------------------------------------------------------------------------------------------------------


async def _subjects(client: redis.asyncio.Redis, asked: Sequence[RaterTask]) -> list[list[CompletionRecord]]:
    """The completions that each task is about, in the order of the sides; none if any is gone."""
    compared = await _records(client, [_target_key(task) for task in asked if task.target.type == "comparison"])
    comparisons = iter(compared)
    ids = [_ids(next(comparisons)) if task.target.type == "comparison" else [task.target.id] for task in asked]
    records = iter(await _records(client, [keys.completion(each) for listed in ids for each in listed]))
    found = [[next(records) for _ in listed] for listed in ids]
    return [
        [CompletionRecord.model_validate_json(side) for side in sides if side is not None] if all(sides) else []
        for sides in found
    ]


def _ids(comparison: str | None) -> list[str]:
    return [] if comparison is None else Comparison.model_validate_json(comparison).completion_ids


async def _records(client: redis.asyncio.Redis, of: Sequence[str]) -> list[str | None]:
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S), client.pipeline(transaction=False) as pipeline:
            for key in of:
                pipeline.hget(key, "record")
            return list(await pipeline.execute())


def _target_key(task: RaterTask) -> str:
    return keys.completion(task.target.id) if task.target.type == "completion" else keys.comparison(task.target.id)


async def _run(client: redis.asyncio.Redis, name: str, *args: str | int) -> list[Any]:
    (answer,) = await _run_all(client, [Call(name=name, args=args)])
    return answer


async def _run_all(client: redis.asyncio.Redis, calls: Sequence[Call]) -> list[list[Any]]:
    """All calls in order, in one round trip; raises Unavailable."""
    with scripts.unavailable_when_away():
        async with asyncio.timeout(scripts.TIMEOUT_S), client.pipeline(transaction=False) as pipeline:
            for call in calls:
                used = [keys.TASKS_READY, keys.TASKS_DUE, *call.keys]
                await _script(client, call.name)(keys=used, args=[*_prefixes(), *call.args], client=pipeline)
            return list(await pipeline.execute())


def _prefixes() -> list[str]:
    return [keys.task(""), keys.task_rater(""), keys.comparison(""), keys.completion("")]


@functools.lru_cache(maxsize=64)
def _script(client: redis.asyncio.Redis, name: str) -> Any:
    return client.register_script(lua(_LUA / "task_common.lua") + lua(_LUA / f"task_{name}.lua"))
