"""What a reward model is worth: how many votes it predicts, of which kinds, and whether its numbers mean anything."""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core import wilson
from core.errors import UsageError
from core.records import Fold
from training import calibration, reward_losses
from training.data import Pair, Text, Thumb
from training.model import SharedBase
from training.recipe import Recipe
from training.reward_card import VOTES, Accuracy, Calibration, NoiseCeiling, Prequential, RewardCard, Slices
from training.reward_card import Member as MemberCard
from training.reward_heads import Points
from training.reward_model import RewardModel, load_reward_model
from training.reward_rows import Ranking, Rating, Row, Vote, comparisons, texts_of, usable
from training.statistics import Z_95

ENOUGH = 20
"""Fewer votes than this say nothing about calibration or about how far raters agree."""
_KINDS: dict[type, str] = {Pair: "preference", Ranking: "ranking", Thumb: "thumb", Rating: "rating"}


def kinds(rows: Iterable[Row]) -> dict[str, int]:
    """How many rows of each kind."""
    return dict(sorted(Counter(_KINDS[type(row)] for row in rows).items()))


def accuracy(model: RewardModel, rows: Sequence[Row]) -> tuple[float, int]:
    """Share of comparisons that the model orders as the rater did, and their number. Ties have no order and are left
    out; a ranking is one comparison: the share of its pairs that are in order."""
    found = _compared(rows, outcomes(model, rows))
    return (found.accuracy, found.votes) if found is not None else (0.0, 0)


def outcomes(model: RewardModel, rows: Sequence[Row]) -> list[float | None]:
    """What share of each row the model predicts. Equal scores are half right.

    A thumb is predicted if its probability is above ½, a rating if no other number of stars is more probable. None for
    a tie, which has no order, and for thumbs and ratings where the model learned from none.
    """
    return [_outcome(model, row, raw) for row, raw in zip(rows, _raw(model, rows), strict=True)]


def _raw(model: RewardModel, rows: Sequence[Row]) -> Sequence[Tensor]:
    """Unscaled scores of each row, (members, completions)."""
    scores = model.raw_scores([text for row in rows for text in texts_of(row)])
    return scores.split([len(texts_of(row)) for row in rows], dim=1)


def _outcome(model: RewardModel, row: Row, raw: Tensor) -> float | None:
    points = [member.points for member in model.members if member.points is not None]
    match row:
        case Pair() | Ranking():
            return _in_order(row, raw.mean(0))
        case Thumb():
            return float(_liked(raw[:, 0], points) == row.up) if points else None
        case Rating():
            return float(_stars(raw[:, 0], points) == row.stars) if points else None


def _in_order(row: Row, scores: Tensor) -> float | None:
    """Share of the row's comparisons. Scores need no scale: no difference depends on it."""
    decided = [pair for pair in comparisons(row) if not pair.tie]
    signs = [(scores[pair.better] - scores[pair.worse]).sign().item() for pair in decided]
    return 0.5 + 0.5 * sum(signs) / len(signs) if signs else None


@torch.no_grad()
def _liked(raw: Tensor, points: Sequence[Points]) -> bool:
    """By the mean of the members' probabilities."""
    biases = torch.stack([each.bias.cpu() for each in points])
    return torch.sigmoid(raw - biases).mean().item() > 0.5


@torch.no_grad()
def _stars(raw: Tensor, points: Sequence[Points]) -> int:
    """The most probable number, by the mean of the members' probabilities."""
    known = torch.arange(1, 6)
    pairs = zip(raw, points, strict=True)
    losses = [reward_losses.rating(score.expand(5), known, each.thresholds.cpu()) for score, each in pairs]
    return int((-torch.stack(losses)).exp().mean(0).argmax()) + 1


