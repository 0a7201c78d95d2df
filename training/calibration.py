"""Whether probabilities mean what they say: calibration error and temperature (Guo et al. 2017), pure, of margins.

A margin is the log-odds that a model gives to the side that the rater took: right where it is positive. Votes are
two-sided, so the model's confidence is never below ½ and the bins divide [½, 1].
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def expected_calibration_error(margins: Floats, *, bins: int = 10) -> float:
    """Σ_b n_b / n · |accuracy_b − confidence_b| over equal bins of the confidence σ(|margin|) (Guo et al. 2017, eq. 3).

    It is never negative, so on few votes it is above 0 even for a perfect model: see `error_by_chance`. A margin of 0
    is half right.
    """
    confidence = _sigmoid(np.abs(margins))
    right = 0.5 + 0.5 * np.sign(margins)
    bin_of = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(margins))


def error_by_chance(margins: Floats, *, draws: int = 1000, seed: int = 0) -> float:
    """The mean calibration error of a perfect model with these confidences on so many votes: each vote is drawn anew
    with the probability that the model gives it. What is not above this is no error."""
    rng = np.random.default_rng(seed)
    sure = np.abs(margins)
    right = rng.random((draws, len(margins))) < _sigmoid(sure)
    return float(np.mean([expected_calibration_error(np.where(row, sure, -sure)) for row in right]))


def temperature(margins: Floats) -> float | None:
    """The T that makes Σ log σ(margin / T) largest (Guo et al. 2017, §4.2).

    Returns:
        None where there is no such T: every margin is positive, so the sharper the better, or they are no better than
        chance, so the flatter the better.
    """
    if margins.min() >= 0 or margins.mean() <= 0:
        return None
    low, high = 0.0, 1.0  # of 1/T, in which the likelihood is concave with slope Σ margin · σ(−margin / T)
    while _slope(margins, high) > 0:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _slope(margins, middle) > 0 else (low, middle)
    return 2 / (low + high)


def cross_fitted_error(margins: Floats, half: NDArray[np.bool_]) -> float | None:
    """Calibration error with a temperature where no vote helped to find the temperature that it is measured with: each
    half takes that of the other.

    Returns:
        None where a half has no temperature.
    """
    if not (half.any() and (~half).any()):
        return None
    first, second = temperature(margins[half]), temperature(margins[~half])
    if first is None or second is None:
        return None
    return expected_calibration_error(np.where(half, margins / second, margins / first))


def _slope(margins: Floats, inverse: float) -> float:
    return float((margins * _sigmoid(-margins * inverse)).sum())


def _sigmoid(values: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -values))
