"""One training: what decides its outcome, where it starts, what it is held to, and where it is written.

An output directory belongs to one training. It holds a checkpoint while that runs and `config.json` when it is
finished; the same command again goes on, or has nothing to do. Another command is refused.
"""

import argparse
import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from core.adapters import BaseShapes, adapter_sha256, base_shapes
from core.errors import UsageError
from core.files import sha256_of
from feedback import snapshot as snapshots
from training import sources
from training.checkpoint import Checkpoint, identity_of
from training.devices import devices
from training.model import SharedBase, load_base
from training.program import AlreadyDone, check_same_base
from training.recipe import Recipe

CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A training that was asked for; `begin` makes it."""

    recipe: Recipe
    data: Path
    out: Path
    """Of several processes the first one's is the directory that was asked for; the others' is thrown away, so that
    every file is written once and no program need think of it."""
    base: SharedBase
    base_directory: Path
    config: dict[str, Any]
    """The resolved recipe and the digests of all that goes in. No paths: they mean nothing later."""
    checkpoint: Checkpoint
    encoder: sources.Encoder | None
    """None where the data is a snapshot, which has ids already."""
    start: Path | None
    """The adapter that the policy starts from; None is the base."""
    anchor: Path | None
    """The adapter that its KL is held to; None is the base."""

    def add_policy(self, policy: str, reference: str) -> str | None:
        """Puts the policy on the base, and what it is held to.

        Returns:
            The role of the reference; None for the bare base.
        """
        if self.start is None:
            self.base.add_fresh(policy, self.recipe.lora, seed=self.recipe.seed)
        else:
            self.base.load_for_training(policy, self.start, self.recipe.lora, seed=self.recipe.seed)
        if self.anchor is None:
            return None
        self.base.load(reference, self.anchor)
        return reference

    @property
    def starts_at_anchor(self) -> bool:
        """Policy and reference compute the same function before the first step."""
        digests = [adapter_sha256(path) if path is not None else None for path in (self.start, self.anchor)]
        return digests[0] == digests[1]

    def finish(self, **facts: object) -> None:
        """`config.json` is written last: a directory that has one is finished."""
        if devices().first:
            text = json.dumps(self.config | {"facts": facts}, indent=2, sort_keys=True) + "\n"
            (self.out / CONFIG).write_text(text, encoding="utf-8")
            self.checkpoint.remove()


def begin(name: str, options: argparse.Namespace, **facts: object) -> Job:
    """Reads what a training is made of and loads its base.

    Args:
        options: of `program.trainer_parser` or `program.policy_parser`.
        facts: other options of the program that decide the outcome.

    Raises:
        UsageError: the output directory holds another training, or the data was made for another base.
        AlreadyDone: it holds this very training, finished.
    """
    recipe, shapes = options.recipe, base_shapes(options.base)
    start = getattr(options, "init_adapter", None)
    anchor = getattr(options, "reference", None)
    anchor = {"init": start, "base": None}.get(str(anchor), anchor)
    adapters = {"init": start, "reference": anchor}
    mix = getattr(options, "mix_sft", None)
    config: dict[str, Any] = {
        "program": name,
        "recipe": recipe.model_dump(mode="json"),
        "base_sha256": shapes.sha256,
        "data": _digest(options.data, shapes),
        "adapters": {role: adapter_sha256(path) for role, path in adapters.items() if path is not None},
        "mix_sft": sha256_of(mix) if mix is not None else None,
        "options": facts,
        "versions": {package.__name__: package.__version__ for package in (torch, transformers, peft)},
        "threads": torch.get_num_threads(),
        "devices": devices().count,
    }
    config = json.loads(json.dumps(config))
    _check_out(options.out, config)
    base = load_base(
        options.base,
        base_sha256=shapes.sha256,
        precision=recipe.precision,
        attention=recipe.attention,
        shard=recipe.shard,
    )
    window = base.context_length
    return Job(
        recipe=recipe.model_copy(update={"max_length": min(recipe.max_length, window)}),
        data=options.data,
        out=options.out if devices().first else _scratch(),
        base=base,
        base_directory=options.base,
        config=config,
        checkpoint=Checkpoint(options.out, identity=identity_of(**config), every_s=recipe.checkpoint_s),
        encoder=None if options.data.is_dir() else sources.Encoder(options.base, base.eos_ids, window=window),
        start=start,
        anchor=anchor,
    )


@cache
def _scratch() -> Path:
    """Of this process, until it ends."""
    directory = tempfile.mkdtemp(prefix="plumbline-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Path(directory)


def _digest(data: Path, shapes: BaseShapes) -> str:
    """Names the data.

    Raises:
        UsageError: a snapshot that was made for another base, tokenizer or chat template.
    """
    if not data.is_dir():
        return sha256_of(data)
    manifest = snapshots.read_manifest(data)
    check_same_base(shapes, manifest.base_sha256, "The snapshot")
    if manifest.tokenizer_sha256 != shapes.tokenizer_sha256:
        raise UsageError("The snapshot was made with another tokenizer or chat template than the base has now.")
    return manifest.id


def _check_out(out: Path, config: Mapping[str, object]) -> None:
    try:
        found = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UsageError(f"{out} cannot be used: {error}. Choose another --out.") from None
    found.pop("facts", None)
    if found != config:
        raise UsageError(f"{out} holds another training: choose another --out.")
    raise AlreadyDone(f"{out} holds this training already, finished.")
