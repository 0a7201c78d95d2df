"""Measures a candidate against the live version: both answer the same prompts, a judge scores, KL is exact.

Everything here is in float32 and at temperature 1. The prompts come from the judge and test folds, on which no policy
was optimized.
"""

import random
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from core.signs import repetition
from feedback.snapshot import PromptRow
from training.best_of_n import draw
from training.data import Pair, Text, both_sides, collate, micro_batches
from training.gate import BestOf, Evaluation, Quality
from training.kl import kl, sequence_logps
from training.model import SharedBase
from training.recipe import Recipe
from training.reward_card import RewardCard
from training.reward_model import RewardModel
from training.rollouts import sample
from training.sentinel import LEVEL, Bounded, Signals
from training.statistics import (
    best_of_kl,
    distinct,
    is_degenerate,
    prompt_wins,
    refusal_rate,
    win_rate,
)

CANDIDATE, LIVE = "candidate", "live"
Score = Callable[[Sequence[Text]], NDArray[np.float64]]
"""(N,) of N completions."""


def gate_prompts(rows: Iterable[PromptRow], recipe: Recipe, *, context_length: int) -> list[list[int]]:
    """Prompts of the judge and test folds that leave room for an answer, at most as many as the recipe asks for."""
    held_out = [row for row in sorted(rows, key=lambda row: row.cluster) if row.fold in ("judge", "test")]
    return distinct_prompts([list(row.prompt_token_ids) for row in held_out], recipe, context_length)


def distinct_prompts(prompts: Iterable[list[int]], recipe: Recipe, context_length: int) -> list[list[int]]:
    """Each prompt once, if it leaves room for an answer, at most as many as the recipe asks for."""
    longest = context_length - recipe.sampling.max_new_tokens
    different = {tuple(prompt): prompt for prompt in prompts if 0 < len(prompt) <= longest}
    found = list(different.values())
    return random.Random(recipe.seed).sample(found, min(len(found), recipe.evaluate.prompts))


def evaluate(
    base: SharedBase,
    judge: RewardModel,
    card: RewardCard,
    prompts: Sequence[list[int]],
    recipe: Recipe,
    *,
    live: str | None,
    live_version: int,
    read: Callable[[list[int]], str],
    best_of: int | None = None,
    proxy: Score | None = None,
) -> Evaluation:
    """The whole measurement; the role `candidate` must be on the base.

    Args:
        live: the opponent's role; None is the bare base.
        read: token ids → text, in which refusals are looked for.
        best_of: measures the best of so many samples of the opponent too.
        proxy: the reward that the candidate was optimized for; then the sentinel is told what it says of both.
    """
    per_prompt = -(-recipe.evaluate.completions // len(prompts))
    repeated = [prompt for prompt in prompts for _ in range(per_prompt)]
    seed = 2 * recipe.seed
    candidate = sample(
        base, CANDIDATE, repeated, recipe.sampling, seed=seed, message="the candidate answers", share=(0.0, 0.4)
    )
    answers = sample(
        base, live, repeated, recipe.sampling, seed=seed + 1, message="the live policy answers", share=(0.4, 0.8)
    )
    shape = (len(prompts), per_prompt)
    by_judge = score_of(judge, recipe)
    scores = [by_judge(texts) for texts in (candidate, answers)]
    wins = prompt_wins(*(values.reshape(shape) for values in scores))
    rate = win_rate(wins, resamples=recipe.evaluate.resamples, seed=recipe.seed)
    measured = _spread(candidate, recipe.evaluate.kl_samples)
    signals = None
    if proxy is not None:
        climb = prompt_wins(*(proxy(texts).reshape(shape) for texts in (candidate, answers)))
        signals = Signals(proxy_win=_bounded(climb, recipe), judge_win=_bounded(wins, recipe))
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
        candidate=_quality(candidate, scores[0], base.eos_ids, recipe, read),
        live=_quality(answers, scores[1], base.eos_ids, recipe, read),
        kl_samples=len(measured),
        kl_to_parent=kl(base, CANDIDATE, live, measured, tokens=recipe.micro_batch_tokens),
        kl_to_base=kl(base, CANDIDATE, None, measured, tokens=recipe.micro_batch_tokens),
        signals=signals,
        best_of=_best_of(base, live, judge, prompts, scores[1].reshape(shape), best_of, recipe) if best_of else None,
    )


