"""The arithmetic of `lab.active`: curves, where they meet, and who is asked."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.active import monotone, reached, report, saving, table
from lab.active_study import Point, Size, ask

VOTES = np.array([100.0, 200.0, 400.0, 800.0])
SMALL = Size(first=10, batch=5, measured=(10, 20, 30))


def test_a_falling_curve_is_levelled() -> None:
    """Neighbours that fall become their mean, as often as needed; a rising curve stays."""
    assert monotone(np.array([1.0, 3.0, 2.0])).tolist() == [1.0, 2.5, 2.5]
    assert monotone(np.array([3.0, 2.0, 1.0])).tolist() == [2.0, 2.0, 2.0]
    assert monotone(np.array([1.0, 2.0, 2.0, 4.0])).tolist() == [1.0, 2.0, 2.0, 4.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_levelling_keeps_the_mean(values: list[float]) -> None:
    """It rises, its mean is that of the values, and levelling it again changes nothing."""
    found = monotone(np.array(values))
    assert (np.diff(found) >= -1e-12).all()
    assert found.mean() == pytest.approx(np.mean(values))
    assert monotone(found) == pytest.approx(found)


def test_where_a_curve_reaches_a_goal() -> None:
    """Between 200 and 400 votes, half of the way up is half of the way in logarithms: 200 · √2. At once, at a measured
    point, and never."""
    rising = np.array([0.6, 0.7, 0.8, 0.9])
    assert reached(VOTES, rising, 0.75) == pytest.approx(200 * math.sqrt(2))
    assert [reached(VOTES, rising, goal) for goal in (0.5, 0.9, 0.95)] == pytest.approx([100, 800, 800])


def test_the_saving_of_seeds_that_agree() -> None:
    """Both seeds reach at 400 votes what random choice has at 800: there is no doubt about 400. Without any gain it is
    all of the votes."""
    at_random = np.array([[0.6, 0.7, 0.75, 0.8]] * 2)
    active = np.array([[0.6, 0.7, 0.8, 0.9]] * 2)
    found = saving(VOTES, at_random, active)
    assert (found.random, found.active, found.low, found.high) == pytest.approx((800, 400, 400, 400))
    assert saving(VOTES, at_random, at_random - 0.01).active == 800.0


@pytest.mark.parametrize("arm", ["random", "variance", "information", "flips", "reduction", "reduction, weighted"])
def test_everybody_begins_alike_and_nothing_is_asked_twice(arm: str) -> None:
    """The first votes are those of random choice; then as many as are measured, of different comparisons."""
    rng = np.random.default_rng(0)
    differences, votes = rng.normal(size=(80, 4)), rng.choice([-1.0, 1.0], size=80)
    at_random, asked = (ask(differences, votes, name, SMALL, seed=3) for name in ("random", arm))
    assert asked.places[:10] == at_random.places[:10]
    assert len(asked.places) == len(asked.weights) == len(set(asked.places)) == 30
    assert set(asked.places) <= set(range(80))
    assert (min(asked.weights) < 1 < max(asked.weights)) == arm.endswith("weighted")


def test_what_tells_nothing_is_hardly_asked() -> None:
    """Half of the pool are comparisons without any difference: of twenty that are chosen, few more than the floor's
    part, a tenth, are of them."""
    rng = np.random.default_rng(1)
    differences = rng.normal(size=(400, 4)) * np.repeat([1.0, 0.0], 200)[:, None]
    asked = ask(differences, np.sign(differences.sum(1) + 0.1), "reduction", SMALL, seed=0)
    assert sum(place >= 200 for place in asked.places[10:]) <= 5


def test_a_report_has_means_and_savings() -> None:
    """Of each arm, over seeds; without trained reward models only the ensemble is shown."""
    values = {"random": (0.6, 0.7), "information": (0.7, 0.8)}
    points = [
        Point(arm=arm, seed=seed, votes=votes, head=value, reward=None)
        for arm, both in values.items()
        for seed in (1, 2)
        for votes, value in zip((100, 200), both, strict=True)
    ]
    found = report(points, seconds=1.0)
    assert found["mean"] == {arm: {"head": pytest.approx(list(both))} for arm, both in values.items()}
    assert found["saving"] == {"information": {"head": {"random": 200, "active": 100.0, "low": 100.0, "high": 100.0}}}
    assert found["gain"] == {"information": {"head": [0.1, 0.1]}}
    assert table(found).row_count == 2
