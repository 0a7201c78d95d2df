"""How far one role is from another, exact over the whole vocabulary, on completions that the first one sampled.

A trainer measures it ten times on the way: losses and margins of the rows that it learns from say little about where
the policy is when it answers by itself.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from training.data import Text, collate, micro_batches
from training.devices import devices
from training.gate import Kl
from training.logprobs import predicting_positions, token_kl
from training.loop import StepMetrics
from training.model import SharedBase
from training.recipe import PolicyRecipe, Recipe
from training.rollouts import roll_out
from training.statistics import mean_and_error

_TIMES = 10
"""That a training measures it."""


class PolicyStep(StepMetrics):
    """A line of metrics.jsonl of a trainer that learns from rows."""

    mix_nll: float
    """Of --mix-sft's demonstrations, per token; 0 without them."""
    kl: float | None = None
    """To the reference, in nats a completion, after the step; None where it was not measured."""


S = TypeVar("S", bound=PolicyStep)


def kl(base: SharedBase, role: str, other: str | None, texts: Sequence[Text], *, tokens: int | None) -> Kl:
    """KL(role ‖ other) on completions that `role` sampled; None is the bare base.

    Args:
        tokens: padded tokens in one forward pass.
    """
    sums = np.zeros(len(texts))
    for group in micro_batches([len(text) for text in texts], range(len(texts)), tokens=tokens):
        batch = collate([texts[i] for i in group], device=base.device)
        where = predicting_positions(batch.completion_mask)
        states = []
        for acting in (role, other):
            with base.acting(acting), torch.no_grad():
                states.append(base.hidden(batch)[:, :-1][where])
        values = token_kl(*states, base.head).split([len(texts[i].completion) for i in group])
        sums[group] = [value.double().sum().item() for value in values]
    mean, error = mean_and_error(sums.tolist())
    return Kl(per_completion=mean, error=error, per_token=sums.sum() / sum(len(text.completion) for text in texts))


@torch.no_grad()
def sequence_logps(
    base: SharedBase, role: str | None, texts: Sequence[Text], *, tokens: int | None
) -> NDArray[np.float64]:
    """(N,): summed log-prob of each completion under a role; None is the bare base.

    Args:
        tokens: padded tokens in one forward pass.
    """
    found = np.zeros(len(texts))
    with base.acting(role):
        for group in micro_batches([len(text) for text in texts], range(len(texts)), tokens=tokens):
            batch = collate([texts[i] for i in group], device=base.device)
            found[group] = base.sequence_logps(batch).double().cpu().numpy()
    return found


def measured(
    base: SharedBase,
    policy: str,
    reference: str | None,
    prompts: Sequence[list[int]],
    recipe: Recipe,
    settings: PolicyRecipe,
    *,
    steps: int,
) -> Callable[[int], Mapping[str, float]]:
    """What `Loop.measure` adds to its steps: every tenth of them `kl`, on answers to some of these prompts."""
    longest = base.context_length - recipe.sampling.max_new_tokens
    fitting = [prompt for prompt in prompts if len(prompt) <= longest]
    every = max(1, steps // _TIMES)

    def measure(step: int) -> Mapping[str, float]:
        if not fitting or not settings.kl_samples or (step + 1) % every:
            return {}
        asked = [fitting[(step + i) % len(fitting)] for i in range(settings.kl_samples)]
        texts = [r.text for r in roll_out(base, policy, asked, recipe.sampling, seed=recipe.seed + step)]
        found = kl(base, policy, reference, texts, tokens=recipe.micro_batch_tokens).per_completion
        return {"kl": devices().agree(found)}

    return measure


def until(steps: Iterable[S], largest: float | None) -> list[S]:
    """All steps, or those up to the one that went further than `largest` nats a completion."""
    found = []
    for step in steps:
        found.append(step)
        if largest is not None and step.kl is not None and step.kl > largest:
            break
    return found
