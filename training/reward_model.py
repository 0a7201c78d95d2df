"""The reward model: the frozen base, an adapter of its own, and a head that turns token states into one score.

Heads, by name:
- `last`: linear on the state of the last existing token (Ziegler et al. 2019; the common choice for real models).
- `mean`: linear on the mean state of the completion.
- `surprise`: a small network on each completion token that also reads how unexpected the token is to the *frozen
  base*, summed. A base of half a million parameters knows right from wrong facts only through its own surprise: there
  `last` stays at chance, and this one reaches four fifths of the noise ceiling.

The score is scaled to mean 0 and sd 1 on completions of the base; the scaling is part of the checkpoint and is applied
in one place, `RewardModel.score`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.errors import UsageError
from core.records import Fold
from training.data import Batch, Text, collate, micro_batches
from training.logprobs import predicting_positions, scatter, token_surprise
from training.model import SharedBase

HEAD, CARD = "head.safetensors", "reward.json"
_TOKENS_PER_UNIT = 8
"""A summed head gives each token an eighth of a unit, so that sums of usual answers start near the scale of a score."""


class RewardCard(BaseModel):
    """`reward.json`: what a trained reward model is and how far it can be trusted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: Literal["last", "mean", "surprise"]
    mean: float
    """Of raw scores on completions of the base; subtracted."""
    sd: float
    """The same; divided by."""
    base_sha256: str
    data: str
    """Digest of the snapshot or file."""
    folds: list[Fold]
    """Trained on these."""
    seed: int
    pairs: int
    ties: int
    dropped: dict[str, int]
    train_accuracy: float
    test_accuracy: float | None
    """Share of held-out votes (test fold, without ties) that it predicts; None without such votes."""
    test_accuracy_low: float | None
    """One-sided 95 % lower bound (Wilson)."""
    test_pairs: int


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


class RewardModel:
    """A role on the shared base with a head.

    Args:
        head_name: a key of `HEADS`.
        seed: of the head's initial weights.
    """

    def __init__(self, base: SharedBase, head_name: str, *, role: str = "reward", seed: int = 0) -> None:
        self.base, self.role, self.head_name = base, role, head_name
        width = base.model.get_input_embeddings().weight.shape[1]
        self.head = HEADS[head_name](width, torch.Generator().manual_seed(seed)).to(base.device)
        self.mean, self.sd = 0.0, 1.0

    @torch.no_grad()
    def surprise(self, texts: Sequence[Text], *, tokens: int) -> list[Tensor] | None:
        """What the head needs of the frozen base, per text (completion tokens, 2); None if it needs nothing.

        It never changes, so training asks for it once and not in each epoch.
        """
        if self.head_name != "surprise":
            return None
        features: dict[int, Tensor] = {}
        with self.base.acting(None):
            for group in micro_batches([len(text) for text in texts], range(len(texts)), tokens=tokens):
                batch = collate([texts[i] for i in group], device=self.base.device)
                where = predicting_positions(batch.completion_mask)
                hidden = self.base.hidden(batch)[:, :-1][where]
                values = token_surprise(hidden, self.base.head, batch.token_ids[:, 1:][where])
                features |= dict(zip(group, values.split([len(texts[i].completion) for i in group]), strict=True))
        return [features[i] for i in range(len(texts))]

    def raw(self, batch: Batch, surprise: Sequence[Tensor] | None) -> Tensor:
        """Unscaled scores (B,) with gradients; `acting(self.role)` must be on."""
        features = torch.cat(list(surprise)) if surprise is not None else None
        return self.head(self.base.hidden(batch), batch, features)

    @torch.no_grad()
    def raw_scores(self, texts: Sequence[Text], *, tokens: int = 16384) -> Tensor:
        """Unscaled scores (N,), in float32 whatever the training precision."""
        scores = torch.zeros(len(texts))
        surprise = self.surprise(texts, tokens=tokens)
        with self.base.acting(self.role):
            for group in micro_batches([len(text) for text in texts], range(len(texts)), tokens=tokens):
                batch = collate([texts[i] for i in group], device=self.base.device)
                features = [surprise[i] for i in group] if surprise is not None else None
                scores[group] = self.raw(batch, features).float().cpu()
        return scores

    def score(self, texts: Sequence[Text], *, tokens: int = 16384) -> Tensor:
        """Rewards, (N,): mean 0 and sd 1 on completions of the base."""
        return (self.raw_scores(texts, tokens=tokens) - self.mean) / self.sd

    def calibrate(self, texts: Sequence[Text]) -> None:
        """Fixes the scale of `score` on these completions of the base."""
        scores = self.raw_scores(texts)
        self.mean = scores.mean().item()
        self.sd = max(scores.std().item(), 1e-6)

    def save(self, directory: Path) -> None:
        """Writes adapter and head; the card is the program's to write."""
        self.base.save(self.role, directory)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.head.state_dict().items()}
        save_file(state, directory / HEAD)


def load_reward_model(base: SharedBase, directory: Path, *, role: str = "reward") -> tuple[RewardModel, RewardCard]:
    """Reads a trained reward model.

    Raises:
        UsageError: it was trained over another base.
    """
    card = RewardCard.model_validate_json((directory / CARD).read_text())
    if card.base_sha256 != base.base_sha256:
        raise UsageError(f"The reward model in {directory} was trained over another base ({card.base_sha256[:12]}…).")
    base.load(role, directory)
    model = RewardModel(base, card.head, role=role)
    model.head.load_state_dict(load_file(directory / HEAD))
    model.mean, model.sd = card.mean, card.sd
    return model, card
