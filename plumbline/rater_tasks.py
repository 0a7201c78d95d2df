"""`plumbline tasks`: adds rater tasks from a file, and says how far the queue is."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from core.errors import UsageError
from core.redis import connect_async
from feedback import task_endpoints, task_lookup
from feedback.task_schemas import TaskResult

_TOGETHER = 200


def add(redis_url: str, file: Path, *, window_s: int) -> Iterator[tuple[int, TaskResult]]:
    """Adds the tasks of a JSONL file, `TaskRequest`s as in `POST /v1/tasks`; yields line number and outcome of each.

    Raises:
        UsageError: the file cannot be read, or a line is not JSON; then nothing was added.
        Unavailable: Redis is away.
    """
    items = _items(file)
    for start in range(0, len(items), _TOGETHER):
        chunk = items[start : start + _TOGETHER]
        results = asyncio.run(_add(redis_url, [item for _, item in chunk], window_s))
        yield from ((line, result) for (line, _), result in zip(chunk, results, strict=True))


async def _add(redis_url: str, items: list[Any], window_s: int) -> list[TaskResult]:
    client = connect_async(redis_url)
    try:
        return await task_endpoints.add(client, items, window_s=window_s)
    finally:
        await client.aclose()


def _items(file: Path) -> list[tuple[int, Any]]:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None
    items = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            items.append((number, json.loads(line)))
        except json.JSONDecodeError as error:
            raise UsageError(f"{file}, line {number}: not JSON ({error.msg}).") from None
    return items


def status(client: redis.Redis) -> str:
    """E.g. `12 open, 30 done, 1 expired; 97 answers, 3 given out now`."""
    found = task_lookup.counts(client)
    states = ", ".join(f"{found[state]} {state}" for state in ("open", "done", "expired"))
    return f"{states}; {found['answers']} answers, {found['leased']} given out now"