def slices(votes: Sequence[Vote], found: Sequence[float | None], *, versions: bool = False) -> Slices:
    """Accuracy by kind of row; of comparisons by length of the longest completion and kind of rater, and by policy
    version if asked."""
    groups: dict[str, dict[str, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    for vote, outcome in zip(votes, found, strict=True):
        groups["kind"][_KINDS[type(vote.row)]].append(outcome)
        if not comparisons(vote.row):
            continue
        groups["tokens"][_length(texts_of(vote.row))].append(outcome)
        if vote.rater_kind is not None:
            groups["rater"][vote.rater_kind].append(outcome)
        if versions and vote.version is not None:
            groups["version"][str(vote.version)].append(outcome)
    means = {name: {key: overall(values) for key, values in group.items()} for name, group in groups.items()}
    return {
        name: {key: mean for key, mean in sorted(group.items(), key=_by_number) if mean is not None}
        for name, group in means.items()
    }


def _by_number(item: tuple[str, object]) -> tuple[int, str]:
    digits = "".join(filter(str.isdigit, item[0]))
    return int(digits or 0), item[0]


def _length(texts: Sequence[Text]) -> str:
    longest = max(len(text.completion) for text in texts)
    return f"<={1 << (longest - 1).bit_length()}"


def overall(found: Sequence[float | None]) -> Accuracy | None:
    """Of all rows with an order; None if there are none."""
    known = [outcome for outcome in found if outcome is not None]
    if not known:
        return None
    return Accuracy(accuracy=sum(known) / len(known), low=wilson.low(sum(known), len(known), z=Z_95), votes=len(known))


def noise_ceiling(rows: Iterable[Row]) -> NoiseCeiling | None:
    """From pairs of completions on which several votes were cast; None for fewer than 20 of them."""
    by_pair: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if isinstance(row, Pair) and not row.tie:
            sides = [json.dumps([text.prompt, text.completion]) for text in (row.chosen, row.rejected)]
            by_pair["".join(sorted(sides))][sides[0]] += 1
    repeated = [votes for votes in by_pair.values() if votes.total() > 1]
    if len(repeated) < ENOUGH:
        return None
    agreement = sum(_agreement(votes) for votes in repeated) / len(repeated)
    ceiling = 0.5 + 0.5 * math.sqrt(max(0.0, 2 * agreement - 1))
    return NoiseCeiling(agreement=agreement, ceiling=ceiling, pairs=len(repeated))


def _agreement(votes: Counter[str]) -> float:
    """Share of the pairs of votes that say the same."""
    total = votes.total()
    return sum(math.comb(count, 2) for count in votes.values()) / math.comb(total, 2)


def calibrate(model: RewardModel, rows: Sequence[Row]) -> Calibration | None:
    """Of held-out pairs without ties; None for fewer than 20 of them."""
    pairs = [row for row in rows if isinstance(row, Pair) and not row.tie]
    if len(pairs) < ENOUGH:
        return None
    chosen, rejected = model.score([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]).chunk(2)
    margins = (chosen - rejected).double().numpy()
    half = np.array([_even(pair.chosen.prompt) for pair in pairs])
    return Calibration(
        error=calibration.expected_calibration_error(margins * model.sd),
        by_chance=calibration.error_by_chance(margins * model.sd),
        temperature=calibration.temperature(margins),
        error_after=calibration.cross_fitted_error(margins, half),
        votes=len(pairs),
    )


def _even(prompt: list[int]) -> bool:
    return hashlib.sha256(json.dumps(prompt).encode()).digest()[1] % 2 == 0


def card(
    model: RewardModel,
    seen: Sequence[Vote],
    held_out: Sequence[Vote],
    *,
    data: str,
    seed: int,
    folds: list[Fold],
    dropped: dict[str, int],
    spread: float | None,
) -> RewardCard:
    """What it was trained on, and its accuracy on votes that it never saw."""
    rows, test_rows = [vote.row for vote in seen], [vote.row for vote in held_out]
    known, new = outcomes(model, rows), outcomes(model, test_rows)
    tested = _compared(test_rows, new)
    fitted = _compared(rows, known)
    return RewardCard(
        head=model.head_name,
        mean=sum(member.mean for member in model.members) / len(model.members),
        sd=model.sd,
        base_sha256=model.base.base_sha256,
        data=data,
        folds=folds,
        seed=seed,
        pairs=sum(bool(comparisons(row)) for row in rows),
        ties=sum(isinstance(row, Pair) and row.tie for row in rows),
        dropped=dropped,
        train_accuracy=fitted.accuracy if fitted else 0.0,
        test_accuracy=tested.accuracy if tested else None,
        test_accuracy_low=tested.low if tested else None,
        test_pairs=tested.votes if tested else 0,
        rows=kinds(rows),
        members=_members(model, test_rows, seed=seed),
        spread=spread,
        train=slices(seen, known),
        test=slices(held_out, new),
        noise_ceiling=noise_ceiling([*rows, *test_rows]),
        calibration=calibrate(model, test_rows),
    )


def _members(model: RewardModel, rows: Sequence[Row], *, seed: int) -> list[MemberCard]:
    compared = [row for row in rows if comparisons(row)]
    raw = _raw(model, compared)
    found = [
        overall([_in_order(row, part[number]) for row, part in zip(compared, raw, strict=True)])
        for number in range(len(model.members))
    ]
    return [
        MemberCard(seed=seed + number, mean=member.mean, test_accuracy=each.accuracy if each else None)
        for number, (member, each) in enumerate(zip(model.members, found, strict=True))
    ]


def _compared(rows: Sequence[Row], found: Sequence[float | None]) -> Accuracy | None:
    return overall([outcome for row, outcome in zip(rows, found, strict=True) if comparisons(row)])


def prequential(base: SharedBase, directory: Path, votes: Sequence[Vote], recipe: Recipe) -> Prequential:
    """An earlier reward model on the votes of this data that its own did not hold, whatever their fold.

    Raises:
        UsageError: it was trained over another base, or without a list of its votes.
    """
    try:
        seen = set((directory / VOTES).read_text(encoding="utf-8").split())
    except OSError:
        raise UsageError(f"--previous {directory}: {VOTES} is missing, so nobody knows which votes are new.") from None
    model, earlier = load_reward_model(base, directory, role="previous")
    new, _ = usable([vote for vote in votes if vote.id not in seen], max_length=recipe.max_length)
    rows = [vote.row for vote in new]
    found = outcomes(model, rows)
    return Prequential(data=earlier.data, overall=_compared(rows, found), slices=slices(new, found, versions=True))


def write_votes(directory: Path, votes: Iterable[Vote]) -> None:
    """The ids of all votes of the data, of every fold, a line each: what comes later is new."""
    (directory / VOTES).write_text("".join(f"{identity}\n" for identity in sorted({vote.id for vote in votes})))
