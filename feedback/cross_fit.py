"""What a reward model that never saw a rater's votes thinks of them: cross-fitted over raters, at a bounded cost. Pure.

The cheap head: logistic regression on the difference of two answers, as a frozen base sees them (training/features.py).
A fit is a few linear solves, so five folds cost seconds, where five reward models with adapters would cost minutes.
That it bends less to a few votes is no loss here: what attackers want is that it learns from them.

Votes without a difference, as thumbs are, are judged by gold and overlap alone.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from feedback.habits import tested_tags
from feedback.opinions import Opinion, choice
from feedback.raters import Trust, trust

FOLDS = 5
RIDGE = 30.0
"""Strength of the normal prior, on features of unit variance."""
_STEPS = 6
Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Expected:
    """Probabilities of votes, calibrated."""

    values: Floats
    """(N,), by a model that learned from the votes of other folds."""
    elsewhere: dict[str, Floats]
    """By tag, of the votes at its positions: by a model that learned from no vote that has the tag."""


def judge(opinions: Sequence[Opinion], preferred: Floats, of: Places, *, passes: int = 2) -> Trust:
    """Cross-fits and judges; then again without the votes of those who were quarantined, who taught the first model.

    Args:
        opinions: of all votes; what they expect is filled in here.
        preferred: (N, D), preferred minus other answer, of N of the votes.
        of: (N,), which opinion each of these rows belongs to.
    """
    raters = [opinions[place].rater for place in of.tolist()]
    names = sorted(set(raters))
    fold = {name: number % FOLDS for number, name in enumerate(np.random.default_rng(0).permutation(names))}
    folds = np.array([fold[rater] for rater in raters], dtype=np.int64)
    tags = _tested(opinions, of)
    learn = np.ones(len(of), dtype=bool)
    for _ in range(passes):
        found = trust(_told(opinions, of, cross_fitted(preferred, folds, learn, tags), tags))
        learn = np.array([not found.raters[rater].quarantined for rater in raters], dtype=bool)
    return found


def cross_fitted(
    preferred: Floats, folds: Places, learn: NDArray[np.bool_], tags: Mapping[str, Places] | None = None
) -> Expected:
    """What models say that never saw a vote, its rater, or its tag.

    Args:
        preferred: (N, D), preferred minus other answer.
        folds: (N,), the same for all votes of a rater.
        learn: (N,), which votes may teach.
        tags: positions of the votes that share each.
    """
    logits = np.zeros(len(preferred))
    weights = np.zeros(preferred.shape[1])
    for fold in np.unique(folds):
        weights = _fit(preferred[learn & (folds != fold)], ridge=RIDGE)
        logits[folds == fold] = preferred[folds == fold] @ weights
    scale = _fit(logits[learn, None], ridge=1.0)[0]  # calibration: out of fold, on the same votes
    elsewhere = {}
    for tag, at in (tags or {}).items():
        others = learn.copy()
        others[at] = False
        elsewhere[tag] = _sigmoid(scale * (preferred[at] @ _fit(preferred[others], ridge=RIDGE, start=weights)))
    return Expected(values=_sigmoid(logits * scale), elsewhere=elsewhere)


def _fit(rows: Floats, *, ridge: float, start: Floats | None = None) -> Floats:
    """Logistic regression of "the preferred one" without intercept, by Newton's method. From a good start the curvature
    is taken only once."""
    weights = np.zeros(rows.shape[1]) if start is None else start
    inverse = None
    for _ in range(_STEPS):
        likely = _sigmoid(rows @ weights)
        if inverse is None or start is None:
            curvature = (rows.T * (likely * (1 - likely))) @ rows + ridge * np.eye(rows.shape[1])
            inverse = np.linalg.inv(curvature)
        weights = weights + inverse @ (rows.T @ (1 - likely) - ridge * weights)
    return weights


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))


def _tested(opinions: Sequence[Opinion], of: Places) -> dict[str, Places]:
    """Of each tag that trust will test: the rows whose votes have it."""
    decided = [place for place, opinion in enumerate(opinions) if choice(opinion) is not None]
    at: defaultdict[str, list[int]] = defaultdict(list)
    for number, place in enumerate(decided):
        for tag in opinions[place].tags:
            at[tag].append(number)
    _, rater = np.unique([opinions[place].rater for place in decided], return_inverse=True)
    tested = set(tested_tags({tag: np.array(places) for tag, places in at.items()}, rater))
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, place in enumerate(of.tolist()):
        for tag in opinions[place].tags & tested:
            rows[tag].append(row)
    return {tag: np.array(places, dtype=np.int64) for tag, places in rows.items()}


def _told(opinions: Sequence[Opinion], of: Places, expected: Expected, tags: Mapping[str, Places]) -> list[Opinion]:
    """The opinions with what is expected of them."""
    elsewhere: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for tag, rows in tags.items():
        for row, value in zip(rows.tolist(), expected.elsewhere[tag].tolist(), strict=True):
            elsewhere[row][tag] = value
    told = list(opinions)
    for row, (place, value) in enumerate(zip(of.tolist(), expected.values.tolist(), strict=True)):
        told[place] = replace(opinions[place], expected=value, elsewhere=elsewhere[row])
    return told
