"""The statistics against numbers from hand and from published tables, and their promised error rates."""

import math

import numpy as np
import pytest

from training import statistics
from training.recipe import EvaluateRecipe, load_recipe


def test_prompt_wins_count_all_pairs_ties_half() -> None:
    """Scores (1, 3) against (2, 3): 1 loses twice, 3 beats 2 and ties 3, so 1.5 of 4."""
    wins = statistics.prompt_wins(np.array([[1.0, 3.0]]), np.array([[2.0, 3.0]]))

    assert wins.tolist() == [0.375]


def test_bootstrap_agrees_with_the_normal_bound() -> None:
    """For many prompts the percentile bound is mean − 1.645 standard errors, to a tenth of a standard error."""
    wins = np.random.default_rng(0).uniform(0, 1, 800)
    error = wins.std(ddof=1) / math.sqrt(800)

    rate = statistics.win_rate(wins, resamples=4000, seed=0)

    assert rate.mean == wins.mean()
    assert rate.low == pytest.approx(wins.mean() - 1.645 * error, abs=0.1 * error)
    assert rate.high == pytest.approx(wins.mean() + 1.645 * error, abs=0.1 * error)


def test_bootstrap_respects_clusters() -> None:
    """Samples of one prompt that are all alike say no more than one: repeating them does not narrow the bound."""
    single = np.array([0.0, 1.0] * 50)
    rate = statistics.win_rate(single, resamples=2000, seed=0)

    assert rate.low == pytest.approx(0.5 - 1.645 * 0.05, abs=0.01)


def test_bootstrap_repeats_itself() -> None:
    """The same seed gives the same bounds."""
    wins = np.random.default_rng(1).uniform(0, 1, 50)

    assert statistics.win_rate(wins, resamples=500, seed=7) == statistics.win_rate(wins, resamples=500, seed=7)


def test_distinct_n_is_over_all_completions() -> None:
    """1 2 and 2 1 2: two tokens of five are different, two pairs (12, 21) of three; no pair spans two completions."""
    assert statistics.distinct([[1, 2], [2, 1, 2]], n=1) == pytest.approx(2 / 5)
    assert statistics.distinct([[1, 2], [2, 1, 2]], n=2) == pytest.approx(2 / 3)
    assert statistics.distinct([[1]], n=2) == 0.0


def test_refusals_are_found_by_the_recipes_patterns() -> None:
    """Whatever the case and the place; an answer that merely regrets is none."""
    texts = [
        "Sorry, I can't help with that.",
        "i am sorry, but I am unable to say",
        "As an AI, no.",
        "I'm sorry to hear it.",
    ]
    patterns = EvaluateRecipe().refusals

    assert [statistics.refusal_rate([text], patterns) for text in texts] == [1.0, 1.0, 1.0, 0.0]
    assert statistics.refusal_rate(texts, patterns) == 0.75
    assert statistics.refusal_rate(["I can not help with that ."], load_recipe("demo").evaluate.refusals) == 1.0


def test_best_of_n_by_hand() -> None:
    """Of one: nothing; of two: ln 2 − 1/2; of eight: 2.079 − 0.875."""
    assert statistics.best_of_kl(1) == 0.0
    assert statistics.best_of_kl(2) == pytest.approx(0.193147, abs=1e-6)
    assert statistics.best_of_kl(8) == pytest.approx(1.204442, abs=1e-6)


def test_mean_and_error_by_hand() -> None:
    """1, 2, 3: mean 2, sd 1, error 1/√3; a single value has no error that is known."""
    assert statistics.mean_and_error([1.0, 2.0, 3.0]) == pytest.approx((2.0, 1 / math.sqrt(3)))
    assert statistics.mean_and_error([5.0]) == (5.0, math.inf)


@pytest.mark.parametrize(
    ("token_ids", "expected"),
    [
        ([], True),
        ([3], True),  # only end-of-text
        ([7, 8, 9, 3], False),
        ([7] * 5 + [3], False),  # 7777 twice
        ([7] * 6 + [3], True),  # three times
        ([7, 8, 9, 6] * 3, True),
        ([7, 8, 9, 6] * 2 + [7, 8, 9, 5], False),
    ],
)
def test_degenerate(token_ids: list[int], expected: bool) -> None:
    """Empty or some four tokens in a row three times; end-of-text does not count as text."""
    assert statistics.is_degenerate(token_ids, [3]) is expected
