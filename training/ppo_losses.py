"""The losses of PPO, pure functions of tensors (Schulman et al. 2017, eq. 7 and 9; training notes §2.4).

Each returns a loss per token, (N,) or (B, T); the mean over an optimizer step is `losses.weighted_mean`, with the
number of tokens of the whole step, whatever its split into micro-batches and over devices.
"""

import torch
from torch import Tensor

_LARGEST_LOG_RATIO = 20.0
"""exp of more overflows sooner or later; nothing that clipping would not cut anyway."""


def ratio(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """π(token) / π_old(token)."""
    return (logprobs - old_logprobs).clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO).exp()


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, *, clip: float) -> Tensor:
    """max(−A·ρ, −A·clip(ρ, 1 − ε, 1 + ε)): the clipped surrogate, as a loss."""
    rho = ratio(logprobs, old_logprobs)
    return torch.maximum(-advantages * rho, -advantages * rho.clamp(1 - clip, 1 + clip))


def is_clipped(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, *, clip: float) -> Tensor:
    """bool: the clipped branch is the loss, so that the token gives no gradient."""
    rho = ratio(logprobs, old_logprobs)
    return -advantages * rho.clamp(1 - clip, 1 + clip) > -advantages * rho


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """½·max((V − R)², (V_old + clip(V − V_old, ±ε) − R)²): the critic moves as carefully as the policy."""
    near = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (near - returns).square())


def importance_weights(trainer_logprobs: Tensor, engine_logprobs: Tensor, *, cap: float = 2.0) -> Tensor:
    """min(π_trainer / π_engine, cap), without gradient: another engine's samples count as if ours had drawn them.

    Truncated, because an unbiased weight has no bounded variance (Ionides 2008; Yao et al. 2025 for rollout engines).
    """
    return ratio(trainer_logprobs.detach(), engine_logprobs.detach()).clamp(max=cap)
