"""The archive on disk: the older part of the log, and the records that it is about, so that Redis may forget both.

    archive/manifest.json     archive/{events,completions,comparisons}-{first entry}-{last entry}-{hash}.parquet

A partition is a run of consecutive log entries with every completion and comparison that they name. What exists is
what the manifest says, and what it says must be so: a file that is missing, or whose bytes hash to something else, is
an error that names it. feedback/archiving.py writes; this reads, a row group at a time.
"""

import contextlib
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pydantic import ValidationError

from core.errors import UsageError
from core.files import fsync, sha256_of
from core.records import Record
from feedback.events import after as lies_after
from feedback.events import position as numbers

MANIFEST = "manifest.json"
START = "0-0"
"""Before every entry."""
Table = Literal["events", "completions", "comparisons"]
RecordTable = Literal["completions", "comparisons"]

_WORD = pa.string()
_RECORDS = pa.schema([("key", pa.int64()), ("id", _WORD), ("rater", _WORD), ("record", _WORD)])
SCHEMAS: dict[Table, Any] = {
    "events": pa.schema(
        [
            ("ms", pa.int64()),
            ("seq", pa.int64()),
            ("id", _WORD),
            ("rater", _WORD),
            ("event", _WORD),
            ("rater_event", _WORD),
            ("previous", _WORD),
            ("first", _WORD),
        ]
    ),
    "completions": _RECORDS,
    "comparisons": _RECORDS,
}
"""JSON is kept as it was stored. `ms` and `seq` are the entry's position; `key` is `key_of` the id."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of the log, in Redis or in the archive: an event, or something about a rater."""

    position: str
    event: str | None = None
    """Feedback as JSON."""
    rater: str | None = None
    """RaterEvent as JSON."""
    previous: str | None = None
    """Of a later revision: where the one before it lies."""
    first: str | None = None
    """Of a later revision: where the first one lies."""


class ArchivedFile(Record):
    """`ArchivedFile(name="events-1790000000000-0-1790003600000-2-5d41402abc4b.parquet", sha256="5d41…", rows=50000)`"""

    name: str
    sha256: str
    rows: int


class Partition(Record):
    """A run of consecutive entries: `Partition(first="1790000000000-0", last="1790003600000-2", files={…})`."""

    first: str
    last: str
    files: dict[Table, ArchivedFile]
    missing: int = 0
    """Records that the entries name and that nobody held any more when this was written."""


class Manifest(Record):
    """What is in the archive, oldest first."""

    partitions: tuple[Partition, ...] = ()

    @property
    def last(self) -> str:
        """The newest entry that is archived."""
        return self.partitions[-1].last if self.partitions else START


@dataclass(frozen=True, kw_only=True, slots=True)
class _Index:
    """Where records lie: 12 bytes for each."""

    keys: NDArray[np.int64]
    """Sorted."""
    places: NDArray[np.int32]
    """Of each key, which of `groups`."""
    groups: list[tuple[ArchivedFile, int]]
    """A file and the number of a row group in it."""

    def find(self, ids: Sequence[str]) -> list[int | None]:
        """Which of `groups` holds each; None if none does."""
        sought = np.fromiter((key_of(identifier) for identifier in ids), np.int64, len(ids))
        at = np.searchsorted(self.keys, sought)
        held = at < len(self.keys)
        held[held] = self.keys[at[held]] == sought[held]
        places = iter(self.places[at[held]].tolist())
        return [next(places) if it else None for it in held.tolist()]


