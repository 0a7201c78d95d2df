"""The service's judgement over contests: what the cheap head says is enough to find a flood."""

import random

import numpy as np
from numpy.typing import NDArray

from lab.attackers import Cast, attack_votes, honest_votes
from lab.cross_fit import judge
from lab.offline import Bench
from lab.world import sample_prompts
from tests.lab.test_attackers import pool
from tests.lab.test_offline import bench  # noqa: F401 (a fixture)
from training.features import features


def test_features_do_not_depend_on_the_company(bench: Bench) -> None:  # noqa: F811
    """A completion has the same vector alone and in a batch."""
    prompts = sample_prompts(random.Random(2), 6, held_out=False)
    texts = [each.text for each in bench.answers(None, prompts, seed=1)]

    together = features(bench.shared, texts)

    assert together.shape[0] == 6
    assert np.allclose(features(bench.shared, texts[2:3])[0], together[2], atol=1e-4)


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
