"""The critic: a small network on the frozen base's state before each token.

The base's states never change, so they are computed once per iteration and the critic's updates cost no pass through
the model, nor can they disturb the policy. Left out: a head on the policy's own states, or on an adapter of its own;
on the demo base this one was enough, and the reference's pass brings the states for nothing.
"""

import torch
from torch import Tensor, nn

_WIDTH = 64


class ValueModel(nn.Module):
    """V of the state before a token, in units of the reward; 0 everywhere before training.

    Args:
        width: of the base's hidden states.
        seed: of the initial weights.
    """

    def __init__(self, width: int, *, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.inner = nn.Linear(width, _WIDTH)
        self.outer = nn.Linear(_WIDTH, 1)
        nn.init.normal_(self.inner.weight, std=width**-0.5, generator=generator)
        nn.init.zeros_(self.inner.bias)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, states: Tensor) -> Tensor:
        """(N, D) → float32 (N,)."""
        values: Tensor = self.outer(torch.tanh(self.inner(states.float())))
        return values[:, 0]
