"""Removes a person's data from the archive and from snapshots. Everything here can be killed and run again."""

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from core.files import fsync, sha256_of
from core.records import SnapshotManifest
from feedback import archive as files
from feedback import outcomes, snapshot
from feedback.archive import SCHEMAS, Archive, ArchivedFile, Partition, Table
from feedback.erasure_plan import Traces
from feedback.rows import TABLES

_TEMPORARY = ".erasing.parquet"
_LOOKED_AT = ["id", "rater"]
_ABANDONED_S = 3600.0
_CLOCKS_S = 60.0
"""What the clocks of the API, of Redis and of the scheduler may differ by."""


# --- the archive --------------------------------------------------------------------------------------------------


def erase_archive(archive: Archive, traces: Traces) -> int:
    """Writes the partitions that hold the person anew, under new names. Who calls it holds the archive's lock.

    Returns:
        How many rows are gone: entries of the log and records.

    Raises:
        UsageError: a part of the archive is damaged.
    """
    before = archive.manifest().partitions
    after = [_rewritten(archive, partition, traces) for partition in before]
    if after == list(before):
        return 0
    files.write_manifest(archive.directory, after)
    old, new = _files(before), _files(after)
    for name in old.keys() - new.keys():
        (archive.directory / name).unlink(missing_ok=True)
    return sum(old.values()) - sum(new.values())


def _files(partitions: Iterable[Partition]) -> dict[str, int]:
    return {file.name: file.rows for partition in partitions for file in partition.files.values()}


def _rewritten(archive: Archive, partition: Partition, traces: Traces) -> Partition:
    found = {table: _without(archive, partition, table, traces) for table in partition.files}
    return partition.model_copy(update={"files": found})


def _without(archive: Archive, partition: Partition, table: Table, traces: Traces) -> ArchivedFile:
    held = partition.files[table]
    with archive.open(held) as file:
        if not any(pc.any(_theirs(table, batch, traces)).as_py() for batch in file.iter_batches(columns=_LOOKED_AT)):
            return held
        path, rows = archive.directory / _TEMPORARY, 0
        with pq.ParquetWriter(path, SCHEMAS[table], compression="zstd") as writer:
            for number in range(file.num_row_groups):
                group = file.read_row_group(number)
                kept = group.filter(pc.invert(_theirs(table, group, traces)))
                rows += len(kept)
                if len(kept):
                    writer.write_table(kept, row_group_size=len(kept))
    fsync(path)
    sha256 = sha256_of(path)
    name = f"{table}-{partition.first}-{partition.last}-{sha256[:12]}.parquet"
    path.rename(archive.directory / name)
    fsync(archive.directory)
    return ArchivedFile(name=name, sha256=sha256, rows=rows)


def _theirs(table: Table, rows: Any, traces: Traces) -> Any:
    """Which of these rows hold the person: by id, and of the log what was said about them."""
    if table != "events":
        return pc.is_in(rows["id"], value_set=_words(traces.targets))
    named = pc.fill_null(pc.equal(rows["rater"], traces.rater), False)
    return pc.or_(named, pc.is_in(rows["id"], value_set=_words(traces.votes)))


# --- snapshots ----------------------------------------------------------------------------------------------------


def holding(artifacts: Path, traces: Traces) -> list[str]:
    """Ids of the snapshots whose rows hold the person, but for those that are erased already."""
    found = [(path, manifest) for path, manifest in _snapshots(artifacts) if manifest.erased is None]
    return [path.name for path, manifest in found if _holds(path, manifest, traces)]


def erase_snapshot(artifacts: Path, name: str, *, at: float) -> None:
    """Deletes a snapshot's rows, and what was seen of its votes; its manifest stays and says so."""
    directory = artifacts / "snapshots" / name
    manifest = snapshot.read_manifest(directory)
    if manifest.erased is None:
        with _replacing(directory / snapshot.MANIFEST) as path:
            path.write_text(manifest.model_copy(update={"erased": at}).to_json() + "\n")
    for table in TABLES.values():
        (directory / f"{table}.parquet").unlink(missing_ok=True)
    fsync(directory)
    for path in (artifacts / "trust").glob(f"*{name}*"):  # feedback ids and numbers, and a log
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_unfinished(artifacts: Path) -> None:
    """Deletes what a killed cut left; a cut that is under way is younger."""
    for path in (artifacts / "snapshots").glob(".*"):
        if path.is_dir() and path.stat().st_mtime < time.time() - _ABANDONED_S:
            shutil.rmtree(path)


def forget_outcomes(artifacts: Path, traces: Traces) -> None:
    """Takes the person's votes out of what every snapshot says became of votes."""
    votes = _words(traces.votes)
    for directory, _ in _snapshots(artifacts):
        path = directory / outcomes.FILE
        if not path.exists():
            continue
        rows = pq.read_table(path)
        theirs = pc.is_in(rows["feedback_id"], value_set=votes)
        if pc.any(theirs).as_py():
            with _replacing(path) as temporary:
                pq.write_table(rows.filter(pc.invert(theirs)), temporary, row_group_size=outcomes.GROUP)


def _snapshots(artifacts: Path) -> Iterator[tuple[Path, SnapshotManifest]]:
    for path in sorted((artifacts / "snapshots").glob(f"*/{snapshot.MANIFEST}")):
        if not path.parent.name.startswith("."):
            yield path.parent, snapshot.read_manifest(path.parent)


def _holds(directory: Path, manifest: SnapshotManifest, traces: Traces) -> bool:
    since = {cluster for cluster, at in traces.clusters.items() if manifest.created >= at - _CLOCKS_S}
    sought = {"rater": {traces.hashed}, "feedback_id": traces.votes}
    sought |= {"completion_id": traces.targets, "comparison_id": traces.targets}
    for table in TABLES.values():
        wanted = {"cluster": since} if table == "prompts" else sought
        path = directory / f"{table}.parquet"
        if path.exists() and _any(path, wanted):
            return True
    return False


def _any(path: Path, sought: dict[str, set[str]]) -> bool:
    with pq.ParquetFile(path) as file:
        columns = [name for name in sought if name in file.schema_arrow.names]
        words = {name: _words(sought[name]) for name in columns}
        for batch in file.iter_batches(columns=columns):
            if any(pc.any(pc.is_in(batch[name], value_set=words[name])).as_py() for name in columns):
                return True
    return False


def _words(found: Iterable[str]) -> Any:
    return pa.array(sorted(found), pa.string())


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to write to, which takes the place of `path` in one step."""
    temporary = path.with_name(f".{path.name}")
    yield temporary
    fsync(temporary)
    temporary.rename(path)
    fsync(path.parent)
