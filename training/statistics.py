"""The few statistics that decide: pure numpy, with their sources."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.signs import grams

Z_95 = 1.6448536269514722
"""95 % quantile of the normal distribution: one-sided bounds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WinRate:
    """`WinRate(mean=0.58, low=0.556, high=0.604)`; low and high are one-sided bounds."""

    mean: float
    low: float
    high: float


def prompt_wins(candidate: NDArray[np.float64], live: NDArray[np.float64]) -> NDArray[np.float64]:
    """How often the candidate beats live on each prompt, over all pairs of their completions, ties half.

    Args:
        candidate, live: judge scores, (prompts, samples).

    Returns:
        (prompts,), each in [0, 1].
    """
    margin = candidate[:, :, None] - live[:, None, :]
    return (0.5 + 0.5 * np.sign(margin)).mean(axis=(1, 2))


def win_rate(wins: NDArray[np.float64], *, resamples: int, seed: int, level: float = 0.95) -> WinRate:
    """Mean over prompts with bootstrap bounds, one-sided of this level each; prompts are resampled whole, since samples
    of one prompt are alike."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(wins), size=(resamples, len(wins)))
    means = wins[drawn].mean(axis=1)
    low, high = np.quantile(means, [1 - level, level])
    return WinRate(mean=float(wins.mean()), low=float(low), high=float(high))


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    array = np.asarray(values, dtype=np.float64)
    error = array.std(ddof=1) / math.sqrt(len(array)) if len(array) > 1 else math.inf
    return float(array.mean()), float(error)


def is_degenerate(token_ids: Sequence[int], eos_ids: Sequence[int]) -> bool:
    """Empty, or stuck: some four tokens in a row come three times or more."""
    text = [token for token in token_ids if token not in eos_ids]
    return not text or max(Counter(grams(text, 4)).values(), default=0) >= 3


def distinct(completions: Iterable[Sequence[int]], *, n: int) -> float:
    """distinct-n (Li et al. 2016): different n-grams over all n-grams of these completions. It falls with their
    number, so compare only equally many."""
    found = [gram for completion in completions for gram in grams(completion, n)]
    return len(set(found)) / len(found) if found else 0.0


def refusal_rate(texts: Sequence[str], patterns: Iterable[str]) -> float:
    """Share of texts in which one of these regular expressions is found, whatever the case."""
    refusal = re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)
    return sum(bool(refusal.search(text)) for text in texts) / len(texts)


def best_of_kl(n: int) -> float:
    """log n − (n − 1)/n: the most that choosing the best of n samples moves a policy, in nats a completion; exact where
    no two completions score alike (Beirami et al. 2024)."""
    return math.log(n) - (n - 1) / n
