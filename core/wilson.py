"""Bounds of a share that hold for few trials, and for shares near 0 and 1, too.

Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
"""

import math

_Z = 1.959963984540054
"""97.5 % quantile of the normal distribution: 95 % lie between two such bounds."""


def interval(successes: float, trials: int) -> tuple[float, float]:
    """Both bounds, 95 % in between; a tie may be half a success. `interval(0, 0) == (0.0, 1.0)`."""
    return low(successes, trials, z=_Z), high(successes, trials, z=_Z)


def low(successes: float, trials: int, *, z: float) -> float:
    """The lower bound, by a quantile of the normal distribution."""
    if trials == 0:
        return 0.0
    share, z2 = successes / trials, z**2
    centre = share + z2 / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, (centre - spread) / (1 + z2 / trials))


def high(successes: float, trials: int, *, z: float) -> float:
    """The upper bound likewise."""
    return 1.0 - low(trials - successes, trials, z=z)
