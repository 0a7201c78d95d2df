"""What a reward model's card says of it, by hand: a model without a head's weights scores everything 0."""

import math
from collections import Counter

import pytest
import torch

from tests.training.conftest import EOS
from tests.training.examples import pairs
from training import reward_report
from training.data import Pair, Text, Thumb
from training.model import SharedBase
from training.recipe import LoraRecipe
from training.reward_heads import Points
from training.reward_model import RewardModel
from training.reward_rows import Ranking, Rating, Vote

LORA = LoraRecipe(rank=4, alpha=8)


def text(first: int, length: int = 2) -> Text:
    return Text(prompt=[4, 5], completion=[first] * (length - 1) + [EOS])


def pair(chosen: int, rejected: int, *, tie: bool = False, prompt: int = 4) -> Pair:
    sides = [Text(prompt=[prompt], completion=[token, EOS]) for token in (chosen, rejected)]
    return Pair(chosen=sides[0], rejected=sides[1], tie=tie, weight=1.0)


def model(base: SharedBase, *, points: bool = False, members: int = 1) -> RewardModel:
    """Random heads on fresh adapters: every completion has some score."""
    found = RewardModel(base, "mean", members=members)
    for number, member in enumerate(found.members):
        base.add_fresh(member.role, LORA, seed=number)
        member.points = Points() if points else None
    return found


def test_rows_are_predicted_as_scores_order_them(qwen: SharedBase) -> None:
    """A pair right or wrong, equal scores half; a tie has no order; a ranking by its pairs with one."""
    reward = model(qwen)
    best, middle, worst = sorted((text(token) for token in (40, 50, 60)), key=lambda t: -reward.score([t]).item())
    right, wrong, equal, tie = (
        Pair(chosen=a, rejected=b, tie=tie, weight=1.0)
        for a, b, tie in [(best, worst, False), (worst, best, False), (best, best, False), (best, worst, True)]
    )
    ranking = Ranking(texts=[middle, best, worst], ranks=[1, 2, 3], weight=1.0)
    half_tied = Ranking(texts=[middle, best, worst], ranks=[1, 1, 2], weight=1.0)
    rows = [right, wrong, equal, tie, ranking, half_tied]

    assert reward_report.outcomes(reward, rows) == pytest.approx([1.0, 0.0, 0.5, None, 2 / 3, 1.0])
    assert reward_report.accuracy(reward, rows) == (pytest.approx((1 + 0.5 + 2 / 3 + 1) / 5), 5)
    assert reward_report.accuracy(reward, [tie]) == (0.0, 0)


def test_points_are_predicted_from_bias_and_thresholds(qwen: SharedBase) -> None:
    """Up where the raw score is above the bias; the stars between whose thresholds it lies, if those are wide apart.
    A model that learned from no thumbs says nothing of them."""
    reward = model(qwen, points=True)
    score = reward.raw_scores([text(40)]).item()
    points = reward.members[0].points
    rows = [Thumb(text=text(40), up=up, weight=1.0) for up in (True, False)]
    rows += [Rating(text=text(40), stars=stars, weight=1.0) for stars in range(1, 6)]

    with torch.no_grad():
        points.bias.fill_(score - 0.1)
        points.lowest.fill_(score - 15)
        points.log_steps.fill_(math.log(10))  # thresholds at −15, −5, 5 and 15 beside the score: three stars
    assert reward_report.outcomes(reward, rows) == [1, 0, 0, 0, 1, 0, 0]

    with torch.no_grad():
        points.bias.fill_(score + 0.1)
        points.lowest.fill_(score + 5)
    assert reward_report.outcomes(reward, rows) == [0, 1, 1, 0, 0, 0, 0]

    reward.members[0].points = None
    assert reward_report.outcomes(reward, rows) == [None] * 7


