"""Snapshots: immutable training sets, named by what is in them.

    snapshots/{id}/pairs.parquet    thumbs.parquet    prompts.parquet    manifest.json (SnapshotManifest)

The id is a SHA-256 over the canonical JSON of the rows, sorted: not over Parquet bytes, which change with the writer's
version. The same votes give the same id on any machine, and `read` refuses a directory whose rows say otherwise.
Snapshots of schema 1 have no thumbs, and all their raters are people; they are read as such.
This is the only module of `feedback` that `training` imports, so it imports no other.
"""

import dataclasses
import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from pydantic import ValidationError

from core.errors import UsageError
from core.records import Fold, Message, RaterKind, SnapshotManifest

PAIRS, THUMBS, PROMPTS, MANIFEST = "pairs.parquet", "thumbs.parquet", "prompts.parquet", "manifest.json"
_OPTIMIZE, _JUDGE = 70, 20  # percent; the rest is the test fold


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRow:
    """One vote that gives a preference between two completions of one prompt.

    Example:
        PairRow(feedback_id="fb_9f86…", comparison_id="cmp_52ce…", created_at=1790000003.2, cluster="ab12…",
            fold="optimize", prompt='[{"role":"user","content":"A dog is"}]', prompt_token_ids=[1, 65, 301],
            chosen_token_ids=[70, 4], rejected_token_ids=[71, 4], chosen_text="a pet", rejected_text="a fish",
            chosen_version=3, rejected_version=2, tie=False, trains_policy=True, weight=1.0, rater="5d41…")
    """

    feedback_id: str
    comparison_id: str
    created_at: float
    cluster: str
    """See `cluster_of`: rows of one cluster always stand in one fold."""
    fold: Fold
    prompt: str
    """The messages as JSON."""
    prompt_token_ids: list[int]
    chosen_token_ids: list[int]
    """As sampled, with the end-of-text token; never re-encoded from text."""
    rejected_token_ids: list[int]
    chosen_text: str
    rejected_text: str
    chosen_version: int
    rejected_version: int
    tie: bool
    """Then chosen is the left side and rejected the right one: half a vote each way, and no policy row."""
    trains_policy: bool
    """In the optimize fold, not a tie, sampled by a fresh enough policy, newer than the live policy's snapshot."""
    weight: float
    rater: str
    """A keyed hash; `-` for nobody in particular."""
    rater_kind: RaterKind = "human"


