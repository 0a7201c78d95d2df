"""Measures a candidate against the live version: both answer the same prompts, a judge scores, KL is exact.

Everything here is in float32 and at temperature 1. The prompts come from the judge and test folds, on which no policy
was optimized.
"""

import random
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from feedback.snapshot import PromptRow
from training.data import Text, collate, micro_batches
from training.gate import Evaluation, Kl, Quality
from training.logprobs import predicting_positions, token_kl
from training.model import SharedBase
from training.progress import track
from training.recipe import Recipe
from training.reward_model import RewardCard, RewardModel
from training.rollouts import sample
from training.statistics import is_degenerate, mean_and_error, prompt_wins, win_rate

CANDIDATE, LIVE = "candidate", "live"


def gate_prompts(rows: Iterable[PromptRow], recipe: Recipe, *, context_length: int) -> list[list[int]]:
    """Prompts of the judge and test folds that leave room for an answer, at most as many as the recipe asks for."""
    longest = context_length - recipe.sampling.max_new_tokens
    prompts = [
        list(row.prompt_token_ids)
        for row in sorted(rows, key=lambda row: row.cluster)
        if row.fold in ("judge", "test") and 0 < len(row.prompt_token_ids) <= longest
    ]
    return random.Random(recipe.seed).sample(prompts, min(len(prompts), recipe.evaluate.prompts))


def evaluate(
    base: SharedBase,
    judge: RewardModel,
    card: RewardCard,
    prompts: Sequence[list[int]],
    recipe: Recipe,
    *,
    live_version: int,
) -> Evaluation:
    """The whole measurement; the roles `candidate` and `live` must be on the base."""
    per_prompt = -(-recipe.evaluate.completions // len(prompts))
    repeated = [prompt for prompt in prompts for _ in range(per_prompt)]
    seed = 2 * recipe.seed
    candidate = sample(
        base, CANDIDATE, repeated, recipe.sampling, seed=seed, message="the candidate answers", share=(0.0, 0.4)
    )
    live = sample(
        base, LIVE, repeated, recipe.sampling, seed=seed + 1, message="the live policy answers", share=(0.4, 0.8)
    )
    shape = (len(prompts), per_prompt)
    scores = [judge.score(texts, tokens=recipe.micro_batch_tokens).double().numpy() for texts in (candidate, live)]
    wins = prompt_wins(*(values.reshape(shape) for values in scores))
    rate = win_rate(wins, resamples=recipe.evaluate.resamples, seed=recipe.seed)
    measured = _spread(candidate, recipe.evaluate.kl_samples)
    return Evaluation(
        live_version=live_version,
        judge_accuracy=card.test_accuracy,
        judge_accuracy_low=card.test_accuracy_low,
        judge_rows=card.test_pairs,
        prompts=len(prompts),
        completions=len(candidate),
        win_rate=rate.mean,
        win_rate_low=rate.low,
        win_rate_high=rate.high,
        candidate=_quality(candidate, scores[0], base.eos_ids),
        live=_quality(live, scores[1], base.eos_ids),
        kl_samples=len(measured),
        kl_to_parent=kl(base, CANDIDATE, LIVE, measured, recipe, share=(0.85, 0.93)),
        kl_to_base=kl(base, CANDIDATE, None, measured, recipe, share=(0.93, 1.0)),
    )


def kl(
    base: SharedBase,
    role: str,
    other: str | None,
    texts: Sequence[Text],
    recipe: Recipe,
    *,
    share: tuple[float, float] = (0.0, 1.0),
) -> Kl:
    """KL(role ‖ other) on completions that `role` sampled; None is the bare base."""
    sums = np.zeros(len(texts))
    groups = micro_batches([len(text) for text in texts], range(len(texts)), tokens=recipe.micro_batch_tokens)
    for group in track(groups, "measuring the KL", share=share):
        batch = collate([texts[i] for i in group], device=base.device)
        where = predicting_positions(batch.completion_mask)
        states = []
        for acting in (role, other):
            with base.acting(acting), torch.no_grad():
                states.append(base.hidden(batch)[:, :-1][where])
        tokens = token_kl(*states, base.head).split([len(texts[i].completion) for i in group])
        sums[group] = [values.double().sum().item() for values in tokens]
    mean, error = mean_and_error(sums.tolist())
    return Kl(per_completion=mean, error=error, per_token=sums.sum() / sum(len(text.completion) for text in texts))


def _spread(texts: list[Text], count: int) -> list[Text]:
    """`count` of them, evenly from all prompts."""
    step = max(1, len(texts) // count)
    return texts[::step][:count]


def _quality(texts: Sequence[Text], scores: NDArray[np.float64], eos_ids: Sequence[int]) -> Quality:
    completions = [text.completion for text in texts]
    return Quality(
        mean_tokens=float(np.mean([len(completion) for completion in completions])),
        end_of_text_rate=float(np.mean([completion[-1] in eos_ids for completion in completions])),
        degenerate_share=float(np.mean([is_degenerate(completion, eos_ids) for completion in completions])),
        mean_score=float(scores.mean()),
    )
