"""From documents to batches."""

import torch

from lab.batches import Example, bucket


def test_batches_hold_every_document_once_and_few_tokens() -> None:
    """Documents of like length go together, padded to the longest, within the token budget."""
    examples = [Example([n] * n, [1.0] * n) for n in (3, 30, 5, 8, 9, 17, 2)]
    batches = bucket(examples, batch_tokens=32)
    rows = [row[row > 0].tolist() for batch in batches for row in batch.ids]

    assert sorted(rows) == sorted(example.ids for example in examples)
    assert [tuple(batch.ids.shape) for batch in batches] == [(4, 8), (1, 9), (1, 17), (1, 30)]


def test_padding_weighs_nothing() -> None:
    """Pad tokens have no part in the loss."""
    (batch,) = bucket([Example([5, 6, 7], [0.1, 1.0, 1.0]), Example([8], [1.0])], batch_tokens=64)

    assert torch.equal(batch.ids, torch.tensor([[8, 0, 0], [5, 6, 7]]))
    assert torch.equal(batch.weights, torch.tensor([[1.0, 0, 0], [0.1, 1.0, 1.0]]))


def test_a_document_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    """Nothing is cut off."""
    batches = bucket([Example([1] * 40, [1.0] * 40), Example([2] * 4, [1.0] * 4)], batch_tokens=16)

    assert [tuple(batch.ids.shape) for batch in batches] == [(1, 4), (1, 40)]
