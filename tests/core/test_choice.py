"""Draws with an exploration floor: exact probabilities, and draws that keep to them."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.choice import draw, inclusion, probabilities

SCORES = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=40)
FLOOR = st.floats(0.0, 1.0)


@given(SCORES, FLOOR)
def test_probabilities_sum_to_one_above_the_floor(scores: list[float], exploration: float) -> None:
    """Whatever is known, and more doubt is never less probable."""
    found = probabilities(scores, exploration=exploration)
    assert sum(found) == pytest.approx(1)
    assert min(found) >= exploration / len(scores) * (1 - 1e-12)
    for one, likely in zip(scores, found, strict=True):
        assert all(likely >= rival - 1e-12 for other, rival in zip(scores, found, strict=True) if one >= other)


def test_probabilities_by_hand() -> None:
    """0.2 / 2 + 0.8 · 3/4 = 0.7; nothing known of anything is all alike; without exploration in proportion."""
    assert probabilities([3, 1], exploration=0.2) == pytest.approx([0.7, 0.3])
    assert probabilities([0, 0, 0, 0], exploration=0.2) == [0.25] * 4
    assert probabilities([3, 1], exploration=0.0) == [0.75, 0.25]


@given(SCORES, st.integers(1, 50), FLOOR)
def test_inclusion_sums_to_the_number_drawn(scores: list[float], count: int, exploration: float) -> None:
    """As many as asked for, or all; none above 1 and none below its part of the floor; all are included if all fit."""
    found = inclusion(scores, count, exploration=exploration)
    drawn = min(count, len(scores))
    assert sum(found) == pytest.approx(drawn)
    assert max(found) <= 1
    assert min(found) >= exploration * drawn / len(scores) * (1 - 1e-9)
    if count >= len(scores):
        assert found == pytest.approx([1.0] * len(scores))


def test_inclusion_by_hand() -> None:
    """8 of 10 would be 1.6 of two places: it has one for sure, and the others share the second. A fifth of the draw is
    even: 0.2 · 2/3 + 0.8 · (1, ½, ½). Where scores are used up, those of 0 share what is left."""
    assert inclusion([8, 1, 1], 2, exploration=0.0) == pytest.approx([1, 0.5, 0.5])
    assert inclusion([8, 1, 1], 2, exploration=0.2) == pytest.approx([0.4 / 3 + 0.8, 0.4 / 3 + 0.4, 0.4 / 3 + 0.4])
    assert inclusion([5, 0, 0], 2, exploration=0.0) == pytest.approx([1, 0.5, 0.5])
    assert inclusion([], 3) == []


@given(SCORES, st.integers(1, 50), FLOOR, st.integers(0, 10**6))
def test_a_draw_has_the_number_and_nothing_twice(
    scores: list[float], count: int, exploration: float, seed: int
) -> None:
    """Every draw of every seed, and what has probability 0 is not among it."""
    included = inclusion(scores, count, exploration=exploration)
    drawn = draw(included, random.Random(seed))
    assert len(drawn) == len(set(drawn)) == min(count, len(scores))
    assert all(included[place] > 0 for place in drawn)


@settings(max_examples=5, derandomize=True)
@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=8), st.integers(1, 3), st.integers(0, 1000))
def test_frequencies_are_the_probabilities(scores: list[float], count: int, seed: int) -> None:
    """Over 4,000 draws each is met as often as it should be, within five standard deviations."""
    rng, included = random.Random(seed), inclusion(scores, count)
    met = Counter(place for _ in range(4000) for place in draw(included, rng))
    for place, likely in enumerate(included):
        assert abs(met[place] / 4000 - likely) <= 5 * (likely * (1 - likely) / 4000) ** 0.5 + 1e-9
