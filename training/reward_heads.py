"""What turns token states into one score, by name, and what turns a score into thumbs and stars.

- `last`: linear on the state of the last existing token (Ziegler et al. 2019; the common choice for real models).
- `mean`: linear on the mean state of the completion.
- `surprise`: a small network on each completion token that also reads how unexpected the token is to the *frozen
  base*, summed. A base of half a million parameters knows right from wrong facts only through its own surprise: there
  `last` stays at chance, and this one reaches four fifths of the noise ceiling.
"""

import torch
from torch import Tensor, nn

from training.data import Batch
from training.logprobs import predicting_positions, scatter

_TOKENS_PER_UNIT = 8
"""A summed head gives each token an eighth of a unit, so that sums of usual answers start near the scale of a score."""


class LastHead(nn.Module):
    """w · h at the rightmost existing token. (N, 1/√(d+1)) as in Huang et al. 2024, "The N+ implementation details"."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.linear.weight, std=(width + 1) ** -0.5, generator=generator)

    def forward(self, hidden: Tensor, batch: Batch, surprise: Tensor | None) -> Tensor:
        positions = torch.arange(hidden.shape[1], device=hidden.device)
        last = (positions * batch.attention_mask).argmax(-1)
        return self.linear(hidden[torch.arange(len(hidden)), last])[:, 0]


class MeanHead(LastHead):
    """w · mean of h over the completion."""

    def forward(self, hidden: Tensor, batch: Batch, surprise: Tensor | None) -> Tensor:
        weights = batch.completion_mask[..., None].float()
        return self.linear((hidden * weights).sum(1) / weights.sum(1).clamp(min=1))[:, 0]


class SurpriseHead(nn.Module):
    """Σ_t f(h_t, h_{t−1}, log p_base(token t), its gap to the arg-max), f a network with one hidden layer."""

    def __init__(self, width: int, generator: torch.Generator, inner: int = 64) -> None:
        super().__init__()
        self.inner = nn.Linear(2 * width + 2, inner)
        self.outer = nn.Linear(inner, 1)
        nn.init.normal_(self.inner.weight, std=(2 * width + 2) ** -0.5, generator=generator)
        nn.init.zeros_(self.inner.bias)
        nn.init.zeros_(self.outer.weight)  # all scores start equal: the first gradients decide, not the draw
        nn.init.zeros_(self.outer.bias)

    def forward(self, hidden: Tensor, batch: Batch, surprise: Tensor | None) -> Tensor:
        assert surprise is not None, "this head reads the base's surprise"
        where = predicting_positions(batch.completion_mask)
        features = torch.cat([hidden[:, 1:][where], hidden[:, :-1][where], surprise], dim=-1)
        values = self.outer(nn.functional.silu(self.inner(features)))[:, 0].float()
        return scatter(values, where).sum(-1) / _TOKENS_PER_UNIT


HEADS = {"last": LastHead, "mean": MeanHead, "surprise": SurpriseHead}


class Points(nn.Module):
    """Where a score becomes a thumb up, and where one star becomes two: learned beside the head, no part of a reward.

    Fresh ones say that a score of 0 is liked as often as not and is worth three stars.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.lowest = nn.Parameter(torch.tensor(-1.5))
        self.log_steps = nn.Parameter(torch.zeros(3))

    @property
    def thresholds(self) -> Tensor:
        """θ of `reward_losses.rating`, (4,), increasing whatever the parameters."""
        return torch.cat([self.lowest[None], self.lowest + self.log_steps.exp().cumsum(0)])
