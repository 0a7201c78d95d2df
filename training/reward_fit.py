"""Fits a reward model to votes: Bradley–Terry on pairs, a tie as half a vote each way.

Left out on purpose: thumbs (they wait for a loss of their own), early stopping (a round is a few epochs), ensembles.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from core.records import Fold
from training import losses, reward_losses
from training.checkpoint import Checkpoint
from training.data import Pair, both_sides, collate, micro_batches, optimizer_steps
from training.loop import Loop, Share, StepMetrics
from training.model import SharedBase
from training.optimizer import adamw
from training.recipe import Recipe
from training.reward_model import RewardCard, RewardModel
from training.rollouts import sample
from training.statistics import wilson_low


class RewardStep(StepMetrics):
    """A line of metrics.jsonl."""

    accuracy: float
    """Share of the step's votes without ties that the model orders as the rater did."""


def fit(
    base: SharedBase,
    pairs: Sequence[Pair],
    recipe: Recipe,
    *,
    seed: int,
    share: tuple[float, float] = (0.0, 1.0),
    out: Path | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[RewardModel, list[RewardStep]]:
    """A reward model from scratch over the base. Its scale is not set yet: see `RewardModel.calibrate`."""
    settings = recipe.reward
    base.add_fresh("reward", recipe.lora, seed=seed)
    model = RewardModel(base, settings.head, seed=seed)
    adapter = base.parameters("reward").values()
    groups = [(adapter, settings.learning_rate), (model.head.parameters(), settings.head_learning_rate)]
    loop = Loop(
        message="training the reward model",
        step_type=RewardStep,
        optimizer=adamw(groups, settings),
        settings=settings,
        steps=optimizer_steps(len(pairs), batch=settings.batch_rows, epochs=settings.epochs, seed=seed),
        shares=partial(shares, model, pairs, surprise_of(model, pairs, recipe), recipe),
        out=out,
        checkpoint=checkpoint,
        share=share,
    )
    with base.acting("reward"):
        return model, list(loop.run())


def shares(
    model: RewardModel,
    pairs: Sequence[Pair],
    surprise: Sequence[tuple[Tensor, Tensor]] | None,
    recipe: Recipe,
    rows: Sequence[int],
) -> list[Callable[[], Share]]:
    """The step's loss in micro-batches: each share is already divided by the weight of the *whole* step."""
    weight = sum(pairs[row].weight for row in rows)
    decided = sum(pairs[row].weight for row in rows if not pairs[row].tie)
    groups = micro_batches([2 * len(pair) for pair in pairs], rows, tokens=recipe.micro_batch_tokens)
    return [
        partial(
            _share,
            model,
            [pairs[row] for row in group],
            [surprise[row] for row in group] if surprise is not None else None,
            weight,
            decided,
            recipe,
        )
        for group in groups
    ]


def _share(
    model: RewardModel,
    pairs: Sequence[Pair],
    surprise: Sequence[tuple[Tensor, Tensor]] | None,
    weight: float,
    decided: float,
    recipe: Recipe,
) -> Share:
    """One forward pass over both sides of the pairs."""
    texts = both_sides(pairs)
    features = [side[i] for i in (0, 1) for side in surprise] if surprise is not None else None
    with model.base.autocast():
        scores = model.raw(collate(texts, device=model.base.device), features).float()
    chosen, rejected = scores.chunk(2)
    weights = torch.tensor([pair.weight for pair in pairs], device=scores.device)
    ties = torch.tensor([pair.tie for pair in pairs], device=scores.device)
    each = reward_losses.bradley_terry(chosen, rejected, ties)
    each = each + recipe.reward.centering * reward_losses.centering(chosen, rejected)
    right = (chosen > rejected).float().masked_fill(ties, 0.0)
    return Share(
        loss=losses.weighted_mean(each, weights, weight),
        metrics={"accuracy": losses.weighted_mean(right, weights, decided or 1.0).detach()},
        tokens=sum(len(text) for text in texts),
    )


def calibrate(model: RewardModel, pairs: Sequence[Pair], recipe: Recipe, *, seed: int) -> None:
    """Sets the scale on fresh completions of the base, so that a reward means the same in every round."""
    prompts = [pairs[i % len(pairs)].chosen.prompt for i in range(recipe.reward.reference_samples)]
    texts = sample(model.base, None, prompts, recipe.sampling, seed=seed, message="the base answers", share=(0.85, 1.0))
    model.calibrate(texts)


def accuracy(model: RewardModel, pairs: Sequence[Pair]) -> tuple[float, int]:
    """Share of pairs that the model orders as the rater did, and their number. Ties have no order and are left out."""
    decided = [pair for pair in pairs if not pair.tie]
    if not decided:
        return 0.0, 0
    chosen, rejected = model.raw_scores(both_sides(decided)).chunk(2)
    return (0.5 + 0.5 * (chosen - rejected).sign()).mean().item(), len(decided)


def card(
    model: RewardModel,
    pairs: Sequence[Pair],
    held_out: Sequence[Pair],
    *,
    data: str,
    seed: int,
    folds: list[Fold],
    dropped: dict[str, int],
) -> RewardCard:
    """What it was trained on, and its accuracy on votes that it never saw."""
    test_accuracy, tested = accuracy(model, held_out)
    return RewardCard(
        head=model.head_name,
        mean=model.mean,
        sd=model.sd,
        base_sha256=model.base.base_sha256,
        data=data,
        folds=folds,
        seed=seed,
        pairs=len(pairs),
        ties=sum(pair.tie for pair in pairs),
        dropped=dropped,
        train_accuracy=accuracy(model, pairs)[0],
        test_accuracy=test_accuracy if tested else None,
        test_accuracy_low=wilson_low(test_accuracy * tested, tested) if tested else None,
        test_pairs=tested,
    )


def surprise_of(model: RewardModel, pairs: Sequence[Pair], recipe: Recipe) -> list[tuple[Tensor, Tensor]] | None:
    """The frozen base's surprise at both sides of each pair, computed once."""
    features = model.surprise(both_sides(pairs), tokens=recipe.micro_batch_tokens)
    return list(zip(features[: len(pairs)], features[len(pairs) :], strict=True)) if features is not None else None
