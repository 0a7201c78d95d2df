"""Supervised fine-tuning of one role: the mean NLL per completion token, nothing of the prompt.

Short rows are laid end to end in a forward pass (training/packing.py), without seeing each other.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from training import losses
from training.checkpoint import Checkpoint
from training.data import Demonstration, collate, micro_batches, optimizer_steps
from training.kl import PolicyStep, measured, until
from training.loop import Loop, Share
from training.model import SharedBase
from training.optimizer import adamw
from training.recipe import Recipe

POLICY, REFERENCE = "policy", "reference"


def fit(
    base: SharedBase,
    rows: Sequence[Demonstration],
    recipe: Recipe,
    *,
    seed: int,
    reference: str | None = REFERENCE,
    out: Path | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[PolicyStep]:
    """Trains the role `policy`, which must be on the base.

    Args:
        reference: the role to which the KL is measured; None is the bare base.
        out: where metrics.jsonl is written.
    """
    settings = recipe.sft
    steps = optimizer_steps(len(rows), batch=settings.batch_rows, epochs=settings.epochs, seed=seed)
    loop = Loop(
        message="training the policy",
        step_type=PolicyStep,
        optimizer=adamw([(base.parameters(POLICY).values(), settings.learning_rate)], settings),
        settings=settings,
        steps=steps,
        shares=partial(shares, base, rows, recipe),
        out=out,
        checkpoint=checkpoint,
        measure=measured(
            base, POLICY, reference, [row.text.prompt for row in rows], recipe, settings, steps=len(steps)
        ),
    )
    return until(loop.run(), settings.kl_stop)


def shares(
    base: SharedBase, rows: Sequence[Demonstration], recipe: Recipe, step: Sequence[int]
) -> list[Callable[[], Share]]:
    """The step's loss in micro-batches: each share is already divided by the weighted tokens of the *whole* step."""
    tokens = sum(rows[row].weight * len(rows[row].text.completion) for row in step)
    groups = micro_batches([len(row) for row in rows], step, tokens=recipe.micro_batch_tokens)
    return [partial(_share, base, [rows[row] for row in group], tokens) for group in groups]


def _share(base: SharedBase, rows: Sequence[Demonstration], tokens: float) -> Share:
    with base.acting(POLICY), base.autocast():
        logps = base.sequence_logps(collate([row.text for row in rows], device=base.device))
    weights = torch.tensor([row.weight for row in rows], device=logps.device)
    loss = losses.weighted_mean(losses.sft(logps), weights, tokens)
    return Share(loss=loss, metrics={}, tokens=sum(len(row) for row in rows))
