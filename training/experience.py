"""What an iteration of PPO learns from: rollouts, scored, and what each token of them was worth.

Everything is computed before the first update, with the policy that sampled: one pass of the model per role, rows of
like length together. Old log-probs come from the trainer's own pass and never from the sampler: the ratio of the first
update is then 1 up to rounding, whatever computed the samples (training notes §3, traps 20 to 23).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training import advantages
from training.data import Batch, Text, collate, micro_batches
from training.logprobs import predicting_positions, scatter, token_kl, token_logprobs
from training.model import SharedBase
from training.ppo_losses import importance_weights
from training.recipe import PpoRecipe, Recipe
from training.reward_model import RewardModel
from training.rollouts import Rollout
from training.value_model import ValueModel

POLICY, REFERENCE = "policy", "reference"
_EXACT_EVERY = 8
"""The exact KL is taken of every eighth rollout: it costs two more products with the LM head."""
_LARGEST_WEIGHT = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """An iteration in numbers; means over its rollouts."""

    reward: float
    """By the reward model, in its scaled units, without penalties."""
    kl: float
    """To the reference, in nats a completion: the sum of k1, which is what the reward is charged with."""
    kl_exact: float
    """The same from whole distributions, on every eighth rollout."""
    length: float
    """Tokens of a completion, with end-of-text."""
    ended: float
    """Share of completions that ended by themselves."""
    explained_variance: float
    """Of the returns, by the critic; 0 without one."""
    beta: float
    mismatch: float
    """Mean |log π_trainer − log π_sampler| of a token."""
    mismatch_p95: float
    capped: float
    """Share of tokens whose importance weight was cut off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Experience:
    """The rollouts of one iteration. Tensors are (B, T), a column per completion token."""

    texts: list[Text]
    mask: Tensor
    old_logprobs: Tensor
    weights: Tensor
    """Importance weights of the sampler's tokens; 1 where the sampler is the trainer's own model."""
    advantages: Tensor
    returns: Tensor
    old_values: Tensor
    states: list[Tensor]
    """Of the frozen base before each completion token, (tokens, D) a row; empty without a critic."""
    figures: Figures


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    """Per token, (B, T), as in `Experience`."""

    mask: Tensor
    policy: Tensor
    reference: Tensor
    sampler: Tensor
    states: list[Tensor]
    kl_exact: float


def experience(
    base: SharedBase,
    rollouts: Sequence[Rollout],
    reward: RewardModel,
    value: ValueModel | None,
    recipe: Recipe,
    *,
    reference: str | None,
    beta: float,
    own_sampler: bool,
) -> Experience:
    """Scores rollouts of the role `policy` and works out their advantages.

    Args:
        value: the critic; None for GRPO and RLOO.
        reference: the role that the KL is held to; None is the bare base.
        own_sampler: the rollouts come from this very model, so that importance weights would be rounding errors.
    """
    settings = recipe.ppo
    texts = [rollout.text for rollout in rollouts]
    judge = reward.worst if settings.ensemble == "worst" else reward.score
    scores = judge(texts, tokens=recipe.micro_batch_tokens).to(base.device)
    measured = _measure(base, rollouts, recipe, reference=reference, keep_states=value is not None)
    mask = measured.mask
    ended = torch.tensor([text.completion[-1] in base.eos_ids for text in texts], device=base.device)
    kl = advantages.kl_estimate(measured.policy, measured.reference, settings.kl)
    worth = advantages.end_penalty(
        scores, ended, settings.missing_eos_penalty, overwrite=settings.missing_eos == "overwrite"
    )
    values = _values(value, measured)
    gains, returns = _advantages(worth, kl, values, mask, settings, beta=beta)
    weights = importance_weights(measured.policy, measured.sampler, cap=_LARGEST_WEIGHT)
    mismatch = (measured.policy - measured.sampler)[mask].abs()
    k1 = torch.where(mask, measured.policy - measured.reference, 0.0)
    figures = Figures(
        reward=scores.mean().item(),
        kl=k1.sum(1).mean().item(),
        kl_exact=measured.kl_exact,
        length=mask.sum(1).float().mean().item(),
        ended=ended.float().mean().item(),
        explained_variance=advantages.explained_variance(values, returns, mask) if value is not None else 0.0,
        beta=beta,
        mismatch=mismatch.mean().item(),
        mismatch_p95=mismatch.kthvalue(max(1, int(0.95 * len(mismatch)))).values.item(),
        capped=(weights[mask] >= _LARGEST_WEIGHT).float().mean().item(),
    )
    return Experience(
        texts=texts,
        mask=mask,
        old_logprobs=measured.policy,
        weights=torch.ones_like(weights) if own_sampler else weights,
        advantages=gains,
        returns=returns,
        old_values=values,
        states=measured.states,
        figures=figures,
    )