def test_slices_by_hand() -> None:
    """By kind; comparisons by length up to the next power of two, and by rater and policy version where known."""
    votes = [
        Vote(row=pair(40, 41), id="a", rater_kind="human", version=9),
        Vote(row=pair(40, 41), id="b", rater_kind="ai", version=10),
        Vote(row=Ranking(texts=[text(40), text(41, 5)], ranks=[1, 2], weight=1.0), id="c"),
        Vote(row=Ranking(texts=[text(40, 8), text(41)], ranks=[1, 2], weight=1.0), id="d"),
        Vote(row=Thumb(text=text(40, 99), up=True, weight=1.0), id="t", rater_kind="human"),
        Vote(row=pair(40, 41, tie=True), id="e", rater_kind="ai_self"),
    ]
    found = reward_report.slices(votes, [1.0, 0.0, 1.0, 0.5, 0.0, None], versions=True)
    shares = {
        name: {key: (value.accuracy, value.votes) for key, value in group.items()} for name, group in found.items()
    }

    assert shares == {
        "kind": {"preference": (0.5, 2), "ranking": (0.75, 2), "thumb": (0.0, 1)},
        "tokens": {"<=2": (0.5, 2), "<=8": (0.75, 2)},
        "rater": {"ai": (0.0, 1), "human": (1.0, 1)},
        "version": {"9": (1.0, 1), "10": (0.0, 1)},
    }
    assert list(shares["version"]) == ["9", "10"]
    assert "version" not in reward_report.slices(votes, [None] * 6)


def test_the_noise_ceiling_by_hand() -> None:
    """15 of 20 pairs with two votes each agree: a = ¾, and raters who are right with probability q agree with
    q² + (1 − q)², which is ¾ at q = (1 + √½) / 2. Sides may be swapped; single votes and ties say nothing."""
    agreeing = [pair(40, 41, prompt=number) for number in range(30, 45)] * 2
    divided = [vote for number in range(45, 50) for vote in (pair(40, 41, prompt=number), pair(41, 40, prompt=number))]
    others = [pair(50, 51), pair(60, 61, tie=True), pair(60, 61, tie=True)]
    found = reward_report.noise_ceiling(agreeing + divided + others)
    q = (1 + math.sqrt(0.5)) / 2

    assert (found.agreement, found.pairs) == (0.75, 20)
    assert found.ceiling == pytest.approx(q)
    assert q**2 + (1 - q) ** 2 == pytest.approx(0.75)
    assert reward_report.noise_ceiling(agreeing + divided[2:]) is None


def test_three_votes_agree_by_pairs() -> None:
    """Two against one: one of the three pairs of votes agrees, less than by chance, so the ceiling is ½."""
    votes = [
        vote for n in range(30, 50) for vote in (pair(40, 41, prompt=n), pair(40, 41, prompt=n), pair(41, 40, prompt=n))
    ]
    found = reward_report.noise_ceiling(votes)

    assert found.agreement == pytest.approx(1 / 3)
    assert found.ceiling == 0.5


def test_calibration_needs_votes(qwen: SharedBase) -> None:
    """Its error is that of the raw log-odds, whatever the scale of the score; the temperature is in units of it."""
    reward = model(qwen)
    votes = [vote for vote in pairs(50, seed=1) if not vote.tie]
    before = reward_report.calibrate(reward, votes)
    reward.set_scale([vote.chosen for vote in votes])
    after = reward_report.calibrate(reward, votes)

    assert before.votes == 40
    assert after.error == pytest.approx(before.error, abs=1e-5)
    assert reward_report.calibrate(reward, votes[:19]) is None


def test_members_each_have_their_say(qwen: SharedBase) -> None:
    """A thumb is predicted by the mean of probabilities: one member that is sure outweighs one that is not."""
    reward = model(qwen, points=True, members=2)
    raw = reward.raw_scores([text(40)])[:, 0]
    with torch.no_grad():
        for member, score, odds in zip(reward.members, raw, (3.0, -1.0), strict=True):
            member.points.bias.copy_(score - odds)  # σ(3) = .95 and σ(−1) = .27: .61

    assert reward_report.outcomes(reward, [Thumb(text=text(40), up=True, weight=1.0)]) == [1.0]


def test_kinds_are_counted() -> None:
    rows = [
        pair(40, 41),
        pair(41, 40),
        Thumb(text=text(40), up=True, weight=1.0),
        Rating(text=text(40), stars=1, weight=1),
    ]

    assert reward_report.kinds(rows) == dict(Counter(preference=2, rating=1, thumb=1))
    assert reward_report.overall([1.0, None, 0.0]).model_dump() == pytest.approx(
        {"accuracy": 0.5, "low": 0.121, "votes": 2}, abs=1e-3
    )
    assert reward_report.overall([None]) is None
