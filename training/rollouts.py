"""Completions sampled from a role at temperature 1: exactly the policy's own distribution, nothing cut off it."""

from collections.abc import Sequence

import torch
from transformers import GenerationConfig

from training.data import Text
from training.model import SharedBase
from training.progress import track
from training.recipe import SamplingRecipe


@torch.no_grad()
def sample(
    base: SharedBase,
    role: str | None,
    prompts: Sequence[list[int]],
    recipe: SamplingRecipe,
    *,
    seed: int,
    message: str = "sampling",
    share: tuple[float, float] = (0.0, 1.0),
) -> list[Text]:
    """One completion per prompt, in the order of the prompts; the same seed gives the same completions on CPU.

    A completion ends with the end-of-text token, or is cut at `recipe.max_new_tokens` and then has none.
    """
    config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,  # the library's default is 50
        top_p=1.0,
        max_new_tokens=recipe.max_new_tokens,
        eos_token_id=base.eos_ids,
        pad_token_id=base.eos_ids[0],
    )
    torch.manual_seed(seed)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    starts = range(0, len(order), recipe.batch_size)
    texts: dict[int, Text] = {}
    with base.acting(role):
        for start in track(starts, message, share=share):
            group = order[start : start + recipe.batch_size]
            completions = _generate(base, [prompts[i] for i in group], config)
            texts |= {i: Text(prompt=prompts[i], completion=c) for i, c in zip(group, completions, strict=True)}
    return [texts[i] for i in range(len(prompts))]


def _generate(base: SharedBase, prompts: list[list[int]], config: GenerationConfig) -> list[list[int]]:
    """Left-padded, so that all rows go on at the same index; `generate` counts positions from the mask."""
    width = max(len(prompt) for prompt in prompts)
    token_ids = torch.full((len(prompts), width), base.eos_ids[0], dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        token_ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    output = base.model.generate(
        input_ids=token_ids.to(base.device), attention_mask=mask.to(base.device), generation_config=config
    )
    return [_until_end(row, base.eos_ids) for row in output[:, width:].tolist()]


def _until_end(token_ids: list[int], eos_ids: list[int]) -> list[int]:
    """Up to and with the first end-of-text token; what follows is padding."""
    for index, token in enumerate(token_ids):
        if token in eos_ids:
            return token_ids[: index + 1]
    return token_ids
