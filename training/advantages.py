"""From scores to advantages: the arithmetic of PPO, GRPO and RLOO, pure functions of tensors (training notes §2.4).

Shapes: one row per completion, one column per completion token, (B, T); `mask` is bool and says which tokens exist.
Whatever stands where the mask is False is never read. `score_at="post_eos"` and `bessel=True` are TRL 1.12's choices:
they are there for parity and train nothing here.
"""

from typing import Literal

import torch
from torch import Tensor

Placement = Literal["eos", "post_eos"]
Estimator = Literal["k1", "k2", "k3"]
_EPSILON = 1e-8


def kl_estimate(logprobs: Tensor, reference: Tensor, kind: Estimator = "k1") -> Tensor:
    """An estimate of KL(π‖π_ref) from tokens that π sampled (Schulman 2020, "Approximating KL divergence").

    With k = log π − log π_ref: k1 = k has the right mean; k2 = k²/2 and k3 = exp(−k) − 1 + k are never negative. k1 is
    what the reward is charged with: as a part of the reward, without gradient, it is the KL term of the objective.

    Returns:
        Per token, as the arguments.
    """
    k = logprobs - reference
    if kind == "k1":
        return k
    return 0.5 * k.square() if kind == "k2" else torch.expm1(-k) + k


def end_penalty(scores: Tensor, ended: Tensor, penalty: float, *, overwrite: bool = False) -> Tensor:
    """Scores, (B,), in which an answer that was cut off is worth less.

    Args:
        ended: bool (B,), whether the completion has its end-of-text token.
        overwrite: the score of a cut answer *is* −penalty (Huang et al. 2024), instead of being less by it (TRL).
    """
    cut = torch.full_like(scores, -penalty) if overwrite else scores - penalty
    return torch.where(ended, scores, cut)


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, *, beta: float, score_at: Placement = "eos") -> Tensor:
    """Rewards r_t = −β·k_t, and the score on the last token, (B, T).

    Args:
        scores: (B,).
        kl: of `kl_estimate`, (B, T).
        score_at: `eos` is the last token of the completion. `post_eos` is the place behind it where the row has one,
            as in TRL; the two differ unless λ = 1.
    """
    rewards = torch.where(mask, -beta * kl, torch.zeros_like(kl))
    place = mask.sum(-1) - 1
    if score_at == "post_eos":
        place = (place + 1).clamp(max=mask.shape[1] - 1)
    return rewards.scatter_add(1, place[:, None], scores[:, None].to(rewards))


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation (Schulman et al. 2015, eq. 16), backwards over the completion.

    δ_t = r_t + γ·V_{t+1} − V_t and A_t = δ_t + γλ·A_{t+1}. Tokens that are not the policy's own (other turns in the
    middle of a row) are stepped over: V and A of the next own token stand in for them.

    Args:
        values: V_t belongs to the state *before* token t.

    Returns:
        Advantages and returns A + V, both (B, T), zero where the mask is False.
    """
    advantages = torch.zeros_like(rewards)
    next_value, next_advantage = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        here = mask[:, t]
        advantage = rewards[:, t] + gamma * next_value - values[:, t] + gamma * lam * next_advantage
        next_advantage = torch.where(here, advantage, next_advantage)
        next_value = torch.where(here, values[:, t], next_value)
        advantages[:, t] = torch.where(here, advantage, torch.zeros_like(advantage))
    return advantages, torch.where(mask, advantages + values, torch.zeros_like(values))


def whiten(values: Tensor, mask: Tensor, *, shift: bool = True, bessel: bool = False) -> Tensor:
    """(x − mean) / sd over all existing tokens; zero elsewhere.

    Args:
        values: (B, T) of the *whole* batch on all devices: whitened in parts, parts would lose what sets them apart.
        shift: False keeps the mean, as for rewards.
        bessel: divide the variance by n − 1 (TRL) instead of n.
    """
    known = values[mask]
    mean = known.mean()
    variance = known.var(correction=int(bessel)) if len(known) > 1 else torch.zeros_like(mean)
    whitened = (values - mean) * torch.rsqrt(variance + _EPSILON) + (0.0 if shift else mean)
    return torch.where(mask, whitened, torch.zeros_like(whitened))


def grpo(scores: Tensor, *, epsilon: float = 1e-4) -> Tensor:
    """(r − mean) / (sd + ε) within each group of completions to one prompt (Shao et al. 2024, §4.1.2).

    Args:
        scores: (groups, size). The sd is Bessel's, as everywhere else where GRPO is implemented.

    Raises:
        ValueError: a group of one: every advantage would be 0, and nobody would notice.
    """
    _check_groups(scores)
    return (scores - scores.mean(1, keepdim=True)) / (scores.std(1, keepdim=True) + epsilon)


def rloo(scores: Tensor) -> Tensor:
    """r minus the mean of the others in its group (Ahmadian et al. 2024, eq. 9); shapes and errors as for `grpo`."""
    _check_groups(scores)
    size = scores.shape[1]
    return (scores - scores.mean(1, keepdim=True)) * size / (size - 1)


def next_beta(beta: float, kl: float, *, target: float, horizon: float, rollouts: int) -> float:
    """The KL strength after an iteration whose KL, in nats a completion, was `kl` (Ziegler et al. 2019, §2.2).

    A KL above the target makes it stronger, one below weaker, by at most a fifth in `horizon` rollouts.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + error * rollouts / horizon)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 − Var(R − V) / Var(R) over existing tokens: 1 for a perfect critic, 0 for a constant one."""
    total = returns[mask].var(correction=0)
    return float(1 - (returns - values)[mask].var(correction=0) / (total + _EPSILON))


def _check_groups(scores: Tensor) -> None:
    if scores.dim() != 2 or scores.shape[1] < 2:
        raise ValueError(f"a group needs two completions to one prompt or more, these are {tuple(scores.shape)}")
