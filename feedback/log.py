"""The log as one: what lies in the archive, then what lies in Redis; and the records that it is about, likewise."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, cast

import redis

from core import keys
from core.errors import UsageError
from feedback.archive import START, Archive, Entry, RecordTable
from feedback.events import after as lies_after

CHUNK = 1000
"""Entries or records of one round trip."""
_SIDES = 2 * CHUNK
"""Records that are looked for at a time: those of a thousand comparisons lie together in the archive."""
_T = TypeVar("_T")
_KEYS: dict[RecordTable, Callable[[str], str]] = {"completions": keys.completion, "comparisons": keys.comparison}


def entries(client: redis.Redis, archive: Archive | None = None) -> Iterator[Entry]:
    """Every entry, oldest first, while votes come in and the scheduler archives.

    Raises:
        UsageError: Redis gave up entries that `archive` does not hold, or a part of it is damaged.
    """
    seen = START
    while True:
        if archive is not None:
            manifest = archive.manifest()
            yield from archive.entries(manifest.partitions, after=seen)
            seen = manifest.last if lies_after(manifest.last, seen) else seen
        while True:
            chunk, trimmed = _next(client, seen)
            if lies_after(trimmed, seen):  # since the manifest was read
                break
            if not chunk:
                return
            yield from chunk
            seen = chunk[-1].position
        check_reaches(archive, trimmed)


def check_reaches(archive: Archive | None, trimmed: str) -> None:
    """Whether the archive holds what Redis gave up.

    Raises:
        UsageError: it ends before; nothing may be read or written as if that were all.
    """
    last = archive.manifest().last if archive is not None else START
    if lies_after(trimmed, last):
        where = f"the archive in {archive.directory}" if archive is not None else "no archive"
        raise UsageError(
            f"Redis gave up the log up to {trimmed}, and {where} holds it up to {last}: point ARTIFACTS_URL to the "
            "artifacts of this deployment, or restore them."
        )


def trimmed(client: redis.Redis) -> str:
    """The newest entry that only the archive holds."""
    return cast(str | None, client.get(keys.FEEDBACK_TRIMMED)) or START


def stream(client: redis.Redis, *, after: str, until: str = "+", count: int | None) -> list[Entry]:
    """The next entries that Redis holds."""
    found = client.xrange(keys.FEEDBACK, min=f"({after}", max=until, count=count)
    return [_entry(*it) for it in cast(list[tuple[str, dict[str, str]]], found)]


def records(
    client: redis.Redis, table: RecordTable, ids: Iterable[str], archive: Archive | None = None
) -> Iterator[tuple[str, str]]:
    """Id and JSON of each record that the archive or Redis still holds, but for deleted ones. What is archived never
    changes again."""
    for batch in batches(ids, _SIDES):
        chunk = _standing(client, batch)
        archived = dict(archive.records(table, chunk)) if archive is not None else {}
        yield from archived.items()
        rest = [identifier for identifier in chunk if identifier not in archived]
        pipeline = client.pipeline(transaction=False)
        for identifier in rest:
            pipeline.hget(_KEYS[table](identifier), "record")
        for identifier, record in zip(rest, pipeline.execute(), strict=True):
            if record is not None:
                yield identifier, record


def _standing(client: redis.Redis, ids: list[str]) -> list[str]:
    """Those that nobody deleted: the archive may still hold them for a moment (feedback/deletion.py)."""
    if not client.exists(keys.DELETED):
        return ids
    deleted = cast(list[int], client.smismember(keys.DELETED, ids))
    return [identifier for identifier, is_deleted in zip(ids, deleted, strict=True) if not is_deleted]


def _next(client: redis.Redis, seen: str) -> tuple[list[Entry], str]:
    """The next entries in Redis, and up to where it had given up entries at that very moment."""
    pipeline = client.pipeline(transaction=True)
    pipeline.xrange(keys.FEEDBACK, min=f"({seen}", count=CHUNK)
    pipeline.get(keys.FEEDBACK_TRIMMED)
    found, trimmed = pipeline.execute()
    return [_entry(*it) for it in found], trimmed or START


def _entry(position: str, fields: dict[str, str]) -> Entry:
    return Entry(position=position, **fields)


def batches(items: Iterable[_T], size: int = CHUNK) -> Iterator[list[_T]]:
    """At most `size` at a time."""
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
