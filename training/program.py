"""What the training programs share: arguments first, then torch, then files.

Exit codes are the contract with the worker: 0 done, 2 a usage error (one line on stderr), 3 skipped for a stated
reason (`{"skipped": "…"}` on stdout), anything else a crash with its traceback.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from pydantic import BaseModel

from core.adapters import CONFIG, WEIGHTS, BaseShapes, adapter_sha256
from core.errors import PlumblineError, UsageError
from training.recipe import Recipe, load_recipe

USAGE, SKIPPED = 2, 3


class Skipped(PlumblineError):
    """There is nothing sensible to train on; the message says why. No failure."""


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a program and ends the process with its exit code."""
    try:
        main()
    except Skipped as reason:
        print(json.dumps({"skipped": str(reason)}), flush=True)
        sys.exit(SKIPPED)
    except UsageError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        sys.exit(USAGE)
    sys.exit(0)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message} (--help lists the options)")


def parser(name: str, document: str) -> argparse.ArgumentParser:
    """A parser with what every program takes: the base and the recipe.

    Args:
        document: the program's docstring; its first line, after the command, becomes the help.
    """
    description = document.splitlines()[0].split(": ", 1)[1]
    arguments = _Parser(prog=f"python -m training.{name}", description=description)
    arguments.add_argument("--base", type=base_directory, required=True, help="directory of the frozen base model")
    arguments.add_argument("--recipe", type=recipe, default=Recipe(), help="`default`, or a TOML or JSON file")
    return arguments


def recipe(value: str) -> Recipe:
    return load_recipe(value)


def base_directory(value: str) -> Path:
    """A directory with a Hugging Face model."""
    return _directory(value, "config.json", "a base model")


def adapter_directory(value: str) -> Path:
    """A directory with a PEFT adapter."""
    _directory(value, WEIGHTS, "an adapter")
    return _directory(value, CONFIG, "an adapter")


def snapshot_directory(value: str) -> Path:
    """A directory with a snapshot."""
    return _directory(value, "manifest.json", "a snapshot")


def reward_directory(value: str) -> Path:
    """A directory with a trained reward model."""
    return _directory(value, "reward.json", "a reward model")


def _directory(value: str, file: str, what: str) -> Path:
    path = Path(value)
    if not (path / file).is_file():
        raise UsageError(f"{path} does not hold {what}: {file} is missing.")
    return path


def check_same_base(shapes: BaseShapes, found: str, what: str) -> None:
    """Raises UsageError if something was made for another base."""
    if found != shapes.sha256:
        raise UsageError(f"{what} belongs to another base ({found[:12]}…, not {shapes.sha256[:12]}…).")


def prepare(recipe: Recipe) -> None:
    """What must be said before transformers is loaded and before the first number: no foreign bars, thread count."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)


def write_config(
    out: Path, *, base_sha256: str, recipe: Recipe, inputs: Mapping[str, Path], facts: Mapping[str, object]
) -> None:
    """`config.json`: the resolved recipe and the digests of all that went in. No paths: they mean nothing later."""
    import peft
    import torch
    import transformers

    document = {
        "recipe": recipe.model_dump(mode="json"),
        "base_sha256": base_sha256,
        "inputs": {name: adapter_sha256(path) for name, path in inputs.items()},
        "versions": {package.__name__: package.__version__ for package in (torch, transformers, peft)},
        "threads": torch.get_num_threads(),
        **facts,
    }
    (out / "config.json").write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def write_metrics(out: Path, rows: Sequence[BaseModel]) -> None:
    """`metrics.jsonl`: one line per optimizer step."""
    (out / "metrics.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
