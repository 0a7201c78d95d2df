"""Which versions meet: exact propensities, a floor, and nothing but resident versions."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.records import VersionDoubt
from serving.assignment import Canary
from serving.choice import draw_pair, draw_release, pair_probabilities

DOUBT = VersionDoubt(versions=[0, 1], covariance=[[0.8, 0.2], [0.2, 0.8]], prior=1.0)
SIZES = st.integers(0, 5)


@st.composite
def doubts(draw: st.DrawFn) -> VersionDoubt:
    """A covariance of some versions: A·Aᵀ of a random matrix."""
    size = draw(SIZES)
    rows = [[draw(st.floats(-3, 3)) for _ in range(size)] for _ in range(size)]
    covariance = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in rows] for one in rows]
    versions = draw(st.lists(st.integers(0, 9), min_size=size, max_size=size, unique=True))
    return VersionDoubt(versions=versions, covariance=covariance, prior=draw(st.floats(0, 5)))


def test_the_variance_of_a_pair_by_hand() -> None:
    """0.8 + 0.8 - 2 · 0.2 between known ones; a version without votes adds the prior; nothing differs from itself."""
    assert DOUBT.of(0, 1) == pytest.approx(1.2)
    assert (DOUBT.of(1, 7), DOUBT.of(7, 1)) == (1.8, 1.8)
    assert (DOUBT.of(7, 8), DOUBT.of(7, 7), DOUBT.of(1, 1)) == (2.0, 0.0, 0.0)


def test_probabilities_by_hand() -> None:
    """Variances 1.2, 1.8 and 1.8 of 4.8, at four fifths, above a fifth that is even."""
    found = pair_probabilities([0, 1, 7], DOUBT)
    assert found == pytest.approx({(0, 1): 0.2 / 3 + 0.2, (0, 7): 0.2 / 3 + 0.3, (1, 7): 0.2 / 3 + 0.3})
    assert pair_probabilities([2, 0, 1], None) == pytest.approx({(0, 1): 1 / 3, (0, 2): 1 / 3, (1, 2): 1 / 3})


@given(st.sets(st.integers(0, 9), min_size=1, max_size=6), doubts(), st.integers(0, 1000))
def test_any_draw_is_of_resident_versions_with_its_propensity(
    residents: set[int], doubt: VersionDoubt, seed: int
) -> None:
    """Probabilities sum to 1, none is under its part of the floor, and the pair says the one that it had."""
    found = pair_probabilities(residents, doubt)
    drawn = draw_pair(residents, doubt, random.Random(seed))
    assert set(drawn.versions) <= residents
    if len(residents) == 1:
        assert (found, drawn.propensity) == ({}, 1.0)
        return
    assert sum(found.values()) == pytest.approx(1)
    assert min(found.values()) >= 0.2 / len(found) - 1e-12
    assert drawn.propensity == found[drawn.versions]


@settings(max_examples=5, derandomize=True)
@given(doubts(), st.integers(0, 1000))
def test_frequencies_are_the_propensities(doubt: VersionDoubt, seed: int) -> None:
    """Over 4,000 draws, within five standard deviations."""
    rng, likely = random.Random(seed), pair_probabilities([0, 2, 3, 5], doubt)
    met = Counter(draw_pair([0, 2, 3, 5], doubt, rng).versions for _ in range(4000))
    for pair, probability in likely.items():
        assert abs(met[pair] / 4000 - probability) <= 5 * (probability * (1 - probability) / 4000) ** 0.5


@pytest.mark.parametrize("sampling", [0.0, 0.2, 0.5, 1.0])
def test_a_release_comparison_is_drawn_with_its_propensity(sampling: float) -> None:
    """Within four standard deviations of the rate; the propensity is that of what came."""
    rng = random.Random(7)
    canary = Canary(release="rel_1", version=1, share=0.01)
    found = [draw_release(canary, sampling, rng) for _ in range(4000)]
    assert {propensity for is_drawn, propensity in found if is_drawn} <= {sampling}
    assert {propensity for is_drawn, propensity in found if not is_drawn} <= {1.0 - sampling}
    drawn = sum(is_drawn for is_drawn, _ in found)
    assert abs(drawn - 4000 * sampling) <= 4 * (4000 * sampling * (1 - sampling)) ** 0.5


def test_without_a_release_none_is_drawn() -> None:
    """Whatever the rate."""
    assert draw_release(None, 1.0) == (False, 1.0)
