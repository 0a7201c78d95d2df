"""Snapshots over HTTP, for operators: which there are, what is in them, and their rows in the formats of others.

An export is a process of its own (feedback/export.py): decoding a large snapshot takes seconds of Python, for which
chat, on this event loop and under this interpreter's lock, does not wait. It is checked whole before its first line is
sent, so whatever is wrong with it has a status; if it breaks off later, so does the connection. Who hangs up ends it.
"""

import asyncio
import contextlib
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from core.access import LOOK_AT_TRAINING
from core.errors import ApiError, InvalidRequest, Unavailable, UsageError
from core.http import CLIENT_CLOSED, ERRORS, until_disconnect
from core.records import Fold, SnapshotManifest, policy_name
from core.settings import Settings
from feedback import snapshots
from feedback.child import REDIS_AWAY
from feedback.export import Format

_CHUNK = 1 << 16

log = logging.getLogger("plumbline.export")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SnapshotObject(_Body):
    """A snapshot, without its rows."""

    id: str
    object: Literal["snapshot"] = "snapshot"
    created_at: datetime
    rows: dict[str, int]
    """By table: `{"pairs": 512, "thumbs": 210, "rankings": 0, "ratings": 31, "demonstrations": 12, "prompts": 640}`."""
    folds: dict[Fold, int]
    """Pairs by fold."""
    policy_rows: dict[str, int]
    """Of `pairs` and `thumbs` those that may train the policy; the others train only what judges."""
    raters: int
    """People and AIs with rows; those without an id are not among them."""
    dropped: dict[str, int]
    """Votes that gave no row or no policy row, by reason."""
    caps: dict[str, float]
    """Bounds in force."""
    last_event: str
    """Position in the log up to which was looked."""
    live: str
    """The policy for which it was cut: `assistant@v3`."""
    base_sha256: str
    tokenizer_sha256: str
    erased_at: datetime | None
    """When its rows were deleted, because somebody in it was erased."""