class Archive:
    """Reads the archive of a deployment; the newest manifest holds at each call. Several threads may share it."""

    def __init__(self, artifacts: Path) -> None:
        self.directory = artifacts / "archive"
        self._read: tuple[tuple[int, ...], Manifest] = ((), Manifest())
        self._indices: dict[tuple[int, RecordTable], _Index] = {}

    def manifest(self) -> Manifest:
        """Empty where nothing was archived yet.

        Raises:
            UsageError: it cannot be read.
        """
        path = self.directory / MANIFEST
        try:
            state = path.stat()
            version = (state.st_ino, state.st_mtime_ns, state.st_size)
            if version != self._read[0]:
                self._indices = {}
                self._read = version, Manifest.model_validate_json(path.read_text())
            return self._read[1]
        except FileNotFoundError:
            return Manifest()
        except (OSError, ValidationError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None

    def entries(self, partitions: Iterable[Partition], *, after: str = START) -> Iterator[Entry]:
        """The entries of these partitions behind a position, oldest first. All errors of `open`."""
        for partition in partitions:
            if lies_after(partition.last, after):
                whole = lies_after(partition.first, after)
                with self.open(partition.files["events"]) as file:
                    found = (entry for batch in file.iter_batches() for entry in _entries(batch))
                    yield from (entry for entry in found if whole or lies_after(entry.position, after))

    def backwards(self, before: str) -> Iterator[Entry]:
        """The entries before a position, newest first. All errors of `open`."""
        for partition in reversed(self.manifest().partitions):
            if lies_after(before, partition.first):
                with self.open(partition.files["events"]) as file:
                    for number in reversed(range(file.num_row_groups)):
                        if _range(file, number)[0] <= numbers(before)[0]:
                            found = reversed(list(_entries(file.read_row_group(number))))
                            yield from (entry for entry in found if lies_after(before, entry.position))

    def entry(self, at: str) -> Entry | None:
        """The entry at a position; None if it is not here. All errors of `open`."""
        ms, seq = numbers(at)
        for partition in self.manifest().partitions:
            if numbers(partition.first) <= (ms, seq) <= numbers(partition.last):
                with self.open(partition.files["events"]) as file:
                    for number in range(file.num_row_groups):
                        lowest, highest = _range(file, number)
                        if lowest <= ms <= highest:
                            group = file.read_row_group(number)
                            here = pc.and_(pc.equal(group["ms"], ms), pc.equal(group["seq"], seq))
                            if found := list(_entries(group.filter(here))):
                                return found[0]
        return None

    def records(self, table: RecordTable, ids: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Id and JSON of those records that are here, in the order in which they lie. All errors of `open`."""
        index, distinct = self._index(table), list(dict.fromkeys(ids))
        wanted: dict[int, list[str]] = {}
        for identifier, place in zip(distinct, index.find(distinct), strict=True):
            if place is not None:
                wanted.setdefault(place, []).append(identifier)
        for number, group in sorted(wanted.items()):
            file, row_group = index.groups[number]
            with self.open(file) as opened:
                rows = opened.read_row_group(row_group, columns=["id", "record"])
            rows = rows.filter(pc.is_in(rows["id"], value_set=pa.array(group)))
            yield from zip(rows["id"].to_pylist(), rows["record"].to_pylist(), strict=True)

    def _index(self, table: RecordTable) -> _Index:
        manifest = self.manifest()
        if (id(manifest), table) not in self._indices:
            self._indices[id(manifest), table] = self._indexed(table, manifest)
        return self._indices[id(manifest), table]

    def _indexed(self, table: RecordTable, manifest: Manifest) -> _Index:
        keys: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        groups: list[tuple[ArchivedFile, int]] = []
        for partition in manifest.partitions:
            with self.open(partition.files[table]) as file:
                for number in range(file.num_row_groups):
                    keys.append(file.read_row_group(number, columns=["key"])["key"].to_numpy())
                    groups.append((partition.files[table], number))
        places = np.repeat(np.arange(len(groups), dtype=np.int32), [len(found) for found in keys[1:]])
        together = np.concatenate(keys)
        order = np.argsort(together, kind="stable")
        return _Index(keys=together[order], places=places[order], groups=groups)

    @contextlib.contextmanager
    def open(self, file: ArchivedFile) -> Iterator[Any]:
        """The Parquet file, after a `check`, with its errors."""
        path = self.check(file)
        try:
            opened = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"{path}: a part of the archive cannot be read ({error}); restore the file.") from None
        with opened:
            yield opened

    def check(self, file: ArchivedFile) -> Path:
        """Where the file lies. Its bytes are what the manifest says: they are hashed once for each state of the file.

        Raises:
            UsageError: they are not, or it cannot be read.
        """
        path = self.directory / file.name
        try:
            state = path.stat()
            found = _sha256(path, state.st_ino, state.st_mtime_ns, state.st_size)
        except OSError as error:
            raise UsageError(f"{path}: a part of the archive cannot be read ({error}); restore the file.") from None
        if found != file.sha256:
            raise UsageError(f"{path}: a part of the archive was changed or damaged; restore the file.")
        return path


def key_of(identifier: str) -> int:
    """64 bits of a hash of an id: what records are found by."""
    return int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:8], "big", signed=True)


def write_manifest(directory: Path, partitions: Sequence[Partition]) -> None:
    """Replaces the manifest in one step: after a crash there is the old one or the new one."""
    temporary = directory / f".{MANIFEST}"
    temporary.write_text(Manifest(partitions=tuple(partitions)).model_dump_json(by_alias=True, indent=1) + "\n")
    fsync(temporary)
    temporary.rename(directory / MANIFEST)
    fsync(directory)


@functools.lru_cache(maxsize=4096)
def _sha256(path: Path, *_state: int) -> str:
    return sha256_of(path)


def _range(file: Any, row_group: int) -> tuple[int, int]:
    """The first and the last millisecond in a row group of events."""
    statistics = file.metadata.row_group(row_group).column(0).statistics
    return statistics.min, statistics.max


def _entries(rows: Any) -> Iterator[Entry]:
    names = ("ms", "seq", "event", "rater_event", "previous", "first")
    for ms, seq, event, rater, previous, first in zip(*(rows.column(it).to_pylist() for it in names), strict=True):
        yield Entry(position=f"{ms}-{seq}", event=event, rater=rater, previous=previous, first=first)
