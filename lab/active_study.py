"""One seed of `lab.active`: a pool of comparisons, who is asked which of them, and what is learned from the votes."""

import contextlib
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers.utils.logging import disable_progress_bar

from core import choice
from lab.demo_config import load_demo_config
from lab.gold import choice_probability
from lab.offline import Bench
from lab.world import sample_prompts
from training import doubt, reward_fit
from training.acquisition import ACQUISITIONS, Floats, Head, fit_head
from training.data import Pair, Text
from training.model import load_base
from training.recipe import load_recipe

RANDOM, WEIGHTED = "random", ", weighted"
"""An arm that asks the next ones; a suffix: votes weigh the inverse of the probability with which they were asked."""
_MOST = 5.0
"""Largest weight of a vote, beside the mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is sampled, voted and measured for one seed."""

    pool: int = 1600
    tests: int = 1000
    first: int = 100
    """Votes on comparisons at random, with which all begin."""
    batch: int = 50
    measured: tuple[int, ...] = (100, 200, 300, 400, 600)
    """Numbers of votes at which something is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """`Point(arm="random", seed=101, votes=400, head=0.77, reward=0.81)`."""

    arm: str
    seed: int
    votes: int
    head: float
    """Gold accuracy of the mean of the ensemble by which was chosen."""
    reward: float | None
    """Gold accuracy of a reward model that was trained on the votes; None where none was."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Comparisons:
    """Of two different answers each."""

    texts: list[tuple[Text, Text]]
    differences: Floats
    """(N, D), first minus second."""
    gold: Floats
    """(N,), the first answer's utility minus the second's."""

    def accuracy(self, margins: Floats) -> float:
        """Share of the comparisons with a better answer that the margins (N,) order rightly."""
        decided = self.gold != 0
        return float(np.mean((margins * self.gold)[decided] > 0))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Asked:
    """Which comparisons were voted on, in the order of asking."""

    places: list[int]
    weights: list[float]
    """Of the votes in training."""

    def first(self, count: int) -> "Asked":
        return Asked(places=self.places[:count], weights=self.weights[:count])


def study(base: Path, seed: int, size: Size, arms: Sequence[str], *, rewards: bool) -> list[Point]:
    """All arms of one seed, on one thread."""
    torch.set_num_threads(1)
    disable_progress_bar()
    with _silence():
        pool, tests = _sampled(base, seed, size)
        raters, rng = load_demo_config().raters, random.Random(f"votes {seed}")
        likely = [choice_probability(gold, 0.0, tau=raters.tau, error=raters.error) for gold in pool.gold.tolist()]
        votes = np.array([1.0 if rng.random() < probability else -1.0 for probability in likely])
        points: list[Point] = []
        trained: dict[tuple[int, ...], float] = {}
        for arm in arms:
            asked = ask(pool.differences, votes, arm, size, seed=seed)
            for count in size.measured:
                so_far = asked.first(count)
                key = tuple(so_far.places)  # all arms begin with the same votes
                if rewards and key not in trained:
                    trained[key] = _reward(base, pool, votes, so_far, tests, seed=seed)
                head = tests.accuracy(tests.differences @ _head(pool.differences, votes, so_far).mean)
                points.append(Point(arm=arm, seed=seed, votes=count, head=head, reward=trained.get(key)))
    return points


def ask(differences: Floats, votes: Floats, arm: str, size: Size, *, seed: int) -> Asked:
    """As an operator would: a batch of tasks, their votes, the next batch."""
    rng = random.Random(f"ask {seed}")
    order = rng.sample(range(len(votes)), len(votes))
    if arm == RANDOM:
        return Asked(places=order[: size.measured[-1]], weights=[1.0] * size.measured[-1])
    acquisition = ACQUISITIONS[arm.removesuffix(WEIGHTED)]
    asked = Asked(places=order[: size.first], weights=[1.0] * size.first)
    left = order[size.first :]
    while len(asked.places) < size.measured[-1]:
        margins = _head(differences, votes, asked).margins(differences[left])
        included = choice.inclusion(acquisition(margins).tolist(), size.batch)
        drawn = choice.draw(included, rng)
        asked.places.extend(left[place] for place in drawn)
        even = size.batch / len(left)
        weights = [min(even / included[place], _MOST) if arm.endswith(WEIGHTED) else 1.0 for place in drawn]
        asked.weights.extend(weights)
        left = [place for number, place in enumerate(left) if number not in set(drawn)]
    return asked


def _head(differences: Floats, votes: Floats, asked: Asked) -> Head:
    return fit_head(differences[asked.places] * votes[asked.places, None], np.array(asked.weights))


def _reward(base: Path, pool: Comparisons, votes: Floats, asked: Asked, tests: Comparisons, *, seed: int) -> float:
    """Gold accuracy of a reward model of the demo's recipe, trained as in a round."""
    recipe = load_recipe("demo")
    rows = []
    for place, weight in zip(asked.places, asked.weights, strict=True):
        chosen, rejected = pool.texts[place] if votes[place] > 0 else pool.texts[place][::-1]
        rows.append(Pair(chosen=chosen, rejected=rejected, tie=False, weight=weight))
    shared = load_base(base, base_sha256="-", attention=recipe.attention)
    model, _ = reward_fit.fit(shared, rows, recipe, seed=seed)
    return tests.accuracy(doubt.of_members(model, tests.texts).mean(0))


def _sampled(base: Path, seed: int, size: Size) -> tuple[Comparisons, Comparisons]:
    """The pool, about slots that may be voted on, and the tests, about held-out ones: version 0 answers twice."""
    bench, rng = Bench(base), random.Random(f"active {seed}")
    texts: list[tuple[Text, Text]] = []
    gold: list[float] = []
    ends = []
    for count, held_out in ((size.pool, False), (size.tests, True)):
        prompts = sample_prompts(rng, count, held_out=held_out, distinct=False)
        first, second = (bench.answers(None, prompts, seed=rng.randrange(2**31)) for _ in range(2))
        pairs = [(a, b) for a, b in zip(first, second, strict=True) if a.words != b.words]
        texts += [(a.text, b.text) for a, b in pairs]
        gold += [a.utility - b.utility for a, b in pairs]
        ends.append(len(texts))
    values, difference = np.array(gold), doubt.differences(bench.shared, texts)
    pool, tests = (
        Comparisons(texts=texts[part], differences=difference[part], gold=values[part])
        for part in (slice(0, ends[0]), slice(ends[0], ends[1]))
    )
    return pool, tests


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The trainers' own progress lines are for a worker."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
