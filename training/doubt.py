"""An ensemble's margins between two answers: where its members differ, votes have taught nothing yet.

A reward model with several members is its own ensemble. One member alone does not know what it does not know, so beside
it a linear head is fitted to the same votes over features of the frozen base, whose posterior is known
(training/acquisition.py): one forward pass and one regression, where further members would cost a training each.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.acquisition import MEMBERS, Floats, fit_head
from training.data import Pair, Text
from training.features import features, reduced
from training.model import SharedBase
from training.reward_model import RewardModel, load_reward_model

_CHUNK = 500


def margins(base: SharedBase, reward: Path, votes: Sequence[Pair], asked: Sequence[tuple[Text, Text]]) -> Floats:
    """(members, votes + asked), log-odds: of the chosen answer against the rejected one, of the first against the
    second.

    Raises:
        UsageError: the reward model was trained over another base.
    """
    pairs = [*((vote.chosen, vote.rejected) for vote in votes), *asked]
    if not pairs:
        return np.zeros((MEMBERS, 0))
    model, _ = load_reward_model(base, reward)
    return of_members(model, pairs) if len(model.members) > 1 else of_head(base, votes, pairs)


def of_members(model: RewardModel, pairs: Sequence[tuple[Text, Text]]) -> Floats:
    """(members, pairs); raw scores are log-odds."""
    scores = model.raw_scores([text for pair in pairs for text in pair]).double().numpy()
    return np.asarray(scores[:, 0::2] - scores[:, 1::2])


def of_head(base: SharedBase, votes: Sequence[Pair], pairs: Sequence[tuple[Text, Text]]) -> Floats:
    """(MEMBERS, pairs); `pairs` begin with those of the votes."""
    values = differences(base, pairs)
    weights = np.array([0.0 if vote.tie else vote.weight for vote in votes])
    return fit_head(values[: len(votes)], weights).margins(values, members=MEMBERS)


def differences(base: SharedBase, pairs: Sequence[tuple[Text, Text]]) -> Floats:
    """(N, ≤ DIRECTIONS), first minus second. The directions are found with the answers of each pair in an order of
    their own, so that what was voted turns signs only."""
    turned = np.array([1.0 if one.completion < other.completion else -1.0 for one, other in pairs])[:, None]
    parts = []
    for start in range(0, len(pairs), _CHUNK):
        values = features(base, [text for pair in pairs[start : start + _CHUNK] for text in pair])
        parts.append((values[0::2] - values[1::2]).astype(np.float32))
    return np.asarray(reduced(np.concatenate(parts).astype(np.float64) * turned) * turned)
