"""What a reward model learns from: comparisons of two or more completions, thumbs and ratings, each from one vote.

A row names completions and says which of their scores it compares; how well the scores then do is a matter of
training/reward_losses.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from core.records import Fold, RaterKind
from training import data
from training.data import Pair, Text, Thumb


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """Several completions of one prompt in the order of their worth.

    Example:
        Ranking(texts=[best, good, as_good], ranks=[1, 2, 2], weight=1.0)
    """

    texts: list[Text]
    """The best one first."""
    ranks: list[int]
    """Never falling; equal ranks are ties."""
    weight: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rating:
    """A completion with one to five stars."""

    text: Text
    stars: int
    weight: float


Row = Pair | Ranking | Thumb | Rating


@dataclass(frozen=True, kw_only=True, slots=True)
class Vote:
    """A row, and where it comes from."""

    row: Row
    id: str
    """Of the act of feedback; of a file's row a digest of what it says. The same vote has it in every snapshot."""
    rater_kind: RaterKind | None = None
    """None where nobody knows."""
    fold: Fold | None = None
    """None for what a file trains on: it has no folds but a test part."""
    version: int | None = None
    """The newest policy version among those that sampled the completions; None where nobody knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two of a row's completions, as positions in `texts_of`."""

    better: int
    worse: int
    tie: bool
    margin: float
    weight: float


def texts_of(row: Row) -> list[Text]:
    """The completions that it is about; of a comparison the best one first."""
    match row:
        case Pair():
            return [row.chosen, row.rejected]
        case Ranking():
            return row.texts
        case Thumb() | Rating():
            return [row.text]


def comparisons(row: Row) -> list[Comparison]:
    """A ranking of K is its K(K − 1)/2 pairs, each with so small a part of its weight: it counts as one comparison
    (Ouyang et al. 2022, eq. 1). A thumb and a rating compare nothing."""
    match row:
        case Pair():
            return [Comparison(better=0, worse=1, tie=row.tie, margin=row.margin, weight=row.weight)]
        case Ranking():
            pairs = list(combinations(range(len(row.texts)), 2))
            return [
                Comparison(
                    better=i, worse=j, tie=row.ranks[i] == row.ranks[j], margin=0.0, weight=row.weight / len(pairs)
                )
                for i, j in pairs
            ]
        case Thumb() | Rating():
            return []


def size(row: Row) -> int:
    """Padded tokens of a batch of this row alone."""
    texts = texts_of(row)
    return len(texts) * max(len(text) for text in texts)


def parts(votes: Iterable[Vote], folds: Sequence[Fold]) -> tuple[list[Vote], list[Vote]]:
    """What trains a reward model, and what it is tested on."""
    votes = list(votes)
    return (
        [vote for vote in votes if vote.fold is None or vote.fold in folds],
        [vote for vote in votes if vote.fold == "test"],
    )


def usable(votes: Iterable[Vote], *, max_length: int) -> tuple[list[Vote], dict[str, int]]:
    """Drops votes on a completion that is empty or too long, or on several that are all the same.

    Returns:
        The others, and how many were dropped, by reason.
    """
    kept, dropped = [], {"empty": 0, "overlong": 0, "identical": 0}
    for vote in votes:
        texts = texts_of(vote.row)
        if not all(text.prompt and text.completion for text in texts):
            dropped["empty"] += 1
        elif max(len(text) for text in texts) > max_length:
            dropped["overlong"] += 1
        elif len(texts) > 1 and all(text.completion == texts[0].completion for text in texts):
            dropped["identical"] += 1
        else:
            kept.append(vote)
    return kept, {reason: count for reason, count in dropped.items() if count}


def nothing_to_learn(rows: Sequence[Row], *, minimum: int) -> str | None:
    """Why these rows teach no reward, or None if they do: enough comparisons with an order, or enough thumbs and
    ratings that do not all say the same."""
    thumbs = [row.up for row in rows if isinstance(row, Thumb)]
    ratings = [row.stars for row in rows if isinstance(row, Rating)]
    points = len(thumbs) + len(ratings)
    if points >= minimum and (len(set(thumbs)) > 1 or len(set(ratings)) > 1):
        return None
    reason = data.nothing_to_learn([_ends(row) for row in rows if comparisons(row)], minimum=minimum)
    if reason is not None and points:
        reason += f"; the {points} thumbs and ratings are too few too, or all alike"
    return reason


def _ends(row: Row) -> Pair:
    """Its first and its last completion."""
    if isinstance(row, Pair):
        return row
    assert isinstance(row, Ranking)
    return Pair(chosen=row.texts[0], rejected=row.texts[-1], tie=row.ranks[0] == row.ranks[-1], weight=row.weight)
