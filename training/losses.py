"""Loss functions: pure, of tensors, without models.

Each returns a loss per row; the mean over an optimizer step is always `weighted_mean`: Σ w·l / Σ w, where Σ w is
counted over the *whole* step before it is split into micro-batches. So neither the split nor ragged lengths change a
gradient (training notes §3, traps 14 to 16).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def dpo_margin(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
) -> Tensor:
    """How much more than the reference the policy prefers chosen to rejected, in nats, (N,): h of `dpo`."""
    return (policy_chosen_logps - reference_chosen_logps) - (policy_rejected_logps - reference_rejected_logps)


def dpo(margin: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """−(1−ε) log σ(βh) − ε log σ(−βh).

    Rafailov et al. 2023, eq. 7; with ε > 0 conservative DPO (Mitchell 2023): ε is the share of votes thought wrong.
    At the reference h = 0 and the loss is ln 2 for every ε.

    Args:
        margin: h of `dpo_margin`, from log-probs *summed* over completion tokens, (N,).

    Returns:
        Losses, (N,).
    """
    right, wrong = F.softplus(-beta * margin), F.softplus(beta * margin)
    return (1 - label_smoothing) * right + label_smoothing * wrong


def sft(logps: Tensor) -> Tensor:
    """Negative log-prob of each completion, (N,): summed, so that dividing by Σ w·tokens gives a mean over tokens."""
    return -logps


def weighted_mean(losses: Tensor, weights: Tensor, total_weight: float) -> Tensor:
    """This micro-batch's share of Σ w·l / Σ w. Rows of weight 0 count for nothing, even where their loss is not finite.

    Args:
        total_weight: Σ w over the whole optimizer step, on all devices; for the SFT term Σ w·tokens.
    """
    counted = weights > 0
    return torch.where(counted, losses * weights, torch.zeros_like(losses)).sum() / total_weight
