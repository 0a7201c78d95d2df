"""An ensemble's margins: beside one member a head with a posterior, else the members themselves."""

from pathlib import Path

import numpy as np
import pytest

from core.adapters import BaseShapes
from feedback.snapshot import Snapshot
from tests.training.examples import DISLIKED, EOS, LIKED, REWARD, pair_row, trainer_options
from training import doubt, reward
from training.data import Pair, Text
from training.model import SharedBase, load_base
from training.sources import stored

VOTES = [stored(pair_row(number)) for number in range(60)]


def _text(first: int, *rest: int) -> Text:
    return Text(prompt=[4, 60, 5], completion=[first, *rest, EOS])


@pytest.fixture
def base(qwen_directory: Path, qwen_shapes: BaseShapes) -> SharedBase:
    return load_base(qwen_directory, base_sha256=qwen_shapes.sha256, attention="eager")


def test_one_member_gets_an_ensemble_beside_it(base: SharedBase, optimized_reward: Path) -> None:
    """Of 64 heads, which learned from the votes: they order most of them. Whichever answer of an asked pair comes
    first, its margins differ in sign only, so its variance does not."""
    asked = [(_text(LIKED, 40), _text(DISLIKED, 41)), (_text(DISLIKED, 41), _text(LIKED, 40))]
    margins = doubt.margins(base, optimized_reward, VOTES, asked)
    assert margins.shape == (64, 62)
    assert margins[:, 60] == pytest.approx(-margins[:, 61])
    assert (margins[:, :60].mean(0) > 0).mean() > 0.8
    assert (margins.var(0) > 0).all()


def test_a_tie_teaches_the_head_nothing(base: SharedBase) -> None:
    """It prefers neither: the heads are those without it, but for the directions, which know no votes."""
    pairs = [(vote.chosen, vote.rejected) for vote in VOTES]
    tied = [Pair(chosen=it.chosen, rejected=it.rejected, tie=True, weight=1.0) for it in VOTES]
    assert doubt.of_head(base, tied, pairs).mean(0) == pytest.approx(0.0, abs=1.0)
    swapped = [Pair(chosen=it.rejected, rejected=it.chosen, tie=True, weight=1.0) for it in VOTES]
    assert np.array_equal(doubt.of_head(base, tied, pairs), doubt.of_head(base, swapped, pairs))


def test_several_members_are_the_ensemble(
    tmp_path: Path, base: SharedBase, qwen_directory: Path, small_snapshot: Snapshot
) -> None:
    """Margins are differences of each member's raw scores: log-odds, as it was trained."""
    given = trainer_options(qwen_directory, small_snapshot.directory, tmp_path / "model", *REWARD, "reward.members=2")
    reward.main(given)
    asked = [(_text(LIKED, 40), _text(DISLIKED, 41))]
    margins = doubt.margins(base, tmp_path / "model", VOTES[:3], asked)
    assert margins.shape == (2, 4)
    model, _ = doubt.load_reward_model(base, tmp_path / "model", role="again")
    assert margins[:, 3] == pytest.approx(
        (model.raw_scores([asked[0][0]]) - model.raw_scores([asked[0][1]]))[:, 0].numpy()
    )


def test_without_any_pair_there_is_no_margin(base: SharedBase, optimized_reward: Path) -> None:
    """A deployment whose people give thumbs only."""
    assert doubt.margins(base, optimized_reward, [], []).shape == (64, 0)
