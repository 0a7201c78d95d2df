"""Snapshots: immutable training sets, named by what is in them.

    snapshots/{id}/{table}.parquet (feedback/rows.py)    manifest.json (SnapshotManifest)
                   votes.parquet (feedback/outcomes.py)

The id is a SHA-256 over the sorted digests of the rows' canonical JSON: not over Parquet bytes, which change with the
writer's version. The same votes give the same id on any machine, and `read` refuses a directory whose rows say
otherwise. Rows are written and checked in chunks; beside one of them, 32 bytes of each row are held.

Snapshots of schema 1 (pairs by people) and 2 (pairs and thumbs) are read too; their ids were made in another way.
This is the only module of `feedback` that `training` imports, so all of feedback/rows.py is found here.
"""

import hashlib
import itertools
import os
import secrets
import shutil
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from pydantic import ValidationError

from core.errors import UsageError
from core.records import Fold, RaterKind, SnapshotManifest
from feedback import outcomes
from feedback.outcomes import Outcome
from feedback.rows import (
    TABLES,
    DemonstrationRow,
    PairRow,
    PromptRow,
    RankingRow,
    RatingRow,
    Row,
    ThumbRow,
    VoteRow,
    canonical,
    canonical_prompt,
    cluster_of,
    fields_of,
    fold_of,
    lines,
)

__all__ = [
    "DemonstrationRow",
    "PairRow",
    "PromptRow",
    "RankingRow",
    "RatingRow",
    "Snapshot",
    "ThumbRow",
    "Writer",
    "canonical_prompt",
    "check",
    "cluster_of",
    "content_id",
    "fold_of",
    "read",
    "read_manifest",
    "rows",
    "write",
]

MANIFEST = "manifest.json"
_SCHEMA = 3
CHUNK = 4096
"""Rows that are held while they are written or read."""
_NEW_FIELDS = {1: {"rater_kind", "propensity", "ranked"}, 2: {"propensity", "ranked"}}
"""Fields that a row did not have in that schema."""
_R = TypeVar("_R", bound=Row)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on disk; a table is read when it is asked for. Rows of votes stand in the votes' order."""

    directory: Path
    manifest: SnapshotManifest

    @cached_property
    def pairs(self) -> list[PairRow]:
        return list(rows(self.directory, PairRow))

    @cached_property
    def thumbs(self) -> list[ThumbRow]:
        return list(rows(self.directory, ThumbRow))

    @cached_property
    def rankings(self) -> list[RankingRow]:
        return list(rows(self.directory, RankingRow))

    @cached_property
    def ratings(self) -> list[RatingRow]:
        return list(rows(self.directory, RatingRow))

    @cached_property
    def demonstrations(self) -> list[DemonstrationRow]:
        return list(rows(self.directory, DemonstrationRow))

    @cached_property
    def prompts(self) -> list[PromptRow]:
        """In the order of their clusters."""
        return sorted(rows(self.directory, PromptRow), key=lambda row: row.cluster)


def content_id(found: Iterable[Row]) -> str:
    """The id of a snapshot of these rows, whatever their order."""
    return _id(_digests(found))


def _digests(found: Iterable[Row]) -> Iterator[bytes]:
    return (hashlib.sha256(f"{table}\n{line}".encode()).digest() for table, line in lines(found))


def _id(digests: Iterable[bytes]) -> str:
    total = hashlib.sha256(f"plumbline snapshot {_SCHEMA}\n".encode())
    for digest in sorted(digests):
        total.update(digest)
    return total.hexdigest()


def _id_of_old(directory: Path, schema: int) -> str:
    """As schemas 1 and 2 made it: over all lines of one table after the other."""
    total = hashlib.sha256()
    for kind in (PairRow, ThumbRow, PromptRow) if schema == 2 else (PairRow, PromptRow):
        total.update(f"{TABLES[kind]}\n".encode())
        found = (fields_of(row) for row in rows(directory, kind))
        known = ({name: row[name] for name in row.keys() - _NEW_FIELDS[schema]} for row in found)
        for line in sorted(canonical(row) for row in known):
            total.update(f"{line}\n".encode())
    return total.hexdigest()


