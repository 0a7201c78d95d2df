"""The cheap head never sees a rater's own votes, nor those of a tag; votes that it cannot see are judged without it."""

import numpy as np
import pytest

from feedback.cross_fit import cross_fitted, judge
from feedback.opinions import Opinion
from feedback.raters import UNKNOWN, trust


def test_cross_fitting_predicts_without_a_raters_own_votes() -> None:
    """Two raters' votes follow one direction. Flipping all votes of one of them mirrors what is expected of these votes
    and does not touch the weights that they are judged by."""
    rng = np.random.default_rng(0)
    sides = rng.normal(size=(600, 8))
    votes = np.where(sides[:, :1] + rng.normal(size=(600, 1)) > 0, sides, -sides)
    folds = np.repeat([0, 1], 300)
    only = folds == 1  # fold 0 teaches nobody, so that the calibration is of fold 1's votes in both
    everybody = cross_fitted(votes, folds, np.ones(600, dtype=bool)).values
    flipped = votes.copy()
    flipped[:300] *= -1

    one, other = cross_fitted(votes, folds, only).values, cross_fitted(flipped, folds, only).values

    assert np.allclose(one[:300], 1 - other[:300])
    assert everybody.mean() > 0.6


def test_a_tag_is_judged_without_its_own_votes() -> None:
    """Votes with the tag say the opposite of all others and are as many. With them the head knows nothing; without
    them it expects less than a quarter of each of theirs."""
    rng = np.random.default_rng(1)
    better = np.abs(rng.normal(size=(400, 1))) + 1.0
    votes = np.concatenate([better, -better[:200], better[:200]])[200:]
    flood = np.arange(200, 400)

    found = cross_fitted(votes, np.arange(600) % 5, np.ones(600, dtype=bool), {"way": flood})

    assert (found.elsewhere["way"] < 0.25).all()
    assert found.values[flood].mean() > found.elsewhere["way"].mean()


def cast(rater: str, number: int, value: object = "a", **given: object) -> Opinion:
    fields: dict[str, object] = {"rater": rater, "item": f"item {number}", "kind": "preference", "value": value}
    return Opinion(**(fields | {"time": float(number)} | given))  # type: ignore[arg-type]


def test_votes_without_a_row_stay_without_an_expectation() -> None:
    """Thirty raters with rows of one direction, of whom one votes against it; a thumb and a vote without a row say
    nothing of who gave them. Rows in another order are the same rows."""
    rng = np.random.default_rng(3)
    votes = [cast(f"r{number % 30}", number) for number in range(900)]
    against = np.array([each.rater == "r7" for each in votes])
    rows = (np.abs(rng.normal(size=900)) + 0.5) * np.where(against, -1, 1)
    silent = [cast("silent", 900), cast("silent", 901, 1, kind="thumb")]
    mixed = rng.permutation(900)

    found = judge([silent[0], *votes, silent[1]], rows[mixed, None], mixed + 1)

    assert [name for name, each in found.raters.items() if each.quarantined] == ["r7"]
    assert (found.raters["silent"].votes, found.raters["silent"].judged) == (2, 0)
    assert found.raters["silent"].weight == pytest.approx(UNKNOWN, abs=0.05)
    assert found.raters["r3"].judged == 30


def test_without_any_row_overlap_gold_and_habits_are_what_there_is() -> None:
    """As if nobody had asked the model."""
    votes = [cast(f"r{number % 3}", number // 3, "ab"[number % 2]) for number in range(60)]

    assert judge(votes, np.zeros((0, 1)), np.zeros(0, dtype=np.int64)) == trust(votes)
    assert judge([], np.zeros((0, 1)), np.zeros(0, dtype=np.int64)).raters == {}


def test_one_rater_alone_is_never_set_aside_nor_weighed_down() -> None:
    """There is nobody whose votes could say what to expect: they weigh what an unknown rater does, whatever they do."""
    votes = [cast("me", number, position=0, lengths=(9, 3)) for number in range(300)]
    rows = np.random.default_rng(0).normal(size=(300, 4))

    found = judge(votes, rows, np.arange(300)).raters["me"]

    assert not found.quarantined
    assert found.weight == pytest.approx(UNKNOWN, abs=0.05)
