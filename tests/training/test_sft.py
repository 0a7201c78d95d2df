"""Supervised fine-tuning on a tiny model: the closed form, the invariances, and that it learns."""

import pytest
import torch

from tests.training.examples import pairs
from training import sft_fit
from training.data import Demonstration, Text, collate
from training.model import SharedBase
from training.recipe import LoraRecipe, Recipe, SftRecipe

LORA = LoraRecipe(rank=4, alpha=8)


def recipe(**changes: object) -> Recipe:
    sft = SftRecipe(learning_rate=1e-2, batch_rows=8, epochs=4, kl_samples=0)
    return Recipe(precision="float32", lora=LORA, sft=sft, **changes)


def demonstrations(count: int) -> list[Demonstration]:
    return [Demonstration(text=pair.chosen, weight=pair.weight) for pair in pairs(count)]


def with_policy(base: SharedBase) -> SharedBase:
    base.add_fresh(sft_fit.POLICY, LORA, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in base.parameters(sft_fit.POLICY).values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return base


def gradients(base: SharedBase, rows: list[Demonstration], settings: Recipe) -> tuple[torch.Tensor, float, int]:
    computes = sft_fit.shares(base, rows, settings, range(len(rows)))
    parameters = base.parameters(sft_fit.POLICY).values()
    for parameter in parameters:
        parameter.grad = None
    losses = [compute().loss for compute in computes]
    sum(losses).backward()
    return torch.cat([p.grad.flatten() for p in parameters]), sum(loss.item() for loss in losses), len(losses)


def test_the_step_equals_the_closed_form(base: SharedBase) -> None:
    """Loss of one step = Σ w·nll / Σ w·tokens, from log-probs taken one completion at a time; prompts count nothing."""
    with_policy(base)
    rows = demonstrations(7)

    _, actual, _ = gradients(base, rows, recipe())

    with base.acting(sft_fit.POLICY), torch.no_grad():
        alone = [base.sequence_logps(collate([row.text])).item() for row in rows]
    nll = -sum(row.weight * logp for row, logp in zip(rows, alone, strict=True))
    tokens = sum(row.weight * len(row.text.completion) for row in rows)
    assert actual == pytest.approx(nll / tokens, rel=1e-4)


def test_micro_batches_and_packing_change_nothing(base: SharedBase) -> None:
    """A long row and nine short ones packed into one pass, or one by one: the same loss and the same gradients."""
    with_policy(base)
    long = Text(prompt=[4, 5], completion=[*range(30, 70), 3])
    rows = [Demonstration(text=long, weight=2.0), *demonstrations(9)]

    whole, one_loss, one = gradients(base, rows, recipe())
    split, ten_loss, ten = gradients(base, rows, recipe(micro_batch_tokens=1))

    layout = collate([row.text for row in rows]).layout
    assert layout is not None and layout.source.numel() < 10 * len(long)
    assert (one, ten) == (1, 10)
    assert one_loss == pytest.approx(ten_loss, rel=1e-5)
    torch.testing.assert_close(whole, split, rtol=1e-4, atol=1e-6)


def test_it_learns_to_imitate(qwen: SharedBase) -> None:
    """After a few epochs a demonstration costs much less than at the beginning."""
    metrics = sft_fit.fit(with_policy(qwen), demonstrations(32), recipe(), seed=0, reference=None)

    assert metrics[-1].loss < 0.8 * metrics[0].loss
    assert [step.kl for step in metrics] == [None] * len(metrics)
