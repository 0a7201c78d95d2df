"""Muon: momentum whose matrix update is made orthogonal (Jordan 2024, https://kellerjordan.github.io/posts/muon/).

`torch.optim.Muon` is the same rule, but computes in bfloat16, which is some thirty times slower on a CPU without
bf16 units, and takes one matrix at a time. Here it is fp32, and matrices of one shape go through together.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch

# Coefficients of the quintic iteration: steep at zero, so that five steps bring every singular value near 1.
A, B, C = 3.4445, -4.7750, 2.0315
STEPS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized, for 2-D parameters only. Weight decay is decoupled."""

    def __init__(
        self, params: Iterable[torch.Tensor], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure: the loss is computed by the caller
        for group in self.param_groups:
            of_shape: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                of_shape[parameter.shape].append(parameter)
            for (rows, columns), parameters in of_shape.items():
                updates = orthogonalize(torch.stack([self._momentum(p, group["momentum"]) for p in parameters]))
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-scale)

    def _momentum(self, parameter: torch.Tensor, momentum: float) -> torch.Tensor:
        """The Nesterov look-ahead of the running mean of gradients."""
        assert parameter.grad is not None
        state = self.state[parameter]
        mean = state.setdefault("mean", torch.zeros_like(parameter))
        mean.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(mean, momentum)


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """(N, R, C) → (N, R, C): `U S V^T` → about `U V^T`, singular values within 0.7 to 1.2, by Newton and Schulz."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.mT if tall else x
