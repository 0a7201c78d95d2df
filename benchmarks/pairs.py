"""What DPO and the reward model are timed on: random pairs in two shapes, on models of two sizes."""

from pathlib import Path

from benchmarks import models, peers, workload
from benchmarks.contest import Candidate, Contest, same_losses
from benchmarks.workload import SEED, PairWork, Shape, Task
from training.data import optimizer_steps
from training.model import load_base
from training.recipe import LoraRecipe
from training.reward_model import RewardModel

LEARNING_RATE = 1e-3
SIZES: dict[tuple[str, Shape], tuple[int, int]] = {
    ("demo", "short"): (320, 32),
    ("demo", "long"): (64, 16),
    ("100m", "short"): (16, 8),
    ("100m", "long"): (4, 2),
}
"""Pairs, and pairs in an optimizer step; the large model takes two steps."""
_PILOT_STEPS = {"demo": 4, "100m": 1}
_TUNED = {"bf16": False, "gradient_checkpointing": False, "precompute_ref_log_probs": True, "logging_steps": 1000}


def contest(model: str, shape: Shape, task: Task, scratch: Path, *, threads: int, full: bool) -> Contest:
    """TRL gets the rows in the order in which ours are shuffled.

    Args:
        scratch: the model is written here, and the adapters and the head that both sides start from.
    """
    directory, lora = scratch / model, LoraRecipe()
    if not directory.exists():
        _write(directory, model, lora)
    count, batch = SIZES[model, shape]
    count *= 5 if full else 1
    rows = workload.rows(shape, count, vocabulary=models.SHAPES[model]["vocab_size"], eos=models.EOS)
    order = [row for step in optimizer_steps(count, batch=batch, epochs=1, seed=SEED) for row in step]
    ours = PairWork(
        task=task,
        model=directory,
        start=directory / task,
        rank=lora.rank,
        alpha=lora.alpha,
        learning_rate=LEARNING_RATE,
        threads=threads,
        batch_rows=batch,
        options={"attention": "sdpa"},
        rows=rows,
    )
    theirs = ours.model_copy(update={"rows": [rows[i] for i in order]})
    return Contest(
        task=task,
        shape=shape,
        model=model,
        ours=ours,
        theirs=theirs,
        pilot=theirs.model_copy(update={"rows": theirs.rows[: _PILOT_STEPS[model] * batch]}),
        candidates=[
            Candidate(
                version=version,
                options={**_TUNED, "attention": attention, "gradient_accumulation_steps": parts},
            )
            for version in (peers.OLDER, peers.NEWEST)
            for attention in ("sdpa", "eager")
            for parts in ((1, 2) if full else (1,))
        ],
        default=Candidate(version=peers.NEWEST, options={"attention": "sdpa", "bf16": False}),
        check=same_losses,
    )


def _write(directory: Path, model: str, lora: LoraRecipe) -> None:
    base = load_base(models.write(directory, model), base_sha256="benchmark")
    base.add_fresh("dpo", lora, seed=SEED)
    base.save("dpo", directory / "dpo")
    base.add_fresh("reward", lora, seed=SEED)
    RewardModel(base, "last", seed=SEED).save(directory / "reward")
