"""What the training programs share: arguments first, then torch, then files.

Exit codes are the contract with the worker: 0 done, 2 a usage error (one line on stderr), 3 skipped for a stated
reason (`{"skipped": "…"}` on stdout), anything else a crash with its traceback.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from core.adapters import CONFIG, WEIGHTS, BaseShapes
from core.errors import PlumblineError, UsageError
from training.recipe import Recipe, load_recipe, with_settings

USAGE, SKIPPED = 2, 3
CHECKPOINT = "checkpoint.pt"
"""In a trainer's output directory while it runs."""


class AlreadyDone(PlumblineError):
    """The same training lies there, finished. No failure."""


class Skipped(PlumblineError):
    """There is nothing sensible to train on; the message says why. No failure."""


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a program and ends the process with its exit code."""
    try:
        main()
    except Skipped as reason:
        print(json.dumps({"skipped": str(reason)}), flush=True)
        sys.exit(SKIPPED)
    except AlreadyDone as reason:
        print(reason, file=sys.stderr)
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
    arguments = _Parser(prog=f"plumbline train {name}", description=description)
    arguments.add_argument("--base", type=base_directory, required=True, help="directory of the frozen base model")
    arguments.add_argument("--recipe", "--preset", type=recipe, default=Recipe(), help="default, demo, or a file")
    arguments.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"change a value of the recipe, e.g. lora.rank=8; a bare name means recipe.{name}",
    )
    return arguments


def trainer_parser(name: str, document: str, *, data: str) -> argparse.ArgumentParser:
    """A parser with what every trainer takes besides: data and output."""
    arguments = parser(name, document)
    arguments.add_argument("--data", type=data_path, required=True, help=data)
    arguments.add_argument("--out", type=Path, required=True, help="directory to write; may hold a killed training")
    return arguments


def policy_parser(name: str, document: str, *, data: str, reference: str | None) -> argparse.ArgumentParser:
    """A parser with what a trainer of the policy takes besides: where it starts, and what holds it.

    Args:
        reference: default of what its KL is held to; None for one that imitates, which nothing holds.
    """
    arguments = trainer_parser(name, document, data=data)
    arguments.add_argument("--init-adapter", type=adapter_directory, help="start from this adapter, not from the base")
    if reference is not None:
        arguments.add_argument(
            "--reference",
            type=reference_adapter,
            default=reference,
            help="adapter to stay near: `init` (a frozen copy of the start), `base`, or a directory "
            f"(default: {reference})",
        )
        arguments.add_argument(
            "--mix-sft",
            type=data_path,
            metavar="FILE",
            help="demonstrations (.jsonl, .parquet) to learn from besides: a few in every step (recipe.mix)",
        )
    return arguments


def parse(arguments: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, with `--set` worked into the recipe."""
    options = arguments.parse_args(argv)
    table = (arguments.prog or "").rsplit(" ", 1)[-1]
    options.recipe = with_settings(options.recipe, options.settings, table=table)
    return options


def recipe(value: str) -> Recipe:
    return load_recipe(value)


def base_directory(value: str) -> Path:
    """A directory with a Hugging Face model."""
    return _directory(value, "config.json", "a base model")


def adapter_directory(value: str) -> Path:
    """A directory with a PEFT adapter."""
    _directory(value, WEIGHTS, "an adapter")
    return _directory(value, CONFIG, "an adapter")


def reference_adapter(value: str) -> str | Path:
    return value if value in ("init", "base") else adapter_directory(value)


def data_path(value: str) -> Path:
    """A snapshot directory, or a file of rows."""
    path = Path(value)
    if path.is_dir():
        return snapshot_directory(value)
    if not path.is_file():
        raise UsageError(f"--data {path}: there is no such file or snapshot.")
    return path


def snapshot_directory(value: str) -> Path:
    """A directory with a snapshot."""
    return _directory(value, "manifest.json", "a snapshot")


def reward_directory(value: str) -> Path:
    """A directory with a trained reward model."""
    return _directory(value, "reward.json", "a reward model")


def several(value: str) -> int:
    """A number of samples of which some are chosen."""
    if not value.isdecimal() or int(value) < 2:
        raise argparse.ArgumentTypeError(f"{value} is no number of two or more")
    return int(value)


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
