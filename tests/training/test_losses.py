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


def test_relatives_of_dpo_by_hand() -> None:
    """h = 4 at beta ½: robust with ε = 0.1 is (0.9·log(1 + e⁻²) − 0.1·log(1 + e²)) / 0.8; hinge max(0, 1 − 2) = 0, and
    of h = −4 it is 3; ipo (4 − 1)² = 9. At h = 0 they are ln 2, 1 and 1."""
    margin = torch.tensor([4.0, 0.0])
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))

    robust = losses.robust_dpo(margin, beta=0.5, label_smoothing=0.1)

    assert robust.tolist() == pytest.approx([(0.9 * right - 0.1 * wrong) / 0.8, LN2])
    assert losses.hinge(torch.tensor([4.0, -4.0, 0.0]), beta=0.5).tolist() == [0.0, 3.0, 1.0]
    assert losses.ipo(margin, beta=0.5).tolist() == [9.0, 1.0]


def test_robust_dpo_is_unbiased() -> None:
    """With a share ε of the votes flipped its mean is the loss of the true votes: (1−ε)·l(h) + ε·l(−h) = −log σ(βh)."""
    margin = torch.tensor([-3.0, 0.5, 2.0])
    flipped = [losses.robust_dpo(sign * margin, beta=0.7, label_smoothing=0.2) for sign in (1, -1)]

    torch.testing.assert_close(0.8 * flipped[0] + 0.2 * flipped[1], losses.dpo(margin, beta=0.7))


def test_kto_by_hand() -> None:
    """r = 3, z = 1, beta ½: a liked one loses 1 − σ(1), twice that with λ_D = 2, and a disliked one 1 − σ(−1)."""
    sigma = 1 / (1 + math.exp(-1))
    ratios, z = torch.tensor([3.0, 3.0]), torch.tensor(1.0)
    up = torch.tensor([True, False])

    assert losses.kto(ratios, up, z, beta=0.5).tolist() == pytest.approx([1 - sigma, sigma])
    assert losses.kto(ratios, up, z, beta=0.5, up_weight=2.0).tolist() == pytest.approx([2 * (1 - sigma), sigma])


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