class SnapshotList(_Body):
    """A page, newest first."""

    object: Literal["list"] = "list"
    data: list[SnapshotObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class SnapshotListQuery(_Body):
    after: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """`last_id` of the page before."""
    limit: int = Field(20, ge=1, le=100)


class ExportQuery(_Body):
    """What to export."""

    format: Format
    snapshot: Annotated[str, Field(max_length=128)] = snapshots.LATEST
    """An id, or `latest`: the newest that still has its rows."""
    fold: Fold | None = None
    """Of one fold; of all without it. `events` knows no folds."""


SnapshotPath = Annotated[str, InPath(json_schema_extra={"pattern": f"^{snapshots.ID.pattern}$"})]
_LINES: dict[str, Any] = {
    "description": "JSON lines.",
    "content": {"application/jsonl": {"schema": {"type": "string"}}},
    "headers": {"x-snapshot-id": {"description": "What `latest` was.", "schema": {"type": "string"}}},
}


def routes(settings: Settings, redis_url: str) -> APIRouter:
    router = APIRouter(responses=ERRORS, dependencies=[LOOK_AT_TRAINING])
    parent = settings.artifacts / "snapshots"
    environment = os.environ | settings.environment() | {"REDIS_URL": redis_url}

    @router.get("/v1/snapshots")
    async def list_snapshots(query: Annotated[SnapshotListQuery, Query()]) -> SnapshotList:
        """All snapshots, newest first: rows, what was dropped and why, the bounds in force."""
        return await asyncio.to_thread(_page, parent, query)

    @router.get("/v1/snapshots/{snapshot}")
    async def get_snapshot(snapshot: SnapshotPath) -> SnapshotObject:
        """One snapshot."""
        return _shown(await asyncio.to_thread(snapshots.find, parent, snapshot))

    @router.get("/v1/export", response_class=Response, responses={200: _LINES})
    async def export_snapshot(query: Annotated[ExportQuery, Query()], request: Request) -> Response:
        """A snapshot's rows as JSON lines, as `plumbline export` writes them."""
        if query.fold is not None and query.format == "events":
            raise InvalidRequest("Events are in no fold: leave it out.", param="fold")
        manifest = await asyncio.to_thread(snapshots.with_rows, parent, query.snapshot)
        fold = ["--fold", query.fold] if query.fold else []
        process = await _started([str(parent / manifest.id), query.format, *fold], environment)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(_ended, process)
            first = await until_disconnect(request, _first(process))
            if first is None:
                return Response(status_code=CLIENT_CLOSED)
            stack.pop_all()
        name = f"{manifest.id[:12]}-{query.format}" + (f"-{query.fold}" if query.fold else "")
        headers = {"content-disposition": f'attachment; filename="{name}.jsonl"', "x-snapshot-id": manifest.id}
        return _Lines(process, first, headers)

    return router


# --- which ------------------------------------------------------------------------------------------------------------


def _page(parent: Path, query: SnapshotListQuery) -> SnapshotList:
    found = snapshots.newest_first(parent)
    names = [it.id for it in found]
    if query.after is not None and query.after not in names:
        raise snapshots.unknown()
    start = 0 if query.after is None else 1 + names.index(query.after)
    page = found[start : start + query.limit]
    return SnapshotList(
        data=[_shown(manifest) for manifest in page],
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=len(found) > start + query.limit,
    )


def _shown(it: SnapshotManifest) -> SnapshotObject:
    tables = ("thumbs", "rankings", "ratings", "demonstrations", "prompts")
    return SnapshotObject(
        id=it.id,
        created_at=datetime.fromtimestamp(it.created, tz=UTC),
        rows={"pairs": it.rows} | {table: getattr(it, table) for table in tables},
        folds=it.rows_by_fold,
        policy_rows={"pairs": it.policy_rows, "thumbs": it.policy_thumbs},
        raters=it.raters,
        dropped=it.dropped,
        caps=it.caps,
        last_event=it.last_event,
        live=policy_name(it.live_version),
        base_sha256=it.base_sha256,
        tokenizer_sha256=it.tokenizer_sha256,
        erased_at=None if it.erased is None else datetime.fromtimestamp(it.erased, tz=UTC),
    )


# --- the process ------------------------------------------------------------------------------------------------------


class _Lines(StreamingResponse):
    """What the process writes; it does not outlive the response, however that ends."""

    def __init__(self, process: Process, first: bytes, headers: dict[str, str]) -> None:
        super().__init__(_chunks(process, first), media_type="application/jsonl", headers=headers)
        self._process = process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await _ended(self._process)


async def _started(arguments: Sequence[str], environment: dict[str, str]) -> Process:
    command = [sys.executable, "-m", "feedback.export", *arguments]
    return await asyncio.create_subprocess_exec(*command, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)


async def _first(process: Process) -> bytes:
    """The first lines; nothing if there are none.

    Raises:
        Unavailable: Redis is away (`events` are read from it).
        ApiError: the snapshot cannot be exported, and why.
    """
    assert process.stdout is not None
    first = await process.stdout.read(_CHUNK)
    if first:
        return first
    status, why = await _over(process)
    if status == REDIS_AWAY:
        raise Unavailable("The log cannot be read right now; try again.")
    if status != 0:
        raise ApiError(f"The snapshot cannot be exported: {why}", code="snapshot_unreadable")
    return b""


async def _chunks(process: Process, first: bytes) -> AsyncIterator[bytes]:
    """Raises UsageError: it broke off; there is no status any more to say so, but a connection to close."""
    assert process.stdout is not None
    chunk = first
    while chunk:
        yield chunk
        chunk = await process.stdout.read(_CHUNK)
    status, why = await _over(process)
    if status != 0:
        raise UsageError(f"an export broke off: {why}")


async def _over(process: Process) -> tuple[int, str]:
    """Exit status and last words."""
    assert process.stderr is not None
    said = (await process.stderr.read()).decode(errors="replace").strip()
    status = await process.wait()
    if status != 0:
        log.error("an export ended with status %s: %s", status, said)
    return status, said.rpartition("\n")[2]


async def _ended(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
