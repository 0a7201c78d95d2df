"""KTO of one role against a frozen reference role: completions that somebody liked or did not, one by one.

z, how far the policy has moved from the reference anyway, is taken on *mismatched* completions: each prompt of the step
with the completion of the row before it. It is one number for the whole step, on all micro-batches and devices, and
carries no gradient (training notes §2.3; where a batch is split before z is taken, z depends on the split).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from training import losses
from training.checkpoint import Checkpoint
from training.data import Text, Thumb, collate, micro_batches, optimizer_steps
from training.devices import devices
from training.kl import PolicyStep, measured, until
from training.loop import Loop, Share
from training.mix import Mix
from training.model import SharedBase
from training.optimizer import adamw
from training.progress import track
from training.recipe import KtoRecipe, Recipe

POLICY, REFERENCE = "policy", "reference"
_FEWEST_ROWS = 8


class KtoStep(PolicyStep):
    """A line of metrics.jsonl."""

    preference_loss: float
    """`loss` without the SFT terms; half the mean weight at the reference."""
    nll: float
    """Of liked completions, per token."""
    accuracy: float
    """Share of rows that moved to the right side of z."""
    baseline: float
    """z, in nats."""
    up: float
    """Share of liked completions."""


def fit(
    base: SharedBase,
    thumbs: Sequence[Thumb],
    recipe: Recipe,
    *,
    seed: int,
    reference: str | None = REFERENCE,
    mix: Mix | None = None,
    out: Path | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[KtoStep]:
    """Trains the role `policy`, which must be on the base.

    Args:
        reference: the role that the KL is held to; None is the bare base.
        mix: demonstrations to learn from besides.
        out: where metrics.jsonl is written.
    """
    settings = recipe.kto
    logps = reference_logps(base, reference, [thumb.text for thumb in thumbs], recipe)
    steps = steps_of(len(thumbs), settings, seed=seed)
    compute = partial(shares, base, thumbs, logps, recipe, reference)
    loop = Loop(
        message="training the policy",
        step_type=KtoStep,
        optimizer=adamw([(base.parameters(POLICY).values(), settings.learning_rate)], settings),
        settings=settings,
        steps=steps,
        shares=mix.beside(compute) if mix is not None else compute,
        out=out,
        checkpoint=checkpoint,
        share=(0.1, 1.0),
        measure=measured(base, POLICY, reference, [t.text.prompt for t in thumbs], recipe, settings, steps=len(steps)),
    )
    return until(loop.run(), settings.kl_stop)


def steps_of(rows: int, settings: KtoRecipe, *, seed: int) -> list[list[int]]:
    """`optimizer_steps`, but a last step of fewer than eight rows joins the one before: its z would be noise."""
    found: list[list[int]] = []
    for step in optimizer_steps(rows, batch=settings.batch_rows, epochs=settings.epochs, seed=seed):
        if found and len(step) < min(_FEWEST_ROWS, settings.batch_rows):
            found[-1] = found[-1] + step
        else:
            found.append(step)
    return found


@torch.no_grad()
def reference_logps(base: SharedBase, role: str | None, texts: Sequence[Text], recipe: Recipe) -> Tensor:
    """Summed log-probs of completions under the reference, (N,), in the same precision as in training."""
    groups = micro_batches([len(text) for text in texts], range(len(texts)), tokens=recipe.micro_batch_tokens)
    bar = track(groups, "scoring with the reference", share=(0.0, 0.1))
    return _logps(base, role, texts, bar)


def shares(
    base: SharedBase,
    thumbs: Sequence[Thumb],
    logps: Tensor,
    recipe: Recipe,
    reference: str | None,
    rows: Sequence[int],
) -> list[Callable[[], Share]]:
    """The step's loss in micro-batches: each share is already divided by the weight of the *whole* step.

    Args:
        logps: of `reference_logps`.
        reference: the role.
    """
    weight = sum(thumbs[row].weight for row in rows)
    token_weight = sum(thumbs[row].weight * len(thumbs[row].text.completion) for row in rows if thumbs[row].up)
    groups = micro_batches([len(thumb) for thumb in thumbs], rows, tokens=recipe.micro_batch_tokens)
    part = partial(
        _share,
        base,
        settings=recipe.kto,
        baseline=baseline(base, [thumbs[row] for row in rows], recipe, reference),
        up_weight=recipe.kto.up_weight or balance(thumbs),
        weight=weight,
        token_weight=token_weight or 1.0,
    )
    return [partial(part, [thumbs[row] for row in group], logps[group]) for group in groups]


def balance(thumbs: Sequence[Thumb]) -> float:
    """The weight of a thumbs-up with which all of them weigh as much as all thumbs-down together; 1 without either."""
    up, down = (sum(thumb.weight for thumb in thumbs if thumb.up == liked) for liked in (True, False))
    return down / up if up and down else 1.0


@torch.no_grad()
def baseline(base: SharedBase, thumbs: Sequence[Thumb], recipe: Recipe, reference: str | None) -> Tensor:
    """z = max(0, Σ w·(log π(y′|x) − log π_ref(y′|x)) / Σ w), y′ the completion of the row before; a scalar.

    Each device takes some micro-batches of the whole step.
    """
    here = devices()
    rotated = [thumbs[i - 1].text.completion for i in range(len(thumbs))]
    texts = [Text(prompt=t.text.prompt, completion=y) for t, y in zip(thumbs, rotated, strict=True)]
    groups = micro_batches([len(text) for text in texts], range(len(texts)), tokens=recipe.micro_batch_tokens)
    mine, all_weights = here.mine(groups), torch.tensor([thumb.weight for thumb in thumbs], device=base.device)
    weights = torch.zeros_like(all_weights)
    for group in mine:
        weights[group] = all_weights[group]
    computed = [*mine, *here.spare(groups)]
    moved = _logps(base, POLICY, texts, computed) - _logps(base, reference, texts, computed)
    total = losses.weighted_mean(moved, weights, all_weights.sum().item())
    here.sum_([total])
    return total.clamp(min=0)


def _share(
    base: SharedBase,
    thumbs: Sequence[Thumb],
    reference: Tensor,
    *,
    settings: KtoRecipe,
    baseline: Tensor,
    up_weight: float,
    weight: float,
    token_weight: float,
) -> Share:
    """One forward pass over some rows."""
    with base.acting(POLICY), base.autocast():
        logps = base.sequence_logps(collate([thumb.text for thumb in thumbs], device=base.device))
    weights = torch.tensor([thumb.weight for thumb in thumbs], device=logps.device)
    up = torch.tensor([thumb.up for thumb in thumbs], device=logps.device)
    moved = logps - reference
    each = losses.kto(moved, up, baseline, beta=settings.beta, up_weight=up_weight)
    preference = losses.weighted_mean(each, weights, weight)
    nll = losses.weighted_mean(losses.sft(logps), weights * up, token_weight)
    metrics = {
        "preference_loss": preference,
        "nll": nll,
        "accuracy": losses.weighted_mean(((moved > baseline) == up).float(), weights, weight),
        "baseline": losses.weighted_mean(baseline.expand(len(thumbs)), weights, weight),
        "up": losses.weighted_mean(up.float(), weights, weight),
    }
    return Share(
        loss=preference + settings.nll_coef * nll,
        metrics={name: value.detach() for name, value in metrics.items()},
        tokens=sum(len(thumb) for thumb in thumbs),
    )


def _logps(base: SharedBase, role: str | None, texts: Sequence[Text], groups: Iterable[list[int]]) -> Tensor:
    """Summed log-probs of the texts in these groups, (N,); 0 for the others."""
    found = torch.zeros(len(texts), device=base.device)
    for group in groups:
        with base.acting(role), base.autocast():
            found[group] = base.sequence_logps(collate([texts[i] for i in group], device=base.device))
    return found
