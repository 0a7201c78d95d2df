"""Loss functions of the reward model: pure, of scores, without models. Means over a step are `losses.weighted_mean`."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bradley_terry(chosen: Tensor, rejected: Tensor, margins: Tensor, doubt: Tensor) -> Tensor:
    """−(1−ε) log σ(d − m) − ε log σ(−d − m), d = r_chosen − r_rejected: with probability ε it is the other way round.

    Bradley and Terry 1952; Stiennon et al. 2020, eq. 1; margins: Touvron et al. 2023, eq. 2; label smoothing: Mitchell
    2023. A tie is ε = ½, half a vote each way: least where both scores are equal.

    Args:
        chosen, rejected: scores, (N,).
        margins: m, by how much the chosen one is better at least, in units of the score, (N,).
        doubt: ε, (N,).

    Returns:
        Losses, (N,).
    """
    difference = chosen - rejected
    return (1 - doubt) * F.softplus(margins - difference) + doubt * F.softplus(margins + difference)


def centering(chosen: Tensor, rejected: Tensor) -> Tensor:
    """(r_chosen + r_rejected)²: Bradley–Terry leaves the offset of the scores free, this pins it to zero.

    Eisenstein et al. 2023, "Helping or herding?", eq. 8.
    """
    return (chosen + rejected) ** 2


def thumb(scores: Tensor, up: Tensor, bias: Tensor) -> Tensor:
    """−log σ(s(r − b)), s = ±1: logistic regression of thumbs on the score (training notes §2.4b).

    Args:
        scores: r, (N,).
        up: bool (N,).
        bias: b, a scalar: the score that is liked as often as not. People put up far more thumbs than down, and that
            is a fact about thumbs, not about the score.

    Returns:
        Losses, (N,).
    """
    return F.softplus(torch.where(up, bias - scores, scores - bias))


def rating(scores: Tensor, stars: Tensor, thresholds: Tensor) -> Tensor:
    """−log P(stars), P(stars ≤ k) = σ(θ_k − r): the ordered logit (McCullagh 1980).

    It asks only that more stars mean a higher score, not that 4 is as far from 5 as 2 is from 3.

    Args:
        scores: r, (N,).
        stars: 1 to K, long (N,).
        thresholds: θ, increasing, (K − 1,).

    Returns:
        Losses, (N,).
    """
    ends = torch.full((1,), torch.inf, device=thresholds.device)
    edges = torch.cat([-ends, thresholds, ends])
    low, high = edges[stars - 1] - scores, edges[stars] - scores
    # σ(high) − σ(low) = σ(high) σ(−low) (1 − e^(low − high)), which does not cancel far from the thresholds
    return F.softplus(-high) + F.softplus(low) - torch.log1p(-torch.exp(low - high))
