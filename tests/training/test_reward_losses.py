"""The reward model's losses, by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training import reward_losses

LN2, LN3 = math.log(2), math.log(3)


def loss(chosen: list[float], rejected: list[float], *, margin: float = 0.0, doubt: float = 0.0) -> list[float]:
    values = torch.tensor(chosen), torch.tensor(rejected)
    same = [torch.full((len(chosen),), number) for number in (margin, doubt)]
    return reward_losses.bradley_terry(*values, *same).tolist()


def test_bradley_terry_by_hand() -> None:
    """−log σ(d): d = ln 3 gives ln(4/3), d = −ln 3 gives ln 4, d = 0 gives ln 2."""
    assert loss([LN3, 0.0, 2.0], [0.0, LN3, 2.0]) == pytest.approx([math.log(4 / 3), math.log(4), LN2])


def test_a_margin_is_to_be_exceeded() -> None:
    """−log σ(d − m): at d = m = ln 3 the loss is still ln 2, and at d = −ln 3 that of −2 ln 3, which is ln 10."""
    assert loss([LN3, 0.0], [0.0, LN3], margin=LN3) == pytest.approx([LN2, math.log(10)])


def test_a_smoothed_label_is_wrong_at_times() -> None:
    """(1 − ε) ℓ(+) + ε ℓ(−) with ε = ¼ and d = ln 3, which is right ¾ of the time: ¾ ln(4/3) + ¼ ln 4, and no score
    does better. Seen the other way round a margin is a margin too: ℓ(−) at d = 0 and m = ln 3 is ln 4."""
    best = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)

    assert loss([LN3], [0.0], doubt=0.25) == pytest.approx([best])
    assert min(loss([LN3 + 0.01, LN3 - 0.01], [0.0, 0.0], doubt=0.25)) > best
    assert loss([0.0], [0.0], margin=LN3, doubt=1.0) == pytest.approx([math.log(4)])


def test_a_tie_is_half_a_vote_each_way() -> None:
    """A tie costs ½ ln(4/3) + ½ ln 4 at d = ± ln 3, least at equal scores, and pulls both scores together."""
    chosen = torch.tensor([LN3, -LN3, 0.0], requires_grad=True)

    each = reward_losses.bradley_terry(chosen, torch.zeros(3), torch.zeros(3), torch.full((3,), 0.5))
    each.sum().backward()

    assert each.tolist() == pytest.approx([0.5 * math.log(4 / 3) + 0.5 * math.log(4)] * 2 + [LN2])
    assert chosen.grad.tolist() == pytest.approx([0.25, -0.25, 0.0])


def test_centering_is_zero_for_opposite_scores() -> None:
    """(r_c + r_r)²: scores 2 and −2 cost nothing, 1 and 2 cost 9."""
    assert reward_losses.centering(torch.tensor([2.0, 1.0]), torch.tensor([-2.0, 2.0])).tolist() == [0.0, 9.0]


def test_a_thumb_is_logistic_in_score_minus_bias() -> None:
    """With bias 1 a score of 1 + ln 3 is liked with probability ¾; both sides of a score of 1 cost ln 2, and a thumb up
    there pulls the bias down as much as the score up."""
    scores, up = torch.tensor([1 + LN3, 1 + LN3, 1.0, 1.0]), torch.tensor([True, False, True, False])
    bias = torch.tensor(1.0, requires_grad=True)
    each = reward_losses.thumb(scores, up, bias)
    each[2].backward()

    assert each.tolist() == pytest.approx([math.log(4 / 3), math.log(4), LN2, LN2])
    assert bias.grad.item() == pytest.approx(0.5)


def test_ratings_are_an_ordered_logit() -> None:
    """P(stars ≤ k) = σ(θ_k − r): with θ = −ln 3, 0, ln 3, ln 7 and r = 0 the five ratings have probability ¼, ¼, ¼, ⅛
    and ⅛; 100 units away the loss is the distance, and no gradient is lost."""
    thresholds = torch.tensor([-LN3, 0.0, LN3, math.log(7)], requires_grad=True)
    stars = torch.arange(1, 6)
    each = reward_losses.rating(torch.zeros(5), stars, thresholds)
    far = torch.tensor([-100.0, 100.0], requires_grad=True)
    distant = reward_losses.rating(far, torch.tensor([3, 3]), thresholds)
    distant.sum().backward()

    assert each.exp().reciprocal().tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 4, 1 / 8, 1 / 8])
    assert distant.tolist() == pytest.approx([100 - math.log(1 - 1 / 3), 100 - LN3 - math.log(1 - 1 / 3)], rel=1e-5)
    assert far.grad.tolist() == pytest.approx([-1.0, 1.0])
    assert torch.isfinite(thresholds.grad).all()


@given(scores=st.floats(-50, 50), lowest=st.floats(-3, 3), steps=st.lists(st.floats(0.01, 5), min_size=3, max_size=3))
def test_five_ratings_are_all_there_are(scores: float, lowest: float, steps: list[float]) -> None:
    """Their probabilities are positive and add up to 1, whatever the score and the thresholds."""
    thresholds = lowest + torch.tensor([0.0, *steps], dtype=torch.float64).cumsum(0)
    each = reward_losses.rating(torch.full((5,), scores, dtype=torch.float64), torch.arange(1, 6), thresholds)

    assert (each >= 0).all()
    assert each.neg().exp().sum().item() == pytest.approx(1.0)
