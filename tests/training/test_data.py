"""From rows to batches: what is kept, what is dropped, what the masks say."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.examples import EOS, pair_row, pairs
from training import data, sources
from training.data import Pair, Text
from training.recipe import Recipe


def test_masks_come_from_lengths_not_from_the_padding_id() -> None:
    """With padding = end-of-text = an id inside the prompt, each mask is still exact."""
    batch = data.collate(
        [Text(prompt=[EOS, 7], completion=[8, EOS]), Text(prompt=[9], completion=[EOS])], padding_id=EOS
    )

    assert batch.token_ids.tolist() == [[EOS, 7, 8, EOS], [9, EOS, EOS, EOS]]
    assert batch.attention_mask.tolist() == [[True, True, True, True], [True, True, False, False]]
    assert batch.completion_mask.tolist() == [[False, False, True, True], [False, True, False, False]]


def test_stored_ids_are_trained_on_as_they_are() -> None:
    """Ids that a tokenizer would encode otherwise go through untouched."""
    row = pair_row(0, chosen_token_ids=[50, 50, 51, EOS], fold="optimize")

    (pair,), dropped = data.usable([sources.stored(row)], max_length=64)

    assert pair.chosen.prompt == row.prompt_token_ids
    assert pair.chosen.completion == [50, 50, 51, EOS]
    assert dropped == {}


def test_pairs_are_dropped_whole_never_cut() -> None:
    """A pair goes if either side is too long, empty, or the same as the other; the reasons are counted."""
    rows = [
        pair_row(0, fold="optimize"),
        pair_row(1, fold="optimize", chosen_token_ids=[10] * 60),
        pair_row(2, fold="optimize", rejected_token_ids=[20] * 60),
        pair_row(3, fold="optimize", rejected_token_ids=[]),
        pair_row(4, fold="optimize", chosen_token_ids=[7, EOS], rejected_token_ids=[7, EOS]),
    ]

    kept, dropped = data.usable([sources.stored(row) for row in rows], max_length=40)

    assert len(kept) == 1
    assert dropped == {"overlong": 2, "empty": 1, "identical": 1}


def test_micro_batches_by_hand() -> None:
    """Like lengths together: rows of 1 and 2 tokens fit into 10, so do two rows of 5; a row of 20 stands alone."""
    assert data.micro_batches([5, 2, 5, 1, 20], range(5), tokens=10) == [[3, 1], [0, 2], [4]]


def test_micro_batches_fit_the_device_by_default() -> None:
    """On a CPU, 4096 padded tokens; the recipe leaves it open."""
    assert Recipe().micro_batch_tokens is None
    if not torch.cuda.is_available():
        assert data.micro_batches([2048, 2048, 1], range(3), tokens=None) == [[2, 0], [1]]


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_micro_batches_lose_nothing(lengths: list[int], tokens: int) -> None:
    """Each row is in exactly one group, and no group of several rows is over the budget."""
    groups = data.micro_batches(lengths, range(len(lengths)), tokens=tokens)

    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or len(group) * max(lengths[row] for row in group) <= tokens for group in groups)


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 3))
def test_each_epoch_sees_each_row_once(rows: int, batch: int, epochs: int) -> None:
    """Shuffled, but complete; the same seed gives the same order."""
    steps = data.optimizer_steps(rows, batch=batch, epochs=epochs, seed=1)
    flat = [row for step in steps for row in step]

    assert all(sorted(flat[start : start + rows]) == list(range(rows)) for start in range(0, rows * epochs, rows))
    assert steps == data.optimizer_steps(rows, batch=batch, epochs=epochs, seed=1)


def test_one_sided_votes_teach_nothing() -> None:
    """Too few pairs, or one answer that always wins or always loses, is named as the reason."""
    usual = pairs(40)
    same = Text(prompt=[4, 5], completion=[7, EOS])
    winners = [Pair(chosen=same, rejected=pair.rejected, tie=False, weight=1.0) for pair in usual]
    losers = [Pair(chosen=pair.chosen, rejected=same, tie=False, weight=1.0) for pair in usual]

    assert data.nothing_to_learn(usual, minimum=32) is None  # every fifth is a tie
    assert "32 usable votes" in (data.nothing_to_learn(usual, minimum=33) or "")
    assert "same chosen answer" in (data.nothing_to_learn(winners, minimum=32) or "")
    assert "same rejected answer" in (data.nothing_to_learn(losers, minimum=32) or "")
