"""Loss functions of the reward model: pure, of scores, without models. Means over a step are `losses.weighted_mean`."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bradley_terry(chosen: Tensor, rejected: Tensor, ties: Tensor) -> Tensor:
    """−log σ(r_chosen − r_rejected); a tie counts half in each direction.

    Bradley and Terry 1952; Stiennon et al. 2020, eq. 1. For a tie ½ℓ(+) + ½ℓ(−) is least where both scores are equal.

    Args:
        chosen, rejected: scores, (N,).
        ties: which rows are ties, bool (N,).

    Returns:
        Losses, (N,).
    """
    margin = chosen - rejected
    tied = 0.5 * (F.softplus(-margin) + F.softplus(margin))
    return torch.where(ties, tied, F.softplus(-margin))


def centering(chosen: Tensor, rejected: Tensor) -> Tensor:
    """(r_chosen + r_rejected)²: Bradley–Terry leaves the offset of the scores free, this pins it to zero.

    Eisenstein et al. 2023, "Helping or herding?", eq. 8.
    """
    return (chosen + rejected) ** 2
