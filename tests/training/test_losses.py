"""The losses against numbers worked out by hand."""

import math

import pytest
import torch

from training import losses

LN2 = math.log(2)


def test_dpo_is_ln_2_at_the_reference() -> None:
    """Where policy and reference agree the loss is ln 2, with label smoothing too."""
    logps = torch.tensor([-3.0, -80.0])
    margin = losses.dpo_margin(logps, logps - 5, logps, logps - 5)

    assert margin.tolist() == [0.0, 0.0]
    assert losses.dpo(margin, beta=0.3).tolist() == pytest.approx([LN2, LN2])
    assert losses.dpo(margin, beta=0.3, label_smoothing=0.2).tolist() == pytest.approx([LN2, LN2])


def test_dpo_by_hand() -> None:
    """Chosen gained 3 nats and rejected lost 1: h = 4, at beta ½ the loss is log(1 + e⁻²); smoothed by 0.1 it is
    0.9·log(1 + e⁻²) + 0.1·log(1 + e²)."""
    margin = losses.dpo_margin(torch.tensor([-7.0]), torch.tensor([-6.0]), torch.tensor([-10.0]), torch.tensor([-5.0]))
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))

    assert margin.item() == 4.0
    assert losses.dpo(margin, beta=0.5).item() == pytest.approx(right)
    assert losses.dpo(margin, beta=0.5, label_smoothing=0.1).item() == pytest.approx(0.9 * right + 0.1 * wrong)


def test_dpo_gradient_by_hand() -> None:
    """d loss / d log-prob of chosen = −β σ(−βh); the rejected one gets the opposite (Rafailov et al., §4)."""
    chosen, rejected = torch.tensor([1.0], requires_grad=True), torch.tensor([0.0], requires_grad=True)

    losses.dpo(losses.dpo_margin(chosen, rejected, torch.zeros(1), torch.zeros(1)), beta=2.0).backward()

    expected = 2.0 / (1 + math.exp(2.0))
    assert (chosen.grad.item(), rejected.grad.item()) == pytest.approx((-expected, expected))


def test_extreme_margins_stay_finite() -> None:
    """A margin of ±10⁴ nats gives 0 or 10⁴ times beta, never infinity or NaN."""
    loss = losses.dpo(torch.tensor([1e4, -1e4]), beta=0.1)

    assert loss.tolist() == pytest.approx([0.0, 1000.0])


def test_weighted_mean_counts_the_whole_step() -> None:
    """Σ w·l / Σ w: (1·2 + 3·4) / 4 = 3.5, whichever way the rows are split."""
    values, weights = torch.tensor([2.0, 4.0]), torch.tensor([1.0, 3.0])

    whole = losses.weighted_mean(values, weights, 4.0)
    parts = [losses.weighted_mean(values[i : i + 1], weights[i : i + 1], 4.0) for i in range(2)]

    assert whole.item() == 3.5
    assert sum(part.item() for part in parts) == 3.5


def test_a_row_of_weight_zero_cannot_poison_the_step() -> None:
    """0 · NaN is NaN: such a row must be left out, not multiplied away."""
    values = torch.tensor([1.0, math.nan], requires_grad=True)

    loss = losses.weighted_mean(values, torch.tensor([1.0, 0.0]), 1.0)
    loss.backward()

    assert loss.item() == 1.0
    assert values.grad.tolist() == [1.0, 0.0]