class Writer:
    """A snapshot in the making, in a directory of its own until `finish` names it. Leaving the context without that
    leaves nothing behind.

    Example:
        with Writer(artifacts / "snapshots") as writer:
            writer.add(rows)
            snapshot = writer.finish(created=now(), last_event="1790000099-0", …)
    """

    def __init__(self, parent: Path, *, chunk: int = CHUNK) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self._parent, self._chunk = parent, chunk
        self._directory = parent / f".{secrets.token_hex(8)}"
        self._directory.mkdir()
        self._tables = {kind: pq.ParquetWriter(self._directory / _file(kind), _schema(kind)) for kind in TABLES}
        self._pending: dict[type[Any], list[Row]] = {kind: [] for kind in TABLES}
        self._digests: list[bytes] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._raters: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        for table in self._tables.values():
            table.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def add(self, found: Iterable[Row]) -> None:
        """Rows of any table. In a table they stay in the order in which they come."""
        for row in found:
            self._digests += _digests([row])
            self._count(row)
            pending = self._pending[type(row)]
            pending.append(row)
            if len(pending) == self._chunk:
                self._flush(type(row))

    def finish(
        self,
        *,
        created: float,
        last_event: str,
        dropped: dict[str, int],
        live_version: int,
        base_sha256: str,
        tokenizer_sha256: str,
        caps: dict[str, float] | None = None,
        votes: Iterable[Outcome] = (),
    ) -> Snapshot:
        """Puts `parent`/{id}/ there in one step (fsync, rename). A snapshot that is there already stays.

        Raises:
            UsageError: a directory of that name is there but does not hold these rows.
        """
        for kind, table in self._tables.items():
            self._flush(kind)
            table.close()
        counts = self._counts
        manifest = SnapshotManifest(
            schema_version=_SCHEMA,
            id=_id(self._digests),
            created=created,
            last_event=last_event,
            rows=counts["pairs", ""],
            rows_by_fold={fold: counts["pairs", fold] for fold in ("optimize", "judge", "test")},
            policy_rows=counts["pairs", "policy"],
            prompts=counts["prompts", ""],
            dropped=dropped,
            thumbs=counts["thumbs", ""],
            policy_thumbs=counts["thumbs", "policy"],
            rankings=counts["rankings", ""],
            ratings=counts["ratings", ""],
            demonstrations=counts["demonstrations", ""],
            raters=len(self._raters),
            caps=caps or {},
            live_version=live_version,
            base_sha256=base_sha256,
            tokenizer_sha256=tokenizer_sha256,
        )
        outcomes.write(self._directory, votes)
        (self._directory / MANIFEST).write_text(manifest.to_json() + "\n")
        return self._publish(manifest)

    def _publish(self, manifest: SnapshotManifest) -> Snapshot:
        final = self._parent / manifest.id
        for name in (*map(_file, TABLES), outcomes.FILE, MANIFEST, "."):
            _fsync(self._directory / name)
        if final.exists() or not _renamed(self._directory, final):
            return read(final)
        return Snapshot(directory=final, manifest=manifest)

    def _count(self, row: Row) -> None:
        table = TABLES[type(row)]
        self._counts[table, ""] += 1
        self._counts[table, row.fold] += 1
        if isinstance(row, PairRow | ThumbRow | DemonstrationRow):
            self._counts[table, "policy"] += row.trains_policy
        if not isinstance(row, PromptRow) and row.rater != "-":
            self._raters.add(row.rater)

    def _flush(self, kind: type[Any]) -> None:
        if pending := self._pending[kind]:
            table = pa.Table.from_pylist([fields_of(row) for row in pending], schema=_schema(kind))
            self._tables[kind].write_table(table)
            self._pending[kind] = []


