"""Wilson's bounds against his formula by hand: (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n)."""

import pytest

from core import wilson

Z_95 = 1.644854


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.27753), (5, 10, 0.23659, 0.76341), (10, 10, 0.72247, 1.0)],
)
def test_an_interval_by_hand(successes: int, trials: int, low: float, high: float) -> None:
    """z² = 3.8415."""
    assert wilson.interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_a_bound_by_hand() -> None:
    """70 of 100 at z = 1.645: (0.7 + z²/200 − z·√(0.21/100 + z²/40000)) / (1 + z²/100) = 0.6202."""
    assert wilson.low(70, 100, z=Z_95) == pytest.approx(0.6202, abs=1e-4)


def test_the_edges() -> None:
    """Nothing seen proves nothing; nothing won proves nothing; all of 10 won still leaves 0.787."""
    assert wilson.low(0, 0, z=Z_95) == 0.0
    assert wilson.low(0, 10, z=Z_95) == pytest.approx(0.0, abs=1e-12)
    assert wilson.low(10, 10, z=Z_95) == pytest.approx(10 / (10 + Z_95**2))


def test_the_upper_bound_mirrors_the_lower_one() -> None:
    """What may be the share of wins at most is one less the least share of losses."""
    assert wilson.high(70, 100, z=Z_95) == pytest.approx(1 - wilson.low(30, 100, z=Z_95))
