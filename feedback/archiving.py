"""Moves the older part of the log from Redis to the archive, in two steps that are far apart.

*Copying* writes entries with the records that they name, soon enough that no record can expire first. *Trimming* gives
up in Redis what nobody can change by a vote any more: entries that are older than any idempotency key and whose target
is gone. Both may be killed anywhere and simply run again:

    files under temporary names, fsync → read back, compared → rename, fsync of the directory → manifest, likewise
    → much later: bytes against the manifest, entries against Redis → XTRIM

What a killed run leaves behind is named by no manifest, so it does not exist, and the next run deletes it.
"""

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis

from core import keys
from core.errors import UsageError
from core.records import Feedback
from core.redis import clock, script
from feedback import archive as files
from feedback import log
from feedback.archive import MANIFEST, Archive, Entry, Partition
from feedback.archive_writer import PartitionWriter
from feedback.events import after as lies_after
from feedback.events import position as numbers

PARTITION = 50_000
"""Entries of one partition at most."""
_TRIM = Path(__file__).parent / "lua" / "trim.lua"
LOCK = ".lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """How many entries one run copied, and how many it gave up in Redis."""

    copied: int = 0
    trimmed: int = 0


def run(
    client: redis.Redis, archive: Archive, *, copy_after_s: float, keep_s: float, most: int = PARTITION
) -> Moved | None:
    """Copies at most one partition, if the oldest entry that is not archived is older than `copy_after_s`, and gives up
    about as much of what is older than `keep_s` and no longer needed. None if another process is at it.

    Raises:
        UsageError: the archive is not the one that Redis was trimmed by, or is damaged.
    """
    with alone(archive.directory) as only_one:
        if not only_one:
            return None
        prepare(client, archive)
        copied = _copy(client, archive, copy_after_s, most)
        return Moved(copied=copied, trimmed=_trim(client, archive, keep_s, most))


def prepare(client: redis.Redis, archive: Archive) -> None:
    """Deletes what a killed run left. A manifest comes before the first file, so that a lost one is not taken for a
    beginning."""
    log.check_reaches(archive, log.trimmed(client))
    found = sorted(path for path in archive.directory.iterdir() if path.name not in (LOCK, MANIFEST))
    if not (archive.directory / MANIFEST).exists():
        if any(path.suffix == ".parquet" and not path.name.startswith(".") for path in found):
            raise UsageError(f"{archive.directory} holds partitions and no {MANIFEST}: restore it.")
        files.write_manifest(archive.directory, [])
    named = {file.name for partition in archive.manifest().partitions for file in partition.files.values()}
    for path in found:
        if path.name not in named and (path.suffix == ".parquet" or path.name.startswith(".")):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[bool]:
    """Holds a lock that ends with the process, however it ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _is_younger(client: redis.Redis, entry: Entry, seconds: float) -> bool:
    return numbers(entry.position)[0] > _milliseconds_ago(client, seconds)


def _milliseconds_ago(client: redis.Redis, seconds: float) -> float:
    """A moment on Redis's clock, as positions of the log count it."""
    return (clock(client) - seconds) * 1000


# --- copying ------------------------------------------------------------------------------------------------------


def _copy(client: redis.Redis, archive: Archive, copy_after_s: float, most: int) -> int:
    manifest = archive.manifest()
    chunk = log.stream(client, after=manifest.last, count=min(log.CHUNK, most))
    if not chunk or _is_younger(client, chunk[0], copy_after_s):
        return 0
    with PartitionWriter(client, archive) as writer:
        while chunk:
            writer.add(chunk)
            room = min(log.CHUNK, most - writer.entries)
            chunk = log.stream(client, after=chunk[-1].position, count=room) if room else []
        partition = writer.finish()
    files.write_manifest(archive.directory, [*manifest.partitions, partition])
    return writer.entries


# --- trimming -----------------------------------------------------------------------------------------------------


def _trim(client: redis.Redis, archive: Archive, keep_s: float, most: int) -> int:
    """Gives up entries from the oldest on, up to the first that is too young, or not archived, or whose target can
    still be voted on; about `most` at a time.

    Raises:
        UsageError: the archive says something else than Redis.
    """
    oldest = log.stream(client, after=files.START, count=1)
    if not oldest or _is_younger(client, oldest[0], keep_s):
        return 0
    gone, newest = 0, _milliseconds_ago(client, keep_s)
    trimmed = log.trimmed(client)
    for chunk in log.batches(archive.entries(_checked(archive, trimmed), after=trimmed)):
        old = [entry for entry in chunk if numbers(entry.position)[0] <= newest]
        free = old[: _free(client, old)]
        if free:
            gone += _give_up(client, archive, free, after=trimmed)
            trimmed = free[-1].position
        if len(free) < len(chunk) or gone >= most:
            break
    return gone


def _checked(archive: Archive, trimmed: str) -> Iterator[Partition]:
    """The partitions that Redis may still hold, after a look at all files of each."""
    for partition in archive.manifest().partitions:
        if lies_after(partition.last, trimmed):
            for file in partition.files.values():
                archive.check(file)
            yield partition


def _free(client: redis.Redis, entries: Sequence[Entry]) -> int:
    """How many from the first on concern no target that Redis still holds."""
    targets = [_target(entry) for entry in entries]
    distinct = [target for target in dict.fromkeys(targets) if target is not None]
    pipeline = client.pipeline(transaction=False)
    for target in distinct:
        pipeline.exists(target)
    held = {target for target, exists in zip(distinct, pipeline.execute(), strict=True) if exists}
    return next((number for number, target in enumerate(targets) if target in held), len(targets))


def _target(entry: Entry) -> str | None:
    """The key where a vote on the same target would be decided; an event about a rater has none."""
    if entry.event is None:
        return None
    target = Feedback.model_validate_json(entry.event).target
    return keys.comparison(target.id) if target.type == "comparison" else keys.completion(target.id)


def _give_up(client: redis.Redis, archive: Archive, entries: Sequence[Entry], *, after: str) -> int:
    last = entries[-1].position
    held = log.stream(client, after=after, until=last, count=None)
    if different := sorted(set(held) - set(entries), key=lambda entry: numbers(entry.position)):
        raise UsageError(
            f"{archive.directory}: entry {different[0].position} is not what Redis holds; nothing was given up."
        )
    ms, seq = numbers(last)
    done = script(client, _TRIM)(keys=[keys.FEEDBACK, keys.FEEDBACK_TRIMMED], args=[last, f"{ms}-{seq + 1}"])
    return cast(int, done)