def write(
    parent: Path,
    *,
    pairs: Sequence[PairRow],
    thumbs: Sequence[ThumbRow] = (),
    rankings: Sequence[RankingRow] = (),
    ratings: Sequence[RatingRow] = (),
    demonstrations: Sequence[DemonstrationRow] = (),
    prompts: Sequence[PromptRow],
    created: float,
    last_event: str,
    dropped: dict[str, int],
    live_version: int,
    base_sha256: str,
    tokenizer_sha256: str,
) -> Snapshot:
    """Writes rows that are all at hand; `Writer.finish` and its errors."""
    votes: list[VoteRow] = [*pairs, *thumbs, *rankings, *ratings, *demonstrations]
    votes.sort(key=lambda row: (row.created_at, row.feedback_id))
    with Writer(parent) as writer:
        writer.add(votes)
        writer.add(prompts)
        return writer.finish(
            created=created,
            last_event=last_event,
            dropped=dropped,
            live_version=live_version,
            base_sha256=base_sha256,
            tokenizer_sha256=tokenizer_sha256,
        )


def read(directory: Path) -> Snapshot:
    """Checks that a snapshot's rows are the ones its name promises. Raises the errors of `check`."""
    return Snapshot(directory=directory, manifest=check(directory))


def check(directory: Path) -> SnapshotManifest:
    """Reads all rows once, in chunks.

    Raises:
        UsageError: it is no snapshot, or it was changed.
    """
    manifest = read_manifest(directory)
    if manifest.schema_version < _SCHEMA:
        found = _id_of_old(directory, manifest.schema_version)
    else:
        found = content_id(itertools.chain.from_iterable(rows(directory, kind) for kind in TABLES))
    if found != manifest.id:
        raise UsageError(f"{directory}: the rows hash to {found[:12]}, not to {manifest.id[:12]}: they were changed.")
    return manifest


def read_manifest(directory: Path) -> SnapshotManifest:
    """The manifest alone, unchecked: enough to know where a snapshot ends.

    Raises:
        UsageError: there is none.
    """
    try:
        return SnapshotManifest.model_validate_json((directory / MANIFEST).read_text())
    except (OSError, ValidationError) as error:
        raise UsageError(f"{directory} is not a readable snapshot: {error}") from None


def rows(directory: Path, kind: type[_R]) -> Iterator[_R]:
    """One table, unchecked, in chunks; an old snapshot's missing tables are empty.

    Raises:
        UsageError: the table cannot be read.
    """
    if not _has_table(read_manifest(directory).schema_version, kind):
        return
    try:
        with pq.ParquetFile(directory / _file(kind)) as file:
            for batch in file.iter_batches(CHUNK):
                columns = [_values(column) for column in batch.columns]
                for values in zip(*columns, strict=True):
                    yield kind(**dict(zip(batch.schema.names, values, strict=True)))
    except (OSError, TypeError, pa.ArrowException) as error:
        raise UsageError(f"{directory} is not a readable snapshot: {error}") from None


def _values(column: pa.Array) -> list[Any]:
    """`to_pylist`, ten times as fast for lists of numbers, which are most of a snapshot."""
    if pa.types.is_list(column.type):
        flat, offsets = _values(column.flatten()), column.offsets.to_numpy().tolist()
        return [flat[start - offsets[0] : end - offsets[0]] for start, end in itertools.pairwise(offsets)]
    found: list[Any] = column.to_numpy().tolist() if pa.types.is_integer(column.type) else column.to_pylist()
    return found


def _has_table(schema: int, kind: type[Any]) -> bool:
    return kind in (PairRow, PromptRow) or schema >= (2 if kind is ThumbRow else 3)


_WORD, _NUMBER = pa.string(), pa.int32()
_ARROW: dict[Any, Any] = {str: _WORD, float: pa.float64(), int: _NUMBER, bool: pa.bool_(), Fold: _WORD}
_ARROW |= {RaterKind: _WORD, list[int]: pa.list_(_NUMBER), list[str]: pa.list_(_WORD)}
_ARROW |= {list[list[int]]: pa.list_(pa.list_(_NUMBER))}


def _schema(kind: type[Any]) -> pa.Schema:
    return pa.schema([(field.name, _ARROW[field.type]) for field in fields(kind)])


def _file(kind: type[Any]) -> str:
    return f"{TABLES[kind]}.parquet"


def _renamed(temporary: Path, final: Path) -> bool:
    """False: another process put the same rows there first."""
    try:
        temporary.rename(final)
    except OSError:
        if not final.exists():
            raise
        return False
    _fsync(final.parent)
    return True


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
