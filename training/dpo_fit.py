"""Direct Preference Optimization of one role against a frozen reference role.

The reference's log-probs are computed once per row, never in a step: it is frozen.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from training import losses
from training.checkpoint import Checkpoint
from training.data import Pair, both_sides, collate, micro_batches, optimizer_steps
from training.loop import Loop, Share, StepMetrics
from training.model import SharedBase
from training.optimizer import adamw
from training.progress import track
from training.recipe import Recipe

POLICY, REFERENCE = "policy", "reference"


class DpoStep(StepMetrics):
    """A line of metrics.jsonl."""

    preference_loss: float
    """`loss` without the SFT term; ln 2 at the reference."""
    nll: float
    """Of chosen completions, per token."""
    accuracy: float
    """Share of pairs whose chosen completion gained more than the rejected one."""
    margin: float
    """beta · (log-ratio of chosen − log-ratio of rejected)."""


def fit(
    base: SharedBase,
    pairs: Sequence[Pair],
    recipe: Recipe,
    *,
    seed: int,
    reference: str | None = REFERENCE,
    out: Path | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[DpoStep]:
    """Trains the role `policy`, which must be on the base.

    Args:
        reference: the role that the KL is held to; None is the bare base.
        out: where metrics.jsonl is written.
    """
    settings = recipe.dpo
    logps = reference_logps(base, reference, pairs, recipe)
    steps = optimizer_steps(len(pairs), batch=settings.batch_rows, epochs=settings.epochs, seed=seed)
    loop = Loop(
        message="training the policy",
        step_type=DpoStep,
        optimizer=adamw([(base.parameters(POLICY).values(), settings.learning_rate)], settings),
        settings=settings,
        steps=steps,
        shares=partial(shares, base, pairs, logps, recipe),
        out=out,
        checkpoint=checkpoint,
        share=(0.1, 1.0),
    )
    with base.acting(POLICY):
        return list(loop.run())


@torch.no_grad()
def reference_logps(base: SharedBase, role: str | None, pairs: Sequence[Pair], recipe: Recipe) -> Tensor:
    """Summed log-probs of (chosen, rejected) under the reference, (N, 2), in the same precision as in training."""
    logps = torch.zeros((len(pairs), 2), device=base.device)
    groups = micro_batches([2 * len(pair) for pair in pairs], range(len(pairs)), tokens=recipe.micro_batch_tokens)
    with base.acting(role), base.autocast():
        for group in track(groups, "scoring with the reference", share=(0.0, 0.1)):
            batch = collate(both_sides([pairs[row] for row in group]), device=base.device)
            logps[group] = torch.stack(base.sequence_logps(batch).chunk(2), dim=-1)
    return logps


def shares(
    base: SharedBase, pairs: Sequence[Pair], reference: Tensor, recipe: Recipe, rows: Sequence[int]
) -> list[Callable[[], Share]]:
    """The step's loss in micro-batches: each share is already divided by the weight of the *whole* step."""
    weight = sum(pairs[row].weight for row in rows)
    token_weight = sum(pairs[row].weight * len(pairs[row].chosen.completion) for row in rows)
    groups = micro_batches([2 * len(pair) for pair in pairs], rows, tokens=recipe.micro_batch_tokens)
    return [
        partial(_share, base, [pairs[row] for row in group], reference[group], weight, token_weight, recipe)
        for group in groups
    ]


def _share(
    base: SharedBase, pairs: Sequence[Pair], reference: Tensor, weight: float, token_weight: float, recipe: Recipe
) -> Share:
    """One forward pass over both sides of the pairs."""
    settings = recipe.dpo
    texts = both_sides(pairs)
    with base.autocast():
        logps = base.sequence_logps(collate(texts, device=base.device))
    chosen, rejected = logps.chunk(2)
    weights = torch.tensor([pair.weight for pair in pairs], device=logps.device)
    margin = losses.dpo_margin(chosen, rejected, reference[:, 0], reference[:, 1])
    each = losses.dpo(margin, beta=settings.beta, label_smoothing=settings.label_smoothing)
    preference = losses.weighted_mean(each, weights, weight)
    nll = losses.weighted_mean(losses.sft(chosen), weights, token_weight)
    metrics = {
        "preference_loss": preference,
        "nll": nll,
        "accuracy": losses.weighted_mean((margin > 0).float(), weights, weight),
        "margin": losses.weighted_mean(settings.beta * margin, weights, weight),
    }
    return Share(
        loss=preference + settings.nll_coef * nll,
        metrics={name: value.detach() for name, value in metrics.items()},
        tokens=sum(len(text) for text in texts),
    )


def starts_at_reference(metrics: Sequence[DpoStep], *, tolerance: float = 0.02) -> bool:
    """Whether the first loss was ln 2, as it must be where policy and reference compute the same function."""
    return abs(metrics[0].preference_loss - math.log(2)) <= tolerance
