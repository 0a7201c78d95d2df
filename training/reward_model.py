"""The reward model: the frozen base, an adapter of its own, and a head that turns token states into one score.

It may have several members (Coste et al. 2024, "Reward model ensembles help mitigate overoptimization"): adapters and
heads of other seeds, which learned the same rows in another order. Their mean is the reward; where they disagree is
where none of them knows, and their worst score is what a careful optimizer would take.

The score has mean 0 and sd 1 on completions of the base; the scaling is part of the checkpoint and is applied in one
place, `RewardModel.member_scores`.

    DIR/adapter_model.safetensors, adapter_config.json, head.safetensors    the first member
    DIR/member-2/…, DIR/member-3/…                                          the others, with the same files
    DIR/points.safetensors                                                  `Points`, where there were thumbs or ratings
    DIR/reward.json                                                         RewardCard
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.errors import UsageError
from training.data import Batch, Text, collate, micro_batches
from training.logprobs import predicting_positions, token_surprise
from training.model import SharedBase
from training.reward_card import RewardCard
from training.reward_heads import HEADS, Points

HEAD, POINTS, CARD = "head.safetensors", "points.safetensors", "reward.json"


@dataclass(eq=False, kw_only=True, slots=True)
class Member:
    """A role on the shared base, which must be there, and its head."""

    base: SharedBase
    role: str
    head: nn.Module
    points: Points | None = None
    """None where it learned from comparisons only."""
    mean: float = 0.0
    """Of its raw scores on completions of the base."""

    def raw(self, batch: Batch, surprise: Sequence[Tensor] | None) -> Tensor:
        """Unscaled scores (B,) with gradients; `acting(self.role)` must be on."""
        features = torch.cat(list(surprise)) if surprise is not None else None
        return self.head(self.base.hidden(batch), batch, features)

    def save(self, directory: Path) -> None:
        """Writes adapter, head and points."""
        self.base.save(self.role, directory)
        modules = {HEAD: self.head} | ({POINTS: self.points} if self.points is not None else {})
        for name, module in modules.items():
            state = {key: tensor.detach().cpu().contiguous() for key, tensor in module.state_dict().items()}
            save_file(state, directory / name)

    def load(self, directory: Path) -> None:
        """Reads head and points; the adapter is on the base already."""
        self.head.load_state_dict(load_file(directory / HEAD))
        if (directory / POINTS).exists():
            self.points = Points().to(self.base.device)
            self.points.load_state_dict(load_file(directory / POINTS))


class RewardModel:
    """Members over one base, as one score.

    Args:
        head_name: a key of `HEADS`.
        role: the first member's; the others are role-2, role-3, …
        seed: of the first head's initial weights; the others count up from it.
    """

    def __init__(
        self, base: SharedBase, head_name: str, *, role: str = "reward", seed: int = 0, members: int = 1
    ) -> None:
        self.base, self.head_name, self.sd = base, head_name, 1.0
        width = base.model.get_input_embeddings().weight.shape[1]
        self.members = []
        for number in range(members):
            head = HEADS[head_name](width, torch.Generator().manual_seed(seed + number))
            self.members.append(Member(base=base, role=part_of(role, number), head=head.to(base.device)))

    @torch.no_grad()
    def surprise(self, texts: Sequence[Text], *, tokens: int | None) -> list[Tensor] | None:
        """What the head needs of the frozen base, per text (completion tokens, 2); None if it needs nothing.

        It never changes and is the same for all members, so training asks for it once and not in each epoch.
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

    @torch.no_grad()
    def raw_scores(self, texts: Sequence[Text], *, tokens: int | None = None) -> Tensor:
        """Unscaled scores (members, N), in float32 whatever the training precision."""
        scores = torch.zeros(len(self.members), len(texts))
        surprise = self.surprise(texts, tokens=tokens)
        for number, member in enumerate(self.members):
            with self.base.acting(member.role):
                for group in micro_batches([len(text) for text in texts], range(len(texts)), tokens=tokens):
                    batch = collate([texts[i] for i in group], device=self.base.device)
                    features = [surprise[i] for i in group] if surprise is not None else None
                    scores[number, group] = member.raw(batch, features).float().cpu()
        return scores

    def member_scores(self, texts: Sequence[Text], *, tokens: int | None = None) -> Tensor:
        """The reward as each member sees it, (members, N)."""
        means = torch.tensor([member.mean for member in self.members])
        return (self.raw_scores(texts, tokens=tokens) - means[:, None]) / self.sd

    def score(self, texts: Sequence[Text], *, tokens: int | None = None) -> Tensor:
        """Rewards, (N,): the members' mean, with mean 0 and sd 1 on completions of the base."""
        return self.member_scores(texts, tokens=tokens).mean(0)

    def worst(self, texts: Sequence[Text], *, tokens: int | None = None) -> Tensor:
        """The lowest score that a member gives, (N,), in units of `score`: where members disagree none of them was
        taught, and an optimizer that takes this has nothing to gain there (Coste et al. 2024, "worst-case")."""
        return self.member_scores(texts, tokens=tokens).amin(0)

    def set_scale(self, texts: Sequence[Text]) -> float:
        """Fixes the scale of `score` on these completions of the base: each member's mean is 0, the score's sd is 1.

        Members keep their proportions: raw scores are log-odds of a vote in all of them.

        Returns:
            The members' standard deviation, the mean over completions; 0 for one member.
        """
        scores = self.raw_scores(texts)
        for member, mean in zip(self.members, scores.mean(1).tolist(), strict=True):
            member.mean = mean
        centred = scores - scores.mean(1, keepdim=True)
        self.sd = max(centred.mean(0).std().item(), 1e-6)
        return centred.std(0, correction=0).mean().item() / self.sd

    def save(self, directory: Path) -> None:
        """Writes adapters and heads; the card is the program's to write."""
        for number, member in enumerate(self.members):
            member.save(member_directory(directory, number))


def part_of(name: str, number: int) -> str:
    """`reward`, `reward-2`, `reward-3`, … for 0, 1, 2, …"""
    return name if number == 0 else f"{name}-{number + 1}"


def member_directory(directory: Path, number: int) -> Path:
    """The first member lies in the directory itself: a model of one is what it always was."""
    return directory if number == 0 else directory / part_of("member", number)


def load_reward_model(base: SharedBase, directory: Path, *, role: str = "reward") -> tuple[RewardModel, RewardCard]:
    """Reads a trained reward model.

    Raises:
        UsageError: it was trained over another base.
    """
    card = RewardCard.model_validate_json((directory / CARD).read_text())
    if card.base_sha256 != base.base_sha256:
        raise UsageError(f"The reward model in {directory} was trained over another base ({card.base_sha256[:12]}…).")
    means = [member.mean for member in card.members] or [card.mean]
    model = RewardModel(base, card.head, role=role, members=len(means))
    model.sd = card.sd
    for number, (member, mean) in enumerate(zip(model.members, means, strict=True)):
        base.load(member.role, member_directory(directory, number))
        member.load(member_directory(directory, number))
        member.mean = mean
    return model, card
