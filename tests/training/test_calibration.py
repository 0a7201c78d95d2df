"""Calibration by hand: bins, temperatures, and votes that never measure what they were fitted to."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.calibration import cross_fitted_error, error_by_chance, expected_calibration_error, temperature

LN3 = math.log(3)


def test_calibration_error_by_hand() -> None:
    """σ(ln 3) = ¾. Three of four votes right at ¾: no error. All four right: ¼. Two right at ¾ and two that the model
    knows nothing about, one of each, at ½: half the votes are off by ¼."""
    assert expected_calibration_error(np.array([LN3, LN3, LN3, -LN3])) == pytest.approx(0.0)
    assert expected_calibration_error(np.array([LN3] * 4)) == pytest.approx(0.25)
    assert expected_calibration_error(np.array([LN3, LN3, 0.0, 0.0])) == pytest.approx(0.125)


def test_errors_of_different_bins_do_not_cancel() -> None:
    """All wrong at ¾ and all right at 0.95 are both off; in one bin they would half cancel."""
    margins = np.array([-LN3, math.log(19)])

    assert expected_calibration_error(margins) == pytest.approx((0.75 + 0.05) / 2)
    assert expected_calibration_error(margins, bins=1) == pytest.approx(0.35)


def test_the_surest_vote_is_in_the_last_bin() -> None:
    """A confidence that rounds to 1 is none beyond the bins."""
    assert expected_calibration_error(np.array([900.0, -900.0])) == pytest.approx(0.5)


def test_a_perfect_model_errs_by_chance() -> None:
    """Two votes at ¾: both right (9/16), one (6/16) or none (1/16), so off by ¼, ¼ and ¾: 9/32 on average. With many
    votes nothing is left to chance."""
    assert error_by_chance(np.array([LN3, -LN3]), draws=20_000) == pytest.approx(9 / 32, abs=0.005)
    assert error_by_chance(np.full(5_000, LN3), draws=20) < 0.02


@pytest.mark.parametrize(("margin", "expected"), [(LN3, 1.0), (2.0, 2 / LN3), (0.01, 0.01 / LN3)])
def test_temperature_by_hand(margin: float, expected: float) -> None:
    """Three right and one wrong at the same margin: its probability should be ¾, so margin / T is ln 3."""
    assert temperature(np.array([margin] * 3 + [-margin])) == pytest.approx(expected)


@pytest.mark.parametrize("margins", [[1.0, 2.0], [1.0, 0.0], [1.0, -1.0], [-1.0, 0.5], [0.0, 0.0]])
def test_there_is_not_always_a_temperature(margins: list[float]) -> None:
    """All right: the colder the better. No better than chance: the hotter the better."""
    assert temperature(np.array(margins)) is None


@given(st.lists(st.integers(-2000, 2000), min_size=2, max_size=30))
def test_no_other_temperature_fits_better(values: list[int]) -> None:
    """The likelihood is least at the temperature, compared with a little more and a little less."""
    margins = np.array(values) / 100
    found = temperature(margins)
    if found is not None:
        best, *others = (np.logaddexp(0, -margins / (found * factor)).sum() for factor in (1.0, 1.01, 0.99))
        assert min(others) >= best - 1e-9


def test_each_half_takes_the_others_temperature() -> None:
    """Halves of margins 1 and 2, each ¾ right: with its own temperature both would be perfect, with the other's one
    says σ(½ ln 3) and the other σ(2 ln 3) = 0.9."""
    margins = np.array([1.0, 1.0, 1.0, -1.0, 2.0, 2.0, 2.0, -2.0])
    half = np.array([True] * 4 + [False] * 4)
    flat = 1 / (1 + 3**-0.5)

    assert cross_fitted_error(margins, half) == pytest.approx(((0.75 - flat) + (0.9 - 0.75)) / 2)
    assert cross_fitted_error(margins, ~half) == pytest.approx(cross_fitted_error(margins, half))
    assert cross_fitted_error(margins, np.array([True] * 8)) is None
    assert cross_fitted_error(np.abs(margins), half) is None
