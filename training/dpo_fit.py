"""Direct Preference Optimization of one role against a frozen reference role.

The reference's log-probs are computed once per row, never in a step: it is frozen.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from training import losses
from training.checkpoint import Checkpoint
from training.data import Pair, Text, both_sides, collate, micro_batches, optimizer_steps
from training.kl import PolicyStep, measured, until
from training.loop import Loop, Share
from training.mix import Mix, Shares
from training.model import SharedBase
from training.optimizer import adamw
from training.progress import track
from training.recipe import DpoRecipe, Recipe

POLICY, REFERENCE = "policy", "reference"


class DpoStep(PolicyStep):
    """A line of metrics.jsonl."""

    preference_loss: float
    """`loss` without the SFT terms; ln 2 at the reference, where the loss is not `ipo` or `hinge`."""
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
    mix: Mix | None = None,
    out: Path | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[DpoStep]:
    """Trains the role `policy`, which must be on the base.

    Args:
        reference: the role that the KL is held to; None is the bare base.
        mix: demonstrations to learn from besides.
        out: where metrics.jsonl is written.
    """
    settings = recipe.dpo
    logps = reference_logps(base, reference, pairs, recipe)
    steps = optimizer_steps(len(pairs), batch=settings.batch_rows, epochs=settings.epochs, seed=seed)
    return run(
        base,
        steps,
        partial(shares, base, pairs, logps, recipe),
        [pair.chosen.prompt for pair in pairs],
        recipe,
        reference=reference,
        mix=mix,
        out=out,
        checkpoint=checkpoint,
    )


def run(
    base: SharedBase,
    steps: Sequence[Sequence[int]],
    shares: Shares,
    prompts: Sequence[list[int]],
    recipe: Recipe,
    *,
    reference: str | None,
    mix: Mix | None,
    out: Path | None,
    checkpoint: Checkpoint | None,
    resumable_every: int = 1,
) -> list[DpoStep]:
    """The loop over these steps, wherever their pairs come from.

    Args:
        prompts: some of them are answered to measure the KL.
    """
    settings = recipe.dpo
    loop = Loop(
        message="training the policy",
        step_type=DpoStep,
        optimizer=adamw([(base.parameters(POLICY).values(), settings.learning_rate)], settings),
        settings=settings,
        steps=steps,
        shares=mix.beside(shares) if mix is not None else shares,
        out=out,
        checkpoint=checkpoint,
        share=(0.1, 1.0),
        resumable_every=resumable_every,
        measure=measured(base, POLICY, reference, prompts, recipe, settings, steps=len(steps)),
    )
    return until(loop.run(), settings.kl_stop)


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
    with base.acting(POLICY), base.autocast():
        logps = base.sequence_logps(collate(texts, device=base.device))
    weights = torch.tensor([pair.weight for pair in pairs], device=logps.device)
    margin = _margin(texts, logps, reference, settings)
    preference = losses.weighted_mean(preference_losses(margin, settings), weights, weight)
    nll = losses.weighted_mean(losses.sft(logps[: len(pairs)]), weights, token_weight)
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


def preference_losses(margin: Tensor, settings: DpoRecipe) -> Tensor:
    """The recipe's loss of each pair, (N,)."""
    beta, smoothing = settings.beta, settings.label_smoothing
    match settings.loss:
        case "ipo":
            return losses.ipo(margin, beta=beta)
        case "hinge":
            return losses.hinge(margin, beta=beta)
        case "robust":
            return losses.robust_dpo(margin, beta=beta, label_smoothing=smoothing)
        case _:
            return losses.dpo(margin, beta=beta, label_smoothing=smoothing)


def _margin(texts: Sequence[Text], logps: Tensor, reference: Tensor, settings: DpoRecipe) -> Tensor:
    """h of log-probs summed over completion tokens, or of their means where the loss is length-normalised, (N,)."""
    counts = [len(text.completion) if settings.loss in ("norm", "ipo") else 1 for text in texts]
    lengths = torch.tensor(counts, device=logps.device)
    return losses.dpo_margin(*(logps / lengths).chunk(2), *(reference.T.flatten() / lengths).chunk(2))


def starts_at_reference(metrics: Sequence[DpoStep], settings: DpoRecipe, *, tolerance: float = 0.02) -> bool:
    """Whether the first loss was that of a margin of 0 (ln 2), as it must be where policy and reference compute the
    same function."""
    expected = preference_losses(torch.zeros(1), settings).item()
    return abs(metrics[0].preference_loss - expected) <= tolerance * max(1.0, expected)
