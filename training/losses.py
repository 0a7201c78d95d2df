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
    """How much more than the reference the policy prefers chosen to rejected, in nats, (N,): h of the DPO losses."""
    return (policy_chosen_logps - reference_chosen_logps) - (policy_rejected_logps - reference_rejected_logps)


def dpo(margin: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """−(1−ε) log σ(βh) − ε log σ(−βh).

    Rafailov et al. 2023, eq. 7; with ε > 0 conservative DPO (Mitchell 2023): ε is the share of votes thought wrong.
    At the reference h = 0 and the loss is ln 2 for every ε.

    Args:
        margin: h of `dpo_margin`, (N,): from log-probs *summed* over completion tokens; from their means per token it
            is the length-normalised loss (Lambert et al. 2024, "Tülu 3", §5.1), where beta is about 5.

    Returns:
        Losses, (N,).
    """
    right, wrong = F.softplus(-beta * margin), F.softplus(beta * margin)
    return (1 - label_smoothing) * right + label_smoothing * wrong


def robust_dpo(margin: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """[−(1−ε) log σ(βh) + ε log σ(−βh)] / (1 − 2ε), (N,): unbiased where a share ε of the votes was flipped.

    Chowdhury et al. 2024, eq. 12. Shapes as in `dpo`; ln 2 at the reference.
    """
    right, wrong = F.softplus(-beta * margin), F.softplus(beta * margin)
    return ((1 - label_smoothing) * right - label_smoothing * wrong) / (1 - 2 * label_smoothing)


def hinge(margin: Tensor, *, beta: float) -> Tensor:
    """max(0, 1 − βh), (N,). Zhao et al. 2023, "SLiC-HF", in the form of Liu et al. 2023; 1 at the reference."""
    return F.relu(1 - beta * margin)


def ipo(margin: Tensor, *, beta: float) -> Tensor:
    """(h − 1/(2β))², (N,): regresses the margin on a constant, so that certain votes do not drive it to infinity.

    Azar et al. 2023, eq. 17. h is of means per token, as its authors confirmed to TRL; 1/(4β²) at the reference.
    """
    return (margin - 1 / (2 * beta)) ** 2


def kto(log_ratios: Tensor, up: Tensor, baseline: Tensor, *, beta: float, up_weight: float = 1.0) -> Tensor:
    """1 − σ(β(r − z)) of a completion that was liked, 1 − σ(β(z − r)) of one that was not.

    Ethayarajh et al. 2024, §4, with λ_U = 1.

    Args:
        log_ratios: r = log π − log π_ref, summed over completion tokens, (N,).
        up: which were liked, bool (N,).
        baseline: z, a scalar: how far the policy has moved from the reference anyway (training/kto_fit.py).
        up_weight: λ_D.

    Returns:
        Losses, (N,); ½ times its weight at the reference.
    """
    gain = torch.where(up, log_ratios - baseline, baseline - log_ratios)
    return torch.where(up, up_weight, 1.0) * torch.sigmoid(-beta * gain)


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
