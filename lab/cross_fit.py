"""What a reward model that never saw a rater's votes thinks of them: cross-fitted over raters, at a bounded cost.

The cheap head: one forward pass of the frozen base over all completions, token states summed into one vector for each,
and logistic regression on the difference of the two answers. A fit is a few linear solves, so five folds cost seconds,
where five reward models with adapters would cost minutes. That it bends less to a few votes is no loss here: what
attackers want is that it learns from them.

Left out: thumbs and rankings, whose votes have another form than a difference.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from feedback.habits import tested_tags
from feedback.opinions import Opinion
from feedback.raters import Trust, trust
from lab.attackers import Cast, Contest
from training.data import Text, collate, micro_batches
from training.logprobs import predicting_positions, token_surprise
from training.model import SharedBase

FOLDS = 5
RIDGE = 30.0
"""Strength of the normal prior, on features of unit variance."""
DIRECTIONS = 192
_UNITS, _TOKENS, _STEPS = 128, 4096, 6
Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@torch.no_grad()
def features(base: SharedBase, texts: Sequence[Text]) -> Floats:
    """(N, D): of each completion the sum over its tokens of the base's states around the token, of its surprise there,
    and of a fixed random layer over both; an eighth of them, so that they stay near one."""
    found: dict[int, torch.Tensor] = {}
    layer: torch.Tensor | None = None
    with base.acting(None):
        for rows in micro_batches([len(text) for text in texts], range(len(texts)), tokens=_TOKENS):
            batch = collate([texts[i] for i in rows], device=base.device)
            states, where = base.hidden(batch), predicting_positions(batch.completion_mask)
            before = states[:, :-1][where]
            surprise = token_surprise(before, base.head, batch.token_ids[:, 1:][where])
            each = torch.cat([states[:, 1:][where], before, surprise], dim=-1).float()
            if layer is None:
                generator = torch.Generator().manual_seed(0)
                layer = torch.randn(each.shape[1], _UNITS, generator=generator) / each.shape[1] ** 0.5
            each = torch.cat([each, torch.nn.functional.silu(each @ layer.to(each))], dim=-1)
            sizes = [len(texts[i].completion) for i in rows]
            found |= dict(zip(rows, (part.sum(0) / 8 for part in each.split(sizes)), strict=True))
    return torch.stack([found[i] for i in range(len(texts))]).cpu().double().numpy()


class Differences:
    """First minus second answer of each contest, of unit variance, along the directions in which contests differ most;
    computed once for all that is tried with them."""

    def __init__(self, base: SharedBase, contests: Sequence[Contest]) -> None:
        texts = [answer.text for contest in contests for answer in (contest.first, contest.second)]
        values = features(base, texts)
        values = values[0::2] - values[1::2]
        values /= values.std(0).clip(min=1e-6)
        _, directions = np.linalg.eigh(values.T @ values)
        self._rows = {contest.id: number for number, contest in enumerate(contests)}
        self._values = values @ directions[:, -DIRECTIONS:]

    def of(self, casts: Sequence[Cast]) -> Floats:
        """(N, D), preferred minus other answer."""
        signs = np.array([1.0 if cast.prefers_first else -1.0 for cast in casts])
        return self._values[[self._rows[cast.contest.id] for cast in casts]] * signs[:, None]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Expected:
    """Probabilities of votes, calibrated."""

    values: Floats
    """(N,), by a model that learned from the votes of other folds."""
    elsewhere: dict[str, Floats]
    """By tag, of the votes at its positions: by a model that learned from no vote that has the tag."""


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


def judge(casts: Sequence[Cast], preferred: Floats, *, passes: int = 2) -> Trust:
    """Cross-fits and judges; then again without the votes of those who were quarantined, who taught the first model."""
    names = sorted({cast.rater for cast in casts})
    fold = {name: number % FOLDS for number, name in enumerate(np.random.default_rng(0).permutation(names))}
    folds = np.array([fold[cast.rater] for cast in casts])
    tags = _shared(casts)
    learn = np.ones(len(casts), dtype=bool)
    for _ in range(passes):
        found = trust(_opinions(casts, cross_fitted(preferred, folds, learn, tags), tags))
        learn = np.array([not found.raters[cast.rater].quarantined for cast in casts])
    return found


def _shared(casts: Sequence[Cast]) -> dict[str, Places]:
    """Positions of the votes with each tag that trust will test."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, cast in enumerate(casts):
        for tag in cast.tags:
            places[tag].append(place)
    tags = {tag: np.array(at) for tag, at in places.items()}
    _, rater = np.unique([cast.rater for cast in casts], return_inverse=True)
    return {tag: tags[tag] for tag in tested_tags(tags, rater)}


def _opinions(casts: Sequence[Cast], expected: Expected, tags: Mapping[str, Places]) -> list[Opinion]:
    elsewhere: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for tag, at in tags.items():
        for place, value in zip(at.tolist(), expected.elsewhere[tag].tolist(), strict=True):
            elsewhere[place][tag] = value
    return [
        cast.opinion(value, elsewhere[place])
        for place, (cast, value) in enumerate(zip(casts, expected.values.tolist(), strict=True))
    ]
