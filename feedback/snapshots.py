"""The snapshots that there are, by their manifests: rows are not looked at."""

import logging
import re
from pathlib import Path

from core.errors import Gone, NotFound, UsageError
from core.records import SnapshotManifest
from feedback import snapshot

LATEST = "latest"
ID = re.compile("[0-9a-f]{64}")

log = logging.getLogger("plumbline.snapshots")


def newest_first(parent: Path) -> list[SnapshotManifest]:
    """All of them; one that cannot be read is left out, and the log says so."""
    found = []
    for path in parent.glob("*"):
        if ID.fullmatch(path.name):
            try:
                found.append(snapshot.read_manifest(path))
            except UsageError as error:
                log.warning("%s", error)
    return sorted(found, key=lambda it: (it.created, it.id), reverse=True)


def find(parent: Path, name: str) -> SnapshotManifest:
    """Raises NotFound: there is none of that name, or it cannot be read."""
    if ID.fullmatch(name):
        try:
            return snapshot.read_manifest(parent / name)
        except UsageError as error:
            log.warning("%s", error)
    raise unknown()


def unknown() -> NotFound:
    return NotFound("There is no such snapshot; GET /v1/snapshots lists all.", code="snapshot_not_found")


def with_rows(parent: Path, name: str) -> SnapshotManifest:
    """One that was not erased; by `latest` the newest of these.

    Raises:
        NotFound: there is none.
        Gone: it was erased.
    """
    if name == LATEST:
        for found in newest_first(parent):
            if found.erased is None:
                return found
        raise NotFound("There is no snapshot yet: the first round cuts one.", code="snapshot_not_found")
    found = find(parent, name)
    if found.erased is not None:
        message = "This snapshot held somebody who was erased, so its rows are deleted; take a newer one."
        raise Gone(message, param="snapshot", code="snapshot_erased")
    return found
