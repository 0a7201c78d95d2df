"""`reward.json`: what a trained reward model is and how far it can be trusted."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from core.records import Fold

VOTES = "votes.txt"
"""Beside `reward.json`: the ids of all votes that the data held, a line each."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Accuracy(_Frozen):
    """How many votes a model predicts: `Accuracy(accuracy=0.66, low=0.57, votes=90)`."""

    accuracy: float
    """Share of the votes, ties left out. A ranking is one vote: the share of its pairs that are in order."""
    low: float
    """One-sided 95 % lower bound (Wilson)."""
    votes: int


Slices = dict[str, dict[str, Accuracy]]
"""By kind of row; and of comparisons by length of the longest completion (`<=32`: 17 to 32 tokens), kind of rater, and
policy version."""


class NoiseCeiling(_Frozen):
    """How far raters agree who voted on the same two completions: no model can predict them better."""

    agreement: float
    """Probability that two votes on the same pair agree: at most the best accuracy that is possible."""
    ceiling: float
    """(1 + √(2a − 1)) / 2 of the agreement a: that accuracy, if raters are equally sure of every pair; at least it, if
    they are not."""
    pairs: int
    """With two votes or more."""


class Calibration(_Frozen):
    """Whether a difference of scores tells how probable a vote is, on the test votes.

    No reward model, of whatever folds, was trained on those, and the temperature is no part of the reward: nothing that
    is measured on them later was fitted to them.
    """

    error: float
    """Expected calibration error in ten bins, of σ(difference · sd): as trained."""
    by_chance: float
    """What it would be for a perfect model with the same confidences, on so few votes."""
    temperature: float | None
    """The T whose σ(difference of scores / T) fits the votes best; None where every vote is predicted, or no better
    than by chance."""
    error_after: float | None
    """Calibration error with a temperature: each half of the prompts with the one that was fitted to the other half."""
    votes: int


class Member(_Frozen):
    """One of the models whose mean the reward is."""

    seed: int
    mean: float
    """Of its raw scores on completions of the base; subtracted."""
    test_accuracy: float | None


class Prequential(_Frozen):
    """How an earlier reward model did on votes that came after its own: how fast reward models age here."""

    data: str
    """Digest of what it was trained on."""
    overall: Accuracy | None
    """None without new votes."""
    slices: Slices = {}


class RewardCard(_Frozen):
    """Fields with a default came later; cards without them are read as what they meant."""

    head: Literal["last", "mean", "surprise"]
    mean: float
    """Of raw scores on completions of the base, over all members; subtracted."""
    sd: float
    """Of the mean of the members' scores on those completions; divided by, for all members."""
    base_sha256: str
    data: str
    """Digest of the snapshot or file."""
    folds: list[Fold]
    """Trained on these."""
    seed: int
    pairs: int
    """Comparisons trained on; a ranking is one."""
    ties: int
    dropped: dict[str, int]
    train_accuracy: float
    test_accuracy: float | None
    """Share of held-out comparisons (test fold, without ties) that it predicts; None without such votes."""
    test_accuracy_low: float | None
    """One-sided 95 % lower bound (Wilson)."""
    test_pairs: int
    rows: dict[str, int] = {}
    """Trained on, by kind."""
    members: list[Member] = []
    """Empty in old cards: one of mean `mean` and seed `seed`."""
    spread: float | None = None
    """Standard deviation of the members' scores of one completion of the base, in units of the score: the mean over
    completions; None for one member."""
    train: Slices = {}
    test: Slices = {}
    noise_ceiling: NoiseCeiling | None = None
    """None with fewer than 20 pairs that have several votes."""
    calibration: Calibration | None = None
    """None with fewer than 20 test comparisons."""
    prequential: Prequential | None = None
    """Of the model that was given as `--previous`."""
