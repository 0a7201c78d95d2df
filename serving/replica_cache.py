"""A replica's own copies on disk: verified adapters, and which policy was served last.

The engine reads an adapter's files again whenever it pleases, so it never gets a path that somebody else may change.
"""

import os
import shutil
from pathlib import Path

from pydantic import ValidationError

from core.adapters import MANIFEST, BaseShapes, verify
from core.errors import AdapterError
from core.records import AdapterManifest, Record


class LastGood(Record):
    """What to serve when the registry cannot be asked at start.

    Example:
        LastGood(generation=5, version=3, adapter_sha256="9f86…", path="/…/replica-cache/9f86…")
    """

    generation: int
    version: int
    adapter_sha256: str
    path: str


class ReplicaCache:
    """`directory/{sha256}/` per adapter, read-only, and `directory/last-good.json`."""

    def __init__(self, directory: Path, artifacts: Path, base: BaseShapes) -> None:
        self._directory = directory
        self._artifacts = artifacts
        self._base = base

    def fetch(self, sha256: str) -> tuple[Path, AdapterManifest]:
        """A verified private copy of an adapter; what was copied is what is verified.

        Raises:
            AdapterError: missing, damaged, or made for another base.
        """
        kept = self._directory / sha256
        if kept.exists():
            try:
                return kept, verify(kept, self._base, expected_sha256=sha256)
            except AdapterError:  # damaged on this disk: copy it again
                shutil.rmtree(kept)
        return kept, self._copy(self._artifacts / "adapters" / sha256, kept, sha256)

    def _copy(self, source: Path, kept: Path, sha256: str) -> AdapterManifest:
        self._directory.mkdir(parents=True, exist_ok=True)
        fresh = self._directory / f".{sha256}.{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            shutil.copytree(source, fresh)
            manifest = verify(fresh, self._base, expected_sha256=sha256)
            for file in fresh.iterdir():
                file.chmod(0o444)
            fresh.rename(kept)
        except OSError as error:
            raise AdapterError(f"adapter {sha256[:12]} cannot be copied: {error}") from None
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return manifest

    def rank(self, sha256: str) -> int:
        """The rank that an adapter's manifest states; read before the engine is built for it.

        Raises:
            AdapterError: there is no readable manifest.
        """
        for directory in (self._artifacts / "adapters" / sha256, self._directory / sha256):
            try:
                return AdapterManifest.model_validate_json((directory / MANIFEST).read_text()).rank
            except (OSError, ValidationError):
                continue
        raise AdapterError(f"adapter {sha256[:12]} has no readable {MANIFEST} under {self._artifacts / 'adapters'}")

    def prune(self, keep: set[str]) -> None:
        """Deletes copies that nothing needs: no request uses them and no pointer names them."""
        for directory in self._directory.iterdir():
            if directory.is_dir() and directory.name not in keep:
                shutil.rmtree(directory)

    def last_good(self) -> LastGood | None:
        try:
            return LastGood.model_validate_json((self._directory / "last-good.json").read_text())
        except (OSError, ValidationError):
            return None

    def remember(self, *, generation: int, version: int, sha256: str) -> None:
        """Replaces the last-good file in one step."""
        path = str(self._directory / sha256)
        entry = LastGood(generation=generation, version=version, adapter_sha256=sha256, path=path)
        fresh = self._directory / "last-good.json.new"
        with fresh.open("w") as stream:
            stream.write(entry.to_json())
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(self._directory / "last-good.json")