@dataclass(frozen=True, kw_only=True, slots=True)
class ThumbRow:
    """One thumb on one completion.

    Example:
        ThumbRow(feedback_id="fb_41ab…", completion_id="chatcmpl-77f0…", created_at=1790000004.7, cluster="ab12…",
            fold="optimize", prompt='[{"role":"user","content":"A dog is"}]', prompt_token_ids=[1, 65, 301],
            completion_token_ids=[70, 4], completion_text="a pet", version=3, up=True, trains_policy=True,
            weight=1.0, rater="5d41…")
    """

    feedback_id: str
    completion_id: str
    created_at: float
    cluster: str
    """See `cluster_of`: pairs and thumbs of one cluster stand in one fold."""
    fold: Fold
    prompt: str
    """The messages as JSON."""
    prompt_token_ids: list[int]
    completion_token_ids: list[int]
    """As sampled, with the end-of-text token; never re-encoded from text."""
    completion_text: str
    version: int
    up: bool
    trains_policy: bool
    """As for pairs, and the completion stands in no pair of the snapshot: it would teach the same thing twice."""
    weight: float
    rater: str
    """A keyed hash; `-` for nobody in particular."""
    rater_kind: RaterKind = "human"


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptRow:
    """One distinct prompt of real traffic: for the gate (folds judge and test) and for rollouts (fold optimize)."""

    cluster: str
    fold: Fold
    prompt: str
    prompt_token_ids: list[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A snapshot on disk, with its rows: those of votes in the votes' order, prompts in the order of clusters."""

    directory: Path
    manifest: SnapshotManifest
    pairs: list[PairRow]
    thumbs: list[ThumbRow]
    prompts: list[PromptRow]


def canonical_prompt(messages: Iterable[Message]) -> str:
    """The messages as the JSON that `PairRow.prompt` holds."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return json.dumps(turns, ensure_ascii=False, separators=(",", ":"))


def cluster_of(messages: Iterable[Message]) -> str:
    """The prompt-cluster id: all turns, lower-case, whitespace folded, hashed. Assigned once, never changed."""
    turns = [[message.role, " ".join(message.content.lower().split())] for message in messages]
    return hashlib.sha256(_canonical(turns)).hexdigest()


def fold_of(salt: bytes, cluster: str) -> Fold:
    """The fold of a prompt cluster, for the deployment's life: HMAC-SHA256(salt, cluster), 70 / 20 / 10 percent."""
    digest = hmac.new(salt, cluster.encode(), hashlib.sha256).digest()
    percentile = int.from_bytes(digest[:8], "big") * 100 >> 64
    if percentile < _OPTIMIZE:
        return "optimize"
    return "judge" if percentile < _OPTIMIZE + _JUDGE else "test"


def content_id(
    pairs: Iterable[PairRow], thumbs: Iterable[ThumbRow], prompts: Iterable[PromptRow], *, schema: int = 2
) -> str:
    """SHA-256 over the canonical rows, independent of their order."""
    tables: dict[str, Iterable[PairRow] | Iterable[ThumbRow] | Iterable[PromptRow]]
    tables = (
        {"pairs": pairs, "thumbs": thumbs, "prompts": prompts} if schema > 1 else {"pairs": pairs, "prompts": prompts}
    )
    unknown = {"rater_kind"} if schema == 1 else set()
    total = hashlib.sha256()
    for name, rows in tables.items():
        total.update(f"{name}\n".encode())
        fields = (dataclasses.asdict(row) for row in rows)
        for line in sorted(_canonical({key: row[key] for key in row.keys() - unknown}) for row in fields):
            total.update(line + b"\n")
    return total.hexdigest()


def write(
    parent: Path,
    *,
    pairs: Sequence[PairRow],
    thumbs: Sequence[ThumbRow] = (),
    prompts: Sequence[PromptRow],
    created: float,
    last_event: str,
    dropped: dict[str, int],
    live_version: int,
    base_sha256: str,
    tokenizer_sha256: str,
) -> Snapshot:
    """Writes `parent`/{id}/ in one step (temporary directory, fsync, rename). A snapshot that is there already stays.

    Raises:
        UsageError: a directory of that name is there but does not hold these rows.
    """
    folds = Counter(row.fold for row in pairs)
    manifest = SnapshotManifest(
        id=content_id(pairs, thumbs, prompts),
        created=created,
        last_event=last_event,
        rows=len(pairs),
        rows_by_fold={fold: folds[fold] for fold in ("optimize", "judge", "test")},
        policy_rows=sum(row.trains_policy for row in pairs),
        prompts=len(prompts),
        dropped=dropped,
        thumbs=len(thumbs),
        policy_thumbs=sum(row.trains_policy for row in thumbs),
        live_version=live_version,
        base_sha256=base_sha256,
        tokenizer_sha256=tokenizer_sha256,
    )
    final = parent / manifest.id
    if not final.exists():
        parent.mkdir(parents=True, exist_ok=True)
        temporary = parent / f".{manifest.id}.{secrets.token_hex(4)}"
        try:
            _write_files(temporary, pairs, thumbs, prompts, manifest)
            _rename(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return read(final)


def read(directory: Path) -> Snapshot:
    """Reads a snapshot and checks that its rows are the ones its name promises.

    Raises:
        UsageError: it is no snapshot, or it was changed.
    """
    try:
        manifest = SnapshotManifest.model_validate_json((directory / MANIFEST).read_text())
        schema = manifest.schema_version
        pairs = [PairRow(**row) for row in pq.read_table(directory / PAIRS).to_pylist()]
        thumbs = [ThumbRow(**row) for row in pq.read_table(directory / THUMBS).to_pylist()] if schema > 1 else []
        prompts = [PromptRow(**row) for row in pq.read_table(directory / PROMPTS).to_pylist()]
    except (OSError, ValidationError, TypeError, pa.ArrowException) as error:
        raise UsageError(f"{directory} is not a readable snapshot: {error}") from None
    if (found := content_id(pairs, thumbs, prompts, schema=schema)) != manifest.id:
        raise UsageError(f"{directory}: the rows hash to {found[:12]}, not to {manifest.id[:12]}: they were changed.")
    return Snapshot(directory=directory, manifest=manifest, pairs=pairs, thumbs=thumbs, prompts=prompts)


def read_manifest(directory: Path) -> SnapshotManifest:
    """The manifest alone, unchecked: enough to know where a snapshot ends.

    Raises:
        UsageError: there is none.
    """
    try:
        return SnapshotManifest.model_validate_json((directory / MANIFEST).read_text())
    except (OSError, ValidationError) as error:
        raise UsageError(f"{directory} is not a readable snapshot: {error}") from None


_IDS = pa.list_(pa.int32())
_WORD = pa.string()
_ARROW: dict[Any, Any] = {str: _WORD, float: pa.float64(), int: pa.int32(), bool: pa.bool_(), list[int]: _IDS}
_ARROW |= {Fold: _WORD, RaterKind: _WORD}
_Vote = TypeVar("_Vote", PairRow, ThumbRow)


def _write_files(
    directory: Path,
    pairs: Sequence[PairRow],
    thumbs: Sequence[ThumbRow],
    prompts: Sequence[PromptRow],
    manifest: SnapshotManifest,
) -> None:
    directory.mkdir()
    pq.write_table(_table(PairRow, _in_order(pairs)), directory / PAIRS)
    pq.write_table(_table(ThumbRow, _in_order(thumbs)), directory / THUMBS)
    pq.write_table(_table(PromptRow, sorted(prompts, key=lambda row: row.cluster)), directory / PROMPTS)
    (directory / MANIFEST).write_text(manifest.to_json() + "\n")
    for name in (PAIRS, THUMBS, PROMPTS, MANIFEST, "."):
        _fsync(directory / name)


def _in_order(rows: Iterable[_Vote]) -> list[_Vote]:
    return sorted(rows, key=lambda row: (row.created_at, row.feedback_id))


def _table(kind: Any, rows: Sequence[PairRow] | Sequence[ThumbRow] | Sequence[PromptRow]) -> pa.Table:
    schema = pa.schema([(field.name, _ARROW[field.type]) for field in dataclasses.fields(kind)])
    return pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=schema)


def _rename(temporary: Path, final: Path) -> None:
    try:
        temporary.rename(final)
    except OSError:
        if not final.exists():
            raise
        return  # another process wrote the same rows first
    _fsync(final.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
