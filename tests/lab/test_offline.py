"""Votes and measurements without the service, on an untrained model of the demo's kind."""

import random
from pathlib import Path

import pytest

from feedback import snapshot as snapshots
from lab.base_model import ensure_base_model
from lab.demo_config import load_demo_config
from lab.offline import Ballots, Bench, freeze, no_votes, vote
from lab.world import sample_prompts
from tests.lab.test_base_model import TINY
from training.sources import stored

RATERS = load_demo_config().raters


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(ensure_base_model(tmp_path_factory.mktemp("home"), TINY, progress=lambda *_: None))


def voted(bench: Bench, *, seed: int = 0, version: int = 0, ballots: Ballots | None = None) -> Ballots:
    ballots = ballots or no_votes()
    vote(bench, ballots, None, version=version, pairs=24, thumbs=12, raters=RATERS, seed=seed)
    return ballots


def test_votes_are_rows_of_a_snapshot(bench: Bench, tmp_path: Path) -> None:
    """Each comparison of different answers is a pair of the ids that were sampled, each thumb a row; every prompt that
    was asked is there; the same seed gives the same votes."""
    ballots = voted(bench)
    found = snapshots.read(freeze(bench, ballots, tmp_path, fresh=frozenset({0})))

    assert 0 < len(found.pairs) <= 24 and len(found.thumbs) == 12
    assert {row.cluster for row in [*found.pairs, *found.thumbs]} <= {row.cluster for row in found.prompts}
    assert found.manifest.base_sha256 == bench.shapes.sha256
    assert all(stored(row).chosen.completion != stored(row).rejected.completion for row in found.pairs)
    assert voted(bench).pairs == ballots.pairs != voted(bench, seed=1).pairs


def test_only_fresh_votes_train_a_policy(bench: Bench, tmp_path: Path) -> None:
    """Of two rounds the second one's votes are fresh; all are of the optimize fold."""
    ballots = voted(bench, version=1, seed=1, ballots=voted(bench))
    found = snapshots.read(freeze(bench, ballots, tmp_path, fresh=frozenset({1})))

    for row in found.pairs:
        assert (row.fold, row.trains_policy) == ("optimize", row.chosen_version == 1)
    for thumb in found.thumbs:
        assert (thumb.fold, thumb.trains_policy) == ("optimize", thumb.version == 1)
    assert {row.chosen_version for row in found.pairs} == {0, 1}


def test_votes_may_be_of_other_folds_and_careless(bench: Bench) -> None:
    """For a judge: prompts of its folds alone. With all of them careless, the longer of two unequal answers wins."""
    ballots = no_votes()
    vote(bench, ballots, None, version=0, pairs=40, thumbs=0, raters=RATERS, seed=2, folds=("judge", "test"), longer=1)
    assert {row.fold for row in ballots.pairs} == {"judge", "test"}
    assert all(len(row.chosen_token_ids) >= len(row.rejected_token_ids) for row in ballots.pairs)


def test_a_policy_against_its_own_sample_is_even(bench: Bench) -> None:
    """The same answers on both sides: every comparison is a tie. An untrained model says nothing well formed."""
    prompts = sample_prompts(random.Random(3), 30, held_out=True)
    answers = bench.answers(None, prompts, seed=4)

    verdict = bench.verdict(answers, answers)

    assert (verdict.win_rate.mean, verdict.good, verdict.well_formed) == (0.5, 0.0, 0.0)
    assert verdict.tokens == sum(len(answer.text.completion) for answer in answers) / 30


def test_what_an_oracle_would_score_is_no_certainty(bench: Bench) -> None:
    """Votes are noisy: even the gold preference predicts fewer than all of them, and more than half."""
    assert 0.5 <= voted(bench).ceiling(RATERS) < 1.0
