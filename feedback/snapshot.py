"""Snapshots: immutable training sets, named by what is in them.

    snapshots/{id}/{table}.parquet (feedback/rows.py)    manifest.json (SnapshotManifest)
                   votes.parquet (feedback/outcomes.py)

The id is a SHA-256 over the sorted digests of the rows' canonical JSON: not over Parquet bytes, which change with the
writer's version. The same votes give the same id on any machine, and `read` refuses a directory whose rows say
otherwise. Rows are written and checked in chunks; beside one of them, 32 bytes of each row are held.

This is the only module of `feedback` that `training` imports, so all of feedback/rows.py is found here.
"""

import hashlib
import itertools
import secrets
import shutil
import types
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from pydantic import ValidationError

from core.errors import UsageError
from core.files import fsync
from core.records import SnapshotManifest
from feedback import outcomes
from feedback.encoding import Encoded, decoded, digests, encode, schema_of
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
    canonical_prompt,
    cluster_of,
    fold_of,
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
_BEHIND = 4
"""Chunks that wait to be written while the next ones are made."""
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
    def last_vote(self) -> float:
        """When the newest vote that gave a row of any kind was given, on Redis's clock; 0 if none did."""
        tables = [kind for kind in TABLES if kind is not PromptRow]
        files = [self.directory / _file(kind) for kind in tables]
        newest = [pc.max(pq.read_table(file, columns=["created_at"])["created_at"]).as_py() for file in files]
        return max((float(at) for at in newest if at is not None), default=0.0)

    @cached_property
    def prompts(self) -> list[PromptRow]:
        """In the order of their clusters."""
        return sorted(rows(self.directory, PromptRow), key=lambda row: row.cluster)


def content_id(found: Iterable[Row]) -> str:
    """The id of a snapshot of these rows, whatever their order."""
    return _id(b"".join(digests(found)))


def _id(digests: bytes | bytearray) -> str:
    """Sorted by numpy, which takes no object for each."""
    total = hashlib.sha256(f"plumbline snapshot {_SCHEMA}\n".encode())
    total.update(np.sort(np.frombuffer(digests, "S32")).tobytes())
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
        self._tables = {kind: _opened(self._directory / _file(kind), kind) for kind in TABLES}
        self._pending: dict[type[Any], list[Any]] = {kind: [] for kind in TABLES}
        self._thread = ThreadPoolExecutor(1)  # to compress and write takes as long as to make what is written
        self._writing: deque[Future[None]] = deque()
        self._digests = bytearray()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._raters: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        for table in self._tables.values():
            table.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def add(self, found: Iterable[Row]) -> None:
        """Rows of any table. In a table they stay in the order in which they come."""
        remaining = iter(found)
        while chunk := list(itertools.islice(remaining, self._chunk)):
            for encoded in encode(chunk):
                self.put(encoded)

    def put(self, encoded: Encoded) -> None:
        """The same of rows that were encoded before."""
        kind = encoded.kind
        self._digests += b"".join(encoded.digests)
        self._count(kind, encoded.batch)
        self._pending[kind].append(encoded.batch)
        if sum(held.num_rows for held in self._pending[kind]) >= self._chunk:
            self._flush(kind)

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
        for kind in self._tables:
            self._flush(kind)
        self._wait(behind=0)
        for table in self._tables.values():
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
            raters=len(self._raters - {"-"}),
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
            fsync(self._directory / name)
        if final.exists() or not _renamed(self._directory, final):
            return read(final)
        return Snapshot(directory=final, manifest=manifest)

    def _count(self, kind: type[Any], batch: Any) -> None:
        table = TABLES[kind]
        self._counts[table, ""] += batch.num_rows
        for found in batch.column("fold").value_counts().to_pylist():
            self._counts[table, found["values"]] += found["counts"]
        if "trains_policy" in batch.schema.names:
            self._counts[table, "policy"] += batch.column("trains_policy").true_count
        if "rater" in batch.schema.names:
            self._raters.update(batch.column("rater").unique().to_pylist())

    def _flush(self, kind: type[Any]) -> None:
        if pending := self._pending[kind]:
            table = pa.Table.from_batches(pending)
            self._writing.append(self._thread.submit(self._tables[kind].write_table, table))
            self._pending[kind] = []
            self._wait(behind=_BEHIND)

    def _wait(self, *, behind: int) -> None:
        while len(self._writing) > behind:
            self._writing.popleft().result()


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
        UsageError: it is no snapshot, or it was changed, or erased.
    """
    manifest = check_not_erased(directory)
    found = content_id(itertools.chain.from_iterable(rows(directory, kind) for kind in TABLES))
    if found != manifest.id:
        raise UsageError(f"{directory}: the rows hash to {found[:12]}, not to {manifest.id[:12]}: they were changed.")
    return manifest


def check_not_erased(directory: Path) -> SnapshotManifest:
    """The manifest, rows unread.

    Raises:
        UsageError: it is no snapshot, or it was erased.
    """
    manifest = read_manifest(directory)
    if manifest.erased is not None:
        raise UsageError(f"{directory} held somebody who was erased, so its rows are deleted: take a newer snapshot.")
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
    """One table, unchecked, in chunks.

    Raises:
        UsageError: the table cannot be read.
    """
    try:
        with pq.ParquetFile(directory / _file(kind)) as file:
            for batch in file.iter_batches(CHUNK):
                yield from decoded(kind, batch)
    except (OSError, TypeError, pa.ArrowException) as error:
        raise UsageError(f"{directory} is not a readable snapshot: {error}") from None


def _opened(path: Path, kind: type[Any]) -> Any:
    """A dictionary helps where few values come often, and costs most of the time where all differ."""
    repeated = [name for name in ("fold", "rater", "rater_kind") if name in schema_of(kind).names]
    return pq.ParquetWriter(path, schema_of(kind), use_dictionary=repeated)


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
    fsync(final.parent)
    return True
