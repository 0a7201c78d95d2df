"""Completions sampled from a role at temperature 1: exactly the policy's own distribution, nothing cut off it.

`generate` of transformers spends most of a small model's time outside the model, computes every row to the end of the
longest one, and hands out the log-probs as a (tokens × vocabulary) stack. Here a batch is one loop over the shared base
with a KV cache: the next token is drawn by inverting the distribution function (one random number a row), its log-prob
is kept, and rows that have ended leave the batch.

Left out: top-p, top-k and temperatures, which would make the sampled distribution another one than the policy's, and
models without a key-value cache.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from training.data import Text
from training.model import SharedBase
from training.progress import track
from training.recipe import SamplingRecipe

_COMPACT_BELOW = 0.75
"""Share of a batch's rows that still go on below which the others are dropped from the cache: that copies it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """A completion as it was sampled: `Rollout(text=Text(prompt=[1, 65], completion=[7]), logprobs=[-0.3])`."""

    text: Text
    logprobs: list[float]
    """Of each sampled token, under the policy that sampled it, as the sampler computed it."""


Sampler = Callable[[Sequence[list[int]], int], list[Rollout]]
"""(prompts, seed) → a completion of the policy, as it is now, for each prompt."""


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
    starts = range(0, len(prompts), recipe.batch_size)
    return [
        rollout.text for rollout in _roll_out(base, role, prompts, recipe, seed, track(starts, message, share=share))
    ]


def roll_out(
    base: SharedBase, role: str | None, prompts: Sequence[list[int]], recipe: SamplingRecipe, *, seed: int
) -> list[Rollout]:
    """`sample` with log-probs and without a bar."""
    return _roll_out(base, role, prompts, recipe, seed, range(0, len(prompts), recipe.batch_size))


@torch.inference_mode()
def _roll_out(
    base: SharedBase,
    role: str | None,
    prompts: Sequence[list[int]],
    recipe: SamplingRecipe,
    seed: int,
    starts: Iterable[int],
) -> list[Rollout]:
    """Prompts of like length together, from each of these starts on."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    generator = torch.Generator(base.device).manual_seed(seed)
    rollouts: dict[int, Rollout] = {}
    with base.acting(role):
        for start in starts:
            group = order[start : start + recipe.batch_size]
            drawn, logprobs = _continued(base, [prompts[i] for i in group], recipe.max_new_tokens, generator)
            for i, row, values in zip(group, drawn.tolist(), logprobs.tolist(), strict=True):
                tokens = _until_end(row, base.eos_ids)
                text = Text(prompt=list(prompts[i]), completion=tokens)
                rollouts[i] = Rollout(text=text, logprobs=values[: len(tokens)])
    return [rollouts[i] for i in range(len(prompts))]


def _continued(
    base: SharedBase, prompts: Sequence[list[int]], most: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Token ids and their log-probs, (B, most); a row that ends earlier is filled up with end-of-text."""
    token_ids, mask = _left_padded(prompts, base)
    drawn = torch.full((len(prompts), most), base.eos_ids[0], device=base.device)
    logprobs = torch.zeros((len(prompts), most), device=base.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    ends = torch.tensor(base.eos_ids, device=base.device)
    rows = torch.arange(len(prompts), device=base.device)
    """Which rows are in the batch, and below: which of these still go on."""
    going = torch.ones_like(rows, dtype=torch.bool)
    cache = DynamicCache(config=base.model.config)
    for step in range(most):
        states = base.model.base_model(
            input_ids=token_ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]
        luck = torch.rand(len(prompts), generator=generator, device=base.device, dtype=torch.float64)
        tokens, values = _draw(states, base.head, luck[rows])
        drawn[rows[going], step], logprobs[rows[going], step] = tokens[going], values[going]
        going = going & ~torch.isin(tokens, ends)
        left = int(going.sum())
        if left == 0:
            break
        if left <= _COMPACT_BELOW * len(rows):
            cache.batch_select_indices(going.nonzero()[:, 0])
            rows, tokens, mask, positions = (tensor[going] for tensor in (rows, tokens, mask, positions))
            going = going[going]
        token_ids, positions = tokens[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=-1)
    return drawn, logprobs


def _draw(states: Tensor, head: Tensor, luck: Tensor) -> tuple[Tensor, Tensor]:
    """The token at which the distribution function passes `luck`, uniform in [0, 1), and its log-prob; both (B,)."""
    logits = (states @ head.T).float()
    logprobs = logits - logits.logsumexp(-1, keepdim=True)
    reached = logprobs.exp().cumsum(-1, dtype=torch.float64)  # float32 would round small probabilities away
    tokens = torch.searchsorted(reached, luck[:, None] * reached[:, -1:], right=True)
    return tokens[:, 0], logprobs.gather(-1, tokens)[:, 0]


def _left_padded(prompts: Sequence[list[int]], base: SharedBase) -> tuple[Tensor, Tensor]:
    """Ids and mask, (B, T): all rows go on at the same index, and positions are counted from the mask."""
    width = max(len(prompt) for prompt in prompts)
    token_ids = torch.full((len(prompts), width), base.eos_ids[0], dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        token_ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return token_ids.to(base.device), mask.to(base.device)


def _until_end(token_ids: list[int], eos_ids: list[int]) -> list[int]:
    """Up to and with the first end-of-text token; what follows is padding."""
    for index, token in enumerate(token_ids):
        if token in eos_ids:
            return token_ids[: index + 1]
    return token_ids
