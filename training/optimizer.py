"""AdamW, its schedule, and one optimizer step over micro-batches."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from core.errors import PlumblineError
from training.recipe import OptimizerRecipe


class Diverged(PlumblineError):
    """The loss or the gradient is not a number any more; lower the learning rate."""


def adamw(groups: Iterable[tuple[Iterable[nn.Parameter], float]], recipe: OptimizerRecipe) -> torch.optim.AdamW:
    """AdamW over (parameters, peak learning rate) groups; the state is fresh in every round."""
    options = [{"params": list(parameters), "lr": rate, "peak": rate} for parameters, rate in groups]
    return torch.optim.AdamW(options, weight_decay=recipe.weight_decay, foreach=True)


def rate(step: int, steps: int, recipe: OptimizerRecipe) -> float:
    """Learning rate of step 0 … steps − 1, relative to the peak: linear warm-up, then linear decay.

    Example: with `warmup=0.2, final_rate=0` ten steps have ½, 1, 1, ⅞, ¾, ⅝, ½, ⅜, ¼, ⅛.
    """
    warm = int(recipe.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    left = 1 - (step - warm) / (steps - warm)
    return recipe.final_rate + (1 - recipe.final_rate) * left


def take_step(
    optimizer: torch.optim.AdamW,
    losses: Iterable[Callable[[], Tensor]],
    *,
    factor: float,
    clip: float,
) -> tuple[float, float]:
    """One update: the gradients of all micro-batches are summed, clipped once, applied once.

    Args:
        losses: one per micro-batch; each computes its share of the step's loss (shares add up to the loss).
        factor: of the peak learning rates.

    Returns:
        The loss of the step and the norm of its gradient before clipping.

    Raises:
        Diverged: either is not finite; nothing was updated.
    """
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for loss in losses:
        share = loss()
        share.backward()
        total += share.item()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, clip).item()
    if not (abs(total) < float("inf") and norm < float("inf")):
        raise Diverged(f"The loss is {total} and the norm of its gradient {norm}: try a lower learning rate.")
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    optimizer.step()
    return total, norm
