"""Writes one partition of the archive: entries, and the records that they name, as three Parquet files.

A chunk at a time, under temporary names; `finish` makes them durable, reads them back, and names them.
"""

import hashlib
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import redis

from core.errors import UsageError
from core.files import fsync, sha256_of
from core.records import Feedback, RaterEvent
from feedback import archive as files
from feedback import log
from feedback.archive import SCHEMAS, Archive, ArchivedFile, Entry, Partition, RecordTable, Table
from feedback.events import position as numbers


class PartitionWriter:
    """One partition in the making, under temporary names until `finish`. Holds one chunk of records, and the ids of
    those that are written."""

    def __init__(self, client: redis.Redis, archive: Archive) -> None:
        self._client, self._archive = client, archive
        self._tables: dict[Table, _TableWriter] = {
            table: _TableWriter(archive.directory / f".{table}.parquet", SCHEMAS[table]) for table in SCHEMAS
        }
        self._ids: dict[Table, set[str]] = {table: set() for table in SCHEMAS}
        self._first, self._last = "", ""
        self._missing = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        for table in self._tables.values():
            table.close()

    @property
    def entries(self) -> int:
        return self._tables["events"].rows

    def add(self, entries: Sequence[Entry]) -> None:
        """One row group of entries, and one of the records that they name and that are not in the partition yet."""
        votes = [Feedback.model_validate_json(entry.event) if entry.event is not None else None for entry in entries]
        self._tables["events"].add(_event_columns(entries, votes))
        given = [vote for vote in votes if vote is not None]
        self._add_records("completions", (side for vote in given for side in vote.completion_ids))
        self._add_records("comparisons", (vote.target.id for vote in given if vote.target.type == "comparison"))
        self._first, self._last = self._first or entries[0].position, entries[-1].position

    def _add_records(self, table: RecordTable, ids: Iterator[str]) -> None:
        wanted = [identifier for identifier in dict.fromkeys(ids) if identifier not in self._ids[table]]
        self._ids[table].update(wanted)
        found = dict(log.records(self._client, table, wanted, None))
        gone = [identifier for identifier in wanted if identifier not in found]
        found |= dict(self._archive.records(table, gone)) if gone else {}
        self._missing += len(wanted) - len(found)
        if found:
            self._tables[table].add(_record_columns(found))

    def finish(self) -> Partition:
        """Puts the files there, after reading them back.

        Raises:
            UsageError: the disk did not keep what was written.
        """
        done: dict[Table, ArchivedFile] = {}
        for table, writer in self._tables.items():
            writer.close()
            fsync(writer.path)
            writer.check()
            sha256 = sha256_of(writer.path)
            name = f"{table}-{self._first}-{self._last}-{sha256[:12]}.parquet"
            done[table] = ArchivedFile(name=name, sha256=sha256, rows=writer.rows)
        for table, file in done.items():
            self._tables[table].path.rename(self._archive.directory / file.name)
        fsync(self._archive.directory)
        return Partition(first=self._first, last=self._last, files=done, missing=self._missing)


class _TableWriter:
    """One Parquet file, and a digest of what was written to it."""

    def __init__(self, path: Path, schema: Any) -> None:
        self.path, self.rows = path, 0
        self._schema, self._digest = schema, hashlib.sha256()
        self._file = pq.ParquetWriter(path, schema, compression="zstd")

    def add(self, columns: Mapping[str, list[Any]]) -> None:
        """One row group."""
        rows = pa.table(dict(columns), schema=self._schema)
        self._file.write_table(rows, row_group_size=len(rows))
        self.rows += len(rows)
        _update(self._digest, list(columns.values()))

    def close(self) -> None:
        if self._file.is_open:
            self._file.close()

    def check(self) -> None:
        found = hashlib.sha256()
        with pq.ParquetFile(self.path) as file:
            for number in range(file.num_row_groups):
                _update(found, [column.to_pylist() for column in file.read_row_group(number).columns])
        if found.digest() != self._digest.digest():
            raise UsageError(f"{self.path} does not read back as it was written: look after the disk.")


def _update(digest: Any, columns: Sequence[list[Any]]) -> None:
    for row in zip(*columns, strict=True):
        digest.update(repr(row).encode())


def _event_columns(entries: Sequence[Entry], votes: Sequence[Feedback | None]) -> dict[str, list[Any]]:
    raters = [RaterEvent.model_validate_json(entry.rater).rater if entry.rater else None for entry in entries]
    return {
        "ms": [numbers(entry.position)[0] for entry in entries],
        "seq": [numbers(entry.position)[1] for entry in entries],
        "id": [vote.id if vote is not None else None for vote in votes],
        "rater": [vote.rater if vote is not None else rater for vote, rater in zip(votes, raters, strict=True)],
        "event": [entry.event for entry in entries],
        "rater_event": [entry.rater for entry in entries],
        "previous": [entry.previous for entry in entries],
        "first": [entry.first for entry in entries],
    }


def _record_columns(found: Mapping[str, str]) -> dict[str, list[Any]]:
    return {
        "key": [files.key_of(identifier) for identifier in found],
        "id": list(found),
        "rater": [json.loads(record).get("rater") for record in found.values()],
        "record": list(found.values()),
    }
