"""What a frozen base sees in votes: one vector an answer, and their differences, which turn as the votes do."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.adapters import BaseShapes
from core.errors import UsageError
from tests.training.examples import cut, pair_row, pairs, trainer_options
from training import features
from training.model import SharedBase
from training.program import Skipped


def test_an_answer_has_the_same_vector_in_any_company(qwen: SharedBase) -> None:
    """Alone and in a batch of unequal lengths."""
    texts = [side for pair in pairs(6) for side in (pair.chosen, pair.rejected)]

    together = features.features(qwen, texts)

    assert together.shape == (12, 2 * 32 + 2 + 128)
    assert np.allclose(features.features(qwen, texts[3:4])[0], together[3], atol=1e-4)


def test_a_vote_for_the_other_answer_turns_its_difference_and_no_other(qwen: SharedBase) -> None:
    """The directions come from the answers alone: who votes moves nobody else's row."""
    rows = [pair_row(number) for number in range(40)]
    first = rows[7]
    turned = replace(first, chosen_token_ids=first.rejected_token_ids, rejected_token_ids=first.chosen_token_ids)

    one, other = (features.differences(qwen, found) for found in (rows, [*rows[:7], turned, *rows[8:]]))

    assert one.shape == (40, min(features.DIRECTIONS, 2 * 32 + 2 + 128))
    assert np.allclose(np.delete(one, 7, axis=0), np.delete(other, 7, axis=0), atol=1e-6)
    assert np.allclose(one[7], -other[7], atol=1e-6)


def test_reduced_differences_keep_every_distance_where_nothing_is_left_out() -> None:
    """Ten numbers each: scaled to unit variance and turned, so inner products are those of the scaled ones."""
    values = np.random.default_rng(0).normal(size=(50, 10)) * np.arange(1, 11)
    scaled = values / values.std(0)

    found = features.reduced(values)

    assert np.allclose(found @ found.T, scaled @ scaled.T)


def test_the_newest_votes_that_decide_are_looked_at(qwen_shapes: BaseShapes, tmp_path: Path) -> None:
    """Of twelve votes the last tie, the last ranking and one that is too long are left out; then the newest four."""
    rows = [pair_row(number) for number in range(12)]
    rows[11] = replace(rows[11], tie=True, trains_policy=False)
    rows[10] = replace(rows[10], ranked=True)
    rows[9] = replace(rows[9], chosen_token_ids=[7] * 500)
    data = cut(tmp_path, rows, qwen_shapes).directory

    found = features.newest(data, most=4, max_length=100)

    assert [row.feedback_id for row in found] == ["fb_0005", "fb_0006", "fb_0007", "fb_0008"]


def test_the_program_writes_numbers_and_ids_and_nothing_else(
    qwen_directory: Path, qwen_shapes: BaseShapes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row a vote; the liked answers of these rows stand on one side of a plane."""
    data = cut(tmp_path, [pair_row(number) for number in range(30)], qwen_shapes).directory

    features.main(trainer_options(qwen_directory, data, tmp_path / "out"))

    with np.load(tmp_path / "out" / features.FILE, allow_pickle=False) as file:
        ids, preferred = file["feedback_id"].tolist(), file["preferred"]
        assert sorted(file.files) == ["feedback_id", "preferred"]
    assert ids == [f"fb_{number:04d}" for number in range(30)]
    assert (preferred.dtype, len(preferred)) == (np.float32, 30)
    assert (preferred @ preferred.mean(0) > 0).mean() > 0.9
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert json.loads(last) == {"votes": 30, "directions": preferred.shape[1]}


def test_another_base_and_no_votes_are_told(qwen_directory: Path, qwen_shapes: BaseShapes, tmp_path: Path) -> None:
    """In one line each, before anything is written."""
    ties = [replace(pair_row(number), tie=True, trains_policy=False) for number in range(3)]
    data = cut(tmp_path, ties, qwen_shapes).directory
    foreign = cut(tmp_path, [pair_row(1)], replace(qwen_shapes, sha256="f" * 64)).directory

    with pytest.raises(Skipped, match="no vote prefers one of two answers"):
        features.main(trainer_options(qwen_directory, data, tmp_path / "out"))
    with pytest.raises(UsageError, match="another base"):
        features.main(trainer_options(qwen_directory, foreign, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
