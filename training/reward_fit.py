"""Fits a reward model to votes: Bradley–Terry on comparisons, a tie as half a vote each way, thumbs and ratings beside.

All kinds of rows meet in the same steps. A row is never torn apart: the completions of a ranking go through the model
once, in one forward pass, and all its pairs are taken from those scores. Early stopping is left out: a round is a few
epochs.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from training import losses, reward_losses
from training.checkpoint import Checkpoint
from training.data import Thumb, collate, micro_batches, optimizer_steps
from training.loop import Loop, Share, StepMetrics
from training.model import SharedBase
from training.optimizer import adamw
from training.recipe import Recipe, RewardRecipe
from training.reward_heads import Points
from training.reward_model import Member, RewardModel, member_directory, part_of
from training.reward_rows import Rating, Row, comparisons, size, texts_of
from training.rollouts import sample


class RewardStep(StepMetrics):
    """A line of metrics.jsonl."""

    accuracy: float
    """Share of the step's comparisons without ties that the model orders as the rater did."""


def fit(
    base: SharedBase,
    rows: Sequence[Row],
    recipe: Recipe,
    *,
    seed: int,
    share: tuple[float, float] = (0.0, 1.0),
    out: Path | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[RewardModel, list[RewardStep]]:
    """A reward model from scratch over the base, one member after the other. Its scale is not set yet: see `set_scale`.

    Args:
        seed: of the first member; the others count up from it.

    Returns:
        The model, and the steps of all its members.
    """
    settings = recipe.reward
    model = RewardModel(base, settings.head, seed=seed, members=settings.members)
    surprise = surprise_of(model, rows, recipe)
    steps = []
    for number, member in enumerate(model.members):
        own = seed + number
        base.add_fresh(member.role, recipe.lora, seed=own)
        begin, end = (share[0] + (share[1] - share[0]) * part / settings.members for part in (number, number + 1))
        loop = Loop(
            message=f"training the {member.role} model",
            step_type=RewardStep,
            optimizer=_optimizer(member, rows, settings),
            settings=settings,
            steps=optimizer_steps(len(rows), batch=settings.batch_rows, epochs=settings.epochs, seed=own),
            shares=partial(shares, member, rows, surprise, recipe),
            out=member_directory(out, number) if out is not None else None,
            checkpoint=checkpoint_of(checkpoint, number) if checkpoint is not None else None,
            share=(begin, end),
        )
        with base.acting(member.role):
            steps += list(loop.run())
    return model, steps


def checkpoint_of(whole: Checkpoint, number: int) -> Checkpoint:
    """Where a member's training goes on from; that of the first one is the program's own."""
    return whole if number == 0 else whole.part(part_of("member", number))


def forget_checkpoints(whole: Checkpoint, recipe: Recipe) -> None:
    """All is trained and written; the program's own checkpoint goes when the program ends."""
    for number in range(1, recipe.reward.members):
        checkpoint_of(whole, number).remove()


def _optimizer(member: Member, rows: Sequence[Row], settings: RewardRecipe) -> torch.optim.AdamW:
    """Of adapter and head, and of points where there are rows to learn them from."""
    adapter = member.base.parameters(member.role).values()
    groups = [(adapter, settings.learning_rate), (member.head.parameters(), settings.head_learning_rate)]
    if not all(comparisons(row) for row in rows):
        member.points = Points().to(member.base.device)
        groups.append((member.points.parameters(), settings.head_learning_rate))
    return adamw(groups, settings)


def shares(
    member: Member,
    rows: Sequence[Row],
    surprise: Sequence[list[Tensor]] | None,
    recipe: Recipe,
    step: Sequence[int],
) -> list[Callable[[], Share]]:
    """The step's loss in micro-batches: each share is already divided by the weight of the *whole* step."""
    total = sum(weight_of(rows[i], recipe) for i in step)
    decided = sum(pair.weight for i in step for pair in comparisons(rows[i]) if not pair.tie)
    groups = []
    for count in sorted({len(texts_of(rows[i])) for i in step}):  # apart, so that padding stays within its bound
        alike = sorted(i for i in step if len(texts_of(rows[i])) == count)
        sizes = [size(rows[i]) for i in alike]
        found = micro_batches(sizes, range(len(alike)), tokens=recipe.micro_batch_tokens)
        groups += [[alike[place] for place in group] for group in found]
    return [
        partial(
            _share,
            member,
            [rows[i] for i in group],
            [surprise[i] for i in group] if surprise is not None else None,
            total,
            decided,
            recipe,
        )
        for group in groups
    ]


def weight_of(row: Row, recipe: Recipe) -> float:
    """What it counts in the mean over its step."""
    return row.weight * (1.0 if comparisons(row) else recipe.reward.pointwise_weight)


def _share(
    member: Member,
    rows: Sequence[Row],
    surprise: Sequence[list[Tensor]] | None,
    total: float,
    decided: float,
    recipe: Recipe,
) -> Share:
    """One forward pass over all completions of the rows."""
    texts = [text for row in rows for text in texts_of(row)]
    features = [feature for row in surprise for feature in row] if surprise is not None else None
    with member.base.autocast():
        scores = member.raw(collate(texts, device=member.base.device), features).float()
    by_row = scores.split([len(texts_of(row)) for row in rows])
    compared, right = _comparison_loss(rows, by_row, total, decided, recipe)
    pointwise = _pointwise_loss(rows, by_row, member.points, total, recipe)
    return Share(
        loss=compared + pointwise,
        metrics={"accuracy": right.detach()},
        tokens=sum(len(text) for text in texts),
    )


def _comparison_loss(
    rows: Sequence[Row], by_row: Sequence[Tensor], total: float, decided: float, recipe: Recipe
) -> tuple[Tensor, Tensor]:
    """Its share of the step's loss and accuracy."""
    settings = recipe.reward
    found = [(scores, pair) for row, scores in zip(rows, by_row, strict=True) for pair in comparisons(row)]
    if not found:
        return torch.zeros(()), torch.zeros(())
    chosen = torch.stack([scores[pair.better] for scores, pair in found])
    rejected = torch.stack([scores[pair.worse] for scores, pair in found])
    values = [(pair.weight, pair.margin, 0.5 if pair.tie else settings.label_smoothing) for _, pair in found]
    weights, margins, doubt = torch.tensor(values, device=chosen.device).T
    ties = torch.tensor([pair.tie for _, pair in found], device=chosen.device)
    each = reward_losses.bradley_terry(chosen, rejected, margins, doubt)
    each = each + settings.centering * reward_losses.centering(chosen, rejected)
    right = (chosen > rejected).float().masked_fill(ties, 0.0)
    return losses.weighted_mean(each, weights, total), losses.weighted_mean(right, weights, decided or 1.0)


def _pointwise_loss(
    rows: Sequence[Row], by_row: Sequence[Tensor], points: Points | None, total: float, recipe: Recipe
) -> Tensor:
    """Its share of the step's loss."""
    loss = torch.zeros(())
    if points is None:
        return loss
    thumbs = [(scores, row) for row, scores in zip(rows, by_row, strict=True) if isinstance(row, Thumb)]
    ratings = [(scores, row) for row, scores in zip(rows, by_row, strict=True) if isinstance(row, Rating)]
    if thumbs:
        scores = torch.cat([score for score, _ in thumbs])
        up = torch.tensor([row.up for _, row in thumbs], device=scores.device)
        weights = torch.tensor([weight_of(row, recipe) for _, row in thumbs], device=scores.device)
        loss = loss + losses.weighted_mean(reward_losses.thumb(scores, up, points.bias), weights, total)
    if ratings:
        scores = torch.cat([score for score, _ in ratings])
        stars = torch.tensor([row.stars for _, row in ratings], device=scores.device)
        weights = torch.tensor([weight_of(row, recipe) for _, row in ratings], device=scores.device)
        loss = loss + losses.weighted_mean(reward_losses.rating(scores, stars, points.thresholds), weights, total)
    return loss


def set_scale(model: RewardModel, rows: Sequence[Row], recipe: Recipe, *, seed: int) -> float | None:
    """Fixes the scale on fresh completions of the base, so that a reward means the same in every round.

    Returns:
        How far members differ on them, in units of the score; None for one member.
    """
    prompts = [texts_of(rows[i % len(rows)])[0].prompt for i in range(recipe.reward.reference_samples)]
    texts = sample(model.base, None, prompts, recipe.sampling, seed=seed, message="the base answers", share=(0.85, 1.0))
    spread = model.set_scale(texts)
    return spread if len(model.members) > 1 else None


def surprise_of(model: RewardModel, rows: Sequence[Row], recipe: Recipe) -> list[list[Tensor]] | None:
    """The frozen base's surprise at each row's completions, computed once."""
    texts = [text for row in rows for text in texts_of(row)]
    features = model.surprise(texts, tokens=recipe.micro_batch_tokens)
    if features is None:
        return None
    rest = iter(features)
    return [[next(rest) for _ in texts_of(row)] for row in rows]