def completion_states(base: SharedBase, batch: Batch) -> Tensor:
    """Final hidden states of the acting role from which the completion tokens are predicted, row after row, (N, D)."""
    return base.hidden(batch)[:, :-1][predicting_positions(batch.completion_mask)]


def completion_tokens(batch: Batch) -> Tensor:
    """The tokens that those states predict, (N,)."""
    return batch.token_ids[:, 1:][predicting_positions(batch.completion_mask)]


def _advantages(
    scores: Tensor, kl: Tensor, values: Tensor, mask: Tensor, settings: PpoRecipe, *, beta: float
) -> tuple[Tensor, Tensor]:
    """Advantages and the critic's targets, (B, T).

    GRPO and RLOO compare whole completions to one prompt, so there the KL is charged to the completion's reward: within
    the loss, GRPO's k3 would have another gradient than the KL it estimates.
    """
    if settings.advantage == "gae":
        rewards = advantages.token_rewards(scores, kl, mask, beta=beta)
        if settings.whiten_rewards:
            rewards = advantages.whiten(rewards, mask, shift=False)
        gains, returns = advantages.gae(rewards, values, mask, gamma=settings.gamma, lam=settings.lam)
        return advantages.whiten(gains, mask), returns
    total = scores - beta * torch.where(mask, kl, 0.0).sum(1)
    groups = total.view(-1, settings.group)
    gains = advantages.grpo(groups) if settings.advantage == "grpo" else advantages.rloo(groups)
    return gains.flatten()[:, None] * mask, torch.zeros_like(kl)


@torch.no_grad()
def _values(value: ValueModel | None, measured: _Measured) -> Tensor:
    if value is None:
        return torch.zeros_like(measured.policy)
    return scatter(value(torch.cat(measured.states)), measured.mask)


@torch.no_grad()
def _measure(
    base: SharedBase, rollouts: Sequence[Rollout], recipe: Recipe, *, reference: str | None, keep_states: bool
) -> _Measured:
    """One pass per role over all rollouts, in the precision of training."""
    texts = [rollout.text for rollout in rollouts]
    counts = [len(text.completion) for text in texts]
    policy: list[Tensor] = [torch.empty(0)] * len(texts)
    other, frozen = list(policy), list(policy)
    exact = []
    for group in micro_batches([len(text) for text in texts], range(len(texts)), tokens=recipe.micro_batch_tokens):
        batch = collate([texts[i] for i in group], device=base.device)
        tokens, lengths = completion_tokens(batch), [counts[i] for i in group]
        states = {}
        for role in dict.fromkeys((POLICY, reference, *((None,) if keep_states else ()))):
            with base.acting(role), base.autocast():
                states[role] = completion_states(base, batch)
        with base.autocast():
            logprobs = [token_logprobs(states[role], base.head, tokens) for role in (POLICY, reference)]
        for rows, values in zip((policy, other), logprobs, strict=True):
            _put(rows, group, values.split(lengths))
        if keep_states:
            _put(frozen, group, states[None].split(lengths))
        chosen = torch.tensor([i % _EXACT_EVERY == 0 for i in group], device=base.device)
        where = chosen.repeat_interleave(torch.tensor(lengths, device=base.device))
        exact.append(token_kl(states[POLICY][where], states[reference][where], base.head).sum().item())
    mask = torch.arange(max(counts), device=base.device) < torch.tensor(counts, device=base.device)[:, None]
    sampler = torch.cat([torch.tensor(rollout.logprobs, device=base.device) for rollout in rollouts])
    return _Measured(
        mask=mask,
        policy=scatter(torch.cat(policy), mask),
        reference=scatter(torch.cat(other), mask),
        sampler=scatter(sampler, mask),
        states=frozen if keep_states else [],
        kl_exact=sum(exact) / len(range(0, len(texts), _EXACT_EVERY)),
    )


def _put(rows: list[Tensor], places: Sequence[int], values: Sequence[Tensor]) -> None:
    for place, value in zip(places, values, strict=True):
        rows[place] = value
