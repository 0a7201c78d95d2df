"""Direct Preference Optimization of one role against a frozen reference role.

Left out on purpose: a reference forward in the step (its log-probs are computed once per row), gradient checkpointing,
early stopping, and every other member of the DPO family.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from pydantic import BaseModel
from torch import Tensor

from training import losses
from training.data import Pair, both_sides, collate, micro_batches, optimizer_steps
from training.model import SharedBase
from training.optimizer import adamw, rate, take_step
from training.progress import track
from training.recipe import Recipe

POLICY, REFERENCE = "policy", "reference"


class DpoStep(BaseModel):
    """A line of metrics.jsonl. Means are over the step's rows by weight, whatever its split into micro-batches."""

    step: int
    loss: float
    """preference_loss + nll_coef · nll."""
    preference_loss: float
    """ln 2 at the reference."""
    nll: float
    """Of chosen completions, per token."""
    accuracy: float
    """Share of pairs whose chosen completion gained more than the rejected one."""
    margin: float
    """beta · (log-ratio of chosen − log-ratio of rejected)."""
    gradient_norm: float
    """Before clipping."""
    rate: float
    """Relative to the peak learning rate."""


def fit(base: SharedBase, pairs: Sequence[Pair], recipe: Recipe, *, seed: int) -> list[DpoStep]:
    """Trains the role `policy`, which must be on the base beside `reference`."""
    settings = recipe.dpo
    reference = reference_logps(base, pairs, recipe)
    optimizer = adamw([(base.parameters(POLICY).values(), settings.learning_rate)], settings)
    steps = optimizer_steps(len(pairs), batch=settings.batch_pairs, epochs=settings.epochs, seed=seed)
    metrics = []
    with base.acting(POLICY):
        for number, rows in enumerate(track(steps, "training the policy", share=(0.1, 1.0))):
            factor = rate(number, len(steps), settings)
            parts: list[Tensor] = []
            shares = step_losses(base, pairs, reference, rows, recipe, parts)
            loss, norm = take_step(optimizer, shares, factor=factor, clip=settings.clip)
            preference, nll, accuracy, margin = torch.stack(parts).sum(0).tolist()
            metrics.append(
                DpoStep(
                    step=number,
                    loss=loss,
                    preference_loss=preference,
                    nll=nll,
                    accuracy=accuracy,
                    margin=margin,
                    gradient_norm=norm,
                    rate=factor,
                )
            )
    return metrics


@torch.no_grad()
def reference_logps(base: SharedBase, pairs: Sequence[Pair], recipe: Recipe) -> Tensor:
    """Summed log-probs of (chosen, rejected) under the reference, (N, 2), in the same precision as in training."""
    logps = torch.zeros((len(pairs), 2), device=base.device)
    groups = micro_batches([2 * len(pair) for pair in pairs], range(len(pairs)), tokens=recipe.micro_batch_tokens)
    with base.acting(REFERENCE), base.autocast():
        for group in track(groups, "scoring with the reference", share=(0.0, 0.1)):
            batch = collate(both_sides([pairs[row] for row in group]), device=base.device)
            logps[group] = torch.stack(base.sequence_logps(batch).chunk(2), dim=-1)
    return logps


def step_losses(
    base: SharedBase,
    pairs: Sequence[Pair],
    reference: Tensor,
    rows: Sequence[int],
    recipe: Recipe,
    parts: list[Tensor],
) -> list[Callable[[], Tensor]]:
    """The step's loss in micro-batches: each share is already divided by the weight of the *whole* step.

    Args:
        parts: each share appends its (preference loss, nll, accuracy, margin), which add up to the step's means.
    """
    weight = sum(pairs[row].weight for row in rows)
    token_weight = sum(pairs[row].weight * len(pairs[row].chosen.completion) for row in rows)
    groups = micro_batches([2 * len(pair) for pair in pairs], rows, tokens=recipe.micro_batch_tokens)
    return [
        partial(_loss, base, [pairs[r] for r in group], reference[group], weight, token_weight, recipe, parts)
        for group in groups
    ]


def _loss(
    base: SharedBase,
    pairs: Sequence[Pair],
    reference: Tensor,
    weight: float,
    token_weight: float,
    recipe: Recipe,
    parts: list[Tensor],
) -> Tensor:
    """One forward pass over both sides of the pairs."""
    settings = recipe.dpo
    with base.autocast():
        logps = base.sequence_logps(collate(both_sides(pairs), device=base.device))
    chosen, rejected = logps.chunk(2)
    weights = torch.tensor([pair.weight for pair in pairs], device=logps.device)
    margin = losses.dpo_margin(chosen, rejected, reference[:, 0], reference[:, 1])
    each = losses.dpo(margin, beta=settings.beta, label_smoothing=settings.label_smoothing)
    preference = losses.weighted_mean(each, weights, weight)
    nll = losses.weighted_mean(losses.sft(chosen), weights, token_weight)
    with torch.no_grad():
        accuracy = losses.weighted_mean((margin > 0).float(), weights, weight)
        reward = losses.weighted_mean(settings.beta * margin, weights, weight)
        parts.append(torch.stack([preference, nll, accuracy, reward]))
    return preference + settings.nll_coef * nll


def starts_at_reference(metrics: Sequence[DpoStep], *, tolerance: float = 0.02) -> bool:
    """Whether the first loss was ln 2, as it must be where policy and reference compute the same function."""
    return abs(metrics[0].preference_loss - math.log(2)) <= tolerance
