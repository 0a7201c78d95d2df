"""Agreement against values from the literature and by hand."""

import random

import pytest

from feedback.agreement import dawid_skene, krippendorff_alpha, log_odds, probability, share

UNITS = [
    [1, 1, 1],
    [2, 2, 3, 2],
    [3, 3, 3, 3],
    [3, 3, 3, 3],
    [2, 2, 2, 2],
    [1, 2, 3, 4],
    [4, 4, 4, 4],
    [1, 1, 2, 1],
    [2, 2, 2, 2],
    [5, 5, 5],
    [1, 1],
    [3],
]
"""Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units."""


def test_alpha_is_that_of_the_literature() -> None:
    """0.743 for nominal and 0.815 for ordinal values, as published with the data."""
    assert krippendorff_alpha(UNITS) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(UNITS, level="ordinal") == pytest.approx(0.815, abs=5e-4)


def test_alpha_by_hand() -> None:
    """Units aa and ab: three a, one b. Observed disagreement 2 of 4 pairs-values = 0.5, expected 2·3·1/(4·3) = 0.5:
    α = 0. Units aa, bb: observed 0, so α = 1."""
    assert krippendorff_alpha(["aa", "ab"]) == pytest.approx(0.0)
    assert krippendorff_alpha(["aa", "bb"]) == pytest.approx(1.0)


def test_without_overlap_or_difference_there_is_no_alpha() -> None:
    """One value each, or the same value everywhere, says nothing about agreement."""
    assert krippendorff_alpha(["a", "b"]) is None
    assert krippendorff_alpha(["aa", "aa"]) is None


def test_dawid_and_skene_find_the_skills() -> None:
    """Three raters who are right in 90, 90 and 60 % of 400 items: their skills come out within 0.07, though nobody
    knows the truth."""
    rng = random.Random(1)
    truths = [rng.random() < 0.5 for _ in range(400)]
    right = {"ann": 0.9, "bob": 0.9, "cat": 0.6}
    labels = [
        (name, str(item), truth if rng.random() < skill else not truth)
        for item, truth in enumerate(truths)
        for name, skill in right.items()
    ]

    found = dawid_skene(labels)

    for name, skill in right.items():
        assert found.of[name] == pytest.approx(skill, abs=0.07)


def test_items_with_one_vote_say_nothing_about_skill() -> None:
    """Nobody is in the table; the mean is the prior's, 4 of 5."""
    found = dawid_skene([("ann", "1", True), ("bob", "2", False)])

    assert (dict(found.of), found.mean) == ({}, 0.8)


def test_a_share_has_wilsons_interval() -> None:
    """8 of 10: 0.490 to 0.943, as in Wilson's formula by hand; of nothing there is no share."""
    found = share(8, 10)

    assert found is not None and (found.mean, found.votes) == (0.8, 10)
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert share(0, 0) is None


def test_odds_and_probabilities_are_inverse() -> None:
    """log(0.8 / 0.2) = log 4 = 1.386294; certainty is taken for 0.99."""
    assert log_odds(0.8) == pytest.approx(1.386294, abs=1e-6)
    assert probability(log_odds(0.3)) == pytest.approx(0.3)
    assert log_odds(1.0) == log_odds(0.99)
