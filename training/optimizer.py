"""AdamW and its schedule."""

from collections.abc import Iterable

import torch
from torch import nn

from training.recipe import OptimizerRecipe


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


def clip_gradient(parameters: Iterable[nn.Parameter], largest: float) -> float:
    """Shortens the whole gradient to the norm `largest`, if it is longer; returns the norm before."""
    return nn.utils.clip_grad_norm_(parameters, largest).item()


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group's learning rate is `factor` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
