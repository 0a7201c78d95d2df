"""The clipped losses: hand values, the gradient's sign and where there is none, and the truncated weights."""

import math

import pytest
import torch
from torch import Tensor

from training import ppo_losses

LN = math.log


def flat(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_clipped_surrogate_by_hand() -> None:
    """Ratio 1.5 and 0.5 with ε = 0.2: gains are cut at 1.2 and 0.8, losses are not."""
    new, old = flat([LN(1.5), LN(1.5), LN(0.5), LN(0.5)]), flat([0.0] * 4)
    gains = flat([2.0, -2.0, 2.0, -2.0])

    assert ppo_losses.policy_loss(new, old, gains, clip=0.2).tolist() == pytest.approx([-2.4, 3.0, -1.0, 1.6])
    assert ppo_losses.is_clipped(new, old, gains, clip=0.2).tolist() == [True, False, False, True]


def test_clipped_tokens_give_no_gradient() -> None:
    """Inside the range d loss / d log π = −A·ρ; where the clipped branch acts it is 0."""
    new = flat([0.0, LN(1.5), LN(0.5), LN(1.5)]).requires_grad_()
    gains = flat([3.0, 2.0, -2.0, -2.0])
    ppo_losses.policy_loss(new, flat([0.0] * 4), gains, clip=0.2).sum().backward()

    assert new.grad.tolist() == pytest.approx([-3.0, 0.0, 0.0, 3.0])


def test_a_wild_ratio_does_not_overflow() -> None:
    """Log-ratios beyond ±20 count as ±20."""
    found = ppo_losses.ratio(torch.tensor([500.0, -500.0]), torch.zeros(2))

    assert found.tolist() == pytest.approx([math.exp(20), math.exp(-20)])


def test_the_clipped_value_loss_by_hand() -> None:
    """V_old = 1, R = 3. V = 2 counts as 1.2 (½·1.8²); V = 1.1 as it is (½·1.9²); V = 0 is the worse of 0 and 0.8."""
    values, old, returns = flat([2.0, 1.1, 0.0]), flat([1.0] * 3), flat([3.0] * 3)

    assert ppo_losses.value_loss(values, old, returns, clip=0.2).tolist() == pytest.approx([1.62, 1.805, 4.5])


def test_importance_weights_are_cut_and_detached() -> None:
    """π_trainer / π_engine of 1.5, 4 and ½ become 1.5, 2 and ½; no gradient flows through them."""
    trainer = flat([LN(0.6), LN(0.8), LN(0.1)]).requires_grad_()
    weights = ppo_losses.importance_weights(trainer, flat([LN(0.4), LN(0.2), LN(0.2)]))

    assert weights.tolist() == pytest.approx([1.5, 2.0, 0.5])
    assert not weights.requires_grad
