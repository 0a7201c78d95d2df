"""Which snapshots hold a vote, and which policy versions were trained on these: for the API, beside its chats.

Snapshots are read where they lie, a row group of each. Of each only the manifest's end and the footer of
`votes.parquet` are kept; those without that file (before schema 3) say nothing.
"""

import asyncio
import functools
import logging
from collections import defaultdict
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import redis.asyncio

from core import registry
from core.errors import UsageError
from core.records import PolicyState
from feedback import outcomes, scripts, snapshot
from feedback.eligibility import KINDS
from feedback.events import after
from feedback.fate import Use
from feedback.outcomes import Outcome, Outcomes
from feedback.scripts import View

FIRST, LAST = 20, 20
"""Of the snapshots that were cut since a vote so many of the first and of the last are looked at: a vote trains a
policy soon or never, and what the rules say of it now, the last ones know."""

log = logging.getLogger("plumbline.lineage")


class Lineage:
    """Looks into the snapshots under `artifacts`."""

    def __init__(self, client: redis.asyncio.Redis, artifacts: Path) -> None:
        self._client = client
        self._artifacts = artifacts
        self._trained: dict[int, str | None] = {}
        """Policy version → its snapshot; grows with the registry."""

    async def uses(self, view: View) -> list[Use] | None:
        """What became of the vote, by snapshot, the newest first; None if the artifacts cannot be read from here.

        Raises:
            Unavailable: Redis is away.
        """
        if view.feedback.kind not in KINDS:
            return []
        try:
            found = await asyncio.to_thread(_looked_up, self._artifacts, view.feedback.id, view.first)
        except (OSError, UsageError, pa.ArrowException) as error:
            log.warning("nothing can be said of what became of votes: %s", error)
            return None
        versions = await self._versions() if found else {}
        return [Use(snapshot=name, outcome=outcome, versions=versions.get(name, [])) for name, outcome in found]

    async def _versions(self) -> dict[str, list[tuple[int, PolicyState]]]:
        """The policy versions that were trained on each snapshot, lowest first."""
        with scripts.unavailable_when_away():
            async with asyncio.timeout(scripts.TIMEOUT_S):
                states = await registry.states(self._client)
                if new := states.keys() - self._trained.keys():
                    self._trained |= await registry.snapshots_of(self._client, sorted(new))
        versions = defaultdict(list)
        for version, state in sorted(states.items()):
            if name := self._trained[version]:
                versions[name].append((version, state))
        return versions


def _looked_up(artifacts: Path, feedback_id: str, first: str) -> list[tuple[str, Outcome]]:
    """Snapshot and what it made of the vote that was given at `first` in the log."""
    if not artifacts.is_dir():
        raise UsageError(f"{artifacts} is not a directory here")
    directories = [path for path in (artifacts / "snapshots").glob("*") if not path.name.startswith(".")]
    since = [path for path in sorted(directories, key=_end) if not after(first, _end(path)[1])]
    found = []
    for directory in reversed(since if len(since) <= FIRST + LAST else since[:FIRST] + since[-LAST:]):
        votes = _opened(directory)
        outcome = votes.of(feedback_id) if votes is not None else None
        if outcome is not None:
            found.append((directory.name, outcome))
    return found


@functools.lru_cache(maxsize=10_000)
def _end(directory: Path) -> tuple[float, str]:
    """When a snapshot was cut, and the last event that it looked at; neither ever changes."""
    manifest = snapshot.read_manifest(directory)
    return manifest.created, manifest.last_event


def _opened(directory: Path) -> Outcomes | None:
    try:
        state = (directory / outcomes.FILE).stat()
    except FileNotFoundError:
        return None
    return _footer(directory, state.st_ino, state.st_mtime_ns)


@functools.lru_cache(maxsize=2 * (FIRST + LAST))
def _footer(directory: Path, _inode: int, _time: int) -> Outcomes:
    """Read again only if somebody put another file there, as an erasure does."""
    return outcomes.opened(directory)
