"""Sampling: the policy's own distribution, repeatable, cut where it ends."""

import torch

from tests.training.conftest import EOS, VOCABULARY
from training.model import SharedBase
from training.recipe import LoraRecipe, SamplingRecipe
from training.rollouts import sample

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


def test_left_padding_is_invisible(base: SharedBase) -> None:
    """Greedy decoding of short prompts beside long ones gives what each prompt gives alone."""
    greedy = {"max_new_tokens": 6, "do_sample": False}
    together = base.model.generate(**_left_padded(PROMPTS), **greedy)[:, 9:]

    for row, prompt in zip(together, PROMPTS, strict=True):
        alone = base.model.generate(torch.tensor([prompt]), **greedy)[0, len(prompt) :]
        assert row[: len(alone)].tolist() == alone.tolist()


def _left_padded(prompts: list[list[int]]) -> dict[str, torch.Tensor]:
    width = max(len(prompt) for prompt in prompts)
    rows = [[EOS] * (width - len(prompt)) + prompt for prompt in prompts]
    masks = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(masks)}


def test_a_role_samples_its_own_policy(base: SharedBase) -> None:
    """An adapter that forces one token is heard; the base beside it is not changed."""
    before = sample(base, None, PROMPTS, SAMPLING, seed=5)
    base.add_fresh("loud", LoraRecipe(rank=2, alpha=64), seed=0)
    for parameter in base.parameters("loud").values():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))

    assert sample(base, "loud", PROMPTS, SAMPLING, seed=5) != before
    assert sample(base, None, PROMPTS, SAMPLING, seed=5) == before
