"""The demo base model on disk: built once from a recipe, cached under its digest, never seen half-built.

`python -m lab.base_model --out DIR` builds one. The directory is an ordinary model directory: transformers and vLLM
load it like any other. torch and transformers are imported only when a build starts, so a cached model costs nothing.
"""

import argparse
import errno
import hashlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from core.files import fsync
from lab.base_config import BaseModelConfig, load_config
from lab.corpus import document

if TYPE_CHECKING:
    from lab.pretraining import Pretrained

RECORD_NAME = "base.json"


class BaseRecord(BaseModel):
    """`base.json` beside the weights: where they come from and how good they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: str
    """Of the recipe: the config and the language."""
    seed: int
    validation_loss: float
    """Nats a token of what the assistant says."""
    parameters: int
    tokens: int
    steps: int
    precision: str
    """`bf16` or `fp32`, of forward and backward; weights are fp32."""
    seconds: float


def ensure_base_model(
    home: Path, config: BaseModelConfig, progress: Callable[[float, str], None] | None = None
) -> Path:
    """The directory of this recipe's model, built under `home` if it is not there yet."""
    digest = recipe_digest(config)
    directory = home / "base" / digest[:16]
    if not (directory / RECORD_NAME).exists():
        build_base_model(directory, config=config, progress=progress)
    return directory


def recipe_digest(config: BaseModelConfig) -> str:
    """sha256 of the config and of the first documents, so that a change of the language is a new model."""
    rng = random.Random(config.seed)
    hasher = hashlib.sha256(config.model_dump_json().encode())
    for _ in range(500):
        hasher.update(repr(document(rng)).encode())
    return hasher.hexdigest()


def build_base_model(
    out_dir: Path, *, config: BaseModelConfig, progress: Callable[[float, str], None] | None = None
) -> BaseRecord:
    """Train the model and write it to `out_dir`, which appears complete or not at all.

    `progress` is called with the share done, 0 to 1, and a short message. Same config, machine and libraries: same
    bytes of weights and tokenizer. Raises FileExistsError if `out_dir` is there already.
    """
    if out_dir.exists():
        raise FileExistsError(f"{out_dir} is there already; remove it or choose another directory")
    from lab.pretraining import pretrain, uses_bfloat16

    report = progress or (lambda done, message: None)
    started = time.monotonic()
    trained = pretrain(config, report)
    record = BaseRecord(
        digest=recipe_digest(config),
        seed=config.seed,
        validation_loss=round(trained.validation_loss, 4),
        parameters=sum(parameter.numel() for parameter in trained.model.parameters()),
        tokens=trained.tokens,
        steps=trained.steps,
        precision="bf16" if uses_bfloat16(config) else "fp32",
        seconds=round(time.monotonic() - started, 1),
    )
    _publish(trained, record, out_dir)
    report(1.0, f"validation loss {record.validation_loss:.3f}")
    return record


def _publish(trained: "Pretrained", record: BaseRecord, out_dir: Path) -> None:
    """Write beside the target, force it to the disk, then rename: a crash leaves no half model under the name."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # transformers' bar for one small file would break the caller's
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    try:
        trained.model.save_pretrained(partial)
        trained.tokenizer.save_pretrained(partial)
        (partial / RECORD_NAME).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        for path in partial.iterdir():
            path.chmod(0o644)  # temporary files are private
            fsync(path)
        partial.chmod(0o755)
        fsync(partial)
        try:
            partial.rename(out_dir)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # Another process finished the same build first; the weights are the same.
        fsync(out_dir.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main() -> int:
    """Build a base model with a progress bar."""
    parser = argparse.ArgumentParser(prog="python -m lab.base_model", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory to create")
    parser.add_argument("--seed", type=int, help="another seed than demo.toml's")
    arguments = parser.parse_args()
    config = load_config()
    if arguments.seed is not None:
        config = config.model_copy(update={"seed": arguments.seed})
    columns = (TextColumn("base model"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}")) as bar:
        task = bar.add_task("starting", total=1.0)
        try:
            record = build_base_model(
                arguments.out,
                config=config,
                progress=lambda done, message: bar.update(task, completed=done, description=message),
            )
        except FileExistsError as error:
            print(error, file=sys.stderr)
            return 1
    print(record.model_dump_json(indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
