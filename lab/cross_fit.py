"""Cross-fitting for the votes that trust is tried on: the service's own code (training/features.py, feedback/
cross_fit.py) over contests in place of a snapshot."""

from collections.abc import Sequence

import numpy as np

from feedback import cross_fit
from feedback.cross_fit import Floats
from feedback.raters import Trust
from lab.attackers import Cast, Contest
from training.features import features, reduced
from training.model import SharedBase


class Differences:
    """First minus second answer of each contest, reduced; computed once for all that is tried with them."""

    def __init__(self, base: SharedBase, contests: Sequence[Contest]) -> None:
        values = features(base, [answer.text for each in contests for answer in (each.first, each.second)])
        self._rows = {contest.id: number for number, contest in enumerate(contests)}
        self._values = reduced(values[0::2] - values[1::2])

    def of(self, casts: Sequence[Cast]) -> Floats:
        """(N, D), preferred minus other answer."""
        signs = np.array([1.0 if cast.prefers_first else -1.0 for cast in casts])
        return np.asarray(self._values[[self._rows[cast.contest.id] for cast in casts]] * signs[:, None])


def judge(casts: Sequence[Cast], preferred: Floats) -> Trust:
    """What the service would make of these votes."""
    return cross_fit.judge([cast.opinion() for cast in casts], preferred, np.arange(len(casts)))
