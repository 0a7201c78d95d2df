"""What a killed trainer goes on from: OUT/checkpoint.pt, written whole or not at all.

The same command on the same machine, threads and versions ends with the same bytes whether or not it was killed on
the way: the order of rows is a function of the seed, so weights, optimizer, step and random state are all there is.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from core.errors import UsageError
from training.program import CHECKPOINT


class Checkpoint:
    """One file in a trainer's output directory.

    Args:
        identity: of all that decides the outcome (`identity_of`); a checkpoint of anything else is refused.
        every_s: how often one is written, in seconds; 0 after each step.
    """

    def __init__(self, directory: Path, *, identity: str, every_s: float) -> None:
        self._path = directory / CHECKPOINT
        self._identity = identity
        self._every_s = every_s
        self._written = time.monotonic()

    def part(self, name: str) -> "Checkpoint":
        """Of one of several trainings that together make this one, in a directory of its own."""
        return Checkpoint(self._path.parent / name, identity=self._identity, every_s=self._every_s)

    def load(self) -> dict[str, Any] | None:
        """The last state, or None at the beginning.

        Raises:
            UsageError: the directory holds the beginning of another training.
        """
        try:
            state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        if state.pop("identity") != self._identity:
            raise UsageError(
                f"{self._path.parent} holds a training with other data or settings that was not finished: "
                f"choose another --out, or delete {self._path} to start over."
            )
        torch.set_rng_state(state.pop("rng"))
        return state

    def due(self) -> bool:
        return time.monotonic() - self._written >= self._every_s

    def save(self, state: Mapping[str, Any]) -> None:
        """Replaces the file. `state` may hold tensors, numbers, strings, lists and dictionaries."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        with temporary.open("wb") as stream:
            torch.save({**state, "identity": self._identity, "rng": torch.get_rng_state()}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(self._path)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Training is finished and its result is written."""
        self._path.unlink(missing_ok=True)


def identity_of(**facts: object) -> str:
    """A digest of everything that decides what a training comes to."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
