"""Rows of a reward model: what they compare, and which of them are of use."""

import pytest

from tests.training.conftest import EOS
from training.data import Pair, Text, Thumb
from training.reward_rows import Comparison, Ranking, Rating, Row, Vote, comparisons, nothing_to_learn, parts, usable

TEXTS = [Text(prompt=[4, 5], completion=[token, EOS]) for token in (40, 41, 42)]


def pair(chosen: int = 0, rejected: int = 1, **given: object) -> Pair:
    fields = {"chosen": TEXTS[chosen], "rejected": TEXTS[rejected], "tie": False, "weight": 1.0} | given
    return Pair(**fields)


def thumb(up: bool, text: Text = TEXTS[0]) -> Thumb:
    return Thumb(text=text, up=up, weight=1.0)


def test_a_ranking_counts_as_one_comparison() -> None:
    """Three completions of weight 6 are three pairs of weight 2 (1/C(3,2) each), a tie where the ranks are equal."""
    ranking = Ranking(texts=TEXTS, ranks=[1, 1, 2], weight=6.0)

    assert comparisons(ranking) == [
        Comparison(better=i, worse=j, tie=tie, margin=0.0, weight=2.0)
        for i, j, tie in [(0, 1, True), (0, 2, False), (1, 2, False)]
    ]


def test_a_ranking_of_two_is_a_pair() -> None:
    assert comparisons(Ranking(texts=TEXTS[:2], ranks=[1, 2], weight=3.0)) == comparisons(pair(weight=3.0))


def test_what_cannot_be_trained_on_is_counted() -> None:
    """Whole rows are dropped, also a ranking of which one completion is too long."""
    long, empty = Text(prompt=[4, 5], completion=[40] * 20), Text(prompt=[4, 5], completion=[])
    rows: list[Row] = [
        pair(),
        Ranking(texts=TEXTS, ranks=[1, 2, 3], weight=1.0),
        Ranking(texts=[*TEXTS, long], ranks=[1, 2, 3, 4], weight=1.0),
        Rating(text=long, stars=3, weight=1.0),
        thumb(True, empty),
        pair(rejected=0),
    ]
    kept, dropped = usable([Vote(row=row, id=str(i)) for i, row in enumerate(rows)], max_length=10)

    assert [vote.id for vote in kept] == ["0", "1"]
    assert dropped == {"overlong": 2, "empty": 1, "identical": 1}


def test_a_files_rows_train_whatever_the_folds() -> None:
    """Its test part does not; a snapshot's rows go by their fold."""
    votes = [Vote(row=pair(), id=str(fold), fold=fold) for fold in (None, "optimize", "judge", "test")]
    training, testing = parts(votes, ["judge"])

    assert [vote.fold for vote in training] == [None, "judge"]
    assert [vote.fold for vote in testing] == ["test"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([pair(), pair(1, 2)], None),
        ([pair(), pair(1, 2, tie=True)], "1 usable votes prefer one answer"),
        ([Ranking(texts=TEXTS, ranks=[1, 2, 2], weight=1.0), pair(1, 0)], None),
        ([thumb(True), thumb(False)], None),
        ([thumb(True), thumb(True)], "0 usable votes prefer one answer; the recipe asks for 2; the 2 thumbs"),
        ([Rating(text=TEXTS[0], stars=stars, weight=1.0) for stars in (2, 5)], None),
        ([thumb(True), Rating(text=TEXTS[0], stars=5, weight=1.0)], "the 2 thumbs and ratings are too few too, or all"),
        ([pair(), thumb(False)], "1 usable votes prefer one answer; the recipe asks for 2; the 1 thumbs"),
    ],
)
def test_what_teaches_a_reward(rows: list[Row], reason: str | None) -> None:
    """Enough comparisons with an order, or enough thumbs or ratings that differ."""
    found = nothing_to_learn(rows, minimum=2)

    assert found is None if reason is None else reason in found
