"""Packed rows compute what rows of their own would: every token sees the same tokens at the same distances."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from tests.training.conftest import write_model
from tests.training.examples import pairs
from tests.training.test_model import LORA, disturb
from training.data import Batch, Text, both_sides, collate
from training.model import SharedBase, load_base
from training.packing import Layout, pack

SIDES = both_sides(pairs(6, seed=3))
"""Ragged pairs: prompts of 3 to 14 tokens, completions of 3 to 14."""


def test_a_pair_becomes_one_row() -> None:
    """Prompt [7, 8], answers [1, 2, 3] and [4]: six places, the sibling neither seen nor counted in positions."""
    layout = pack([([7, 8], [1, 2, 3]), ([7, 8], [4])])

    assert layout is not None
    token_ids = torch.tensor([[7, 8, 1, 2, 3], [7, 8, 4, 0, 0]])
    assert token_ids.flatten()[layout.source].tolist() == [[7, 8, 1, 2, 3, 4]]
    assert layout.position_ids.tolist() == [[0, 1, 2, 3, 4, 2]]
    assert layout.place.tolist() == [[0, 1, 2, 3, 4], [0, 1, 5, 0, 0]]
    assert layout.visible()[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def test_nothing_to_gain_is_no_layout() -> None:
    """A single row, or rows of one length without a common prompt, stay as they are."""
    assert pack([([7, 8], [1, 2, 3])]) is None
    assert pack([([7], [1, 2]), ([8, 9], [3])]) is None


def test_many_completions_of_a_prompt_make_several_trees() -> None:
    """No row grows beyond twice the longest text: sixteen answers of 10 to a prompt of 2 stand two by two."""
    layout = pack([([7, 8], [number + 10] * 10) for number in range(16)])

    assert layout is not None
    assert layout.source.shape == (8, 22)


_IDS = st.lists(st.integers(1, 3), min_size=1, max_size=4)


@given(st.lists(st.tuples(_IDS, _IDS), min_size=1, max_size=8))
def test_every_token_sees_its_own_row_and_nothing_else(texts: list[tuple[list[int], list[int]]]) -> None:
    """Whatever prompts are shared and however rows are laid end to end: the visible tokens of a token are those before
    it in its row, in order, at their positions."""
    layout = pack(texts)
    if layout is None:
        return
    batch = collate([Text(prompt=prompt, completion=completion) for prompt, completion in texts])
    for row, (prompt, completion) in enumerate(texts):
        for position in range(len(prompt) + len(completion)):
            seen = _seen(layout, batch, int(layout.place[row, position]))
            assert list(enumerate((prompt + completion)[: position + 1])) == seen


def _seen(layout: Layout, batch: Batch, place: int) -> list[tuple[int, int]]:
    """(position, token) of everything that the token at this place attends to."""
    row, column = divmod(place, layout.source.shape[1])
    visible = layout.visible()[row, 0, column]
    tokens = batch.token_ids.flatten()[layout.source[row]][visible].tolist()
    return list(zip(layout.position_ids[row][visible].tolist(), tokens, strict=True))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["qwen3", "llama", "gemma", "gpt_neox"])
def test_log_probs_and_gradients_are_those_of_plain_rows(kind: str, attention: str, tmp_path: Path) -> None:
    """Within 1e-5, relative to the largest, in float32."""
    base = load_base(write_model(tmp_path, kind), base_sha256="0" * 64, attention=attention)
    base.add_fresh("policy", LORA, seed=0)
    disturb(base, "policy")
    batch = collate(SIDES)
    assert batch.layout is not None

    expected, actual = _logps(base, replace(batch, layout=None)), _logps(base, batch)

    for wanted, found in zip(expected, actual, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5 * max(1.0, wanted.abs().max().item()), rtol=1e-5)


def _logps(base: SharedBase, batch: Batch) -> tuple[Tensor, Tensor]:
    """Summed log-probs, and the gradient of a mixture of them."""
    with base.acting("policy"):
        logps = base.sequence_logps(batch)
        parameters = list(base.parameters("policy").values())
        gradients = torch.autograd.grad((logps * torch.linspace(-1, 2, len(logps))).sum(), parameters)
    return logps.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def test_hidden_states_are_those_of_plain_rows(base: SharedBase) -> None:
    """Wherever a token exists, and the gradient of a shared prompt is the sum over its rows."""
    base.add_fresh("policy", LORA, seed=0)
    disturb(base, "policy")
    batch = collate(SIDES)
    found = []
    for each in (replace(batch, layout=None), batch):
        with base.acting("policy"):
            states = base.hidden(each)[batch.attention_mask]
            parameter = next(iter(base.parameters("policy").values()))
            (gradient,) = torch.autograd.grad(states.sin().sum(), parameter)
        found.append((states.detach(), gradient))

    (expected, wanted), (actual, had) = found
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(had, wanted, atol=1e-5 * wanted.abs().max().item(), rtol=1e-4)


def test_a_sliding_window_is_never_packed(tmp_path: Path) -> None:
    """Distances between siblings are not distances in a text: with a window the plain rows are computed."""
    base = load_base(write_model(tmp_path, "mistral"), base_sha256="0" * 64)
    texts = [Text(prompt=[4, *range(30, 70)], completion=[40 + side, 3]) for side in range(2)]
    batch = collate(texts)
    assert batch.layout is not None

    torch.testing.assert_close(base.sequence_logps(batch), base.sequence_logps(replace(batch, layout=None)))
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.sliding_window < len(texts[0])  # so a mask without the window would show


def test_a_model_that_ignores_positions_is_not_packed(qwen_directory: Path) -> None:
    """Tried once when a base is made: a model that counts positions itself computes plain rows."""
    model = AutoModelForCausalLM.from_pretrained(qwen_directory)

    class Counting(type(model.model)):
        def forward(self, *args: object, **kwargs: object) -> object:
            return super().forward(*args, **(kwargs | {"position_ids": None}))

    model.model.__class__ = Counting
    base, batch = SharedBase(model), collate(SIDES)

    torch.testing.assert_close(base.sequence_logps(batch), base.sequence_logps(replace(batch, layout=None)))
