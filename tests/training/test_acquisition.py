"""Doubt by hand: Bradley–Terry's posterior, the posterior of a head, and what an ensemble's margins say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.acquisition import VersionVote, fit_head, flips, information, reduction, variance, version_doubt


def _votes(winner: int, loser: int, count: int, weight: float = 1.0) -> list[VersionVote]:
    return [VersionVote(winner=winner, loser=loser, weight=weight)] * count


@pytest.mark.parametrize("each", [1, 2, 50])
def test_two_versions_by_hand(each: int) -> None:
    """n votes, half of them each way: strengths are equal, every vote has p (1 - p) = ¼, so the difference has
    precision 1/2 + n/4 and variance 2 / (1 + n/2) under a prior of 1."""
    doubt = version_doubt([*_votes(0, 1, each), *_votes(1, 0, each)], prior=1.0)
    assert doubt.of(0, 1) == pytest.approx(2 / (1 + each))
    assert (doubt.versions, doubt.prior) == ([0, 1], 1.0)
    assert doubt.of(0, 5) == pytest.approx(doubt.covariance[0][0] + 1.0)


def test_without_votes_there_is_the_prior() -> None:
    """Two versions that nobody compared differ by N(0, 2 · prior); votes within a version say nothing."""
    doubt = version_doubt([VersionVote(winner=3, loser=3, weight=1.0)], prior=0.5)
    assert (doubt.versions, doubt.of(0, 1)) == ([], 1.0)


def test_weights_and_a_chain() -> None:
    """Two votes of half a weight are one vote. Versions that were compared through a third are less in doubt than
    strangers, and more than neighbours."""
    whole = version_doubt([*_votes(0, 1, 1), *_votes(1, 0, 1)])
    halves = version_doubt([*_votes(0, 1, 2, 0.5), *_votes(1, 0, 2, 0.5)])
    assert np.allclose(whole.covariance, halves.covariance)
    chain = version_doubt([*_votes(0, 1, 9), *_votes(1, 0, 9), *_votes(1, 2, 9), *_votes(2, 1, 9)])
    assert chain.of(0, 1) < chain.of(0, 2) < chain.of(0, 9)


def test_a_clear_winner_leaves_more_doubt_of_by_how_much() -> None:
    """Votes that all say the same have less curvature than votes that disagree: the next one of a balanced pair
    narrows more."""
    one_sided = version_doubt(_votes(0, 1, 20))
    balanced = version_doubt([*_votes(0, 1, 10), *_votes(1, 0, 10)])
    assert one_sided.of(0, 1) > balanced.of(0, 1)


def test_only_the_newest_versions_are_kept() -> None:
    """Forty versions against version 100: the newest 32 stand in the matrix."""
    doubt = version_doubt([vote for version in range(40) for vote in _votes(version, 100, 1)])
    assert doubt.versions == [*range(9, 40), 100]


@given(st.integers(1, 6), st.integers(0, 30), st.integers(0, 1000))
def test_votes_only_take_doubt_away(width: int, count: int, seed: int) -> None:
    """The variance of every margin is between 0 and the prior's, |x|² / ridge; with no vote it is the prior's."""
    rng = np.random.default_rng(seed)
    rows, asked = rng.normal(size=(count, width)), rng.normal(size=(5, width))
    head = fit_head(rows, np.ones(count), ridge=2.0)
    found = np.einsum("nd,de,ne->n", asked, head.covariance, asked)
    before = (asked**2).sum(1) / 2.0
    assert (found > 0).all()
    assert (found <= before * (1 + 1e-9)).all()
    if not count:
        assert found == pytest.approx(before)


def test_drawn_heads_have_the_posterior() -> None:
    """Of 4,000 drawn heads, margins have the posterior's mean and variance; the same seed draws the same."""
    rng = np.random.default_rng(1)
    head = fit_head(rng.normal(size=(40, 3)) + 0.5, np.ones(40), ridge=1.0)
    asked = rng.normal(size=(4, 3))
    margins = head.margins(asked, members=4000)
    assert margins.mean(0) == pytest.approx(asked @ head.mean, abs=0.05)
    assert margins.var(0) == pytest.approx(np.einsum("nd,de,ne->n", asked, head.covariance, asked), rel=0.1)
    assert np.array_equal(margins, head.margins(asked, members=4000))


def test_margins_by_hand() -> None:
    """Three pairs, two members: sure and opposite, both a toss-up, both sure and the same."""
    margins = np.array([[100.0, 0.0, 100.0], [-100.0, 0.0, 100.0]])
    assert variance(margins) == pytest.approx([10_000.0, 0.0, 0.0])
    assert information(margins) == pytest.approx([math.log(2), 0.0, 0.0], abs=1e-9)
    assert flips(margins).tolist() == [0.5, 0.0, 0.0]


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=20))
def test_information_is_between_nothing_and_a_bit(margins: list[float]) -> None:
    """One vote tells at most log 2 nats."""
    (found,) = information(np.array(margins)[:, None])
    assert 0.0 <= found <= math.log(2) + 1e-12


def test_reduction_by_hand() -> None:
    """Four members, margins ±1: a vote has precision ¼, so it takes ¼ / (1 + ¼) of its own variance, 1, and of that of
    whatever moves with it. One pair twice and an unrelated one: 2/3 against 1/3 of it in the mean. What is certain
    tells nothing."""
    twice, other = [1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]
    assert reduction(np.array([twice, other]).T) == pytest.approx([0.1, 0.1])
    assert reduction(np.array([twice, twice, other]).T) == pytest.approx([0.4 / 3, 0.4 / 3, 0.2 / 3])
    assert reduction(np.array([twice, [5.0] * 4]).T) == pytest.approx([0.1, 0.0])
