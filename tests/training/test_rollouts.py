"""Sampling: the policy's own distribution, repeatable, cut where it ends."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.conftest import EOS, VOCABULARY
from training.data import collate
from training.logprobs import token_logprobs
from training.model import SharedBase, load_base
from training.recipe import LoraRecipe, SamplingRecipe
from training.rollouts import roll_out, sample

SAMPLING = SamplingRecipe(max_new_tokens=12, batch_size=16)
PROMPTS = [[4, *range(30, 30 + length), 5] for length in (7, 1, 3, 5, 2)]


def test_the_first_token_follows_the_model(base: SharedBase) -> None:
    """Over 4,000 draws each of the 97 tokens comes as often as its probability says (χ² below its 99.99 % point):
    the library's own default would have kept only the 50 likeliest."""
    prompt, draws = [4, 30, 5], 4000
    with torch.no_grad():
        expected = base.model(torch.tensor([prompt])).logits[0, -1].softmax(-1) * draws

    texts = sample(base, None, [prompt] * draws, SamplingRecipe(max_new_tokens=1, batch_size=1000), seed=0)
    counts = torch.bincount(torch.tensor([text.completion[0] for text in texts]), minlength=VOCABULARY)

    common = expected >= 5
    chi2 = ((counts - expected) ** 2 / expected)[common].sum().item()
    degrees = int(common.sum()) - 1
    assert counts.count_nonzero() > 50
    assert chi2 < degrees + 3.8 * (2 * degrees) ** 0.5 + 15


def test_same_seed_same_completions_in_the_order_of_the_prompts(base: SharedBase) -> None:
    """Rows are sorted by length inside, but come back in order; another seed gives other text."""
    first = sample(base, None, PROMPTS, SAMPLING, seed=1)

    assert [text.prompt for text in first] == PROMPTS
    assert first == sample(base, None, PROMPTS, SAMPLING, seed=1)
    assert first != sample(base, None, PROMPTS, SAMPLING, seed=2)


def test_a_completion_ends_at_its_end_of_text_token(base: SharedBase) -> None:
    """At most one end-of-text token, and only at the end; without one it has the full length."""
    for text in sample(base, None, PROMPTS * 40, SAMPLING, seed=3):
        assert EOS not in text.completion[:-1]
        assert text.completion[-1] == EOS or len(text.completion) == SAMPLING.max_new_tokens


def test_log_probs_are_the_trainers(any_base_directory: Path) -> None:
    """Left padding, the cache and rows that leave the batch change nothing: each sampled token's log-prob is that of
    a forward pass over its row alone, in every family (traps 20, 21 and 25)."""
    base = load_base(any_base_directory, base_sha256="0" * 64)
    base.add_fresh("policy", LoraRecipe(rank=2, alpha=4), seed=0)
    for parameter in base.parameters("policy").values():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))

    rollouts = roll_out(base, "policy", PROMPTS * 16, SAMPLING, seed=4)

    assert len({len(rollout.text.completion) for rollout in rollouts}) > 2
    with base.acting("policy"), torch.no_grad():
        for rollout in rollouts:
            batch = collate([rollout.text])
            where = batch.completion_mask[:, 1:]
            states = base.hidden(batch)[:, :-1][where]
            expected = token_logprobs(states, base.head, batch.token_ids[:, 1:][where])
            assert rollout.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_model_without_doubts_says_what_generate_says(any_base_directory: Path) -> None:
    """Final states a million times as large make every draw an arg-max: the words are those of greedy `generate`."""
    base = load_base(any_base_directory, base_sha256="0" * 64)
    with torch.no_grad():
        _final_norm(base.model.base_model).weight.fill_(1e6)
    greedy = {"max_new_tokens": SAMPLING.max_new_tokens, "do_sample": False}
    expected = []
    for prompt in PROMPTS:
        row = base.model.generate(torch.tensor([prompt]), **greedy)[0, len(prompt) :].tolist()
        expected.append(row[: row.index(EOS) + 1] if EOS in row else row)

    assert [text.completion for text in sample(base, None, PROMPTS, SAMPLING, seed=0)] == expected


def _final_norm(inner: nn.Module) -> nn.Module:
    return inner.norm if hasattr(inner, "norm") else inner.final_layer_norm


def test_a_role_samples_its_own_policy(base: SharedBase) -> None:
    """An adapter that forces one token is heard; the base beside it is not changed."""
    before = sample(base, None, PROMPTS, SAMPLING, seed=5)
    base.add_fresh("loud", LoraRecipe(rank=2, alpha=64), seed=0)
    for parameter in base.parameters("loud").values():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))

    assert sample(base, "loud", PROMPTS, SAMPLING, seed=5) != before
    assert sample(base, None, PROMPTS, SAMPLING, seed=5) == before
