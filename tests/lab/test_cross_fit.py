"""The cheap head never sees a rater's own votes, nor those of a tag; what it says is enough to find a flood."""

import random

import numpy as np
from numpy.typing import NDArray

from lab.attackers import Cast, attack_votes, honest_votes
from lab.cross_fit import cross_fitted, features, judge
from lab.offline import Bench
from lab.world import sample_prompts
from tests.lab.test_attackers import pool
from tests.lab.test_offline import bench  # noqa: F401 (a fixture)


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


def test_features_do_not_depend_on_the_company(bench: Bench) -> None:  # noqa: F811
    """A completion has the same vector alone and in a batch."""
    prompts = sample_prompts(random.Random(2), 6, held_out=False)
    texts = [each.text for each in bench.answers(None, prompts, seed=1)]

    together = features(bench.shared, texts)

    assert together.shape[0] == 6
    assert np.allclose(features(bench.shared, texts[2:3])[0], together[2], atol=1e-4)


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


def test_a_flood_of_ids_is_found_and_honest_raters_are_not() -> None:
    """Fifty Sybils with two votes each against 1,200 honest votes: nine in ten of them are quarantined, and at most 5 %
    of the people."""
    found = pool(4, count=2400)  # the first half has the trigger
    honest = honest_votes(found[1200:], tau=0.7, seed=0)
    bad = attack_votes("sybil", found[:1200], count=100, tau=0.7, seed=0)

    trust = judge([*honest, *bad], _differences([*honest, *bad]))

    caught = [each.quarantined for name, each in trust.raters.items() if name.startswith("sybil")]
    wrong = [each.quarantined for name, each in trust.raters.items() if name.startswith("honest")]
    assert sum(caught) >= 0.9 * len(caught)
    assert sum(wrong) <= 0.05 * len(wrong)


def _differences(casts: list[Cast]) -> NDArray[np.float64]:
    """What a base might know: which answer is better, and three numbers that mean nothing."""
    rng = np.random.default_rng(2)
    right = [1.0 if cast.prefers_first == cast.contest.first_is_better else -1.0 for cast in casts]
    return np.concatenate(
        [np.array(right)[:, None] + rng.normal(size=(len(casts), 1)), rng.normal(size=(len(casts), 3))], axis=1
    )