def score_of(model: RewardModel, recipe: Recipe) -> Score:
    """A reward model's scores."""
    return lambda texts: model.score(texts, tokens=recipe.micro_batch_tokens).double().numpy()


def implicit_reward(base: SharedBase, live: str | None, recipe: Recipe) -> Score:
    """What DPO optimizes, up to beta: ln of candidate over the version that it started from (Rafailov et al. 2023,
    eq. 5)."""

    def score(texts: Sequence[Text]) -> NDArray[np.float64]:
        own, other = (sequence_logps(base, role, texts, tokens=recipe.micro_batch_tokens) for role in (CANDIDATE, live))
        return own - other

    return score


def _bounded(wins: NDArray[np.float64], recipe: Recipe) -> Bounded:
    rate = win_rate(wins, resamples=recipe.evaluate.resamples, seed=recipe.seed, level=LEVEL)
    return Bounded(value=rate.mean, low=rate.low, high=rate.high, count=len(wins))


def _best_of(
    base: SharedBase,
    role: str | None,
    judge: RewardModel,
    prompts: Sequence[list[int]],
    single: NDArray[np.float64],
    n: int,
    recipe: Recipe,
) -> BestOf:
    """The judge's favourite of n fresh samples against other samples of the same policy, whose scores are `single`."""
    draws = draw(base, role, prompts, judge, recipe, n=n, seed=2 * recipe.seed + 2, share=(1.0, 1.0))
    wins = prompt_wins(draws.scores.double().amax(1, keepdim=True).numpy(), single)
    rate = win_rate(wins, resamples=recipe.evaluate.resamples, seed=recipe.seed)
    return BestOf(n=n, win_rate=rate.mean, win_rate_low=rate.low, win_rate_high=rate.high, kl_bound=best_of_kl(n))


@torch.no_grad()
def preference_accuracy(base: SharedBase, pairs: Sequence[Pair], recipe: Recipe) -> dict[str, float | int | None]:
    """Which share of these votes the candidate orders as the rater did, by its log-ratio to the base; fields of
    `Evaluation`."""
    kept = [pair for pair in pairs if len(pair) <= min(recipe.max_length, base.context_length)]
    right = 0.0
    for group in micro_batches([2 * len(pair) for pair in kept], range(len(kept)), tokens=recipe.micro_batch_tokens):
        batch = collate(both_sides([kept[i] for i in group]), device=base.device)
        logps = []
        for role in (CANDIDATE, None):
            with base.acting(role):
                logps.append(base.sequence_logps(batch))
        chosen, rejected = (logps[0] - logps[1]).chunk(2)
        right += (0.5 + 0.5 * (chosen - rejected).sign()).sum().item()
    return {"preference_accuracy": right / len(kept) if kept else None, "preference_pairs": len(kept)}


def _spread(texts: list[Text], count: int) -> list[Text]:
    """`count` of them, evenly from all prompts."""
    step = max(1, len(texts) // count)
    return texts[::step][:count]


def _quality(
    texts: Sequence[Text],
    scores: NDArray[np.float64],
    eos_ids: Sequence[int],
    recipe: Recipe,
    read: Callable[[list[int]], str],
) -> Quality:
    patterns = recipe.evaluate.refusals
    completions = [text.completion for text in texts]
    return Quality(
        mean_tokens=float(np.mean([len(completion) for completion in completions])),
        end_of_text_rate=float(np.mean([completion[-1] in eos_ids for completion in completions])),
        degenerate_share=float(np.mean([is_degenerate(completion, eos_ids) for completion in completions])),
        mean_score=float(scores.mean()),
        refusal_rate=refusal_rate([read(completion) for completion in completions], patterns) if patterns else None,
        repetition=float(np.mean([repetition(completion) for completion in completions])),
        distinct_1=distinct(completions, n=1),
        distinct_2=distinct(completions, n=2),
    )
