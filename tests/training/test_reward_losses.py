"""The reward model's losses, by hand."""

import math

import pytest
import torch

from training import reward_losses

LN2 = math.log(2)


def test_bradley_terry_by_hand() -> None:
    """−log σ(margin): margin ln 3 gives ln(4/3), margin −ln 3 gives ln 4, margin 0 gives ln 2."""
    chosen, rejected = torch.tensor([math.log(3), 0.0, 2.0]), torch.tensor([0.0, math.log(3), 2.0])

    loss = reward_losses.bradley_terry(chosen, rejected, torch.zeros(3, dtype=torch.bool))

    assert loss.tolist() == pytest.approx([math.log(4 / 3), math.log(4), LN2])


def test_a_tie_is_half_a_vote_each_way() -> None:
    """A tie costs ½ ln(4/3) + ½ ln 4 at margin ± ln 3, least at equal scores, and pulls both scores together."""
    chosen = torch.tensor([math.log(3), -math.log(3), 0.0], requires_grad=True)

    loss = reward_losses.bradley_terry(chosen, torch.zeros(3), torch.ones(3, dtype=torch.bool))
    loss.sum().backward()

    assert loss.tolist() == pytest.approx([0.5 * math.log(4 / 3) + 0.5 * math.log(4)] * 2 + [LN2])
    assert chosen.grad.tolist() == pytest.approx([0.25, -0.25, 0.0])


def test_centering_is_zero_for_opposite_scores() -> None:
    """(r_c + r_r)²: scores 2 and −2 cost nothing, 1 and 2 cost 9."""
    assert reward_losses.centering(torch.tensor([2.0, 1.0]), torch.tensor([-2.0, 2.0])).tolist() == [0.0, 9.0]
